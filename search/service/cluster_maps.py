"""Maps of clusters: where each photo lies in the plane, worked out once and kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.files import write_whole
from birdsearch.indexer.catalog.clusters import ClusterState, clustering_run
from birdsearch.indexer.catalog.filtered_photos import photos_of
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.clusters.catalog import load_unit
from birdsearch.search.clusters.map import map_embeddings

__all__ = ["ClusterMaps", "PhotoMap", "packed"]

# Maps that are kept; a map of a hundred thousand photos has 1.6 MB.
_KEPT = 32


@dataclass(frozen=True, slots=True, eq=False)
class PhotoMap:
    """Photos in the plane.

    Attributes:
        view_ids: (N,) int64, rising.
        points: (N, 2) float32 within 0..1.
    """

    view_ids: NDArray[np.int64]
    points: NDArray[np.float32]


class ClusterMaps:
    """Keeps maps in a folder. They depend on which photos were clustered, not on the clusters: edits leave them.

    Args:
        folder: Where they are kept; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, store: CatalogStore, state: ClusterState) -> PhotoMap | None:
        """Return the map of a state of the clusters, or None if there is none yet or its file is damaged."""
        try:
            # NumPy leaves a file open that it cannot read.
            with self._file(store, state).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = PhotoMap(arrays["view_ids"], arrays["points"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        is_whole = found.view_ids.dtype == np.int64 and found.points.dtype == np.float32
        return found if is_whole and found.points.shape == (len(found.view_ids), 2) else None

    def make(self, store: CatalogStore, state: ClusterState) -> PhotoMap:
        """Compute the map of a state, and keep it.

        Raises:
            InvalidInputError: The file cannot be written.
        """
        unit, is_whole = load_unit(store, state.model_id, state.view_ids)
        found = map_embeddings(unit)
        made = PhotoMap(state.view_ids[is_whole][found.rows], found.points)
        content = io.BytesIO()
        np.savez(content, view_ids=made.view_ids, points=made.points)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._file(store, state), content.getvalue())
        except OSError as error:
            raise InvalidInputError(f"{self._folder}: the map cannot be kept ({error.strerror})") from error
        self._forget_old()
        return made

    def _file(self, store: CatalogStore, state: ClusterState) -> Path:
        key = hashlib.sha256(f"{store.uid} {clustering_run(store, state)} {state.model_id} ".encode())
        key.update(state.view_ids.astype("<i8").tobytes())
        return self._folder / f"{key.hexdigest()[:32]}.npz"

    def _forget_old(self) -> None:
        with contextlib.suppress(OSError):
            files = sorted(self._folder.glob("*.npz"), key=lambda file: file.stat().st_mtime)
            for file in files[:-_KEPT]:
                file.unlink(missing_ok=True)


def packed(store: CatalogStore, state: ClusterState, found: PhotoMap) -> bytes:
    """Return a map with the clusters of a state, as the API sends it.

    Args:
        store: The catalog.
        state: The clusters; the map is of the same photos.
        found: The map.

    Returns:
        Little-endian: uint32 N; float32 x[N], y[N]; int32 cluster[N], -1 for none; int32 photo id[N].
    """
    clusters = state.cluster_ids[np.searchsorted(state.view_ids, found.view_ids)]
    photo_ids = photos_of(store, found.view_ids)
    return b"".join(
        (
            struct.pack("<I", len(found.view_ids)),
            found.points[:, 0].astype("<f4").tobytes(),
            found.points[:, 1].astype("<f4").tobytes(),
            clusters.astype("<i4").tobytes(),
            photo_ids.astype("<i4").tobytes(),
        )
    )
