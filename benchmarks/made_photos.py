"""Rows of photos that never were, as `birdsearch index` writes them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

__all__ = ["add_photos"]

_ROWS = 10_000


def add_photos(
    connection: sa.Connection, vectors: NDArray[np.floating], first: int, taken: Sequence[str] = ()
) -> None:
    """Write photos `first`, `first` + 1, ... in root 1, each with a file, a view and a vector of model 1.

    Args:
        connection: An open transaction.
        vectors: (n, C).
        first: Id of the first photo and of its view.
        taken: When each was taken; no times if empty.
    """
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        ids = range(first + start, first + start + len(rows))
        blobs = [row.tobytes() for row in rows.astype("<f4")]
        times: Sequence[str | None] = taken[start : start + _ROWS] or [None] * len(rows)
        for statement, values in (
            (
                """
                INSERT INTO photo (id, digest, size, format, width, height, captured_at)
                VALUES (?, ?, 1, 'JPEG', 1, 1, ?)
                """,
                [(each, each.to_bytes(32, "big"), at) for each, at in zip(ids, times, strict=True)],
            ),
            (
                """
                INSERT INTO file
                (root_id, path, state, photo_id, size, mtime_ns, ctime_ns, device, inode, transient)
                VALUES (1, ?, 'present', ?, 1, 0, 0, 0, ?, 0)
                """,
                [(b"%d.jpg" % each, each, each) for each in ids],
            ),
            (
                "INSERT INTO view (id, photo_id, kind, x, y, w, h) VALUES (?, ?, 'whole', 0, 0, 1, 1)",
                [(each, each) for each in ids],
            ),
            (
                "INSERT INTO embedding (view_id, model_id, vector, crc32) VALUES (?, 1, ?, ?)",
                [(each, blob, zlib.crc32(blob)) for each, blob in zip(ids, blobs, strict=True)],
            ),
            ("INSERT INTO change (op, view_id, model_id) VALUES ('add', ?, 1)", [(each,) for each in ids]),
        ):
            connection.exec_driver_sql(statement, values)
