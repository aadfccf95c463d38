"""The statements that are run for every photo, in SQLite's own words; see `database.cursor_of`."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence

import sqlalchemy as sa

from birdsearch.indexer import tables

__all__ = [
    "ADD_CHANGE",
    "AT",
    "FILE",
    "FILE_COLUMNS",
    "INSERT_EMBEDDING",
    "INSERT_PHOTO",
    "INSERT_WHOLE_VIEW",
    "MARK_MISSING",
    "PHOTOS",
    "PLACED",
    "REPLACE_FILE",
    "SHOWING",
    "UPDATE_FILE",
    "UPSERT_FILE",
    "VIEWS_WITHOUT_VECTOR",
    "NextIds",
    "marks",
]

# The columns of `file` beside its id, root and path, in the order of `CatalogWriter`.
FILE_COLUMNS = (
    *("state", "photo_id", "size", "mtime_ns", "ctime_ns", "device", "inode"),
    *("stage", "code", "reason", "transient", "run_id"),
)
PLACED = ("root_id", "path", *FILE_COLUMNS)


def marks(values: Sequence[object]) -> str:
    """As many placeholders as there are values."""
    return ", ".join("?" * len(values))


def _insert(table: sa.Table, columns: Sequence[str] | None = None) -> str:
    names = [column.name for column in table.columns] if columns is None else columns
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks(names)})"  # noqa: S608


INSERT_PHOTO = _insert(tables.photo)
INSERT_EMBEDDING = _insert(tables.embedding)
INSERT_WHOLE_VIEW = (
    "INSERT INTO view (id, photo_id, kind, x, y, w, h) VALUES (?, ?, 'whole', 0.0, 0.0, 1.0, 1.0)"
)
UPSERT_FILE = (
    _insert(tables.file, ("id", *PLACED))
    + " ON CONFLICT (root_id, path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in FILE_COLUMNS)
)
UPDATE_FILE = f"UPDATE file SET {', '.join(f'{name} = ?' for name in FILE_COLUMNS)} WHERE id = ?"  # noqa: S608
FILE = f"SELECT {', '.join(PLACED)} FROM file WHERE id = ?"  # noqa: S608
REPLACE_FILE = f"UPDATE file SET {', '.join(f'{name} = ?' for name in PLACED)} WHERE id = ?"  # noqa: S608
AT = "SELECT id, photo_id FROM file WHERE root_id = ? AND path = ?"
SHOWING = "SELECT id, photo_id FROM file WHERE state != 'missing' AND photo_id IN ({}) ORDER BY id"
MARK_MISSING = (
    "UPDATE file SET state = 'missing', stage = NULL, code = NULL, reason = NULL, run_id = ? WHERE id = ?"
)
ADD_CHANGE = "INSERT INTO change (op, view_id, model_id) VALUES ('add', ?, ?)"
PHOTOS = "SELECT digest, id FROM photo WHERE digest IN ({})"
VIEWS_WITHOUT_VECTOR = (
    "SELECT id, photo_id FROM view WHERE kind = 'whole' AND NOT EXISTS "
    "(SELECT 1 FROM embedding WHERE view_id = view.id AND model_id = ?) AND photo_id IN ({})"
)


class NextIds:
    """Ids for new rows, in one transaction: those that `AUTOINCREMENT` would give, none used before.

    Giving them here lets all rows of a table be written by one statement.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        last = dict(cursor.execute("SELECT name, seq FROM sqlite_sequence"))
        self.photo, self.view, self.file = (
            itertools.count(int(last.get(name, 0)) + 1).__next__ for name in ("photo", "view", "file")
        )
