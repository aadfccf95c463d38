"""Runs: what was done to a catalog, by which version, and what came of it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, now
from birdsearch.version import __version__

__all__ = [
    "VectorSettings",
    "begin_run",
    "decode_mode",
    "end_run",
    "finish_run",
    "newest_finished",
    "record_run",
    "recorded_failure",
    "recorded_run",
    "start_run",
    "vector_settings",
]

# Settings that change vectors in their last bits only.
_MINOR = ("batch_size",)


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """How some vectors of a catalog were made.

    Attributes:
        settings: As `run.settings` has it, in JSON types; empty if it was not recorded.
        vectors: How many were made so.
    """

    settings: Mapping[str, object]
    vectors: int


def start_run(
    connection: sa.Connection,
    command: str,
    model_id: int | None = None,
    settings: Mapping[str, object] | None = None,
    started_at: str | None = None,
) -> int:
    """Begin a run; returns its id. `settings` is what its results may depend on, in JSON types.

    One that began with reading, before it was written down, says so by `started_at`.
    """
    values = {
        "command": command,
        "version": __version__,
        "model_id": model_id,
        "started_at": now() if started_at is None else started_at,
        "settings": None if settings is None else json.dumps(settings, sort_keys=True),
    }
    return int(
        connection.execute(sa.insert(schema.run).values(values).returning(schema.run.c.id)).scalar_one()
    )


def finish_run(
    connection: sa.Connection, run_id: int, counts: Mapping[str, object], outcome: str = "done"
) -> None:
    """Record how a run ended; `counts` is what it did, in JSON types."""
    connection.execute(
        sa.update(schema.run)
        .where(schema.run.c.id == run_id)
        .values(finished_at=now(), outcome=outcome, counts=json.dumps(counts))
    )


def begin_run(
    store: CatalogStore,
    command: str,
    model_id: int | None = None,
    settings: Mapping[str, object] | None = None,
) -> int:
    """Record that a command begins, with its settings in JSON types; return its run's id."""
    with store.writing() as connection:
        return start_run(connection, command, model_id, settings)


def end_run(store: CatalogStore, run_id: int, counts: Mapping[str, object], outcome: str = "done") -> None:
    """Record how a run ended, with what it did in JSON types."""
    with store.writing() as connection:
        finish_run(connection, run_id, counts, outcome)


def record_run(store: CatalogStore, command: str, model_id: int | None, counts: Mapping[str, object]) -> None:
    """Record a command that is done, with what it did in JSON types."""
    with store.writing() as connection:
        finish_run(connection, start_run(connection, command, model_id), counts)


@contextlib.contextmanager
def recorded_run(store: CatalogStore, command: str, model_id: int) -> Iterator[tuple[int, dict[str, object]]]:
    """Record a run even if it fails, and yield its id and the counts that are written when it ends."""
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


@contextlib.contextmanager
def recorded_failure(store: CatalogStore, command: str, model_id: int) -> Iterator[None]:
    """Record a run if what it does before it is written down fails."""
    started_at = now()
    try:
        yield
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "interrupted"
        with contextlib.suppress(CatalogError), store.writing() as connection:
            finish_run(
                connection, start_run(connection, command, model_id, started_at=started_at), {}, outcome
            )
        raise


def newest_finished(command: str) -> sa.Select[tuple[Any]]:
    """Return SQL for the newest run of a command that was finished; NULL before the first."""
    run = schema.run.c
    return sa.select(sa.func.max(run.id)).where(run.command == command, run.outcome == "done")


def vector_settings(store: CatalogStore, model_id: int) -> list[VectorSettings]:
    """Return how the vectors of a model were made, the most usual way first, whatever the batch sizes.

    Args:
        store: An open catalog.
        model_id: The model.

    Returns:
        One entry a way, none for a catalog without vectors.
    """
    run, embedding = schema.run.c, schema.embedding.c
    with store.reading() as connection:
        ways = {
            row.id: _way(row.settings)
            for row in connection.execute(
                sa.select(run.id, run.settings, run.counts).where(
                    run.model_id == model_id, run.command == "index"
                )
            )
            # A run that was killed has no counts, and may have made vectors.
            if row.counts is None or json.loads(row.counts).get("embedded") != 0
        }
        of_model = sa.select(sa.func.count()).where(embedding.model_id == model_id)
        made: Counter[str] = Counter()
        if len(set(ways.values())) == 1:
            # The usual case, settled without looking at every vector.
            made[next(iter(ways.values()))] = connection.execute(of_model).scalar_one()
        else:
            counted = of_model.add_columns(embedding.run_id).group_by(embedding.run_id)
            for count, run_id in connection.execute(counted):
                made[ways.get(run_id, _way(None))] += count
    return [VectorSettings(json.loads(way), count) for way, count in made.most_common() if count]


def decode_mode(store: CatalogStore, model_id: int) -> str:
    """Return how the newest index run decoded photos; queries are decoded alike, so that they compare.

    Args:
        store: An open catalog.
        model_id: The model of the run.

    Returns:
        One of `birdsearch.model.images.scaling.DECODE_MODES`; `full` for runs from before there was a choice,
        `scaled` if there was none.
    """
    run = schema.run.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(run.settings)
            .where(run.model_id == model_id, run.command == "index")
            .order_by(run.settings.is_(None), run.id.desc())
            .limit(1)
        ).first()
    if newest is None:
        return "scaled"
    mode: str = "full" if newest.settings is None else json.loads(newest.settings)["decode"]
    return mode


def _way(settings: str | None) -> str:
    known = {} if settings is None else json.loads(settings)
    return json.dumps({key: value for key, value in known.items() if key not in _MINOR}, sort_keys=True)
