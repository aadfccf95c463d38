"""Photos that are compared as arrays, and which pairs of them are two exposures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.copies import read_exposures, read_hashes, read_repeated_photos
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views, photos_of
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.query.vote_groups import join_groups

__all__ = ["PhotoArrays", "compare_exposures", "reaching", "two_exposures", "without"]

_NO_VECTORS = np.zeros((0, 0), np.float32)


class PhotoArrays:
    """Photos in order of their digests, so that rows do not depend on the order of indexing.

    Attributes:
        ids: (N,) int64 photo ids.
        phashes: (N,) uint64 perceptual hashes.
        has_hash: (N,) bool.
        unit: (N, C) float32, unit-norm vectors of the whole frames; rows of zeros where there is none.
    """

    def __init__(
        self,
        ids: NDArray[np.int64],
        phashes: NDArray[np.uint64],
        has_hash: NDArray[np.bool_],
        unit: NDArray[np.float32] = _NO_VECTORS,
    ) -> None:
        self.ids = ids
        self.phashes = phashes
        self.has_hash = has_hash
        self.unit = unit
        self._order = np.argsort(ids)

    @classmethod
    def read(cls, store: CatalogStore, record: ModelRecord, where: Where) -> PhotoArrays:
        """Read the photos that have a present file and meet the conditions."""
        found = read_hashes(store)
        chosen = np.ones(len(found.ids), np.bool_)
        if not where.is_empty:
            chosen = np.isin(found.ids, photos_of(store, allowed_views(store, record.id, where)))
        unit, _ = unit_vectors(store, record.id, found.view_ids[chosen])
        return cls(found.ids[chosen], found.phashes[chosen], found.has_hash[chosen], unit)

    def rows(self, photo_ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each photo, -1 for those that are not among these."""
        wanted = np.asarray(photo_ids, np.int64)
        if not len(self.ids):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(self.ids, wanted, sorter=self._order), len(self.ids) - 1)
        rows = self._order[at]
        return np.where(self.ids[rows] == wanted, rows, -1)

    def row_pairs(self, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
        """Return pairs of photo ids as pairs of rows, (P, 2), the smaller first, of those that are among these."""
        ids = np.array(list(pairs), np.int64).reshape(-1, 2)
        rows = np.sort(self.rows(ids.ravel()).reshape(-1, 2), axis=1)
        return rows[rows[:, 0] >= 0]

    def with_several_files(self, store: CatalogStore) -> NDArray[np.int64]:
        """Return the ids of the photos that have more than one present file, in order of their digests."""
        return self.ids[np.isin(self.ids, read_repeated_photos(store))]


def two_exposures(
    store: CatalogStore, photos: PhotoArrays, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs of rows are two exposures, and which may be; see `compare_exposures`."""
    used = np.unique(pairs)
    facts = read_exposures(store, photos.ids[used].tolist())
    cameras: dict[str, int] = {}
    serials: dict[str, int] = {}
    camera, serial = np.full(len(used), -1, np.int64), np.full(len(used), -1, np.int64)
    times = np.full(len(used), "NaT", "datetime64[us]")
    has_fraction = np.zeros(len(used), np.bool_)
    for at, photo_id in enumerate(photos.ids[used].tolist()):
        of_photo = facts[photo_id]
        if of_photo.camera is not None:
            camera[at] = cameras.setdefault(of_photo.camera, len(cameras))
        if of_photo.serial is not None:
            serial[at] = serials.setdefault(of_photo.serial, len(serials))
        if of_photo.captured_at is not None:
            times[at] = of_photo.captured_at
            has_fraction[at] = "." in of_photo.captured_at
    rows = np.searchsorted(used, pairs)
    return compare_exposures(camera[rows], serial[rows], times[rows], has_fraction[rows])


def compare_exposures(
    camera: NDArray[np.int64],
    serial: NDArray[np.int64],
    times: NDArray[np.datetime64],
    has_fraction: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Decide which pairs of photos are two exposures, whatever they show.

    They are if both tell a serial number and these differ; or if both tell the same camera and a time, and the
    second differs, or the fraction of the second does and both tell one. They may be if it is the same second of
    one camera and one of them has no fraction.

    Args:
        camera: (P, 2) number of each photo's make and model, -1 where unknown.
        serial: (P, 2) number of its serial number, -1 where unknown.
        times: (P, 2) datetime64 of microseconds, NaT where unknown.
        has_fraction: (P, 2) whether the time came with a fraction of the second.

    Returns:
        (P,) bool, they are; (P,) bool, they may be.
    """
    other_body = (serial >= 0).all(axis=1) & (serial[:, 0] != serial[:, 1])
    same_camera = (camera >= 0).all(axis=1) & (camera[:, 0] == camera[:, 1])
    same_camera &= ~np.isnat(times).any(axis=1)
    seconds = times.astype("datetime64[s]")
    same_second = seconds[:, 0] == seconds[:, 1]
    both_tell = has_fraction.all(axis=1)
    other_time = ~same_second | (both_tell & (times[:, 0] != times[:, 1]))
    apart = other_body | (same_camera & other_time)
    return apart, same_camera & same_second & ~both_tell & ~apart


def without(pairs: NDArray[np.int64], excluded: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return pairs of rows, (P, 2), less some of them, (E, 2), in either order; rows are below `count`."""
    keys, left_out = (
        np.minimum(each[:, 0], each[:, 1]) * count + np.maximum(each[:, 0], each[:, 1])
        for each in (pairs, excluded)
    )
    return pairs[~np.isin(keys, left_out)]


def reaching(pairs: NDArray[np.int64], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the pairs that are connected, by way of pairs, to one of the wanted rows, (N,) bool."""
    labels = np.arange(len(wanted), dtype=np.int64)
    join_groups(labels, pairs[:, 0], pairs[:, 1])
    reached = np.zeros(len(wanted), np.bool_)
    reached[labels[wanted]] = True
    return pairs[reached[labels[pairs[:, 0]]]]
