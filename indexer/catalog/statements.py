"""The statements that are run for every photo, in SQLite's own words; see `database.cursor_of`."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema

__all__ = [
    "ADD_CHANGE",
    "AT",
    "CAPTURE_OF",
    "FILE",
    "FILE_COLUMNS",
    "HAS_VECTOR",
    "INSERT_EMBEDDING",
    "INSERT_PHOTO",
    "INSERT_WHOLE_VIEW",
    "KNOWN",
    "LOOK",
    "MARK_MISSING",
    "PATH",
    "PICTURES",
    "PLACED",
    "READ_FILES",
    "READ_NOW",
    "REPLACE_FILE",
    "SHOWING",
    "THERE",
    "UPDATE_FILE",
    "UPSERT_FILE",
    "WHOLE_VIEW",
    "NextIds",
    "marks",
]

# The columns of `file` beside its id, root and path, in the order of `CatalogWriter`.
FILE_COLUMNS = (
    *("state", "photo_id", "size", "mtime_ns", "ctime_ns", "device", "inode"),
    *("stage", "code", "reason", "transient", "run_id"),
    *("digest", "reading", "capture"),
)
PLACED = ("root_id", "path", *FILE_COLUMNS)


def marks(values: Sequence[object]) -> str:
    """Return as many placeholders as there are values."""
    return ", ".join("?" * len(values))


def _insert(table: sa.Table, columns: Sequence[str] | None = None) -> str:
    names = [column.name for column in table.columns] if columns is None else columns
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks(names)})"  # noqa: S608


INSERT_PHOTO = _insert(schema.photo)
INSERT_EMBEDDING = _insert(schema.embedding)
INSERT_WHOLE_VIEW = (
    "INSERT INTO view (id, photo_id, kind, x, y, w, h) VALUES (?, ?, 'whole', 0.0, 0.0, 1.0, 1.0)"
)
UPSERT_FILE = (
    _insert(schema.file, ("id", *PLACED))
    + " ON CONFLICT (root_id, path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in FILE_COLUMNS)
)
UPDATE_FILE = f"UPDATE file SET {', '.join(f'{name} = ?' for name in FILE_COLUMNS)} WHERE id = ?"  # noqa: S608
FILE = f"SELECT {', '.join(PLACED)} FROM file WHERE id = ?"  # noqa: S608
REPLACE_FILE = f"UPDATE file SET {', '.join(f'{name} = ?' for name in PLACED)} WHERE id = ?"  # noqa: S608
AT = "SELECT id, photo_id, digest, reading, capture FROM file WHERE root_id = ? AND path = ?"
SHOWING = "SELECT id, photo_id FROM file WHERE state != 'missing' AND photo_id IN ({}) ORDER BY id"
MARK_MISSING = (
    "UPDATE file SET state = 'missing', stage = NULL, code = NULL, reason = NULL, run_id = ? WHERE id = ?"
)
ADD_CHANGE = "INSERT INTO change (op, view_id, model_id) VALUES ('add', ?, ?)"
PICTURES = "SELECT digest, id FROM photo WHERE reading > 0 AND digest IN ({})"
READ_FILES = "SELECT id, digest, reading, capture FROM file WHERE id IN ({})"
READ_NOW = "UPDATE file SET reading = ? WHERE id = ?"
CAPTURE_OF = "SELECT capture FROM file WHERE photo_id = ? AND digest = ? ORDER BY reading DESC, id LIMIT 1"
# What of a photo depends on how its picture was read.
LOOK = (
    "UPDATE photo SET format = ?, width = ?, height = ?, phash = ?, sharpness = ?, rendering = ?, reading = ? "
    "WHERE id = ?"
)
WHOLE_VIEW = "SELECT id FROM view WHERE photo_id = ? AND kind = 'whole'"
KNOWN = """
    SELECT path, id, photo_id, state, code, transient, size, mtime_ns, ctime_ns, reading, EXISTS (
        SELECT 1 FROM view JOIN embedding ON embedding.view_id = view.id
        WHERE view.photo_id = file.photo_id AND view.kind = 'whole' AND embedding.model_id = ?
    ) FROM file WHERE root_id = ? AND path IN ({})
"""
THERE = "SELECT root_id, id, photo_id FROM file WHERE state != 'missing' ORDER BY id"
PATH = "SELECT path FROM file WHERE id = ?"
HAS_VECTOR = "SELECT 1 FROM embedding WHERE view_id = ? AND model_id = ?"


class NextIds:
    """Ids for new rows, in one transaction: those that `AUTOINCREMENT` would give, none used before.

    Giving them here lets all rows of a table be written by one statement.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        last = dict(cursor.execute("SELECT name, seq FROM sqlite_sequence"))
        self.photo, self.view, self.file = (
            itertools.count(int(last.get(name, 0)) + 1).__next__ for name in ("photo", "view", "file")
        )
