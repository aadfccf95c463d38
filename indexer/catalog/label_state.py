"""The state of a catalog that labels are estimated from, to tell when an estimate is out of date."""

from __future__ import annotations

from typing import NamedTuple

from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["EstimateState", "estimate_state", "has_labelled_change"]


class EstimateState(NamedTuple):
    """Counters that grow whenever something that labels depend on changes.

    Attributes:
        run: The last run that may have changed labels, names, or what belongs together. An index run counts once
            it is over: until then it only adds and removes photos.
        calibration: The newest calibration.
        change: The last photo that came or went.
    """

    run: int
    calibration: int
    change: int


def estimate_state(store: CatalogStore) -> EstimateState:
    """Return the state that labels would be estimated from now."""
    with store.reading() as connection:
        row = connection.exec_driver_sql(
            """
            SELECT (SELECT max(id) FROM run WHERE command != 'index' OR finished_at IS NOT NULL),
                   (SELECT max(id) FROM calibration), (SELECT max(seq) FROM change)
            """
        ).one()
    return EstimateState(*(value or 0 for value in row))


def has_labelled_change(store: CatalogStore, change: int) -> bool:
    """Return whether a view with a verified label came or went after a change.

    Args:
        store: An open catalog.
        change: As `EstimateState` has it.
    """
    with store.reading() as connection:
        touched = connection.exec_driver_sql(
            """
            SELECT 1 FROM change JOIN annotation ON annotation.view_id = change.view_id
            WHERE change.seq > ? LIMIT 1
            """,
            (change,),
        ).first()
    return touched is not None
