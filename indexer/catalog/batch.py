"""Writing a batch of files that were read, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog import statements
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import encode_metadata, photo_metadata, settle_metadata
from birdsearch.indexer.catalog.merging import merged_ids
from birdsearch.indexer.catalog.outcomes import EmbeddedFile, FailedFile, KnownFile, Outcome
from birdsearch.indexer.catalog.records import FoundFile
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.indexer.catalog.unread_photos import UnreadPhotos
from birdsearch.indexer.catalog.vector_bytes import encode_vector
from birdsearch.model.images.rereading import READING_VERSION

__all__ = ["Batch", "stat_values", "write_batch"]

_SHA256_BYTES = 32
_SIBLING_FAILED = PhotoError(
    "decode",
    "copy-failed",
    "another file with the same content could not be decoded; see its reason",
    transient=True,
)


@dataclass(frozen=True, slots=True)
class _Row:
    """How a file's row was: its digest, the reading it was last read by, and its own metadata."""

    digest: bytes | None = None
    reading: int = 0
    capture: str | None = None


def write_batch(
    store: CatalogStore, model_id: int | None, run_id: int, outcomes: Sequence[Outcome], *, merges: bool
) -> Batch:
    """Write files that were read, in one transaction: all of them or none.

    Args:
        store: A catalog open for writing.
        model_id: The model of the vectors.
        run_id: The run.
        outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.
        merges: Look whether the files tell the picture of photos that have none yet.

    Returns:
        What came of it.

    Raises:
        CatalogError: The catalog could not be written; nothing of the batch was.
    """
    with store.writing() as connection:
        batch = Batch(connection, model_id, run_id, outcomes, merges=merges)
        batch.write()
    return batch


