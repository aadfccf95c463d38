"""Photos and views by id, in a transaction that is open.

By plain SQL: every search looks these up, and SQLAlchemy's share in a small statement is many times SQLite's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.reach import PlacedFile, Reach
from birdsearch.indexer.catalog.records import PhotoRecord, ViewRecord
from birdsearch.model.images.box import Box

__all__ = ["read_photos", "read_views", "rows_by_id"]

log = logging.getLogger(__name__)

# Variables of one statement: SQLite takes more, beyond this nothing is gained.
_CHUNK = 500
_NOWHERE = PlacedFile(True, b"", b"")
# What a camera said of a photo: compared with its second copy whenever it is read, since places decide much.
_TAKEN = ("captured_at", "offset_minutes", "latitude", "longitude", "altitude_m", "camera", "lens")
_TWINS = f"SELECT id, {', '.join(_TAKEN)} FROM photo INDEXED BY photo_twice WHERE id IN (*)"  # noqa: S608


def rows_by_id(connection: sa.Connection, statement: str, ids: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a statement over some ids.

    Args:
        connection: An open transaction.
        statement: SQL in which `IN (*)` stands for one of the ids.
        ids: The ids.

    Yields:
        The rows, in no order.
    """
    cursor = cursor_of(connection)
    for start in range(0, len(ids), _CHUNK):
        some = ids[start : start + _CHUNK]
        yield from cursor.execute(statement.replace("(*)", f"({','.join('?' * len(some))})"), some)


def read_photos(connection: sa.Connection, photo_ids: Sequence[int]) -> dict[int, PhotoRecord]:
    """Return photos by id; ids that do not exist are left out."""
    placed: dict[int, list[PlacedFile]] = {}
    files = rows_by_id(
        connection,
        """
        SELECT file.photo_id, file.state = 'missing', root.path, file.path
        FROM file JOIN root ON root.id = file.root_id WHERE file.photo_id IN (*)
        """,
        photo_ids,
    )
    for photo_id, is_missing, root, path in files:
        placed.setdefault(photo_id, []).append(PlacedFile(bool(is_missing), root, path))
    reach = Reach()
    first = {photo_id: reach.in_order(some)[0] for photo_id, some in placed.items()}
    photos = rows_by_id(
        connection,
        """
        SELECT id, digest, size, format, width, height, captured_at, offset_minutes, latitude, longitude,
               altitude_m, camera, lens
        FROM photo NOT INDEXED WHERE id IN (*)
        """,
        photo_ids,
    )
    twins = rows_by_id(connection, _TWINS, photo_ids)
    known = {photo_id: facts for photo_id, *facts in twins}
    records = {}
    for photo_id, digest, *facts in photos:
        shown = first.get(photo_id, _NOWHERE)
        taken = known.get(photo_id)
        if facts[-len(_TAKEN) :] != taken:
            facts[-len(_TAKEN) :] = _agreed(facts[-len(_TAKEN) :], taken)
            _warn(connection, photo_id, shown)
        records[photo_id] = PhotoRecord(photo_id, shown.absolute, shown.missing, digest.hex(), *facts)
    return records


def _agreed(facts: Sequence[Any], twins: Sequence[Any] | None) -> list[Any]:
    """Return the facts of a photo that are equal in both copies, None where they differ."""
    others = [None] * len(facts) if twins is None else twins
    return [one if one == other else None for one, other in zip(facts, others, strict=True)]


def _warn(connection: sa.Connection, photo_id: int, shown: PlacedFile) -> None:
    named: set[int] = connection.info.setdefault("damaged_photos", set())
    if photo_id not in named:
        named.add(photo_id)
        log.warning(
            "photo %d (%s): when or where it was taken, or by which camera, is damaged in the catalog and left "
            "out; `birdsearch check` lists all that is damaged. Restore the catalog from a backup",
            photo_id,
            display_path(shown.absolute),
        )


def read_views(connection: sa.Connection, view_ids: Sequence[int]) -> dict[int, ViewRecord]:
    """Return views by id; ids that do not exist are left out."""
    rows = rows_by_id(connection, "SELECT id, photo_id, kind, x, y, w, h FROM view WHERE id IN (*)", view_ids)
    return {row[0]: ViewRecord(row[0], row[1], row[2], Box(*row[3:])) for row in rows}
