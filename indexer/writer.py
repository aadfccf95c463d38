"""Writing a run into the catalog: one transaction a batch, and the reckoning at the end."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from birdsearch.errors import PhotoError
from birdsearch.indexer import statements
from birdsearch.indexer.catalog import CatalogStore, chunks
from birdsearch.indexer.changes import live_pairs, write_changes
from birdsearch.indexer.crawl import FoundFile
from birdsearch.indexer.database import cursor_of
from birdsearch.indexer.decode import DecodedPhoto
from birdsearch.indexer.plan import FileTask, IdSet, Plan, is_most, most_is_gone
from birdsearch.indexer.runs import finish_run, start_run
from birdsearch.indexer.vector_bytes import encode_vector

__all__ = [
    "CatalogWriter",
    "EmbeddedFile",
    "FailedFile",
    "KnownFile",
    "Outcome",
    "stat_values",
]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFile:
    """A file that was read, decoded and embedded: `vector` is (C,) float32, un-normalised."""

    task: FileTask
    digest: bytes
    photo: DecodedPhoto
    vector: np.ndarray


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose content the catalog has, or will have from an earlier file of this run."""

    task: FileTask
    digest: bytes


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read, and why."""

    task: FileTask
    error: PhotoError


Outcome = EmbeddedFile | KnownFile | FailedFile


# Rows of files that are gone which are written, and followed in the change log, together.
_GONE_ROWS = 10_000


class CatalogWriter:
    """Writes one run. Not for use from several threads at once.

    Args:
        store: A catalog open for writing.
        model_id: The model of the vectors; None for a run that can have none.
        command: What runs.
        settings: How photos are decoded and embedded, in JSON types; kept with the run.

    Attributes:
        model_id: The model of the vectors.
        counts: What became of the files so far, by kind: `new`, `copies`, `changed`, `returned`, `moved`,
            `reembedded`, `touched`, `missing`.
        failed: Files that could not be read, by failure code.
        embedded: Vectors stored.
    """

    def __init__(
        self,
        store: CatalogStore,
        model_id: int | None,
        command: str,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._store = store
        self.model_id = model_id
        self._created = IdSet()
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.embedded = 0
        with store.writing() as connection:
            self._run_id = start_run(connection, command, model_id, settings)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch in one transaction: all of it or nothing.

        Args:
            outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.

        Raises:
            CatalogError: The catalog could not be written; nothing of the batch was.
        """
        counts: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        created: list[int] = []
        with self._store.writing() as connection:
            cursor = cursor_of(connection)
            ids = statements.NextIds(cursor)
            photo_ids = _photo_ids(
                cursor, {item.digest for item in outcomes if not isinstance(item, FailedFile)}
            )
            fresh = {
                item.digest: item
                for item in outcomes
                if isinstance(item, EmbeddedFile) and item.digest not in photo_ids
            }
            touched = {item.task.photo_id for item in outcomes} | set(photo_ids.values())
            before = live_pairs(connection, touched)
            embedded = self._insert_embeddings(
                cursor, [item for item in outcomes if isinstance(item, EmbeddedFile)], photo_ids
            )
            views = self._insert_photos(cursor, fresh, photo_ids, ids)
            new_rows, known_rows = [], []
            for item in outcomes:
                photo_id = None if isinstance(item, FailedFile) else photo_ids.get(item.digest)
                if isinstance(item, KnownFile) and photo_id is None:
                    item = FailedFile(item.task, _SIBLING_FAILED)
                if isinstance(item, FailedFile):
                    failed[item.error.code] += 1
                else:
                    counts[_kind(item, photo_id)] += 1
                row = self._file_row(item, photo_id)
                if item.task.file_id is None:
                    created.append(ids.file())
                    new_rows.append((created[-1], item.task.root_id, item.task.found.path, *row))
                else:
                    known_rows.append((*row, item.task.file_id))
            cursor.executemany(statements.UPSERT_FILE, new_rows)
            cursor.executemany(statements.UPDATE_FILE, known_rows)
            write_changes(connection, before, touched)
            cursor.executemany(statements.ADD_CHANGE, [(view_id, self.model_id) for view_id in views])
        for file_id in created:
            self._created.add(file_id)
        self.counts += counts
        self.failed += failed
        self.embedded += embedded + len(views)

    def _insert_photos(
        self,
        cursor: sqlite3.Cursor,
        fresh: Mapping[bytes, EmbeddedFile],
        photo_ids: dict[bytes, int],
        ids: statements.NextIds,
    ) -> list[int]:
        """Write photos that the catalog does not have, with their views and vectors; returns the views' ids.

        The new photos are added to `photo_ids`.
        """
        photos, views, vectors = [], [], []
        for digest, item in fresh.items():
            photo_id, view_id = ids.photo(), ids.view()
            photo_ids[digest] = photo_id
            photos.append(_photo_row(photo_id, item, self._run_id))
            views.append((view_id, photo_id))
            vectors.append(self._embedding_row(view_id, item.vector))
        cursor.executemany(statements.INSERT_PHOTO, photos)
        cursor.executemany(statements.INSERT_WHOLE_VIEW, views)
        cursor.executemany(statements.INSERT_EMBEDDING, vectors)
        return [view_id for view_id, _ in views]

    def _insert_embeddings(
        self, cursor: sqlite3.Cursor, items: Sequence[EmbeddedFile], photo_ids: Mapping[bytes, int]
    ) -> int:
        """Write vectors of photos that the catalog had without one of this model; returns how many."""
        vectors = {photo_ids[item.digest]: item.vector for item in items if item.digest in photo_ids}
        lacking: list[tuple[int, int]] = []
        for some in chunks(sorted(vectors)):
            cursor.execute(
                statements.VIEWS_WITHOUT_VECTOR.format(statements.marks(some)), (self.model_id, *some)
            )
            lacking += cursor.fetchall()
        cursor.executemany(
            statements.INSERT_EMBEDDING,
            [self._embedding_row(view_id, vectors[photo_id]) for view_id, photo_id in sorted(lacking)],
        )
        return len(lacking)

    def _embedding_row(self, view_id: int, vector: np.ndarray) -> tuple[object, ...]:
        return view_id, self.model_id, *encode_vector(vector), self._run_id

    def _file_row(self, item: Outcome, photo_id: int | None) -> tuple[object, ...]:
        """Values of `statements.FILE_COLUMNS`."""
        status = stat_values(item.task.found).values()
        if isinstance(item, FailedFile):
            error = item.error
            # A failure that says nothing about the content leaves the photo findable.
            kept = item.task.photo_id if error.transient else None
            why = (error.stage, error.code, error.reason, int(error.transient))
            return "error", kept, *status, *why, self._run_id
        return "present", photo_id, *status, None, None, None, 0, self._run_id

    def reconcile(
        self, plan: Plan, *, confirm_missing: bool, on_step: Callable[[], None] = lambda: None
    ) -> None:
        """After every task is committed: record what the crawl could not enter, what moved and what is gone.

        Args:
            plan: The plan whose tasks were committed.
            confirm_missing: Believe it when most files of a root are gone.
            on_step: Called now and then; what it raises undoes what was written.

        Raises:
            MissingFilesError: Most files of a root are gone; nothing was marked missing.
        """
        self._write_problems(plan)
        # Rows that the crawl could not see and yet has something to say about are not gone.
        gone = {
            scope.root_id: [row for row in plan.unseen[scope.root_id] if row[0] not in plan.seen]
            for scope in plan.scopes
        }
        rows = sorted(itertools.chain.from_iterable(gone.values()))
        if not rows:
            return
        with self._store.writing() as connection:
            heirs = self._elsewhere(connection, rows)
            if not confirm_missing:
                for scope in plan.scopes:
                    lost = sum(
                        photo_id is not None and photo_id not in heirs for _, photo_id in gone[scope.root_id]
                    )
                    if is_most(lost, plan.live[scope.root_id]):
                        raise most_is_gone(scope, lost, plan.live[scope.root_id])
            self._mark_gone(connection, rows, heirs, on_step)

    def _write_problems(self, plan: Plan) -> None:
        for some in chunks(plan.problems):
            with self._store.writing() as connection:
                cursor = cursor_of(connection)
                for scope, problem in some:
                    self.failed[problem.code] += 1
                    place = (scope.root_id, problem.path)
                    known = cursor.execute(statements.AT, place).fetchone()
                    photo_id = None if known is None else known[1]
                    why = ("crawl", problem.code, problem.reason, 1)
                    row = (None, *place, "error", photo_id, 0, 0, 0, 0, 0, *why, self._run_id)
                    cursor.execute(statements.UPSERT_FILE, row)
                    plan.seen.add(cursor.execute(statements.AT, place).fetchone()[0])

    def _elsewhere(
        self, connection: sa.Connection, rows: Sequence[tuple[int, int | None]]
    ) -> dict[int, list[int]]:
        """Photos that files which were not found gone still show, with those of the files that are new.

        Returns:
            Ids of rows that this run made, in order, by photo; no ids if only older files show the photo.
        """
        cursor = cursor_of(connection)
        unseen = IdSet()
        for file_id, _ in rows:
            unseen.add(file_id)
        heirs: dict[int, list[int]] = {}
        for some in chunks(sorted({photo_id for _, photo_id in rows if photo_id is not None})):
            for file_id, photo_id in cursor.execute(statements.SHOWING.format(statements.marks(some)), some):
                if file_id not in unseen:
                    heirs.setdefault(photo_id, [])
                    if file_id in self._created:
                        heirs[photo_id].append(file_id)
        return heirs

    def _mark_gone(
        self,
        connection: sa.Connection,
        rows: Sequence[tuple[int, int | None]],
        heirs: Mapping[int, list[int]],
        on_step: Callable[[], None],
    ) -> None:
        """Say of files that were not found where they are now, or that they are missing.

        Each new path takes over the row of one old path of the same content: the file moved.
        """
        cursor = cursor_of(connection)
        forgotten = [(file_id,) for file_id, photo_id in rows if photo_id is None]
        cursor.executemany("DELETE FROM file WHERE id = ?", forgotten)
        # Photo by photo, so that what is held in memory does not grow with what is gone.
        by_photo = sorted((photo_id, file_id) for file_id, photo_id in rows if photo_id is not None)
        for some in chunks(by_photo, _GONE_ROWS):
            on_step()
            photos = {photo_id for photo_id, _ in some}
            before = live_pairs(connection, photos)
            missing = []
            for photo_id, file_id in some:
                if heirs.get(photo_id):
                    _move_row(cursor, file_id, heirs[photo_id].pop(0))
                    self.counts["moved"] += 1
                    self.counts["copies"] -= 1
                else:
                    missing.append((self._run_id, file_id))
            cursor.executemany(statements.MARK_MISSING, missing)
            self.counts["missing"] += len(missing)
            write_changes(connection, before, photos)

    def finish(self, outcome: str, counts: dict[str, object]) -> None:
        """Record how the run ended.

        Args:
            outcome: `done`, `interrupted` or `failed`.
            counts: The summary, for `run.counts`.
        """
        with self._store.writing() as connection:
            finish_run(connection, self._run_id, counts, outcome)


