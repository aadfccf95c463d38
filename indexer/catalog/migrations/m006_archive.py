"""Companions of quarantined files, and forgotten photos.

The change log goes on naming views that were forgotten, so it no longer refers to their rows.
"""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    "ALTER TABLE quarantine ADD COLUMN companion_of INTEGER REFERENCES quarantine (id)",
    """
    CREATE TABLE change_log (
        seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        op TEXT NOT NULL,
        view_id INTEGER NOT NULL,
        model_id INTEGER NOT NULL REFERENCES model (id),
        CHECK (op IN ('add', 'remove'))
    )
    """,
    "INSERT INTO change_log SELECT seq, op, view_id, model_id FROM change ORDER BY seq",
    "DROP TABLE change",
    "ALTER TABLE change_log RENAME TO change",
    """
    CREATE TABLE forgotten (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER NOT NULL REFERENCES run (id),
        photo_id INTEGER NOT NULL,
        path BLOB NOT NULL,
        content TEXT NOT NULL,
        undone_run_id INTEGER REFERENCES run (id)
    )
    """,
    "CREATE INDEX forgotten_run ON forgotten (run_id)",
)
