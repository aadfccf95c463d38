"""What `sightings` runs joined: the burst, event and sighting of each photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["JoinedPhotos", "joined_photos", "last_sightings_run"]

_ROWS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class JoinedPhotos:
    """What a run joined; each group is named by the smallest photo id in it.

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
    run = schema.run.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(run.id)).where(run.command == "sightings", run.outcome == "done")
        ).scalar_one()
    return None if newest is None else int(newest)


def joined_photos(store: CatalogStore, run_id: int) -> JoinedPhotos:
    """Return what a `sightings` run joined, photos that were lost since included.

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
