"""The states of a catalog that labels depend on, to tell when what was made of them is out of date."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import newest_finished
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["EstimateState", "LabelState", "estimate_state", "has_labelled_change", "label_state"]


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


class LabelState(NamedTuple):
    """The same as long as no label is given or taken back, and no photo, model, taxon or calibration comes.

    `EstimateState` changes with every run, of whatever kind.

    Attributes:
        photos: The model, and the last photo that came or went.
        labels: The newest row of each table that labels depend on.
    """

    photos: tuple[int, int]
    labels: tuple[int, ...]


def label_state(store: CatalogStore) -> LabelState:
    """Return the state of a catalog's labels now."""
    annotation = schema.annotation.c
    columns = (annotation.id, annotation.undone_run_id, schema.calibration.c.id, schema.taxon.c.run_id)
    with store.reading() as connection:
        model = connection.execute(
            sa.select(schema.meta.c.value).where(schema.meta.c.key == "model")
        ).scalar_one_or_none()
        seq = connection.execute(sa.select(sa.func.max(schema.change.c.seq))).scalar_one()
        found = [connection.execute(sa.select(sa.func.max(column))).scalar_one() for column in columns]
        found.append(connection.execute(newest_finished("label")).scalar_one())
    return LabelState((int(model or 0), int(seq or 0)), tuple(int(one or 0) for one in found))
