"""Events and sightings in the catalog: what a run found, kept by photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.search.sightings.build import vote_of
from birdsearch.search.sightings.deployed import assign
from birdsearch.search.sightings.deployments import read_deployments
from birdsearch.search.sightings.events import events_of
from birdsearch.search.sightings.find import FoundSightings, ids_of_groups, number_sightings
from birdsearch.search.sightings.frames import Frames, cosines_from, read_frames

__all__ = ["KnownEvents", "counts_of", "known_events", "last_run", "store_sightings"]

_ROWS = 10_000


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
    order = np.argsort(frames.photo_ids)
    deployment_ids = np.array([one.id for one in found.assignment.deployments] + [0], dtype=np.int64)
    with store.writing() as connection:
        run_id = start_run(connection, "sightings")
        for some in chunks(order.tolist(), _ROWS):
            connection.execute(
                sa.insert(schema.event), _rows(run_id, some, frames, columns, found, deployment_ids)
            )
        finish_run(connection, run_id, counts_of(found) | {"settings": dict(settings)})
    return run_id


def _rows(
    run_id: int,
    some: Sequence[int],
    frames: Frames,
    columns: list[NDArray[np.int64]],
    found: FoundSightings,
    deployment_ids: NDArray[np.int64],
) -> list[dict[str, int | None]]:
    places = np.array(some)
    bursts, events, sightings = (column[places].tolist() for column in columns)
    deployments = deployment_ids[found.assignment.codes[places]].tolist()
    return [
        {
            "run_id": run_id,
            "photo_id": photo_id,
            "burst": burst,
            "event": event,
            "sighting": sighting,
            "deployment_id": deployment or None,
        }
        for photo_id, burst, event, sighting, deployment in zip(
            frames.photo_ids[places].tolist(), bursts, events, sightings, deployments, strict=True
        )
    ]


def counts_of(found: FoundSightings) -> dict[str, object]:
    """How many photos, exposures, bursts of two exposures or more, events and sightings there are."""
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
        events: (N,) int64, the smallest place of each photo's event; a photo that the run did not see is one alone.
        sightings: (N,) int64, likewise.
        numbers: (N,) int64, the number of the sighting, 0 where the run did not see the photo.
        sites: (N,) int64, places in `site_names`, -1 where unknown.
        site_names: The sites of the deployments.
    """

    run_id: int | None
    frames: Frames
    events: NDArray[np.int64]
    sightings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]


def last_run(store: CatalogStore) -> int | None:
    """The newest `sightings` run that was finished, or None."""
    run = schema.run.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(run.id)).where(run.command == "sightings", run.outcome == "done")
        ).scalar_one()
    return None if newest is None else int(newest)


def known_events(store: CatalogStore, record: ModelRecord) -> KnownEvents:
    """What the newest finished `sightings` run said of the photos that there are now.

    Args:
        store: An open catalog; reading is enough.
        record: Its model.
    """
    newest = last_run(store)
    photo = schema.photo.c
    with store.reading() as connection:
        ids = np.array(connection.execute(sa.select(photo.id)).scalars().all(), dtype=np.int64)
    frames = read_frames(store, ids)
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
    """Events and sightings by the smallest places in them, and which photos the run saw."""
    event = schema.event.c
    query = sa.select(event.photo_id, event.event, event.sighting).where(event.run_id == run_id)
    parts = [np.zeros((0, 3), np.int64)]
    with store.reading() as connection:
        parts += [
            np.array([tuple(row) for row in rows], dtype=np.int64)
            for rows in connection.execute(query).partitions(_ROWS)
        ]
    found = np.concatenate(parts)
    # Photos that were lost since take no part.
    found = found[np.isin(found[:, 0], frames.photo_ids)]
    order = np.argsort(frames.photo_ids)
    at = order[np.searchsorted(frames.photo_ids, found[:, 0], sorter=order)]
    seen = np.zeros(len(frames), bool)
    seen[at] = True
    groups = []
    for column in (1, 2):
        labels = np.arange(len(frames), dtype=np.int64)
        _, back = np.unique(found[:, column], return_inverse=True)
        smallest = np.full(len(found), len(frames), np.int64)
        np.minimum.at(smallest, back.reshape(-1), at)
        labels[at] = smallest[back.reshape(-1)]
        groups.append(labels)
    return groups[0], groups[1], seen


def _numbers(frames: Frames, sightings: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """As the run numbered them: photos that it did not see do not count."""
    apart = number_sightings(frames, sightings)[seen]
    _, ranks = np.unique(apart, return_inverse=True)
    return np.asarray(ranks.reshape(-1) + 1, dtype=np.int64)
