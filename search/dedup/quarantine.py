"""Copies are moved out of an archive, never deleted, and every move can be undone.

Each file has a row in `quarantine`: `planned`, committed before the file is touched; `moved`, once it is in its
new place; `restored`, once it is back; `failed`, if it was not moved after all. A run that was cut short leaves
at most one planned row with its file in either place, or in both; `recover` looks which and completes the row.

Before a file is moved, it and the file that stays are read and compared with their hashes. Files are moved under
a name that does not exist yet, never over another file; to another file system by copying, with the copy read
back and compared before the original goes.

Sidecars go with their file and come back with it: `name.ext.xmp` and `name.ext.aae` always, `name.xmp` and
`name.aae` if no other file in the folder has that name up to the suffix.
"""
# ruff: noqa: PTH108, PTH118, PTH120
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.crawl import display_path
from birdsearch.indexer.runs import finish_run, start_run
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.dedup.moved_rows import mark_missing, mark_present
from birdsearch.search.dedup.moves import (
    MoveError,
    free_name,
    holds,
    is_still,
    make_run_folder,
    move_file,
    name_below,
    prune,
    root_names,
    same_file,
    sidecars_of,
    verify,
)

__all__ = ["ApplyReport", "Refusal", "UndoReport", "apply_groups", "recover", "undo"]

Progress = Callable[[int, int], None]
"""Told how many files are done, and of how many."""

_APPLY_COMMAND, _UNDO_COMMAND = "dedup --apply", "dedup undo"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was left where it is, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What became of the files that were to go.

    Attributes:
        run_id: The run, which `undo` takes.
        folder: Where the files are now, absolute.
        moved: Where the files were that were moved, without their sidecars.
        moved_bytes: Their size.
        sidecars: Sidecars that went with them.
        refused: Files that were left where they are.
        recovered: What was found out about a run that had been cut short.
        interrupted: True if it was stopped before all were done.
    """

    run_id: int
    folder: bytes
    moved: tuple[bytes, ...]
    moved_bytes: int
    sidecars: int
    refused: tuple[Refusal, ...]
    recovered: tuple[str, ...]
    interrupted: bool


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What came of undoing a run.

    Attributes:
        run_id: The run that did the undoing.
        undone_run_id: The run that was undone.
        restored: Files that are back, with their sidecars.
        refused: Files that are still where they were moved to, or are gone from there, and why.
        recovered: What was found out about a run that had been cut short.
        interrupted: True if it was stopped before all were done; undoing again goes on.
    """

    run_id: int
    undone_run_id: int
    restored: int
    refused: tuple[Refusal, ...]
    recovered: tuple[str, ...]
    interrupted: bool


