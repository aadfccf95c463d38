"""Facts of all photos of a catalog, read at once: place, time, and what they belong to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.frames import Frames, read_frames
from birdsearch.indexer.catalog.location_facts import (
    read_copies_aside,
    read_file_folders,
    read_last_events,
    read_placed_photos,
)
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot
from birdsearch.search.query.deployed import Assignment, assign
from birdsearch.search.query.location_privacy.reach import NO_TIME, PhotoFacts, cells_of, standing_cameras
from birdsearch.search.query.sorted_sets import distinct, is_in

__all__ = ["deployed_frames", "read_facts"]


def deployed_frames(store: CatalogStore, photo_ids: NDArray[np.int64]) -> tuple[Frames, Assignment] | None:
    """Return the deployments of photos, or None where there are no deployments.

    Args:
        store: An open catalog.
        photo_ids: (N,) int64.
    """
    deployments = read_deployments(store)
    if not deployments:
        return None
    frames = read_frames(store, photo_ids, with_lost=True)
    return frames, assign(deployments, frames)


def read_facts(store: CatalogStore, snapshot: Snapshot) -> PhotoFacts:
    """Read the facts of all photos, those without a live file too: they make others hidden.

    Args:
        store: An open catalog; deployments are read from it.
        snapshot: Its state; all else is.
    """
    photos = read_placed_photos(snapshot)
    degrees = photos.degrees
    cameras = _coded(photos.cameras)
    file_photos, named_folders = read_file_folders(snapshot)
    folders = _coded(named_folders)
    folder_rows = rows_of(photos.ids, file_photos)
    first = np.full(len(photos.ids), -1, np.int64)
    # Written from the last to the first, so that the first file's counts.
    first[folder_rows[::-1]] = folders[::-1]
    standing = standing_cameras(cameras, first, degrees[0], degrees[1])
    sites, degrees = _sites(store, photos.ids, degrees)
    return PhotoFacts(
        ids=photos.ids,
        seconds=np.where(np.isnat(photos.times), NO_TIME, photos.times.astype(np.int64)),
        cells=cells_of(degrees[0], degrees[1]),
        cameras=cameras,
        folder_rows=folder_rows,
        folders=folders,
        hashes=photos.hashes,
        joined=_joined(read_last_events(snapshot), photos.ids),
        fixed=(standing, sites),
        pairs=_pairs(read_copies_aside(snapshot), photos.ids),
    )


def rows_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each wanted id among rising ids that hold it, of the shape of `wanted`."""
    return np.searchsorted(ids, wanted)


def _coded(values: Iterable[object]) -> NDArray[np.int64]:
    codes: dict[object, int] = {}
    found = [-1 if value is None else codes.setdefault(value, len(codes)) for value in values]
    return np.array(found, dtype=np.int64)


def _sites(
    store: CatalogStore, photo_ids: NDArray[np.int64], degrees: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the code of each photo's site, (N,), and its place or else its deployment's, (2, N) degrees."""
    sites = np.full(len(photo_ids), -1, np.int64)
    deployed = deployed_frames(store, photo_ids)
    if deployed is None:
        return sites, degrees
    frames, assignment = deployed
    codes = _coded([*(one.site for one in assignment.deployments), None])
    positions = [(one.latitude, one.longitude) for one in assignment.deployments]
    known = np.array([*positions, (None, None)], dtype=np.float64)[assignment.codes]
    at = rows_of(photo_ids, frames.photo_ids)
    sites[at] = codes[assignment.codes]
    of_site = np.full_like(degrees, np.nan)
    of_site[:, at] = known.T
    return sites, np.where(np.isnan(degrees).any(axis=0), of_site, degrees)


def _joined(stored: NDArray[np.int64], photo_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return the codes of the event and of the sighting of each photo, (N,) int64 each, -1 where there is none."""
    stored = stored[is_in(stored[:, 0], photo_ids)]
    found = []
    for column in (1, 2):
        codes = np.full(len(photo_ids), -1, np.int64)
        named = distinct(stored[:, column])
        codes[rows_of(photo_ids, stored[:, 0])] = rows_of(named, stored[:, column])
        found.append(codes)
    return tuple(found)


def _pairs(pairs: NDArray[np.int64], photo_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of photo ids as pairs of rows, (P, 2) int64."""
    return rows_of(photo_ids, pairs[is_in(pairs, photo_ids).all(axis=1)])
