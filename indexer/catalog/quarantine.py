"""The undo log of quarantined files, and what moving a file changes in the catalog.

Each file has a row: `planned`, committed before the file is touched; `moved`, once it is at its new path;
`restored`, once it is back; `failed`, if it was not moved after all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.batch import stat_values
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.records import FoundFile
from birdsearch.indexer.catalog.runs import start_run
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = [
    "QuarantineRow",
    "begin_undo",
    "fail_moves",
    "has_planned_moves",
    "plan_moves",
    "read_left_behind",
    "read_planned_moves",
    "read_state",
    "record_moved",
    "record_restored",
]


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A file that is to move, has moved or is back.

    Attributes:
        run_id: The run that moves it.
        photo_id: The photo that it shows or belongs to.
        keeper_id: The photo of the file that is kept.
        original: Where it was, absolute.
        moved_to: Where it goes, absolute.
        digest: SHA-256 of its content.
        companion_of: The row of the photo file that it belongs to, None for a photo file.
        state: `planned`, `moved`, `restored` or `failed`.
        id: Its own; 0 before it is written.
    """

    run_id: int
    photo_id: int
    keeper_id: int
    original: bytes
    moved_to: bytes
    digest: bytes
    companion_of: int | None = None
    state: str = "planned"
    id: int = 0


def plan_moves(store: CatalogStore, rows: Sequence[QuarantineRow]) -> list[QuarantineRow]:
    """Commit the planned rows of a photo file and its companions, before anything moves.

    Args:
        store: A catalog open for writing.
        rows: The photo file's first.

    Returns:
        The rows with their ids, the companions with that of their photo file.
    """
    written: list[QuarantineRow] = []
    with store.writing() as connection:
        for row in rows:
            planned = replace(row, companion_of=written[0].id if written else None)
            values = asdict(planned)
            del values["id"]
            statement = sa.insert(schema.quarantine).values(values).returning(schema.quarantine.c.id)
            written.append(replace(planned, id=connection.execute(statement).scalar_one()))
    return written


def record_moved(store: CatalogStore, row: QuarantineRow) -> None:
    """Record that the file of a row has moved; its photo, vectors and labels stay.

    A path that shows another photo by now, or is not indexed, is left alone.
    """
    with store.writing() as connection:
        _set_state(connection, row.id, "moved")
        file = _file_at(connection, row.original)
        if file is not None and file.photo_id == row.photo_id and file.state != "missing":
            values = {"state": "missing", "stage": None, "code": None, "reason": None, "run_id": row.run_id}
            _update_file(connection, file, values)


def record_restored(store: CatalogStore, row: QuarantineRow, undo_id: int) -> None:
    """Record that the file of a row is back, as it is now, by the run that put it back.

    A path that the catalog knows otherwise is left to the next `index` run.
    """
    with store.writing() as connection:
        _set_state(connection, row.id, "restored", undo_id)
        file = _file_at(connection, row.original)
        if file is not None and file.photo_id == row.photo_id and file.state == "missing":
            status = os.stat(row.original)  # noqa: PTH116 paths are bytes
            found = FoundFile(
                file.path,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_dev,
                status.st_ino,
            )
            values = {"state": "present", "transient": 0, "run_id": undo_id, **stat_values(found)}
            _update_file(connection, file, values)


def fail_moves(store: CatalogStore, rows: Sequence[QuarantineRow]) -> None:
    """Record that the files of planned rows did not move."""
    with store.writing() as connection:
        for row in rows:
            _set_state(connection, row.id, "failed")


def has_planned_moves(store: CatalogStore) -> bool:
    """Return whether a run was cut short while it moved files."""
    row = schema.quarantine.c
    wanted = sa.select(row.id).where(row.state == "planned").limit(1)
    with store.reading() as connection:
        return connection.execute(wanted).first() is not None


def read_planned_moves(store: CatalogStore) -> list[QuarantineRow]:
    """Return the rows of runs that were cut short, by their ids."""
    with store.reading() as connection:
        return _read_rows(connection, schema.quarantine.c.state == "planned")


def read_left_behind(store: CatalogStore) -> list[tuple[QuarantineRow, int]]:
    """Return the moved companions whose photo file is back, each with the run that put that back."""
    row, photo = schema.quarantine.c, schema.quarantine.alias().c
    back = sa.exists().where(photo.id == row.companion_of, photo.state == "restored")
    with store.reading() as connection:
        rows = _read_rows(connection, row.state == "moved", back)
        photos = [one.companion_of for one in rows]
        found = connection.execute(sa.select(photo.id, photo.undone_run_id).where(photo.id.in_(photos))).all()
    undone = {each.id: each.undone_run_id for each in found}
    return [(one, undone[one.companion_of]) for one in rows]


def read_state(store: CatalogStore, row_id: int) -> str:
    """Return the state of a row."""
    row = schema.quarantine.c
    with store.reading() as connection:
        return str(connection.execute(sa.select(row.state).where(row.id == row_id)).scalar_one())


def begin_undo(store: CatalogStore, command: str, run_id: int | None) -> tuple[int, int, list[QuarantineRow]]:
    """Begin a run that puts back what another run moved.

    Args:
        store: A catalog open for writing.
        command: The command that puts it back.
        run_id: The run to undo; None for the newest with files that are still away.

    Returns:
        The run to undo, the run that undoes it, and the rows of the files that are away, by their ids.

    Raises:
        InvalidInputError: There is nothing to undo.
    """
    row = schema.quarantine.c
    with store.writing() as connection:
        undone = _run_to_undo(connection, run_id)
        rows = _read_rows(connection, row.run_id == undone, row.state == "moved")
        return undone, start_run(connection, command), rows


def _run_to_undo(connection: sa.Connection, run_id: int | None) -> int:
    row = schema.quarantine.c
    newest = connection.execute(sa.select(sa.func.max(row.run_id)).where(row.state == "moved")).scalar_one()
    if run_id is None:
        if newest is None:
            raise InvalidInputError("there is nothing to undo: no file is in quarantine")
        return int(newest)
    states = set(connection.execute(sa.select(row.state).where(row.run_id == run_id)).scalars())
    if "moved" not in states:
        what = "put back what it moved already" if "restored" in states else "moved no files"
        hint = "" if newest is None else f"; run {newest} did, and its files are in quarantine"
        raise InvalidInputError(f"run {run_id} {what}, so there is nothing to undo{hint}")
    return run_id


def _read_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[QuarantineRow]:
    columns = [schema.quarantine.c[each.name] for each in fields(QuarantineRow)]
    statement = sa.select(*columns).where(*conditions).order_by(schema.quarantine.c.id)
    return [QuarantineRow(*row) for row in connection.execute(statement)]


def _set_state(connection: sa.Connection, row_id: int, state: str, undone_run_id: int | None = None) -> None:
    row = schema.quarantine
    connection.execute(
        sa.update(row).where(row.c.id == row_id).values(state=state, undone_run_id=undone_run_id)
    )


def _file_at(connection: sa.Connection, path: bytes) -> Any | None:
    """Return the row of a file, of the innermost root that has one."""
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


def _update_file(connection: sa.Connection, file: Any, values: dict[str, Any]) -> None:
    """Change a file's row: other metadata may count by that, and the vector indexes may find more or less."""
    before = live_pairs(connection, [file.photo_id])
    connection.execute(sa.update(schema.file).where(schema.file.c.id == file.id).values(values))
    settle_metadata(cursor_of(connection), [file.photo_id])
    write_changes(connection, before, [file.photo_id])
