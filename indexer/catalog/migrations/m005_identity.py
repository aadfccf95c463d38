"""A photo is its picture: digests, readings and metadata of files of their own; photos that were merged."""

from __future__ import annotations

__all__ = ["STATEMENTS"]

STATEMENTS = (
    "ALTER TABLE photo ADD COLUMN reading INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE photo ADD COLUMN rendering TEXT",
    "CREATE INDEX photo_unread ON photo (size) WHERE reading = 0",
    "ALTER TABLE file ADD COLUMN digest BLOB",
    "ALTER TABLE file ADD COLUMN reading INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE file ADD COLUMN capture TEXT",
    # Until then the identity of a photo was the SHA-256 of its files.
    "UPDATE file SET digest = (SELECT photo.digest FROM photo WHERE photo.id = file.photo_id)",
    """
    CREATE TABLE merged_photo (
        photo_id INTEGER NOT NULL PRIMARY KEY,
        into_id INTEGER NOT NULL,
        run_id INTEGER,
        FOREIGN KEY(run_id) REFERENCES run (id)
    )
    """,
    """
    CREATE TABLE former_digest (
        digest BLOB NOT NULL,
        photo_id INTEGER NOT NULL,
        PRIMARY KEY (digest)
    )
    """,
)
