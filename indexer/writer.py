"""Writing a run into the catalog: one transaction a batch, and the reckoning at the end."""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from birdsearch.errors import PhotoError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, chunks, live_file
from birdsearch.indexer.crawl import FoundFile
from birdsearch.indexer.database import cursor_of
from birdsearch.indexer.decode import DecodedPhoto
from birdsearch.indexer.plan import FileTask, IdSet, Plan, count_unseen, is_most, most_is_gone
from birdsearch.indexer.runs import finish_run, start_run

__all__ = [
    "CatalogWriter",
    "EmbeddedFile",
    "FailedFile",
    "KnownFile",
    "Outcome",
    "live_pairs",
    "stat_values",
    "write_changes",
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


# The columns of `file` beside its id, root and path, in the order of `_file_row`.
_FILE_COLUMNS = (
    *("state", "photo_id", "size", "mtime_ns", "ctime_ns", "device", "inode"),
    *("stage", "code", "reason", "transient", "run_id"),
)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _insert(table: sa.Table, columns: Sequence[str] | None = None) -> str:
    names = [column.name for column in table.columns] if columns is None else columns
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({_marks(names)})"  # noqa: S608


# Statements that are run for every photo; see `cursor_of`.
_INSERT_PHOTO = _insert(tables.photo)
_INSERT_EMBEDDING = _insert(tables.embedding)
_INSERT_WHOLE_VIEW = (
    "INSERT INTO view (id, photo_id, kind, x, y, w, h) VALUES (?, ?, 'whole', 0.0, 0.0, 1.0, 1.0)"
)
_UPSERT_FILE = (
    _insert(tables.file, ("id", "root_id", "path", *_FILE_COLUMNS))
    + " ON CONFLICT (root_id, path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _FILE_COLUMNS)
)
_UPDATE_FILE = f"UPDATE file SET {', '.join(f'{name} = ?' for name in _FILE_COLUMNS)} WHERE id = ?"  # noqa: S608
_ADD_CHANGE = "INSERT INTO change (op, view_id, model_id) VALUES ('add', ?, ?)"
_PHOTOS = "SELECT digest, id FROM photo WHERE digest IN ({})"
_VIEWS_WITHOUT_VECTOR = (
    "SELECT id, photo_id FROM view WHERE kind = 'whole' AND NOT EXISTS "
    "(SELECT 1 FROM embedding WHERE view_id = view.id AND model_id = ?) AND photo_id IN ({})"
)


class _NextIds:
    """Ids for new rows, in one transaction: those that `AUTOINCREMENT` would give, none used before.

    Giving them here lets all rows of a table be written by one statement.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        last = dict(cursor.execute("SELECT name, seq FROM sqlite_sequence"))
        self.photo, self.view, self.file = (
            itertools.count(int(last.get(name, 0)) + 1).__next__ for name in ("photo", "view", "file")
        )


class CatalogWriter:
    """Writes one run. Not for use from several threads at once.

    Attributes:
        counts: What became of the files so far, by kind: `new`, `copies`, `changed`, `returned`, `moved`,
            `reembedded`, `touched`, `missing`.
        failed: Files that could not be read, by failure code.
        embedded: Vectors stored.
    """

    def __init__(self, store: CatalogStore, model_id: int, command: str) -> None:
        self._store = store
        self._model_id = model_id
        self._created = IdSet()
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.embedded = 0
        with store.writing() as connection:
            self._run_id = start_run(connection, command, model_id)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Write a batch in one transaction: all of it or nothing.

        Args:
            outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.

        Raises:
            CatalogError: The catalog could not be written; nothing of the batch was.
        """
        counts: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        with self._store.writing() as connection:
            cursor = cursor_of(connection)
            ids = _NextIds(cursor)
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
                    new_rows.append((ids.file(), item.task.root_id, item.task.found.path, *row))
                else:
                    known_rows.append((*row, item.task.file_id))
            cursor.executemany(_UPSERT_FILE, new_rows)
            cursor.executemany(_UPDATE_FILE, known_rows)
            write_changes(connection, before, touched)
            cursor.executemany(_ADD_CHANGE, [(view_id, self._model_id) for view_id in views])
        for new_row in new_rows:
            self._created.add(new_row[0])
        self.counts += counts
        self.failed += failed
        self.embedded += embedded + len(views)

    def _insert_photos(
        self,
        cursor: sqlite3.Cursor,
        fresh: Mapping[bytes, EmbeddedFile],
        photo_ids: dict[bytes, int],
        ids: _NextIds,
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
        cursor.executemany(_INSERT_PHOTO, photos)
        cursor.executemany(_INSERT_WHOLE_VIEW, views)
        cursor.executemany(_INSERT_EMBEDDING, vectors)
        return [view_id for view_id, _ in views]

    def _insert_embeddings(
        self, cursor: sqlite3.Cursor, items: Sequence[EmbeddedFile], photo_ids: Mapping[bytes, int]
    ) -> int:
        """Write vectors of photos that the catalog had without one of this model; returns how many."""
        vectors = {photo_ids[item.digest]: item.vector for item in items if item.digest in photo_ids}
        lacking: list[tuple[int, int]] = []
        for some in chunks(sorted(vectors)):
            cursor.execute(_VIEWS_WITHOUT_VECTOR.format(_marks(some)), (self._model_id, *some))
            lacking += cursor.fetchall()
        cursor.executemany(
            _INSERT_EMBEDDING,
            [self._embedding_row(view_id, vectors[photo_id]) for view_id, photo_id in sorted(lacking)],
        )
        return len(lacking)

    def _embedding_row(self, view_id: int, vector: np.ndarray) -> tuple[object, ...]:
        content = np.ascontiguousarray(vector, dtype="<f4").tobytes()
        return view_id, self._model_id, content, zlib.crc32(content), self._run_id

    def _file_row(self, item: Outcome, photo_id: int | None) -> tuple[object, ...]:
        """Values of `_FILE_COLUMNS`."""
        found = item.task.found
        status = (found.size, found.mtime_ns, found.ctime_ns, _signed(found.device), _signed(found.inode))
        if isinstance(item, FailedFile):
            error = item.error
            # A failure that says nothing about the content leaves the photo findable.
            kept = item.task.photo_id if error.transient else None
            why = (error.stage, error.code, error.reason, int(error.transient))
            return "error", kept, *status, *why, self._run_id
        return "present", photo_id, *status, None, None, None, 0, self._run_id

    def reconcile(self, plan: Plan, *, confirm_missing: bool) -> None:
        """After every task is committed: record what the crawl could not enter, what moved and what is gone.

        Args:
            plan: The plan whose tasks were committed.
            confirm_missing: Believe it when most files of a root are gone.

        Raises:
            MissingFilesError: Most files of a root are gone; nothing was marked missing.
        """
        self._write_problems(plan)
        if not confirm_missing:
            for scope in plan.scopes:
                live, unseen = count_unseen(self._store, scope, plan, self._created)
                gone = self._count_gone(plan, scope.root_id) if unseen else 0
                if is_most(gone, live):
                    raise most_is_gone(scope, gone, live)
        for scope in plan.scopes:
            self._reconcile_root(plan, scope.root_id)

    def _write_problems(self, plan: Plan) -> None:
        file = tables.file.c
        for some in chunks(plan.problems):
            with self._store.writing() as connection:
                for scope, problem in some:
                    self.failed[problem.code] += 1
                    known = connection.execute(
                        sa.select(file.photo_id).where(
                            file.root_id == scope.root_id, file.path == problem.path
                        )
                    ).scalar_one_or_none()
                    file_id = _upsert_file(
                        connection,
                        {
                            "root_id": scope.root_id,
                            "path": problem.path,
                            "state": "error",
                            "photo_id": known,
                            "size": 0,
                            "mtime_ns": 0,
                            "ctime_ns": 0,
                            "device": 0,
                            "inode": 0,
                            "stage": "crawl",
                            "code": problem.code,
                            "reason": problem.reason,
                            "transient": 1,
                            "run_id": self._run_id,
                        },
                    )
                    plan.seen.add(file_id)

    def _unseen(self, connection: sa.Connection, plan: Plan, root_id: int) -> list[tuple[int, int | None]]:
        file = tables.file.c
        return [
            (row.id, row.photo_id)
            for row in connection.execute(
                sa.select(file.id, file.photo_id, file.path)
                .where(file.root_id == root_id, file.state != "missing")
                .order_by(file.id)
            )
            if row.id not in plan.seen
            and row.id not in self._created
            and not plan.unreadable(root_id, row.path)
        ]

    def _elsewhere(
        self, connection: sa.Connection, photo_ids: Iterable[int], unseen: set[int]
    ) -> dict[int, list[int]]:
        """Files by photo, in order of their ids, that show the photo and were not found gone."""
        file = tables.file.c
        found: dict[int, list[int]] = {}
        for some in chunks(sorted(set(photo_ids))):
            for row in connection.execute(
                sa.select(file.id, file.photo_id)
                .where(file.photo_id.in_(some), file.state != "missing")
                .order_by(file.id)
            ):
                if row.id not in unseen:
                    found.setdefault(row.photo_id, []).append(row.id)
        return found

    def _count_gone(self, plan: Plan, root_id: int) -> int:
        with self._store.reading() as connection:
            unseen = self._unseen(connection, plan, root_id)
            photos = [photo_id for _, photo_id in unseen if photo_id is not None]
            elsewhere = self._elsewhere(connection, photos, {file_id for file_id, _ in unseen})
        return sum(photo_id not in elsewhere for photo_id in photos)

    def _reconcile_root(self, plan: Plan, root_id: int) -> None:
        file = tables.file.c
        moved = missing = 0
        with self._store.writing() as connection:
            unseen = self._unseen(connection, plan, root_id)
            photos = {photo_id for _, photo_id in unseen if photo_id is not None}
            before = live_pairs(connection, photos)
            elsewhere = self._elsewhere(connection, photos, {file_id for file_id, _ in unseen})
            # Each new path takes over the row of one old path of the same content: the file moved.
            heirs = {
                photo_id: [file_id for file_id in ids if file_id in self._created]
                for photo_id, ids in elsewhere.items()
            }
            for file_id, photo_id in unseen:
                if photo_id is None:
                    connection.execute(sa.delete(tables.file).where(file.id == file_id))
                elif heirs.get(photo_id):
                    _move_row(connection, file_id, heirs[photo_id].pop(0))
                    plan.seen.add(file_id)
                    moved += 1
                else:
                    connection.execute(
                        sa.update(tables.file)
                        .where(file.id == file_id)
                        .values(state="missing", stage=None, code=None, reason=None, run_id=self._run_id)
                    )
                    missing += 1
            write_changes(connection, before, photos)
        self.counts["moved"] += moved
        self.counts["copies"] -= moved
        self.counts["missing"] += missing

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
        found.update(cursor.execute(_PHOTOS.format(_marks(some)), some))
    return found


def live_pairs(connection: sa.Connection, photo_ids: Iterable[int | None]) -> set[tuple[int, int]]:
    """(view, model) pairs of the photos that a search may find: those with a file that is not known to be gone."""
    view, embedding, file = tables.view.c, tables.embedding.c, tables.file.c
    live = sa.exists().where(file.photo_id == view.photo_id, live_file)
    pairs: set[tuple[int, int]] = set()
    for some in chunks(sorted(photo_id for photo_id in set(photo_ids) if photo_id is not None)):
        pairs.update(
            (row.view_id, row.model_id)
            for row in connection.execute(
                sa.select(embedding.view_id, embedding.model_id)
                .join(tables.view, view.id == embedding.view_id)
                .where(view.photo_id.in_(some), live)
            )
        )
    return pairs


def write_changes(
    connection: sa.Connection, before: set[tuple[int, int]], photo_ids: Iterable[int | None]
) -> None:
    """Tell the vector indexes what of some photos can be found now and could not before, and the other way round.

    Args:
        connection: The transaction that changed their rows.
        before: What `live_pairs` said of these photos before that.
        photo_ids: The photos; None is passed over.
    """
    after = live_pairs(connection, photo_ids)
    rows = [
        {"op": op, "view_id": view_id, "model_id": model_id}
        for op, pairs in (("remove", before - after), ("add", after - before))
        for view_id, model_id in sorted(pairs)
    ]
    if rows:
        connection.execute(sa.insert(tables.change), rows)


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
    """The columns of `file` that say how a file was found."""
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


def _upsert_file(connection: sa.Connection, values: dict[str, object]) -> int:
    insert = sqlite.insert(tables.file).values(values)
    statement = insert.on_conflict_do_update(
        index_elements=["root_id", "path"],
        set_={key: insert.excluded[key] for key in values if key not in {"root_id", "path"}},
    )
    return int(connection.execute(statement.returning(tables.file.c.id)).scalar_one())


def _move_row(connection: sa.Connection, file_id: int, heir_id: int) -> None:
    """Let the old row `file_id` describe the file that the new row `heir_id` was made for."""
    file = tables.file.c
    heir = connection.execute(sa.select(tables.file).where(file.id == heir_id)).one()._asdict()
    connection.execute(sa.delete(tables.file).where(file.id == heir_id))
    del heir["id"]
    connection.execute(sa.update(tables.file).where(file.id == file_id).values(heir))
