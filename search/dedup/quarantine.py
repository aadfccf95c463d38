"""Quarantine: copies are moved out of an archive, never deleted, and every move can be undone.

`birdsearch.indexer.catalog.quarantine` keeps the undo log, in which each file has a row before it is touched.

What belongs to a photo file (see `birdsearch.search.dedup.companions`) goes and comes back with it: all are planned
in one transaction, the photo file moves first, and if one of the others cannot follow, all are put back. A run that
was cut short leaves the rows of one photo file; `recover` looks where its files are, lets the companions follow if
the photo file has gone, and completes the rows.

Before a file is moved, it and the file that stays are read and compared with their hashes. Files are moved under
a name that does not exist yet, never over another file; to another file system by copying, with the copy read
back and compared before the original goes.
"""
# ruff: noqa: PTH118
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdsearch.display_path import display_path
from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog.copies import is_distinct
from birdsearch.indexer.catalog.quarantine import QuarantineRow, begin_undo, fail_moves, plan_moves
from birdsearch.indexer.catalog.runs import begin_run, end_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.dedup.companions import companions_of
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.dedup.moves import (
    MoveError,
    free_name,
    is_still,
    make_run_folder,
    name_below,
    prune,
    root_names,
    same_file,
    verify,
)
from birdsearch.search.dedup.recovery import move_row, recover, restore_row

__all__ = ["ApplyReport", "Refusal", "UndoReport", "apply_groups", "recover", "undo"]

Progress = Callable[[int, int], None]
"""Takes how many files are done, and of how many."""

_APPLY_COMMAND, _UNDO_COMMAND = "dedup --apply", "dedup undo"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was left where it is, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """The fate of the files that were to be moved.

    Attributes:
        run_id: The run, which `undo` takes.
        folder: Where the files are now, absolute.
        moved: Where the photo files were that were moved.
        moved_bytes: Their size.
        sidecars: Files that belong to them and went with them: sidecars, live-photo videos, voice memos.
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
    """The result of undoing a run.

    Attributes:
        run_id: The run that did the undoing.
        undone_run_id: The run that was undone.
        restored: Files that are back, those that belong to others included.
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
        progress: Called with how many files are done, and of how many.

    Returns:
        What was moved, and what was not.

    Raises:
        InvalidInputError: The quarantine folder cannot be made.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    recovered = recover(store)
    run_id = begin_run(store, _APPLY_COMMAND)
    wanted = [(group, file) for group in groups for file in group.movable]
    counts: dict[str, object] = {}
    outcome = "failed"
    apply: _Apply | None = None
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
    except CatalogError as error:
        raise CatalogError(f"{error}. {_kept_so_far(run_id, apply)}") from error
    except (KeyboardInterrupt, SystemExit):
        outcome = "interrupted"
        raise
    finally:
        # If the catalog itself is what failed, that error is the one to report.
        with contextlib.suppress(CatalogError):
            end_run(store, run_id, counts, outcome)
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
        self.at_work: bytes | None = None

    def take(self, group: CopyGroup, file: CopyFile) -> None:
        """Move a file of a group with all that belongs to it, or say why not."""
        kept = group.kept
        if is_distinct(self._store, file.photo_id, kept.photo_id):
            self._refuse(file.path, f"was said meanwhile to be no copy of {display_path(kept.path)}")
            return
        try:
            seen = verify(kept.path, kept.digest, follow_links=True)
        except MoveError as error:
            self._refuse(file.path, f"the file to keep, {display_path(kept.path)}, {error}")
            return
        try:
            digest = verify(file.path, file.digest).digest
            if same_file(file.path, kept.path):
                raise MoveError("is the file to keep, under another name")
            rows = self._plan(file, digest, kept)
        except MoveError as error:
            self._refuse(file.path, str(error))
            return
        for index, row in enumerate(rows):
            self.at_work = row.original
            try:
                move_row(self._store, row)
            except MoveError as error:
                fail_moves(self._store, rows[index:])
                whose = f"{display_path(row.original)}, which belongs to it, " if index else ""
                self._put_back(file, rows[:index], f"{whose}{error}")
                return
        if not is_still(kept.path, seen):
            # Nothing of ours did that; the copy may be the last one that there is.
            self._put_back(file, rows, f"the file to keep, {display_path(kept.path)}, changed meanwhile")
            return
        self.at_work = None
        self.moved.append(file.path)
        self.moved_bytes += file.size
        self.sidecars += len(rows) - 1

    def _refuse(self, path: bytes, reason: str) -> None:
        self.at_work = None
        self.refused.append(Refusal(path, reason))

    def _plan(self, file: CopyFile, digest: bytes, kept: CopyFile) -> list[QuarantineRow]:
        """Write down what is to move, before anything does: the photo file, then what belongs to it.

        The log names files by their SHA-256, whatever they are.

        Raises:
            MoveError: A file that belongs to it cannot be read.
        """
        digests = {file.path: digest}
        for companion in companions_of(file.path):
            try:
                digests[companion] = verify(companion, None).digest
            except MoveError as error:
                raise MoveError(f"{display_path(companion)}, which belongs to it, {error}") from error
        rows = [
            QuarantineRow(
                run_id=self._run_id,
                photo_id=file.photo_id,
                keeper_id=kept.photo_id,
                original=path,
                moved_to=free_name(os.path.join(self.folder, name_below(self._roots, path))),
                digest=digest,
            )
            for path, digest in digests.items()
        ]
        return plan_moves(self._store, rows)

    def _put_back(self, file: CopyFile, rows: Sequence[QuarantineRow], reason: str) -> None:
        """Put back what has moved of a photo file and its companions, the photo file first."""
        for row in rows:
            try:
                restore_row(self._store, row, self._run_id)
            except MoveError as error:
                reason += f"; {display_path(row.original)} could not be put back: {error}"
        self._refuse(file.path, reason)


