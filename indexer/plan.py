"""The plan of an index run: the files to read, from comparing a crawl of the roots with the catalog."""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from birdsearch.display_path import display_path
from birdsearch.errors import MissingFilesError
from birdsearch.indexer.catalog.id_set import IdSet
from birdsearch.indexer.catalog.index_runs import files_there, known_files
from birdsearch.indexer.catalog.records import FileTask, FoundFile
from birdsearch.indexer.catalog.roots import Scope, count_live_files, has_live_files, register_roots
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.crawl import CrawlProblem, IgnoredFile, crawl
from birdsearch.model.images.rereading import is_current

__all__ = ["Plan", "Unseen", "is_most", "make_plan", "most_is_gone", "refuse_emptied"]

# Tasks beyond this many bytes wait in a temporary file, so that memory does not grow with the archive.
_SPOOL_BYTES = 32 << 20
# Files that are looked up in the catalog together.
_SCAN_BATCH = 500
# A root that lost more than this share of its files is taken for a half-mounted disk.
_MOST = 0.5


class Unseen:
    """Rows whose file a crawl did not see, with the photos that they show, in order of their ids.

    Attributes:
        live: How many of them the catalog held as there.
    """

    def __init__(self) -> None:
        self._files, self._photos = array("q"), array("q")
        self.live = 0

    def add(self, file_id: int, photo_id: int | None) -> None:
        """Add a row."""
        self._files.append(file_id)
        self._photos.append(photo_id or 0)
        self.live += photo_id is not None

    def __iter__(self) -> Iterator[tuple[int, int | None]]:
        """Yield (file id, photo id or None) of each row."""
        for file_id, photo_id in zip(self._files, self._photos, strict=True):
            yield file_id, photo_id or None


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
        live: How many files the catalog held as there before the run, by root.
        unseen: Rows whose file was not seen where it could have been, by root.
    """

    scopes: tuple[Scope, ...]
    to_read: int = 0
    new_paths: int = 0
    unchanged: int = 0
    failed_before: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[Scope, CrawlProblem]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    seen: IdSet = field(default_factory=IdSet)
    live: Counter[int] = field(default_factory=Counter)
    unseen: dict[int, Unseen] = field(default_factory=dict)
    _blocks: int = 0
    _spool: IO[bytes] = field(
        default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES),  # noqa: SIM115
        repr=False,
    )

    def add(self, tasks: Sequence[FileTask]) -> None:
        """Put tasks at the end."""
        if not tasks:
            return
        # Plain tuples: pickling a dataclass calls back into Python for every one.
        rows = [
            (
                *(task.root_id, task.root, _values(task.found), task.file_id, task.photo_id),
                *(task.reading, task.is_same),
            )
            for task in tasks
        ]
        pickle.dump(rows, self._spool, protocol=pickle.HIGHEST_PROTOCOL)
        self._blocks += 1
        self.to_read += len(tasks)
        self.new_paths += sum(task.file_id is None for task in tasks)

    def tasks(self) -> Iterator[FileTask]:
        """Yield the tasks, in the order of the crawl."""
        self._spool.seek(0)
        for _ in range(self._blocks):
            for root_id, root, found, *known in pickle.load(self._spool):
                yield FileTask(root_id, root, FoundFile(*found), *known)

    def close(self) -> None:
        """Drop the tasks."""
        self._spool.close()

    def blind_spots(self, root_id: int) -> tuple[bytes, ...]:
        """Return the prefixes of paths under folders that could not be read: nothing is known of them."""
        folders = {
            problem.path for scope, problem in self.problems if scope.root_id == root_id and problem.is_folder
        }
        return (b"",) if folders & {b"", b"."} else tuple(sorted(path + b"/" for path in folders))


def make_plan(
    store: CatalogStore,
    roots: Sequence[bytes],
    model_id: int | None,
    *,
    follow_links: bool,
    retry_failed: bool,
    confirm_missing: bool,
    on_scan: Callable[[int], None],
    on_work: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
) -> Plan:
    """Crawl the roots and find what has to be read.

    Args:
        store: A catalog open for writing.
        roots: Real absolute paths.
        model_id: Photos without an embedding of this model are read again; None if there is no model yet.
        follow_links: Enter links that leave a root.
        retry_failed: Read again what could not be read before, unchanged or not.
        confirm_missing: Believe it when a root is absent, empty, or has lost most of its files.
        on_scan: Called with how many files more were seen.
        on_work: Called as soon as there is something to read, and again for more of it.
        on_step: Called for everything that is found; what it raises ends the crawl.

    Returns:
        The plan; close it after use.

    Raises:
        MissingFilesError: A root has lost most of its files; nothing was marked missing.
    """
    scopes = register_roots(store, roots)
    plan = Plan(scopes)
    try:
        for scope in scopes:
            scan = _Scan(store, scope, plan, model_id, retry_failed=retry_failed, on_work=on_work)
            scan.run(on_scan, on_step, follow_links=follow_links)
        _find_unseen(store, plan)
        if not confirm_missing:
            for scope in scopes:
                live, unseen = plan.live[scope.root_id], plan.unseen[scope.root_id].live
                # A file that was moved shows up as one unseen and one new path: judged after reading.
                if is_most(unseen - plan.new_paths, live):
                    raise most_is_gone(scope, unseen, live)
    except BaseException:
        plan.close()
        raise
    return plan


def most_is_gone(scope: Scope, gone: int, live: int) -> MissingFilesError:
    """Return the error for a root that has lost most of its files."""
    return MissingFilesError(
        f"{display_path(scope.path)}: {gone} of {live} indexed files are gone; nothing was marked missing. If a "
        "disk is not mounted, mount it; if they were deleted, run again with --confirm-missing"
    )


def refuse_emptied(store: CatalogStore, roots: Sequence[bytes]) -> None:
    """Refuse folders that hold no picture at all where the catalog knows some: an unmounted disk.

    Args:
        store: An open catalog; nothing is written.
        roots: Real absolute paths.

    Raises:
        MissingFilesError: Names the folder and how many files are known in it.
    """
    for path in roots:
        if has_live_files(store, path) and all(isinstance(item, IgnoredFile) for item in crawl(path)):
            raise MissingFilesError(
                f"{display_path(path)}: the folder is empty, and the catalog knows {count_live_files(store, path)} "
                "files in it; nothing was changed. If a disk is not mounted, mount it; if they were deleted, run "
                "again with --confirm-missing"
            )


def is_most(gone: int, live: int) -> bool:
    """Return whether the share of files that are gone looks more like a half-mounted disk than a clean-up."""
    return gone > live * _MOST


def _find_unseen(store: CatalogStore, plan: Plan) -> None:
    """Count the files of the plan's roots that the catalog holds as there, and find those that were not seen.

    One pass over the files, before the run writes any: no row that it makes can be among them.
    """
    blind = {scope.root_id: plan.blind_spots(scope.root_id) for scope in plan.scopes}
    plan.unseen.update((scope.root_id, Unseen()) for scope in plan.scopes)
    for root_id, file_id, photo_id, is_unseen in files_there(store, blind, plan.seen):
        if photo_id is not None:
            plan.live[root_id] += 1
        if is_unseen:
            plan.unseen[root_id].add(file_id, photo_id)


class _Scan:
    """The crawl of one root, compared with what the catalog knows of it."""

    def __init__(
        self,
        store: CatalogStore,
        scope: Scope,
        plan: Plan,
        model_id: int | None,
        *,
        retry_failed: bool,
        on_work: Callable[[], None],
    ) -> None:
        self._store = store
        self._scope = scope
        self._plan = plan
        self._model_id = model_id
        self._retry_failed = retry_failed
        self._on_work = on_work

    def run(self, on_scan: Callable[[int], None], on_step: Callable[[], None], *, follow_links: bool) -> None:
        if self._scope.gone:
            return
        plan = self._plan
        found: list[FoundFile] = []
        excluded = (*self._scope.inner, os.fsencode(self._store.path.resolve()))
        for item in crawl(self._scope.path, follow_links=follow_links, excluded=excluded):
            on_step()
            if isinstance(item, FoundFile):
                found.append(item)
                if len(found) == _SCAN_BATCH:
                    self._classify(found)
                    on_scan(len(found))
                    found.clear()
            elif isinstance(item, IgnoredFile):
                plan.ignored[item.suffix] += 1
            else:
                plan.problems.append((self._scope, item))
        self._classify(found)
        on_scan(len(found))

    def _classify(self, found: Sequence[FoundFile]) -> None:
        if not found:
            return
        plan, scope = self._plan, self._scope
        tasks = []
        rows = known_files(self._store, self._model_id, scope.root_id, [item.path for item in found])
        for item in found:
            known = rows.get(item.path)
            if known is None:
                tasks.append(FileTask(scope.root_id, scope.path, item, None, None))
                continue
            _, file_id, photo_id, state, code, transient, *status, reading, embedded = known
            plan.seen.add(file_id)
            same = status == [item.size, item.mtime_ns, item.ctime_ns]
            if same and state == "present" and embedded and is_current(reading):
                plan.unchanged += 1
            elif (
                same and state == "error" and not (transient or self._retry_failed or not is_current(reading))
            ):
                plan.failed_before[code] += 1
            else:
                is_same = same and state == "present"
                tasks.append(FileTask(scope.root_id, scope.path, item, file_id, photo_id, reading, is_same))
        if tasks:
            plan.add(tasks)
            self._on_work()


def _values(found: FoundFile) -> tuple[bytes, int, int, int, int, int]:
    return found.path, found.size, found.mtime_ns, found.ctime_ns, found.device, found.inode
