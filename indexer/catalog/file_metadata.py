"""Metadata of photos by file: several files may show one photo and say different things about it.

A photo's row holds what one of its files says. Among the files that are there (else those that cannot be read for
now), it is the one that tells most of time, place and camera; of equals the one that was changed last, so that a
corrected clock wins over the one it was copied from; then the first by path. A file that says the same as its
photo's row has nothing in `capture`; any other has there all that it says, so that it takes over when the first one
is gone.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from birdsearch.indexer.catalog import statements
from birdsearch.indexer.catalog.store import chunks
from birdsearch.model.images.exif import CAPTURE_FIELDS, Capture

__all__ = ["encode_metadata", "photo_metadata", "settle_metadata"]

_COLUMNS = ", ".join(CAPTURE_FIELDS)
_RENDERING = "rendering"
_PHOTOS = f"SELECT id, rendering, {_COLUMNS} FROM photo WHERE id IN ({{}})"  # noqa: S608
_AT_ODDS = "SELECT DISTINCT photo_id FROM file WHERE capture IS NOT NULL AND photo_id IN ({})"
_FILES = """
    SELECT file.id, file.state, file.capture, file.size, file.mtime_ns, root.path, file.path
    FROM file JOIN root ON root.id = file.root_id WHERE file.photo_id = ? ORDER BY file.id
"""
_UPDATE = f"UPDATE photo SET size = ?, {', '.join(f'{name} = ?' for name in CAPTURE_FIELDS)} WHERE id = ?"  # noqa: S608
_SET_CAPTURE = "UPDATE file SET capture = ? WHERE id = ?"
_READ_AGAIN = "UPDATE file SET reading = 0 WHERE id = ?"


def encode_metadata(capture: Capture, rendering: str | None) -> str:
    """Return a photo's metadata and rendering as `file.capture` holds them: equal text, equal metadata."""
    metadata = {**asdict(capture), _RENDERING: rendering}
    return json.dumps({name: value for name, value in metadata.items() if value is not None}, sort_keys=True)


def photo_metadata(cursor: sqlite3.Cursor, photo_ids: Iterable[int]) -> dict[int, str]:
    """Return the metadata in the rows of photos, as `encode_metadata` gives it."""
    found = {}
    for some in chunks(sorted(photo_ids)):
        for photo_id, rendering, *values in cursor.execute(_PHOTOS.format(statements.marks(some)), some):
            capture = Capture(**dict(zip(CAPTURE_FIELDS, values, strict=True)))
            found[photo_id] = encode_metadata(capture, rendering)
    return found


def settle_metadata(cursor: sqlite3.Cursor, photo_ids: Iterable[int | None]) -> dict[int, int]:
    """Bring the rows of photos whose files say different things up to date with the file that counts.

    Where that file is to be shown otherwise than the photo was embedded, the next run reads it again.

    Args:
        cursor: In a transaction that writes.
        photo_ids: The photos; None is passed over.

    Returns:
        Id of the file that counts, by photo; photos whose files all say the same are left out.
    """
    leaders = {}
    for some in chunks(sorted({photo_id for photo_id in photo_ids if photo_id is not None})):
        at_odds = cursor.execute(_AT_ODDS.format(statements.marks(some)), some).fetchall()
        own = photo_metadata(cursor, [photo_id for (photo_id,) in at_odds])
        for photo_id in sorted(own):
            leader = _settle(cursor, photo_id, own[photo_id])
            if leader is not None:
                leaders[photo_id] = leader
    return leaders


def _settle(cursor: sqlite3.Cursor, photo_id: int, own: str) -> int | None:
    files = cursor.execute(_FILES, (photo_id,)).fetchall()
    by_file = {file[0]: json.loads(file[2] or own) for file in files}
    best = min(
        (file for file in files if file[1] != "missing"), key=lambda file: _rank(file, by_file), default=None
    )
    if best is None:
        return None
    leader = int(best[0])
    embedded = json.loads(own).get(_RENDERING)
    says = by_file[leader]
    if says != json.loads(own):
        values = [says.get(name) for name in CAPTURE_FIELDS]
        cursor.execute(_UPDATE, (best[3], *values, photo_id))
    # The photo is shown as it was embedded until it is embedded again.
    now = json.dumps({**says, _RENDERING: embedded} if embedded is not None else says, sort_keys=True)
    for file in files:
        text = json.dumps(by_file[file[0]], sort_keys=True)
        wanted = None if text == now else text
        if wanted != file[2]:
            cursor.execute(_SET_CAPTURE, (wanted, file[0]))
    if embedded is not None and says.get(_RENDERING, embedded) != embedded:
        cursor.execute(_READ_AGAIN, (leader,))
    return leader


def _rank(file: tuple[Any, ...], by_file: dict[int, dict[str, Any]]) -> tuple[object, ...]:
    """Return a sort key, least for the file whose metadata counts."""
    file_id, state, _, _, mtime_ns, root, path = file
    known = sum(name in by_file[file_id] for name in ("captured_at", "latitude", "camera"))
    return state != "present", -known, -mtime_ns, os.path.join(root, path)  # noqa: PTH118 bytes
