"""Photos that turn out to be one picture become one photo; nothing that was known of either is lost.

The photo with the smaller id stays. Its labels and the other's are all kept, in the order in which they were given,
so that the later one is in force; where a run said something of both, what it said of the one that stays is kept.
"""

from __future__ import annotations

import sqlite3

from birdsearch.indexer.catalog.file_metadata import photo_metadata

__all__ = ["merge_photos", "merged_ids"]

_TABLES_OF_VIEWS = ("prediction", "cluster_member", "embedding")


def merged_ids(cursor: sqlite3.Cursor, photo_ids: set[int]) -> dict[int, int]:
    """Return the photos that some photos were merged into, by their former ids."""
    found: dict[int, int] = {}
    for photo_id in photo_ids:
        rows = cursor.execute("SELECT into_id FROM merged_photo WHERE photo_id = ?", (photo_id,)).fetchall()
        found.update((photo_id, into) for (into,) in rows)
    return found


def merge_photos(cursor: sqlite3.Cursor, keep: int, gone: int, run_id: int) -> None:
    """Give all that belongs to a photo to another one.

    Args:
        cursor: In a transaction that writes.
        keep: The photo that stays.
        gone: The one that goes; its id is larger, and is never used again.
        run_id: The run that found out.
    """
    own = photo_metadata(cursor, [gone])[gone]
    cursor.execute("UPDATE file SET capture = ? WHERE photo_id = ? AND capture IS NULL", (own, gone))
    cursor.execute("UPDATE file SET photo_id = ? WHERE photo_id = ?", (keep, gone))
    _merge_views(cursor, keep, gone)
    _merge_events(cursor, keep, gone)
    _merge_pairs(cursor, keep, gone)
    for column in ("photo_id", "keeper_id"):
        cursor.execute(f"UPDATE quarantine SET {column} = ? WHERE {column} = ?", (keep, gone))  # noqa: S608
    _give(cursor, "fingerprint", "photo_id", keep, gone)
    cursor.execute("DELETE FROM photo WHERE id = ?", (gone,))
    cursor.execute("UPDATE merged_photo SET into_id = ? WHERE into_id = ?", (keep, gone))
    cursor.execute(
        "INSERT INTO merged_photo (photo_id, into_id, run_id) VALUES (?, ?, ?)", (gone, keep, run_id)
    )


def _give(cursor: sqlite3.Cursor, table: str, column: str, keep: int, gone: int) -> None:
    """Give rows to another photo or view; where that has its own, these go."""
    cursor.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?", (keep, gone))  # noqa: S608
    cursor.execute(f"DELETE FROM {table} WHERE {column} = ?", (gone,))  # noqa: S608


def _merge_views(cursor: sqlite3.Cursor, keep: int, gone: int) -> None:
    views = cursor.execute("SELECT id, kind, x, y, w, h FROM view WHERE photo_id = ?", (gone,)).fetchall()
    for view_id, *region in views:
        same = cursor.execute(
            "SELECT id FROM view WHERE photo_id = ? AND (kind, x, y, w, h) = (?, ?, ?, ?, ?)", (keep, *region)
        ).fetchall()
        if not same:
            cursor.execute("UPDATE view SET photo_id = ? WHERE id = ?", (keep, view_id))
            continue
        ((kept_view,),) = same
        cursor.execute("UPDATE annotation SET view_id = ? WHERE view_id = ?", (kept_view, view_id))
        for table in _TABLES_OF_VIEWS:
            _give(cursor, table, "view_id", kept_view, view_id)
        cursor.execute("DELETE FROM view WHERE id = ?", (view_id,))


def _merge_events(cursor: sqlite3.Cursor, keep: int, gone: int) -> None:
    rows = cursor.execute(
        "SELECT run_id, burst, event, sighting FROM event WHERE photo_id = ?", (gone,)
    ).fetchall()
    _give(cursor, "event", "photo_id", keep, gone)
    for run_id, *names in rows:
        # Each is named by the smallest photo in it.
        for column, name in zip(("burst", "event", "sighting"), names, strict=True):
            if name == gone or keep < name:
                cursor.execute(
                    f"UPDATE event SET {column} = (SELECT min(photo_id) FROM event WHERE run_id = ? AND "  # noqa: S608
                    f"{column} = ?) WHERE run_id = ? AND {column} = ?",
                    (run_id, name, run_id, name),
                )


def _merge_pairs(cursor: sqlite3.Cursor, keep: int, gone: int) -> None:
    rows = cursor.execute(
        "SELECT first_id, second_id, who, at, run_id FROM distinct_pair WHERE ? IN (first_id, second_id)",
        (gone,),
    ).fetchall()
    cursor.execute("DELETE FROM distinct_pair WHERE ? IN (first_id, second_id)", (gone,))
    for first, second, *said in rows:
        other = second if first == gone else first
        if other != keep:
            pair = sorted((keep, other))
            cursor.execute(
                "INSERT OR IGNORE INTO distinct_pair (first_id, second_id, who, at, run_id) VALUES (?, ?, ?, ?, ?)",
                (*pair, *said),
            )