_SIBLING_FAILED = PhotoError(
    "decode",
    "copy-failed",
    "another file with the same content could not be decoded; see its reason",
    transient=True,
)


def _kind(item: EmbeddedFile | KnownFile, photo_id: int | None) -> str:
    task = item.task
    if task.file_id is None or task.photo_id is None:
        return "new" if isinstance(item, EmbeddedFile) else "copies"
    if task.photo_id != photo_id:
        return "changed"
    return "reembedded" if isinstance(item, EmbeddedFile) else "touched"


def _photo_ids(cursor: sqlite3.Cursor, digests: Iterable[bytes]) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for some in chunks(sorted(digests)):
        found.update(cursor.execute(statements.PHOTOS.format(statements.marks(some)), some))
    return found


def _photo_row(photo_id: int, item: EmbeddedFile, run_id: int) -> tuple[object, ...]:
    """Values of the columns of `photo`."""
    photo, capture = item.photo, item.photo.capture
    return (
        *(photo_id, item.digest, item.task.found.size, photo.format, photo.width, photo.height),
        *(capture.captured_at, capture.offset_minutes, capture.latitude, capture.longitude),
        *(capture.altitude_m, capture.camera, capture.lens, capture.serial),
        *(photo.phash, photo.sharpness, run_id),
    )


def stat_values(found: FoundFile) -> dict[str, object]:
    """The columns of `file` that say how a file was found, in the order of `statements.FILE_COLUMNS`."""
    return {
        "size": found.size,
        "mtime_ns": found.mtime_ns,
        "ctime_ns": found.ctime_ns,
        "device": _signed(found.device),
        "inode": _signed(found.inode),
    }


def _signed(value: int) -> int:
    """A 64-bit unsigned number as the signed one that SQLite stores."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _move_row(cursor: sqlite3.Cursor, file_id: int, heir_id: int) -> None:
    """Let the old row `file_id` describe the file that the new row `heir_id` was made for."""
    heir = cursor.execute(statements.FILE, (heir_id,)).fetchone()
    cursor.execute("DELETE FROM file WHERE id = ?", (heir_id,))
    cursor.execute(statements.REPLACE_FILE, (*heir, file_id))
