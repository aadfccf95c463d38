"""Rows of the undo log: one a file, written before it moves, completed after, and completed later if cut short."""
# ruff: noqa: PTH108, PTH120
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.dedup.moved_rows import mark_missing, mark_present
from birdsearch.search.dedup.moves import MoveError, holds, move_file, prune, verify

__all__ = ["QuarantineRow", "add_row", "fail_rows", "move_row", "read_rows", "recover", "restore_row"]


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


def add_row(connection: sa.Connection, row: QuarantineRow) -> QuarantineRow:
    """Write a row, and return it with its id."""
    values = asdict(row)
    del values["id"]
    statement = sa.insert(schema.quarantine).values(values).returning(schema.quarantine.c.id)
    return replace(row, id=connection.execute(statement).scalar_one())


def read_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[QuarantineRow]:
    """Read the rows that meet conditions, in order of their ids."""
    columns = [schema.quarantine.c[each.name] for each in fields(QuarantineRow)]
    statement = sa.select(*columns).where(*conditions).order_by(schema.quarantine.c.id)
    return [QuarantineRow(*row) for row in connection.execute(statement)]


def move_row(store: CatalogStore, row: QuarantineRow) -> None:
    """Move the file of a planned row.

    Raises:
        MoveError: It could not be moved, and is where it was.
    """
    move_file(row.original, row.moved_to, row.digest)
    _record_moved(store, row)


def _record_moved(store: CatalogStore, row: QuarantineRow) -> None:
    with store.writing() as connection:
        _set_state(connection, row.id, "moved")
        mark_missing(connection, row.run_id, row.photo_id, row.original)


def fail_rows(store: CatalogStore, rows: Sequence[QuarantineRow]) -> None:
    """Say of planned rows that their files did not move."""
    with store.writing() as connection:
        for row in rows:
            _set_state(connection, row.id, "failed")


def restore_row(store: CatalogStore, row: QuarantineRow, undo_id: int) -> None:
    """Move a file back to where it was.

    Args:
        store: A catalog open for writing.
        row: Of a file that moved.
        undo_id: The run that puts it back.

    Raises:
        MoveError: It is not as it was, its place is taken, or it cannot be moved.
    """
    is_back = holds(row.original, row.digest)
    try:
        verify(row.moved_to, row.digest)
    except MoveError as error:
        # Back already: by hand, or by an undo that was cut short.
        if not is_back:
            raise MoveError(f"was not put back: {display_path(row.moved_to)} {error}") from error
    else:
        if is_back:
            os.unlink(row.moved_to)
        elif os.path.lexists(row.original):
            raise MoveError(
                f"was not put back from {display_path(row.moved_to)}: there is another file in its place"
            )
        else:
            move_file(row.moved_to, row.original, row.digest)
    with store.writing() as connection:
        _set_state(connection, row.id, "restored", undo_id)
        mark_present(connection, undo_id, row.photo_id, row.original)
    prune(os.path.dirname(row.moved_to))


def recover(store: CatalogStore) -> tuple[str, ...]:
    """Complete the rows of runs that were cut short, by looking where their files are.

    Args:
        store: A catalog open for writing.

    Returns:
        What was found, a sentence for each file.
    """
    row = schema.quarantine.c
    with store.reading() as connection:
        planned = read_rows(connection, row.state == "planned")
    told = []
    for one in planned:
        follows = one.companion_of is not None and _state(store, one.companion_of) == "moved"
        told.append(_follow(store, one) if follows else _recover(store, one))
    return (*told, *_bring_after(store))


def _recover(store: CatalogStore, row: QuarantineRow) -> str:
    original, target = display_path(row.original), display_path(row.moved_to)
    moved = holds(row.moved_to, row.digest)
    if moved and not holds(row.original, row.digest):
        _record_moved(store, row)
        return f"run {row.run_id} was cut short after it moved {original}; this is recorded now"
    fail_rows(store, [row])
    if moved:
        # Both names are there: the move was not completed, and the original is whole.
        os.unlink(row.moved_to)
        return f"run {row.run_id} was cut short while it moved {original}; the file is still there"
    if os.path.lexists(row.original):
        return f"run {row.run_id} was cut short before it moved {original}; the file is still there"
    return f"run {row.run_id} was cut short, and {original} is neither there nor at {target}"


def _follow(store: CatalogStore, row: QuarantineRow) -> str:
    """Let a companion follow its photo file, which has moved."""
    original = display_path(row.original)
    if holds(row.original, row.digest):
        if holds(row.moved_to, row.digest):
            os.unlink(row.moved_to)
        try:
            move_row(store, row)
        except MoveError as error:
            fail_rows(store, [row])
            return (
                f"run {row.run_id} was cut short, and {original}, which belongs to a file it moved, {error}"
            )
        return f"run {row.run_id} was cut short; {original} has followed the photo that it belongs to"
    return _recover(store, row)


def _bring_after(store: CatalogStore) -> list[str]:
    """Put back companions whose photo file is back already, as after an undo that was cut short."""
    row, photo = schema.quarantine.c, schema.quarantine.alias().c
    back = sa.exists().where(photo.id == row.companion_of, photo.state == "restored")
    with store.reading() as connection:
        rows = read_rows(connection, row.state == "moved", back)
        photos = [one.companion_of for one in rows]
        found = connection.execute(sa.select(photo.id, photo.undone_run_id).where(photo.id.in_(photos))).all()
        undone = {each.id: each.undone_run_id for each in found}
    told = []
    for one in rows:
        try:
            restore_row(store, one, undone[one.companion_of])
        except MoveError:
            # The undo that put its photo back has said so.
            continue
        told.append(f"{display_path(one.original)} has followed the photo that it belongs to back")
    return told


def _state(store: CatalogStore, row_id: int) -> str:
    row = schema.quarantine.c
    with store.reading() as connection:
        return str(connection.execute(sa.select(row.state).where(row.id == row_id)).scalar_one())


def _set_state(connection: sa.Connection, row_id: int, state: str, undone_run_id: int | None = None) -> None:
    row = schema.quarantine
    connection.execute(
        sa.update(row).where(row.c.id == row_id).values(state=state, undone_run_id=undone_run_id)
    )
