"""Events: the burst, event and sighting that a `sightings` run put each photo in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, newest_finished, start_run
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["JoinedPhotos", "event_deployments", "joined_photos", "last_sightings_run", "save_events"]

_ROWS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class JoinedPhotos:
    """The groups that a run made; each is named by the smallest photo id in it.

    Attributes:
        photo_ids: (N,) int64, rising.
        bursts: (N,) int64.
        events: (N,) int64.
        sightings: (N,) int64.
    """

    photo_ids: NDArray[np.int64]
    bursts: NDArray[np.int64]
    events: NDArray[np.int64]
    sightings: NDArray[np.int64]


def last_sightings_run(store: CatalogStore) -> int | None:
    """Return the newest `sightings` run that was finished, or None."""
    with store.reading() as connection:
        newest = connection.execute(newest_finished("sightings")).scalar_one()
    return None if newest is None else int(newest)


def joined_photos(store: CatalogStore, run_id: int) -> JoinedPhotos:
    """Return the groups that a `sightings` run made, photos that were lost since included.

    Args:
        store: An open catalog.
        run_id: The run.
    """
    event = schema.event.c
    statement = (
        sa.select(event.photo_id, event.burst, event.event, event.sighting)
        .where(event.run_id == run_id)
        .order_by(event.photo_id)
    )
    parts = [np.zeros((0, 4), np.int64)]
    with store.reading() as connection:
        parts += [
            np.array([tuple(row) for row in rows], dtype=np.int64)
            for rows in connection.execute(statement).partitions(_ROWS)
        ]
    # (N, 4) -> 4 x (N,)
    return JoinedPhotos(*np.ascontiguousarray(np.concatenate(parts).T))


def save_events(store: CatalogStore, rows: NDArray[np.int64], counts: Mapping[str, object]) -> int:
    """Write what a run found in one transaction; return the run.

    Args:
        store: A catalog open for writing.
        rows: (N, 5) int64: photo, burst, event, sighting, and deployment or 0.
        counts: What the run did, in JSON types.
    """
    with store.writing() as connection:
        run_id = start_run(connection, "sightings")
        for start in range(0, len(rows), _ROWS):
            values = [
                {
                    "run_id": run_id,
                    "photo_id": photo_id,
                    "burst": burst,
                    "event": event,
                    "sighting": sighting,
                    "deployment_id": deployment or None,
                }
                for photo_id, burst, event, sighting, deployment in rows[start : start + _ROWS].tolist()
            ]
            connection.execute(sa.insert(schema.event), values)
        finish_run(connection, run_id, counts)
    return run_id


def event_deployments(store: CatalogStore) -> dict[int, str]:
    """Return the names of the deployments of photos, as the newest run that had any stored them, by photo id."""
    event, run, deployment = schema.event.c, schema.run.c, schema.deployment.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(event.run_id))
            .join(schema.run, run.id == event.run_id)
            .where(run.outcome == "done", event.deployment_id.is_not(None))
        ).scalar_one()
        rows = connection.execute(
            sa.select(event.photo_id, deployment.name)
            .join(schema.deployment, deployment.id == event.deployment_id)
            .where(event.run_id == newest)
        ).all()
    return {row.photo_id: row.name for row in rows}
