"""Roots: the folders that are indexed, each file under the innermost of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.errors import MissingFilesError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_file
from birdsearch.indexer.catalog.reach import is_there
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = [
    "RootState",
    "Scope",
    "absent_roots",
    "count_live_files",
    "has_live_files",
    "register_roots",
    "resolve_roots",
    "root_states",
]


@dataclass(frozen=True, slots=True)
class Scope:
    """A root to be crawled, without the roots inside it."""

    root_id: int
    path: bytes
    inner: tuple[bytes, ...]
    gone: bool = False


def resolve_roots(folders: Sequence[str | os.PathLike[str]], *, allow_missing: bool) -> list[bytes]:
    """Return the real absolute paths of the folders, each once.

    Args:
        folders: What the user named.
        allow_missing: Accept a folder that does not exist.

    Raises:
        MissingFilesError: A folder does not exist or is not a folder.
    """
    roots: dict[bytes, None] = {}
    for folder in folders:
        path = Path(folder).expanduser()
        if not path.exists() and not allow_missing:
            raise MissingFilesError(
                f"{path}: there is no such folder; nothing was changed. Is the disk mounted?"
            )
        if path.exists() and not path.is_dir():
            raise MissingFilesError(
                f"{path}: not a folder; `birdsearch index` takes the folder that holds it"
            )
        roots[os.path.realpath(os.fsencode(path))] = None
    return list(roots)


def has_live_files(store: CatalogStore, path: bytes) -> bool:
    """Return whether the catalog holds files in a folder as there.

    Args:
        store: An open catalog.
        path: Real absolute path of the folder, which may be a root, in one, or hold some.
    """
    with store.reading() as connection:
        known = sa.select(schema.file.c.id).where(_live_files_in(connection, path))
        return connection.execute(known.limit(1)).first() is not None


def count_live_files(store: CatalogStore, path: bytes) -> int:
    """Return how many files in a folder the catalog holds as there; see `has_live_files`."""
    with store.reading() as connection:
        known = sa.select(sa.func.count()).where(_live_files_in(connection, path))
        return int(connection.execute(known).scalar_one())


def _live_files_in(connection: sa.Connection, path: bytes) -> sa.ColumnElement[bool]:
    file = schema.file.c
    within: list[sa.ColumnElement[bool]] = []
    for row in connection.execute(sa.select(schema.root)):
        if _contains(path, row.path):
            within.append(file.root_id == row.id)
        elif _contains(row.path, path):
            within.append(sa.and_(file.root_id == row.id, _starts_with(_below(row.path, path))))
    return sa.and_(live_file, sa.or_(sa.false(), *within))


def _starts_with(prefix: bytes) -> sa.ColumnElement[bool]:
    """Return the condition for paths that start with a prefix; bytes compare like memcmp in SQLite."""
    path = schema.file.c.path
    return sa.and_(path >= prefix, path < prefix[:-1] + bytes([prefix[-1] + 1]))


@dataclass(frozen=True, slots=True)
class RootState:
    """An indexed folder as it is now.

    Attributes:
        root_id: Its id.
        path: Absolute path.
        there: It is a folder that holds something.
        files: How many of its files the catalog does not know to be gone.
        only_here: How many photos have no such file under another folder that is there.
    """

    root_id: int
    path: bytes
    there: bool
    files: int
    only_here: int


def root_states(store: CatalogStore, *, only_absent: bool = False) -> list[RootState]:
    """Look at the indexed folders, in order of their paths.

    Args:
        store: An open catalog.
        only_absent: Leave out those that are there, and those with no file that the catalog holds as there.
    """
    file = schema.file.c
    roots = [(root_id, path, is_there(path)) for root_id, path in store.roots()]
    if only_absent and all(there for _, _, there in roots):
        return []
    found = []
    with store.reading() as connection:
        counts = sa.select(file.root_id, sa.func.count()).where(live_file).group_by(file.root_id)
        files = {row[0]: int(row[1]) for row in connection.execute(counts)}
        for root_id, path, there in roots:
            if only_absent and (there or not files.get(root_id)):
                continue
            others = [other for other, _, is_up in roots if is_up and other != root_id]
            elsewhere = sa.select(file.photo_id).where(live_file, file.root_id.in_(others))
            only_here = connection.execute(
                sa.select(sa.func.count(sa.distinct(file.photo_id))).where(
                    live_file, file.root_id == root_id, file.photo_id.not_in(elsewhere)
                )
            ).scalar_one()
            found.append(RootState(root_id, path, there, files.get(root_id, 0), only_here))
    return found


def absent_roots(store: CatalogStore) -> tuple[str, ...]:
    """Return a line for each indexed folder that does not exist, with what to do about it."""
    return tuple(
        f"{display_path(state.path)} is not there: {state.files} indexed files, {state.only_here} photos of them "
        "with no other file. Mount its disk; or, if it moved, `birdsearch roots move "
        f"{shlex.quote(display_path(state.path))} NEW`"
        for state in root_states(store, only_absent=True)
    )


def register_roots(store: CatalogStore, roots: Sequence[bytes]) -> tuple[Scope, ...]:
    """Make the roots known; a file that an outer root holds moves to its new inner root.

    A file belongs to the innermost root above it, so that it has one row however roots overlap.
    """
    with store.writing() as connection:
        known = {row.path: row.id for row in connection.execute(sa.select(schema.root))}
        for path in roots:
            if path not in known:
                known[path] = connection.execute(
                    sa.insert(schema.root).values(path=path, added_at=now()).returning(schema.root.c.id)
                ).scalar_one()
                _adopt(connection, known, path)
    wanted = [path for path in known if any(_contains(root, path) for root in roots)]
    return tuple(
        Scope(
            root_id=known[path],
            path=path,
            inner=tuple(other for other in known if other != path and _contains(path, other)),
            gone=not os.path.isdir(path),  # noqa: PTH112
        )
        for path in sorted(wanted)
    )


def _contains(outer: bytes, inner: bytes) -> bool:
    return outer == inner or inner.startswith(outer.rstrip(b"/") + b"/")


def _below(outer: bytes, inner: bytes) -> bytes:
    """Return the prefix that turns paths relative to `inner` into paths relative to `outer`."""
    return inner[len(outer.rstrip(b"/")) + 1 :] + b"/"


def _adopt(connection: sa.Connection, known: dict[bytes, int], path: bytes) -> None:
    outer = [other for other in known if other != path and _contains(other, path)]
    if not outer:
        return
    nearest = max(outer, key=len)
    prefix = _below(nearest, path)
    file = schema.file.c
    moved = connection.execute(
        sa.select(file.id, file.path).where(file.root_id == known[nearest], _starts_with(prefix))
    ).all()
    for row in moved:
        connection.execute(
            sa.update(schema.file)
            .where(file.id == row.id)
            .values(root_id=known[path], path=row.path[len(prefix) :])
        )
