"""What the catalog says about a file that was moved out of an archive, and about one that is back."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.batch import stat_values
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.records import FoundFile

__all__ = ["mark_missing", "mark_present"]


def mark_missing(connection: sa.Connection, run_id: int, photo_id: int, path: bytes) -> None:
    """Say of an indexed file that it is not there; its photo, vectors and labels stay.

    Args:
        connection: A transaction that writes.
        run_id: The run that moved it.
        photo_id: The photo that it showed. A path that shows another one, or is not indexed, is left alone.
        path: Where it was.
    """
    row = _row_at(connection, path)
    if row is not None and row.photo_id == photo_id and row.state != "missing":
        values = {"state": "missing", "stage": None, "code": None, "reason": None, "run_id": run_id}
        _update(connection, row, values)


def mark_present(connection: sa.Connection, run_id: int, photo_id: int, path: bytes) -> None:
    """Say of an indexed file that it is there again, as it is now.

    Args:
        connection: A transaction that writes.
        run_id: The run that put it back.
        photo_id: The photo that it shows. A path that the catalog knows otherwise is left to the next `index` run.
        path: Where it is.
    """
    row = _row_at(connection, path)
    if row is not None and row.photo_id == photo_id and row.state == "missing":
        status = os.stat(path)  # noqa: PTH116 paths are bytes
        found = FoundFile(
            row.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino
        )
        values = {"state": "present", "transient": 0, "run_id": run_id, **stat_values(found)}
        _update(connection, row, values)


def _row_at(connection: sa.Connection, path: bytes) -> Any | None:
    """The row of a file, of the innermost root that has one."""
    file = schema.file.c
    roots = connection.execute(sa.select(schema.root.c.id, schema.root.c.path)).all()
    for root in sorted(roots, key=lambda each: len(each.path), reverse=True):
        prefix = root.path.rstrip(b"/") + b"/"
        if path.startswith(prefix):
            row = connection.execute(
                sa.select(schema.file).where(file.root_id == root.id, file.path == path[len(prefix) :])
            ).one_or_none()
            if row is not None:
                return row
    return None


def _update(connection: sa.Connection, row: Any, values: dict[str, Any]) -> None:
    """Change a file's row: other metadata may count by that, and the vector indexes may find more or less."""
    before = live_pairs(connection, [row.photo_id])
    connection.execute(sa.update(schema.file).where(schema.file.c.id == row.id).values(values))
    settle_metadata(cursor_of(connection), [row.photo_id])
    write_changes(connection, before, [row.photo_id])
