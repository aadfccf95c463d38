"""What an index run has to do: crawl the roots and compare what is there with what the catalog knows."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from birdsearch.errors import MissingFilesError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, chunks, live_file, now
from birdsearch.indexer.crawl import CrawlProblem, FoundFile, IgnoredFile, crawl, display_path

__all__ = ["FileTask", "IdSet", "Plan", "Scope", "make_plan", "refuse_emptied", "resolve_roots"]

# Tasks beyond this many bytes wait in a temporary file, so that memory does not grow with the archive.
_SPOOL_BYTES = 32 << 20
# Files that are looked up in the catalog together.
_SCAN_BATCH = 500
# A root that lost more than this share of its files is taken for a half-mounted disk.
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Scope:
    """A root to be crawled, without the roots inside it."""

    root_id: int
    path: bytes
    inner: tuple[bytes, ...]
    gone: bool = False


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file that has to be read: new, changed, or to be tried again.

    Attributes:
        root_id: Its root.
        root: Absolute path of the root.
        found: What the crawl saw.
        file_id: Its row, or None if the path is new.
        photo_id: The photo that this path showed before, or None.
    """

    root_id: int
    root: bytes
    found: FoundFile
    file_id: int | None
    photo_id: int | None

    @property
    def absolute(self) -> bytes:
        """Absolute path."""
        return os.path.join(self.root, self.found.path)  # noqa: PTH118


class IdSet:
    """A set of row ids in one byte an id."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, row_id: int) -> None:
        """Add an id."""
        if row_id >= len(self._bytes):
            self._bytes.extend(bytes(row_id + 1024 - len(self._bytes)))
        self._bytes[row_id] = 1

    def __contains__(self, row_id: int) -> bool:
        return row_id < len(self._bytes) and self._bytes[row_id] == 1


@dataclass(slots=True)
class Plan:
    """The work of a run, and what the scan saw.

    Attributes:
        scopes: The roots that were crawled.
        to_read: How many tasks there are.
        new_paths: How many of them are paths that the catalog does not know.
        unchanged: Files that are as they were and are indexed.
        failed_before: Files that are as they were when they could not be read, by failure code.
        problems: What the crawl could not enter or open, by scope.
        ignored: Files that are not pictures, by suffix.
        seen: Rows whose file is still there.
    """

    scopes: tuple[Scope, ...]
    to_read: int = 0
    new_paths: int = 0
    unchanged: int = 0
    failed_before: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[Scope, CrawlProblem]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    seen: IdSet = field(default_factory=IdSet)
    _spool: IO[bytes] = field(
        default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES),  # noqa: SIM115
        repr=False,
    )

    def add(self, task: FileTask) -> None:
        """Put a task at the end."""
        pickle.dump(task, self._spool, protocol=pickle.HIGHEST_PROTOCOL)
        self.to_read += 1
        self.new_paths += task.file_id is None

    def tasks(self) -> Iterator[FileTask]:
        """The tasks, in the order of the crawl."""
        self._spool.seek(0)
        for _ in range(self.to_read):
            yield pickle.load(self._spool)

    def close(self) -> None:
        """Drop the tasks."""
        self._spool.close()

    def unreadable(self, root_id: int, path: bytes) -> bool:
        """True if a path lies under a folder that could not be read: nothing is known about it."""
        return any(
            scope.root_id == root_id
            and problem.is_folder
            and (path.startswith(problem.path + b"/") or problem.path in (b"", b"."))
            for scope, problem in self.problems
        )


def resolve_roots(folders: Sequence[str | os.PathLike[str]], *, allow_missing: bool) -> list[bytes]:
    """Real absolute paths of the folders, each once.

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


def make_plan(
    store: CatalogStore,
    roots: Sequence[bytes],
    model_id: int,
    *,
    follow_links: bool,
    retry_failed: bool,
    confirm_missing: bool,
    on_scan: Callable[[int], None],
) -> Plan:
    """Crawl the roots and find what has to be read.

    Args:
        store: A catalog open for writing.
        roots: Real absolute paths.
        model_id: Photos without an embedding of this model are read again.
        follow_links: Enter links that leave a root.
        retry_failed: Read again what could not be read before, unchanged or not.
        confirm_missing: Believe it when a root is absent, empty, or has lost most of its files.
        on_scan: Told how many files more were seen.

    Returns:
        The plan; close it after use.

    Raises:
        MissingFilesError: A root has lost most of its files; nothing was marked missing.
    """
    scopes = _register(store, roots)
    plan = Plan(scopes)
    try:
        for scope in scopes:
            _scan(store, scope, plan, model_id, follow_links, retry_failed, on_scan)
        if not confirm_missing:
            for scope in scopes:
                live, unseen = count_unseen(store, scope, plan)
                # A file that was moved shows up as one unseen and one new path: judged after reading.
                if is_most(unseen - plan.new_paths, live):
                    raise most_is_gone(scope, unseen, live)
    except BaseException:
        plan.close()
        raise
    return plan


def most_is_gone(scope: Scope, gone: int, live: int) -> MissingFilesError:
    """The error for a root that has lost most of its files."""
    return MissingFilesError(
        f"{display_path(scope.path)}: {gone} of {live} indexed files are gone; nothing was marked missing. If a "
        "disk is not mounted, mount it; if they were deleted, run again with --confirm-missing"
    )


def is_most(gone: int, live: int) -> bool:
    """True if so many files are gone that a half-mounted disk is likelier than a clean-up."""
    return gone > live * _MOST


