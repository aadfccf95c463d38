"""Re-homing a root: what the catalog knows of an archive that moved to another disk is moved to where it is now."""
# ruff: noqa: PTH100, PTH111, PTH116, PTH118
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, MissingFilesError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.reach import is_there
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.digest import is_file

__all__ = ["RootMove", "apply_root_move", "plan_root_move"]

_COMMAND = "roots move"
# Files whose content is read and compared, spread evenly over the archive.
_SAMPLE = 64
_LEAST_FOUND = 0.5
# Absolute paths that the catalog holds outside of `file`.
_PATHS = (
    schema.deployment.c.folder,
    schema.quarantine.c.original,
    schema.quarantine.c.moved_to,
)


@dataclass(frozen=True, slots=True)
class RootMove:
    """A move that was looked into.

    Attributes:
        root_id: The root that is not there any more.
        old: Its path.
        new: Where its files are now.
        holder: The root that takes them: it holds `new`, or is it; None if `old` gets that path.
        prefix: What their paths begin with below that.
        files: Files that the catalog holds as there.
        found: How many of them are there, of the same size.
        compared: How many of these were read and have the same content.
        known: How many of them have been indexed there already.
    """

    root_id: int
    old: bytes
    new: bytes
    holder: int | None
    prefix: bytes
    files: int
    found: int
    compared: int
    known: int


