"""The change log: what followers of the catalog can find, and what they could before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = ["last_change", "last_change_and_run", "latest_changes", "live_pairs", "write_changes"]


def live_pairs(connection: sa.Connection, photo_ids: Iterable[int | None]) -> set[tuple[int, int]]:
    """Return the (view, model) pairs of the photos that a search may find: those with a live file."""
    view, embedding = schema.view.c, schema.embedding.c
    pairs: set[tuple[int, int]] = set()
    for some in chunks(sorted(photo_id for photo_id in set(photo_ids) if photo_id is not None)):
        pairs.update(
            (row.view_id, row.model_id)
            for row in connection.execute(
                sa.select(embedding.view_id, embedding.model_id)
                .join(schema.view, view.id == embedding.view_id)
                .where(view.photo_id.in_(some), live_photo(view.photo_id))
            )
        )
    return pairs


def write_changes(
    connection: sa.Connection, before: set[tuple[int, int]], photo_ids: Iterable[int | None]
) -> None:
    """Record which views of some photos have become, or stopped being, visible to the vector indexes.

    Args:
        connection: The transaction that changed their rows.
        before: What `live_pairs` said of these photos before that.
        photo_ids: The photos; None is passed over.
    """
    after = live_pairs(connection, photo_ids)
    rows = [
        {"op": op, "view_id": view_id, "model_id": model_id}
        for op, pairs in (("remove", before - after), ("add", after - before))
        for view_id, model_id in sorted(pairs)
    ]
    if rows:
        connection.execute(sa.insert(schema.change), rows)


def last_change(connection: sa.Connection) -> int:
    """Return the last row of the change log, 0 before the first."""
    seq = connection.execute(sa.select(sa.func.max(schema.change.c.seq))).scalar_one()
    return int(seq or 0)


def latest_changes(connection: sa.Connection, model_id: int, since: int) -> tuple[dict[int, str], int]:
    """Return what last happened to each view that was added or removed.

    Args:
        connection: A state of the catalog.
        model_id: The model of the vectors.
        since: The last row of the change log that is known.

    Returns:
        `add` or `remove` by view, since what came before leaves no trace; and how many rows say so.
    """
    change = schema.change.c
    latest: dict[int, str] = {}
    count = 0
    for view_id, op in connection.execute(
        sa.select(change.view_id, change.op)
        .where(change.model_id == model_id, change.seq > since)
        .order_by(change.seq)
    ):
        latest[view_id] = op
        count += 1
    return latest, count


def last_change_and_run(
    store: CatalogStore, commands: Sequence[str] = (), *, prefix: str | None = None
) -> tuple[int, int]:
    """Return the last change of a photo and the last run of some commands, 0 where there is none.

    Args:
        store: An open catalog.
        commands: The commands.
        prefix: Or all commands that begin so.
    """
    command = schema.run.c.command
    wanted = command.in_(commands) if prefix is None else command.startswith(prefix, autoescape=True)
    with store.reading() as connection:
        run = connection.execute(sa.select(sa.func.max(schema.run.c.id)).where(wanted)).scalar_one()
        return last_change(connection), int(run or 0)
