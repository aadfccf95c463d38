"""Runs: what was done to a catalog, by which version, and what came of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from birdsearch import __version__
from birdsearch.errors import CatalogError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, now

__all__ = ["finish_run", "recorded_run", "start_run"]


def start_run(
    connection: sa.Connection,
    command: str,
    model_id: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> int:
    """Begin a run; returns its id. `settings` is what its results may depend on, in JSON types."""
    values = {
        "command": command,
        "version": __version__,
        "model_id": model_id,
        "started_at": now(),
        "settings": None if settings is None else json.dumps(settings, sort_keys=True),
    }
    return int(
        connection.execute(sa.insert(tables.run).values(values).returning(tables.run.c.id)).scalar_one()
    )


def finish_run(
    connection: sa.Connection, run_id: int, counts: Mapping[str, object], outcome: str = "done"
) -> None:
    """Record how a run ended; `counts` is what it did, in JSON types."""
    connection.execute(
        sa.update(tables.run)
        .where(tables.run.c.id == run_id)
        .values(finished_at=now(), outcome=outcome, counts=json.dumps(counts))
    )


@contextlib.contextmanager
def recorded_run(store: CatalogStore, command: str, model_id: int) -> Iterator[tuple[int, dict[str, object]]]:
    """A run that is recorded even if it fails: its id, and the counts that are written when it ends."""
    counts: dict[str, object] = {}
    with store.writing() as connection:
        run_id = start_run(connection, command, model_id)
    outcome = "done"
    try:
        yield run_id, counts
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "interrupted"
        # If the catalog itself is what failed, that error is the one to report.
        with contextlib.suppress(CatalogError), store.writing() as connection:
            finish_run(connection, run_id, counts, outcome)
        raise
    with store.writing() as connection:
        finish_run(connection, run_id, counts, outcome)