def plan_root_move(
    store: CatalogStore,
    old: str | bytes | os.PathLike[str],
    new: str | bytes | os.PathLike[str],
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> RootMove:
    """Look whether the files of a root are in another folder: all by size, a sample by content.

    Args:
        store: An open catalog; nothing is written.
        old: The root, as `birdsearch roots` names it.
        new: The folder that holds its files now.
        progress: Called with how many files were looked at, and of how many.

    Returns:
        The move.

    Raises:
        InvalidInputError: There is no such root, it is still there, or the folders overlap.
        MissingFilesError: The new folder is not there, lacks most of the files, or holds other content.
    """
    roots = {path: root_id for root_id, path in store.roots()}
    source = os.path.abspath(os.path.expanduser(os.fsencode(old)))
    target = os.path.realpath(os.path.expanduser(os.fsencode(new)))
    if source not in roots:
        listed = ", ".join(display_path(path) for path in roots) or "none"
        raise InvalidInputError(
            f"{display_path(source)}: no indexed folder; the indexed folders are {listed}"
        )
    holder, prefix = _holder(roots, source, target)
    if is_there(source):
        raise InvalidInputError(
            f"{display_path(source)} is still there, so nothing is to be re-homed; `birdsearch index "
            f"{display_path(target)}` adds the other folder"
        )
    if not is_there(target):
        raise MissingFilesError(f"{display_path(target)}: there is no such folder, or it is empty")
    rows = _rows(store, roots[source])
    present = [row for row in rows if row.state == "present"]
    found = []
    for done, row in enumerate(present, 1):
        if _size(os.path.join(target, row.path)) == row.size:
            found.append(row)
        progress(done, len(present))
    if len(found) < _LEAST_FOUND * len(present):
        raise MissingFilesError(
            f"{display_path(target)}: only {len(found)} of {len(present)} files of {display_path(source)} are "
            "there with the same size; nothing was changed"
        )
    known = _known(store, holder, prefix, present)
    return RootMove(
        root_id=roots[source],
        old=source,
        new=target,
        holder=holder,
        prefix=prefix,
        files=len(present),
        found=len(found),
        compared=_compare(
            [row for row in found if not _is_edited(row, known.get(prefix + row.path))], target
        ),
        known=len(known),
    )


def _holder(roots: dict[bytes, int], old: bytes, new: bytes) -> tuple[int | None, bytes]:
    """Return the root that takes the files, and the prefix of their paths below it."""
    if _within(old, new) or _within(new, old):
        raise InvalidInputError(
            f"{display_path(old)} and {display_path(new)} overlap; a root is re-homed to a folder beside it"
        )
    inner = [path for path in roots if path != new and _within(path, new)]
    if inner:
        raise InvalidInputError(
            f"{display_path(new)} holds the indexed folder {display_path(inner[0])}; re-home to a folder that "
            "overlaps no other"
        )
    outer = max((path for path in roots if _within(new, path)), key=len, default=None)
    if outer is None:
        return None, b""
    return roots[outer], b"" if outer == new else new[len(outer.rstrip(b"/")) + 1 :] + b"/"


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _rows(store: CatalogStore, root_id: int) -> Sequence[Any]:
    """Return the rows of all files of a root, in order of their paths."""
    file, photo = schema.file.c, schema.photo.c
    with store.reading() as connection:
        return connection.execute(
            sa.select(
                *(file.id, file.path, file.size, file.mtime_ns, file.photo_id, file.state),
                sa.func.coalesce(file.digest, photo.digest).label("digest"),
            )
            .outerjoin(schema.photo, photo.id == file.photo_id)
            .where(file.root_id == root_id)
            .order_by(file.path)
        ).all()


def _size(path: bytes) -> int | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _compare(found: Sequence[Any], folder: bytes) -> int:
    """Read a sample of the files, and return how many.

    Raises:
        MissingFilesError: One of them cannot be read, or holds other content.
    """
    step = max(1, len(found) // _SAMPLE)
    sample = found[::step][:_SAMPLE]
    for row in sample:
        path = os.path.join(folder, row.path)
        try:
            with open(path, "rb") as stream:  # noqa: PTH123
                is_it = is_file(stream.read(), row.digest)
        except OSError as error:
            raise MissingFilesError(f"{display_path(path)}: cannot be read ({error.strerror})") from error
        if not is_it:
            raise MissingFilesError(
                f"{display_path(path)}: holds other content than the file that was indexed; nothing was changed. "
                f"If it was edited since, `birdsearch index {display_path(folder)}` first"
            )
    return len(sample)


def _is_edited(row: Any, there: Any | None) -> bool:
    """Return whether a file was indexed at the new path and had been edited since it was at the old one."""
    return there is not None and there.digest != row.digest


def _known(store: CatalogStore, holder: int | None, prefix: bytes, rows: Sequence[Any]) -> dict[bytes, Any]:
    """Return the rows of the root that takes the files, by the path that a file of the old root has there."""
    if holder is None:
        return {}
    file = schema.file.c
    wanted = {prefix + row.path for row in rows}
    with store.reading() as connection:
        there = connection.execute(
            sa.select(file.id, file.path, file.photo_id, file.state, file.digest).where(
                file.root_id == holder
            )
        )
        return {row.path: row for row in there if row.path in wanted}


def apply_root_move(store: CatalogStore, move: RootMove) -> int:
    """Re-home a root, whole or not at all.

    Photos, labels and vectors stay as they are; deployments and the undo log of `dedup` follow. A file that was
    indexed at the new path already is what it was found to be there. What was edited since, so that the old path
    showed another photo than the new one does, is known to be gone from the old one.

    Args:
        store: A catalog open for writing.
        move: As `plan_root_move` gave it.

    Returns:
        The run.
    """
    root = schema.root
    rows = _rows(store, move.root_id)
    known = _known(store, move.holder, move.prefix, rows)
    with store.writing() as connection:
        run_id = start_run(connection, _COMMAND)
        if move.holder is None:
            connection.execute(sa.update(root).where(root.c.id == move.root_id).values(path=move.new))
        else:
            _merge(connection, run_id, move, rows, known)
        _refresh(connection, move, rows)
        for column in _PATHS:
            _rewrite(connection, column, move.old, move.new)
        counts = {"files": move.files, "found": move.found, "known": move.known}
        finish_run(connection, run_id, counts)
    return run_id


def _merge(
    connection: sa.Connection, run_id: int, move: RootMove, rows: Sequence[Any], known: dict[bytes, Any]
) -> None:
    """Give the rows of the old root to the one that holds the new folder; remove the old root if none is left."""
    file, root = schema.file, schema.root
    photo_ids = [row.photo_id for row in rows]
    before = live_pairs(connection, photo_ids)
    for row in rows:
        there = known.get(move.prefix + row.path)
        mine = file.c.id == row.id
        if there is None:
            values = {"root_id": move.holder, "path": move.prefix + row.path}
            connection.execute(sa.update(file).where(mine).values(values))
        elif row.photo_id is None or there.photo_id == row.photo_id:
            connection.execute(sa.delete(file).where(mine))
        else:
            values = {"state": "missing", "stage": None, "code": None, "reason": None, "run_id": run_id}
            connection.execute(sa.update(file).where(mine).values(values))
    settle_metadata(cursor_of(connection), photo_ids)
    write_changes(connection, before, photo_ids)
    if (
        connection.execute(sa.select(file.c.id).where(file.c.root_id == move.root_id).limit(1)).first()
        is None
    ):
        connection.execute(sa.delete(root).where(root.c.id == move.root_id))


def _refresh(connection: sa.Connection, move: RootMove, rows: Sequence[Any]) -> None:
    """Note the new inode and times of what was moved with its time of change: `index` need not read it again."""
    values = []
    for row in rows:
        if row.state == "present":
            try:
                status = os.stat(os.path.join(move.new, row.path))
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) == (row.size, row.mtime_ns):
                values.append((status.st_ctime_ns, status.st_dev, status.st_ino, row.id))
    cursor_of(connection).executemany(
        "UPDATE file SET ctime_ns = ?, device = ?, inode = ? WHERE id = ?", values
    )


def _rewrite(connection: sa.Connection, column: sa.Column[bytes], old: bytes, new: bytes) -> None:
    """Change the beginning of the paths of a column that lie in a folder, or are it."""
    paths = connection.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars().all()
    for path in paths:
        if _within(path, old):
            moved = new + path[len(old) :] if old != b"/" else new.rstrip(b"/") + path
            connection.execute(sa.update(column.table).where(column == path).values({column.name: moved}))
