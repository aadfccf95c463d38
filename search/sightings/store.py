"""The store of `sightings` runs, and the events of all photos found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.events import joined_photos, last_sightings_run, save_events
from birdsearch.indexer.catalog.frames import Frames, all_photo_ids, cosines_from, read_frames
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.query.deployed import assign
from birdsearch.search.sightings.build import vote_of
from birdsearch.search.sightings.events import events_of
from birdsearch.search.sightings.find import FoundSightings, ids_of_groups, number_sightings

__all__ = ["KnownEvents", "counts_of", "known_events", "store_sightings"]


def store_sightings(store: CatalogStore, found: FoundSightings, settings: Mapping[str, object]) -> int:
    """Write what was found, in one transaction; returns the run.

    Args:
        store: A catalog open for writing.
        found: What `find_sightings` gave.
        settings: What it was asked with, for the record; JSON types.
    """
    frames, grouping = found.frames, found.grouping
    columns = [
        ids_of_groups(frames.photo_ids, groups)[groups]
        for groups in (grouping.bursts, grouping.events, found.sightings)
    ]
    deployment_ids = np.array([one.id for one in found.assignment.deployments] + [0], dtype=np.int64)
    # (N, 5): photo, burst, event, sighting, deployment
    rows = np.stack([frames.photo_ids, *columns, deployment_ids[found.assignment.codes]], axis=1)
    counts = counts_of(found) | {"settings": dict(settings)}
    return save_events(store, rows[np.argsort(frames.photo_ids)], counts)


def counts_of(found: FoundSightings) -> dict[str, object]:
    """Count photos, exposures, bursts of two exposures or more, events and sightings."""
    leads = found.grouping.leads
    _, sizes = np.unique(found.grouping.bursts[leads], return_counts=True)
    return {
        "photos": len(found.frames),
        "frames": int(leads.sum()),
        "bursts": int((sizes > 1).sum()),
        "events": len(np.unique(found.grouping.events)),
        "sightings": len(found.listed),
    }


@dataclass(frozen=True, slots=True, eq=False)
class KnownEvents:
    """All photos of a catalog with their events, as far as they are known.

    Attributes:
        run_id: The newest `sightings` run, or None if there was none: then events are found as they would be by
            default, and each is a sighting without a number.
        frames: N photos.
        events: (N,) int64, the smallest row of each photo's event; a photo that the run did not see is one alone.
        sightings: (N,) int64, likewise.
        numbers: (N,) int64, the number of the sighting, 0 where the run did not see the photo.
        sites: (N,) int64, indices of `site_names`, -1 where unknown.
        site_names: The sites of the deployments.
    """

    run_id: int | None
    frames: Frames
    events: NDArray[np.int64]
    sightings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]


def known_events(store: CatalogStore, record: ModelRecord) -> KnownEvents:
    """Return the events of the newest finished `sightings` run, for the photos that there are now.

    Args:
        store: An open catalog; reading is enough.
        record: Its model.
    """
    newest = last_sightings_run(store)
    frames = read_frames(store, all_photo_ids(store))
    count = len(frames)
    assignment = assign(read_deployments(store), frames)
    sites = tuple(sorted({one.site for one in assignment.deployments}))
    of_deployment = [sites.index(one.site) for one in assignment.deployments]
    own = np.array([*of_deployment, -1], dtype=np.int64)[assignment.codes]
    if newest is None:
        events = events_of(
            frames, cosines_from(store, record.id, frames), deployments=assignment.codes
        ).events
        sightings, numbers = events, np.zeros(count, np.int64)
    else:
        events, sightings, seen = _stored(store, newest, frames)
        numbers = np.zeros(count, np.int64)
        numbers[seen] = _numbers(frames, sightings, seen)
    of_event = vote_of(events, own, own >= 0, count)
    return KnownEvents(newest, frames, events, sightings, numbers, of_event[events], sites)


def _stored(
    store: CatalogStore, run_id: int, frames: Frames
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return events and sightings by the smallest rows in them, and which photos the run saw."""
    joined = joined_photos(store, run_id)
    # Photos that were lost since take no part.
    live = np.isin(joined.photo_ids, frames.photo_ids)
    order = np.argsort(frames.photo_ids)
    at = order[np.searchsorted(frames.photo_ids, joined.photo_ids[live], sorter=order)]
    seen = np.zeros(len(frames), bool)
    seen[at] = True
    groups = []
    for column in (joined.events[live], joined.sightings[live]):
        labels = np.arange(len(frames), dtype=np.int64)
        _, back = np.unique(column, return_inverse=True)
        smallest = np.full(len(column), len(frames), np.int64)
        np.minimum.at(smallest, back.reshape(-1), at)
        labels[at] = smallest[back.reshape(-1)]
        groups.append(labels)
    return groups[0], groups[1], seen


def _numbers(frames: Frames, sightings: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number sightings as the run did: photos that it did not see do not count."""
    apart = number_sightings(frames, sightings)[seen]
    _, ranks = np.unique(apart, return_inverse=True)
    return np.asarray(ranks.reshape(-1) + 1, dtype=np.int64)