def apply_groups(
    store: CatalogStore,
    groups: Sequence[CopyGroup],
    quarantine: str | os.PathLike[str] | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> ApplyReport:
    """Move the movable files of each group into a quarantine folder.

    A group whose kept file is gone or has other content than when it was indexed is left as it is, and so is a
    file that has. Photos, vectors and labels stay in the catalog; a photo without a file is not searched any more.

    Args:
        store: A catalog open for writing.
        groups: What `find_copies` found.
        quarantine: The folder; `quarantine` in the catalog's folder if None. Each run has a folder of its own in
            it, which `birdsearch index` passes over.
        should_stop: Asked between files.
        progress: Told how it goes.

    Returns:
        What was moved, and what was not.

    Raises:
        InvalidInputError: The quarantine folder cannot be made.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    recovered = recover(store)
    with store.writing() as connection:
        run_id = start_run(connection, _APPLY_COMMAND)
    wanted = [(group, file) for group in groups for file in group.movable]
    counts: dict[str, object] = {}
    outcome = "done"
    try:
        apply = _Apply(store, run_id, store.path / "quarantine" if quarantine is None else Path(quarantine))
        interrupted = False
        for done, (group, file) in enumerate(wanted, 1):
            interrupted = should_stop()
            if interrupted:
                break
            apply.take(group, file)
            counts |= {"moved": len(apply.moved), "refused": len(apply.refused)}
            progress(done, len(wanted))
        if not apply.moved:
            prune(apply.folder)
        outcome = "interrupted" if interrupted else "done"
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "interrupted"
        raise
    finally:
        # If the catalog itself is what failed, that error is the one to report.
        with contextlib.suppress(CatalogError), store.writing() as connection:
            finish_run(connection, run_id, counts, outcome)
    return ApplyReport(
        run_id=run_id,
        folder=apply.folder,
        moved=tuple(apply.moved),
        moved_bytes=apply.moved_bytes,
        sidecars=apply.sidecars,
        refused=tuple(apply.refused),
        recovered=recovered,
        interrupted=interrupted,
    )


class _Apply:
    """One run of moves."""

    def __init__(self, store: CatalogStore, run_id: int, quarantine: Path) -> None:
        self._store = store
        self._run_id = run_id
        self._roots = root_names([path for _, path in store.roots()])
        self.folder = make_run_folder(quarantine, run_id)
        self.moved: list[bytes] = []
        self.moved_bytes = self.sidecars = 0
        self.refused: list[Refusal] = []

    def take(self, group: CopyGroup, file: CopyFile) -> None:
        """Move a file of a group, or say why not."""
        kept = group.kept
        try:
            seen = verify(kept.path, kept.digest, follow_links=True)
        except MoveError as error:
            self._refuse(file.path, f"the file to keep, {display_path(kept.path)}, {error}")
            return
        try:
            verify(file.path, file.digest)
            if same_file(file.path, kept.path):
                raise MoveError("is the file to keep, under another name")
            sidecars = sidecars_of(file.path)
            self._move(file.path, file, kept)
        except MoveError as error:
            self._refuse(file.path, str(error))
            return
        self.moved.append(file.path)
        self.moved_bytes += file.size
        if not is_still(kept.path, seen):
            # Nothing of ours did that; the copy may be the last one that there is.
            self._put_back(file, kept)
            return
        for sidecar in sidecars:
            try:
                self._move(sidecar, file, kept)
                self.sidecars += 1
            except MoveError as error:
                self._refuse(sidecar, str(error))

    def _refuse(self, path: bytes, reason: str) -> None:
        self.refused.append(Refusal(path, reason))

    def _move(self, path: bytes, file: CopyFile, kept: CopyFile) -> None:
        digest = file.digest if path == file.path else verify(path, None).digest
        target = free_name(os.path.join(self.folder, name_below(self._roots, path)))
        with self._store.writing() as connection:
            row_id = connection.execute(
                sa.insert(tables.quarantine)
                .values(
                    run_id=self._run_id,
                    photo_id=file.photo_id,
                    keeper_id=kept.photo_id,
                    original=path,
                    moved_to=target,
                    digest=digest,
                    state="planned",
                )
                .returning(tables.quarantine.c.id)
            ).scalar_one()
        try:
            move_file(path, target, digest)
        except MoveError:
            with self._store.writing() as connection:
                _set_state(connection, row_id, "failed")
            raise
        with self._store.writing() as connection:
            _set_state(connection, row_id, "moved")
            mark_missing(connection, self._run_id, file.photo_id, path)

    def _put_back(self, file: CopyFile, kept: CopyFile) -> None:
        with self._store.reading() as connection:
            row = connection.execute(
                sa.select(tables.quarantine)
                .where(tables.quarantine.c.run_id == self._run_id, tables.quarantine.c.original == file.path)
                .order_by(tables.quarantine.c.id.desc())
            ).first()
        reason = f"the file to keep, {display_path(kept.path)}, changed meanwhile"
        self.moved.remove(file.path)
        self.moved_bytes -= file.size
        try:
            _restore(self._store, row, self._run_id)
        except MoveError as error:
            reason += f"; it could not be put back: {error}"
        self._refuse(file.path, reason)


def recover(store: CatalogStore) -> tuple[str, ...]:
    """Complete the rows of runs that were cut short, by looking where their files are.

    Args:
        store: A catalog open for writing.

    Returns:
        What was found, a sentence for each file.
    """
    row = tables.quarantine.c
    with store.reading() as connection:
        planned = connection.execute(
            sa.select(tables.quarantine).where(row.state == "planned").order_by(row.id)
        ).all()
    return tuple(_recover(store, one) for one in planned)


def _recover(store: CatalogStore, row: Any) -> str:
    original, target = display_path(row.original), display_path(row.moved_to)
    moved = holds(row.moved_to, row.digest)
    with store.writing() as connection:
        if moved and not holds(row.original, row.digest):
            _set_state(connection, row.id, "moved")
            mark_missing(connection, row.run_id, row.photo_id, row.original)
            return f"run {row.run_id} was cut short after it moved {original}; this is recorded now"
        _set_state(connection, row.id, "failed")
    if moved:
        # Both names are there: the move was not completed, and the original is whole.
        os.unlink(row.moved_to)
        return f"run {row.run_id} was cut short while it moved {original}; the file is still there"
    if os.path.lexists(row.original):
        return f"run {row.run_id} was cut short before it moved {original}; the file is still there"
    return f"run {row.run_id} was cut short, and {original} is neither there nor at {target}"


def undo(
    store: CatalogStore,
    run_id: int | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
) -> UndoReport:
    """Put back what a run moved away.

    A file is put back only if it has the content that it had, and never over another file.

    Args:
        store: A catalog open for writing.
        run_id: The run; None for the newest with files that are still away.
        should_stop: Asked between files.
        progress: Told how it goes.

    Returns:
        What was put back, and what was not.

    Raises:
        InvalidInputError: There is nothing to undo.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    recovered = recover(store)
    row = tables.quarantine.c
    with store.writing() as connection:
        undone = _run_to_undo(connection, run_id)
        rows = connection.execute(
            sa.select(tables.quarantine)
            .where(row.run_id == undone, row.state == "moved")
            .order_by(row.id.desc())
        ).all()
        undo_id = start_run(connection, _UNDO_COMMAND)
    restored, interrupted = 0, False
    refused: list[Refusal] = []
    for done, one in enumerate(rows, 1):
        if should_stop():
            interrupted = True
            break
        try:
            _restore(store, one, undo_id)
            restored += 1
        except MoveError as error:
            refused.append(Refusal(one.original, str(error)))
        progress(done, len(rows))
    counts = {"undone_run": undone, "restored": restored, "refused": len(refused)}
    with store.writing() as connection:
        finish_run(connection, undo_id, counts, "interrupted" if interrupted else "done")
    return UndoReport(undo_id, undone, restored, tuple(refused), recovered, interrupted)


def _run_to_undo(connection: sa.Connection, run_id: int | None) -> int:
    row = tables.quarantine.c
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


def _restore(store: CatalogStore, row: Any, undo_id: int) -> None:
    """Move a file back to where it was.

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


def _set_state(connection: sa.Connection, row_id: int, state: str, undone_run_id: int | None = None) -> None:
    row = tables.quarantine
    connection.execute(
        sa.update(row).where(row.c.id == row_id).values(state=state, undone_run_id=undone_run_id)
    )