def count_unseen(
    store: CatalogStore, scope: Scope, plan: Plan, created: IdSet | None = None
) -> tuple[int, int]:
    """Count the files of a scope that the catalog holds as there.

    Args:
        store: An open catalog.
        scope: The root.
        plan: What the crawl saw.
        created: Rows that the run itself made; they do not count.

    Returns:
        How many there are, and how many of them the crawl did not see.
    """
    file = tables.file.c
    live = unseen = 0
    with store.reading() as connection:
        for row in connection.execute(
            sa.select(file.id, file.path).where(file.root_id == scope.root_id, live_file)
        ):
            if created is not None and row.id in created:
                continue
            live += 1
            unseen += row.id not in plan.seen and not plan.unreadable(scope.root_id, row.path)
    return live, unseen


def refuse_emptied(store: CatalogStore, roots: Sequence[bytes]) -> None:
    """Refuse folders that hold no picture at all where the catalog knows some: an unmounted disk.

    Args:
        store: An open catalog; nothing is written.
        roots: Real absolute paths.

    Raises:
        MissingFilesError: Names the folder and how many files are known in it.
    """
    for path in roots:
        _refuse_if_emptied(store, path)


def _refuse_if_emptied(store: CatalogStore, path: bytes) -> None:
    file = tables.file.c
    with store.reading() as connection:
        known = 0
        for row in connection.execute(sa.select(tables.root)):
            if _contains(path, row.path):
                inside: sa.ColumnElement[bool] = sa.true()
            elif _contains(row.path, path):
                inside = _starts_with(_below(row.path, path))
            else:
                continue
            known += connection.execute(
                sa.select(sa.func.count()).where(file.root_id == row.id, live_file, inside)
            ).scalar_one()
    if known and not any(not isinstance(item, IgnoredFile) for item in crawl(path)):
        raise MissingFilesError(
            f"{display_path(path)}: the folder is empty, and the catalog knows {known} files in it; nothing was "
            "changed. If a disk is not mounted, mount it; if they were deleted, run again with --confirm-missing"
        )


def _starts_with(prefix: bytes) -> sa.ColumnElement[bool]:
    """Condition for paths that start with a folder's prefix; bytes compare like memcmp in SQLite."""
    path = tables.file.c.path
    return sa.and_(path >= prefix, path < prefix[:-1] + bytes([prefix[-1] + 1]))


def _register(store: CatalogStore, roots: Sequence[bytes]) -> tuple[Scope, ...]:
    """Make the roots known; a file that an outer root holds moves to its new inner root.

    A file belongs to the innermost root above it, so that it has one row however roots overlap.
    """
    with store.writing() as connection:
        known = {row.path: row.id for row in connection.execute(sa.select(tables.root))}
        for path in roots:
            if path not in known:
                known[path] = connection.execute(
                    sa.insert(tables.root).values(path=path, added_at=now()).returning(tables.root.c.id)
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
    """What paths relative to a folder begin with if they lie in a folder inside it."""
    return inner[len(outer.rstrip(b"/")) + 1 :] + b"/"


def _adopt(connection: sa.Connection, known: dict[bytes, int], path: bytes) -> None:
    outer = [other for other in known if other != path and _contains(other, path)]
    if not outer:
        return
    nearest = max(outer, key=len)
    prefix = _below(nearest, path)
    file = tables.file.c
    moved = connection.execute(
        sa.select(file.id, file.path).where(file.root_id == known[nearest], _starts_with(prefix))
    ).all()
    for row in moved:
        connection.execute(
            sa.update(tables.file)
            .where(file.id == row.id)
            .values(root_id=known[path], path=row.path[len(prefix) :])
        )


def _scan(
    store: CatalogStore,
    scope: Scope,
    plan: Plan,
    model_id: int,
    follow_links: bool,
    retry_failed: bool,
    on_scan: Callable[[int], None],
) -> None:
    if scope.gone:
        return
    found: list[FoundFile] = []
    excluded = (*scope.inner, os.fsencode(store.path.resolve()))
    for item in crawl(scope.path, follow_links=follow_links, excluded=excluded):
        if isinstance(item, IgnoredFile):
            plan.ignored[item.suffix] += 1
        elif isinstance(item, CrawlProblem):
            plan.problems.append((scope, item))
        else:
            found.append(item)
            if len(found) == _SCAN_BATCH:
                _classify(store, scope, found, plan, model_id, retry_failed)
                on_scan(len(found))
                found.clear()
    _classify(store, scope, found, plan, model_id, retry_failed)
    on_scan(len(found))


def _classify(
    store: CatalogStore,
    scope: Scope,
    found: Sequence[FoundFile],
    plan: Plan,
    model_id: int,
    retry_failed: bool,
) -> None:
    file, view, embedding = tables.file.c, tables.view.c, tables.embedding.c
    embedded = sa.exists().where(
        view.photo_id == file.photo_id,
        view.kind == "whole",
        embedding.view_id == view.id,
        embedding.model_id == model_id,
    )
    rows = {}
    with store.reading() as connection:
        for some in chunks(found):
            for row in connection.execute(
                sa.select(tables.file, embedded.label("embedded")).where(
                    file.root_id == scope.root_id, file.path.in_([item.path for item in some])
                )
            ):
                rows[row.path] = row
    for item in found:
        known = rows.get(item.path)
        if known is None:
            plan.add(FileTask(scope.root_id, scope.path, item, None, None))
            continue
        plan.seen.add(known.id)
        same = (known.size, known.mtime_ns, known.ctime_ns) == (item.size, item.mtime_ns, item.ctime_ns)
        if same and known.state == "present" and known.embedded:
            plan.unchanged += 1
        elif same and known.state == "error" and not known.transient and not retry_failed:
            plan.failed_before[known.code] += 1
        else:
            plan.add(FileTask(scope.root_id, scope.path, item, known.id, known.photo_id))