def _kept_so_far(run_id: int, apply: _Apply | None) -> str:
    """Say what a run that the catalog cut short had moved, for a person."""
    if apply is None:
        return "Nothing was moved"
    message = "Nothing was moved before that"
    if apply.moved:
        message = (
            f"Before that, {len(apply.moved)} photo files moved to {display_path(apply.folder)}; "
            f"`birdsearch dedup undo {run_id}` puts them back"
        )
    message += ", and every file to keep is where it was"
    if apply.at_work is not None:
        message += (
            f". {display_path(apply.at_work)} was at work: it is whole, there or in quarantine, and the next "
            "`birdsearch dedup --apply` or `dedup undo` says which"
        )
    return message


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
        progress: Called with how many files are done, and of how many.

    Returns:
        What was put back, and what was not.

    Raises:
        InvalidInputError: There is nothing to undo.
        CatalogReadOnlyError: The catalog was opened for reading.
    """
    recovered = recover(store)
    undone, undo_id, rows = begin_undo(store, _UNDO_COMMAND, run_id)
    restored = done = 0
    interrupted = False
    refused: list[Refusal] = []
    for unit in _units(rows):
        if should_stop():
            interrupted = True
            break
        is_away = False
        for one in unit:
            try:
                if is_away:
                    # Beside another photo, what belongs to this one would be taken for that one's.
                    raise MoveError("was not put back: the photo that it belongs to was not")
                restore_row(store, one, undo_id)
                restored += 1
            except MoveError as error:
                refused.append(Refusal(one.original, str(error)))
                is_away = is_away or one.companion_of is None
        done += len(unit)
        progress(done, len(rows))
    counts = {"undone_run": undone, "restored": restored, "refused": len(refused)}
    end_run(store, undo_id, counts, "interrupted" if interrupted else "done")
    return UndoReport(undo_id, undone, restored, tuple(refused), recovered, interrupted)


def _units(rows: Sequence[QuarantineRow]) -> list[list[QuarantineRow]]:
    """Group rows by photo file: it comes first, then what belongs to it; the units last moved come first."""
    units: dict[int, list[QuarantineRow]] = {}
    for row in sorted(rows, key=lambda each: each.id):
        units.setdefault(row.id if row.companion_of is None else row.companion_of, []).append(row)
    return [units[key] for key in sorted(units, reverse=True)]
