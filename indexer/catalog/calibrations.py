"""Fitted parameters of the label estimate: every fit has its row, and the newest of a model is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = ["CalibrationRecord", "add_calibration", "insert_calibration", "newest_calibration"]

_COMMAND = "label --fit"


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """A fit of the label estimate.

    Attributes:
        id: Row id in this catalog.
        parameters: What was fitted, as JSON; see `birdsearch.search.labels.calibration.Calibration`.
    """

    id: int
    parameters: str


def add_calibration(
    store: CatalogStore, model_id: int, parameters: str, counts: Mapping[str, object]
) -> CalibrationRecord:
    """Store a fit and put it in use.

    The run and the fit are written in one transaction: a reader sees both or neither.

    Args:
        store: A catalog that is open for writing.
        model_id: The model whose labels it calibrates.
        parameters: What was fitted, as JSON.
        counts: What it was fitted on, for the run, in JSON types.

    Returns:
        The stored fit.

    Raises:
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    with store.writing() as connection:
        run_id = start_run(connection, _COMMAND, model_id)
        record = insert_calibration(connection, model_id, run_id, parameters)
        finish_run(connection, run_id, counts)
    return record


def insert_calibration(
    connection: sa.Connection, model_id: int, run_id: int, parameters: str
) -> CalibrationRecord:
    """Insert the row of a fit within the transaction of its run, and return it."""
    number = connection.execute(
        sa.insert(schema.calibration)
        .values(model_id=model_id, run_id=run_id, created_at=now(), parameters=parameters)
        .returning(schema.calibration.c.id)
    ).scalar_one()
    return CalibrationRecord(number, parameters)


def newest_calibration(store: CatalogStore, model_id: int) -> CalibrationRecord | None:
    """Return the newest fit for a model, or None before the first.

    Raises:
        CatalogError: The table is damaged.
    """
    row = schema.calibration.c
    with store.reading() as connection:
        refuse_damaged(connection, store.database_path, "calibration")
        found = connection.execute(
            sa.select(row.id, row.parameters).where(row.model_id == model_id).order_by(row.id.desc()).limit(1)
        ).first()
    return None if found is None else CalibrationRecord(found.id, found.parameters)