class Batch:
    """Files that were read, and what came of writing them.

    Args:
        connection: A transaction that writes.
        model_id: The model of the vectors.
        run_id: The run.
        outcomes: In the order in which they are to be written; a `KnownFile` after the file it equals.
        merges: Look whether the files tell the picture of photos that have none yet.

    Attributes:
        counts: What became of the files, by kind; see `CatalogWriter.counts`.
        failed: Files that could not be read, by failure code.
        created: Ids of new rows of files.
        embedded: Vectors stored.
    """

    def __init__(
        self,
        connection: sa.Connection,
        model_id: int | None,
        run_id: int,
        outcomes: Sequence[Outcome],
        *,
        merges: bool,
    ) -> None:
        self._connection = connection
        self._cursor = cursor_of(connection)
        self._model_id = model_id
        self._run_id = run_id
        self._outcomes = outcomes
        self._merges = merges
        self._read = [item for item in outcomes if not isinstance(item, FailedFile)]
        self._photo_ids = self._by_picture({item.digests.picture for item in self._read})
        self._merged: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.created: list[int] = []
        self.embedded = 0

    def write(self) -> None:
        """Write the rows of the files and of new photos, and log the changes that vector indexes follow."""
        cursor = self._cursor
        ids = statements.NextIds(cursor)
        before = self._files_before()
        photos = {item.task.photo_id for item in self._outcomes} | set(self._photo_ids.values())
        unread = UnreadPhotos(cursor, self._model_id, self._run_id) if self._merges else None
        if unread is not None:
            photos |= unread.known_by_sha256(self._read)
            self._merged = merged_ids(cursor, {photo_id for photo_id in photos if photo_id is not None})
            photos |= set(self._merged.values())
        pairs = live_pairs(self._connection, photos)
        if unread is not None:
            unread.read(self._read, self._photo_ids)
            self._merged |= merged_ids(cursor, {photo_id for photo_id in photos if photo_id is not None})
        fresh = {
            item.digests.picture: item
            for item in reversed(self._read)
            if isinstance(item, EmbeddedFile) and item.digests.picture not in self._photo_ids
        }
        again = [
            item
            for item in self._read
            if isinstance(item, EmbeddedFile) and item.digests.picture in self._photo_ids
        ]
        views = self._insert_photos(fresh.values(), ids)
        rows = self._write_files(ids, before, fresh, again)
        leaders = settle_metadata(cursor, photos | set(self._photo_ids.values()))
        self._embed_again(again, rows, leaders)
        write_changes(self._connection, pairs, photos)
        cursor.executemany(statements.ADD_CHANGE, [(view_id, self._model_id) for view_id in views])
        self.embedded += len(views)

    def _by_picture(self, pictures: Iterable[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for some in chunks(sorted(pictures)):
            found.update(self._cursor.execute(statements.PICTURES.format(statements.marks(some)), some))
        return found

    def _files_before(self) -> dict[int, _Row]:
        ids = [item.task.file_id for item in self._outcomes if item.task.file_id is not None]
        found: dict[int, _Row] = {}
        for some in chunks(sorted(ids)):
            rows = self._cursor.execute(statements.READ_FILES.format(statements.marks(some)), some)
            found.update((file_id, _Row(*values)) for file_id, *values in rows)
        return found

    # -- photos ------------------------------------------------------------------------------------------

    def _insert_photos(self, fresh: Iterable[EmbeddedFile], ids: statements.NextIds) -> list[int]:
        """Write photos that the catalog does not have, with their views and vectors; returns the views' ids."""
        photos, views, vectors = [], [], []
        for item in reversed(list(fresh)):
            photo_id, view_id = ids.photo(), ids.view()
            self._photo_ids[item.digests.picture] = photo_id
            photos.append(_photo_row(photo_id, item, self._run_id))
            views.append((view_id, photo_id))
            vectors.append(self._embedding_row(view_id, item.vector))
        self._cursor.executemany(statements.INSERT_PHOTO, photos)
        self._cursor.executemany(statements.INSERT_WHOLE_VIEW, views)
        self._cursor.executemany(statements.INSERT_EMBEDDING, vectors)
        return [view_id for view_id, _ in views]

    def _embed_again(
        self, items: Sequence[EmbeddedFile], rows: dict[int, int], leaders: dict[int, int]
    ) -> None:
        """Write the vectors of photos that the catalog had: without one of this model, or shown otherwise now."""
        shown_anew = []
        for item in items:
            photo_id = self._photo_ids[item.digests.picture]
            for (view_id,) in self._cursor.execute(statements.WHOLE_VIEW, (photo_id,)).fetchall():
                has = self._cursor.execute(statements.HAS_VECTOR, (view_id, self._model_id)).fetchall()
                if has and leaders.get(photo_id, rows[id(item)]) != rows[id(item)]:
                    # Another file says how this photo is shown.
                    continue
                if has:
                    # What was made of the pixels that it had goes, vectors by other models as well.
                    self._cursor.execute("DELETE FROM embedding WHERE view_id = ?", (view_id,))
                    self._cursor.execute("DELETE FROM fingerprint WHERE photo_id = ?", (photo_id,))
                self._cursor.execute(statements.INSERT_EMBEDDING, self._embedding_row(view_id, item.vector))
                if has:
                    self._cursor.execute(statements.ADD_CHANGE, (view_id, self._model_id))
                self._cursor.execute(statements.LOOK, (*_look(item), photo_id))
                self._cursor.execute(statements.READ_NOW, (READING_VERSION, rows[id(item)]))
                shown_anew.append(photo_id)
                self.embedded += 1
        settle_metadata(self._cursor, shown_anew)

    def _embedding_row(self, view_id: int, vector: np.ndarray) -> tuple[object, ...]:
        return view_id, self._model_id, *encode_vector(vector), self._run_id

    # -- files -------------------------------------------------------------------------------------------

    def _write_files(
        self,
        ids: statements.NextIds,
        before: dict[int, _Row],
        fresh: dict[bytes, EmbeddedFile],
        again: Sequence[EmbeddedFile],
    ) -> dict[int, int]:
        """Write the rows of all files; returns the row of each file that was embedded again, by its `id()`."""
        new_rows, known_rows = [], []
        written: dict[int, int] = {}
        own = self._own_metadata(fresh)
        made = {id(item) for item in fresh.values()}
        for item in self._outcomes:
            photo_id = None if isinstance(item, FailedFile) else self._photo_ids.get(item.digests.picture)
            if isinstance(item, KnownFile) and photo_id is None:
                item = FailedFile(item.task, _SIBLING_FAILED)
            was = before.get(item.task.file_id or 0, _Row())
            if isinstance(item, FailedFile):
                self.failed[item.error.code] += 1
                row = self._failed_row(item, was)
            else:
                self.counts[self._kind(item, photo_id, was, is_new=id(item) in made)] += 1
                row = self._present_row(item, photo_id, self._metadata(item, photo_id, own))
            file_id = item.task.file_id
            if file_id is None:
                file_id = ids.file()
                self.created.append(file_id)
                new_rows.append((file_id, item.task.root_id, item.task.found.path, *row))
            else:
                known_rows.append((*row, file_id))
            written[id(item)] = file_id
        self._cursor.executemany(statements.UPSERT_FILE, new_rows)
        self._cursor.executemany(statements.UPDATE_FILE, known_rows)
        return {id(item): written[id(item)] for item in again}

    def _own_metadata(self, fresh: dict[bytes, EmbeddedFile]) -> dict[int, str]:
        """Return the metadata in the photos' own rows, by photo."""
        known = {self._photo_ids[item.digests.picture] for item in self._read if self._is_known(item, fresh)}
        own = photo_metadata(self._cursor, known)
        for picture, item in fresh.items():
            own[self._photo_ids[picture]] = encode_metadata(item.capture, item.rendering)
        return own

    def _is_known(self, item: EmbeddedFile | KnownFile, fresh: dict[bytes, EmbeddedFile]) -> bool:
        return item.digests.picture in self._photo_ids and item.digests.picture not in fresh

    def _metadata(
        self, item: EmbeddedFile | KnownFile, photo_id: int | None, own: dict[int, str]
    ) -> str | None:
        """Return a file's metadata of its photo, None if it is that of the photo's row."""
        if photo_id is None:
            return None
        if item.capture is None:
            # It equals another file, and says what that one says.
            rows = self._cursor.execute(statements.CAPTURE_OF, (photo_id, item.digests.file)).fetchall()
            return rows[0][0] if rows else None
        says = encode_metadata(item.capture, item.rendering)
        return None if says == own.get(photo_id) else says

    def _present_row(
        self, item: EmbeddedFile | KnownFile, photo_id: int | None, metadata: str | None
    ) -> tuple[object, ...]:
        """Return the values of `statements.FILE_COLUMNS` for a file that was read."""
        status = stat_values(item.task.found).values()
        read = (item.digests.file, READING_VERSION, metadata)
        return ("present", photo_id, *status, None, None, None, 0, self._run_id, *read)

    def _failed_row(self, item: FailedFile, was: _Row) -> tuple[object, ...]:
        """Return the values of `statements.FILE_COLUMNS` for a file that failed."""
        error = item.error
        # A failure that says nothing about the content leaves the photo findable.
        kept: int | None = None
        read: tuple[bytes | None, int, str | None] = (None, READING_VERSION, None)
        if error.transient and item.task.photo_id is not None:
            kept = self._merged.get(item.task.photo_id, item.task.photo_id)
            read = (was.digest, was.reading, was.capture)
        why = (error.stage, error.code, error.reason, int(error.transient))
        return ("error", kept, *stat_values(item.task.found).values(), *why, self._run_id, *read)

    def _kind(self, item: EmbeddedFile | KnownFile, photo_id: int | None, was: _Row, *, is_new: bool) -> str:
        task = item.task
        if task.file_id is None or task.photo_id is None:
            return "new" if is_new else "copies"
        if self._merged.get(task.photo_id, task.photo_id) != photo_id:
            return "changed"
        if not _is_same_file(item, was):
            return "edited"
        if isinstance(item, EmbeddedFile):
            return "reembedded"
        return "reread" if was.reading < READING_VERSION else "touched"


def _is_same_file(item: EmbeddedFile | KnownFile, was: _Row) -> bool:
    if was.digest is None:
        return True
    if len(was.digest) == _SHA256_BYTES:
        return item.task.is_same or item.digests.sha256 == was.digest
    return item.digests.file == was.digest


def _photo_row(photo_id: int, item: EmbeddedFile, run_id: int) -> tuple[object, ...]:
    """Return the values of the columns of `photo`."""
    photo, capture = item.photo, item.photo.capture
    return (
        *(photo_id, item.digests.picture, item.task.found.size, photo.format, photo.width, photo.height),
        *(capture.captured_at, capture.offset_minutes, capture.latitude, capture.longitude),
        *(capture.altitude_m, capture.camera, capture.lens, capture.serial),
        *(photo.phash, photo.sharpness, run_id, READING_VERSION, photo.rendering),
    )


def _look(item: EmbeddedFile) -> tuple[Any, ...]:
    photo = item.photo
    return (
        *(photo.format, photo.width, photo.height, photo.phash, photo.sharpness),
        *(photo.rendering, READING_VERSION),
    )


def stat_values(found: FoundFile) -> dict[str, object]:
    """Return the columns of `file` that say how a file was found, in the order of `statements.FILE_COLUMNS`."""
    return {
        "size": found.size,
        "mtime_ns": found.mtime_ns,
        "ctime_ns": found.ctime_ns,
        "device": _signed(found.device),
        "inode": _signed(found.inode),
    }


def _signed(value: int) -> int:
    """Return a 64-bit unsigned number as the signed one that SQLite stores."""
    return value - (1 << 64) if value >= 1 << 63 else value
