"""Runs: what was done to a catalog, by which version, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa

from birdsearch import __version__
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import now

__all__ = ["finish_run", "start_run"]


def start_run(connection: sa.Connection, command: str, model_id: int | None = None) -> int:
    """Begin a run; returns its id."""
    return int(
        connection.execute(
            sa.insert(tables.run)
            .values(command=command, version=__version__, model_id=model_id, started_at=now())
            .returning(tables.run.c.id)
        ).scalar_one()
    )


def finish_run(
    connection: sa.Connection, run_id: int, counts: Mapping[str, object], outcome: str = "done"
) -> None:
    """Record how a run ended; `counts` is what it did, in JSON types."""
    connection.execute(
        sa.update(tables.run)
        .where(tables.run.c.id == run_id)
        .values(finished_at=now(), outcome=outcome, counts=json.dumps(counts, ensure_ascii=False))
    )
