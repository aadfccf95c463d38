"""Recovery of moves: files moved as the undo log plans it, put back, or completed after a crash."""
# ruff: noqa: PTH108, PTH120
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import os

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.quarantine import (
    QuarantineRow,
    fail_moves,
    read_left_behind,
    read_planned_moves,
    read_state,
    record_moved,
    record_restored,
)
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.dedup.moves import MoveError, holds, move_file, prune, verify

__all__ = ["move_row", "recover", "restore_row"]


def move_row(store: CatalogStore, row: QuarantineRow) -> None:
    """Move the file of a planned row, and record it.

    Raises:
        MoveError: It could not be moved, and is where it was.
    """
    move_file(row.original, row.moved_to, row.digest)
    record_moved(store, row)


def restore_row(store: CatalogStore, row: QuarantineRow, undo_id: int) -> None:
    """Move a file back to where it was.

    Args:
        store: A catalog open for writing.
        row: Of a file that moved.
        undo_id: The run that puts it back.

    Raises:
        MoveError: It is not as it was, its path is taken, or it cannot be moved.
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
    record_restored(store, row, undo_id)
    prune(os.path.dirname(row.moved_to))


def recover(store: CatalogStore) -> tuple[str, ...]:
    """Complete the rows of runs that were cut short, by looking where their files are.

    Args:
        store: A catalog open for writing.

    Returns:
        A sentence for each file that was found.
    """
    notes = []
    for row in read_planned_moves(store):
        follows = row.companion_of is not None and read_state(store, row.companion_of) == "moved"
        notes.append(_follow(store, row) if follows else _recover(store, row))
    return (*notes, *_bring_after(store))


def _recover(store: CatalogStore, row: QuarantineRow) -> str:
    original, target = display_path(row.original), display_path(row.moved_to)
    moved = holds(row.moved_to, row.digest)
    if moved and not holds(row.original, row.digest):
        record_moved(store, row)
        return f"run {row.run_id} was cut short after it moved {original}; this is recorded now"
    fail_moves(store, [row])
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
            fail_moves(store, [row])
            return (
                f"run {row.run_id} was cut short, and {original}, which belongs to a file it moved, {error}"
            )
        return f"run {row.run_id} was cut short; {original} has followed the photo that it belongs to"
    return _recover(store, row)


def _bring_after(store: CatalogStore) -> list[str]:
    """Put back companions whose photo file is back already, as after an undo that was cut short."""
    notes = []
    for row, undo_id in read_left_behind(store):
        try:
            restore_row(store, row, undo_id)
        except MoveError:
            # The undo that put its photo back has said so.
            continue
        notes.append(f"{display_path(row.original)} has followed the photo that it belongs to back")
    return notes
