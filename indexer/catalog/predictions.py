"""Predictions: the label that a `label` run gave to each view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.runs import newest_finished
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["add_predictions", "last_predictions", "predictions"]

# Rows that are read at a time: a whole run would be hundreds of MB at a million views.
_CHUNK = 2048


def add_predictions(store: CatalogStore, run_id: int, found: Sequence[Prediction]) -> None:
    """Write predictions of a run, in one transaction.

    Args:
        store: A catalog that is open for writing.
        run_id: The run.
        found: At least one prediction, each of another view than those that the run has already.

    Raises:
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    rows = [{**asdict(one), "run_id": run_id} for one in found]
    with store.writing() as connection:
        connection.execute(sa.insert(schema.prediction), rows)


def predictions(store: CatalogStore, run_id: int) -> Iterator[Prediction]:
    """Yield the predictions of a run in order of their views, holding a bounded number in memory."""
    table = schema.prediction.c
    names = list(Prediction.__dataclass_fields__)
    last = 0
    while True:
        with store.reading() as connection:
            rows = connection.execute(
                sa.select(*(table[name] for name in names))
                .where(table.run_id == run_id, table.view_id > last)
                .order_by(table.view_id)
                .limit(_CHUNK)
            ).all()
        if not rows:
            return
        yield from (Prediction(*row) for row in rows)
        last = rows[-1].view_id


def last_predictions(store: CatalogStore) -> Iterator[Prediction]:
    """Yield the predictions of the newest finished `label` run in order of their views; none before the first."""
    with store.reading() as connection:
        newest = connection.execute(newest_finished("label")).scalar_one()
    if newest is not None:
        yield from predictions(store, newest)
