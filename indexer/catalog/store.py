"""The catalog: a folder with one SQLite file that is the truth, and what follows from it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NewType, TypeVar

import numpy as np
import sqlalchemy as sa

from birdsearch.errors import CatalogError, CatalogLockedError, CatalogReadOnlyError, OldCatalogError
from birdsearch.indexer.catalog import connection as database
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.damage import warn_of_damage
from birdsearch.indexer.catalog.file import CatalogFile
from birdsearch.indexer.catalog.live import live_file, live_view
from birdsearch.indexer.catalog.lock import EDIT_LOCK, JOB_LOCK, TURN_LOCK, WriterLock
from birdsearch.indexer.catalog.migrations import SCHEMA_VERSION
from birdsearch.indexer.catalog.photos import read_photos, read_views
from birdsearch.indexer.catalog.reach import is_there
from birdsearch.indexer.catalog.reader import CatalogReader
from birdsearch.indexer.catalog.records import (
    CatalogCounts,
    FailureRecord,
    ModelRecord,
    PhotoRecord,
    ViewRecord,
)
from birdsearch.indexer.catalog.soundness import database_faults, refuse_damaged
from birdsearch.indexer.catalog.vector_bytes import decode_vectors

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

__all__ = ["CatalogStore", "Snapshot", "chunks", "now"]

T = TypeVar("T")

Snapshot = NewType("Snapshot", sa.Connection)
"""One state of the catalog, which functions of the catalog read one after the other; opaque to all others."""

# SQLite's limit on the variables of one statement is far above; beyond this size nothing is gained.
_CHUNK = 500

# Exceptions that a damaged value in the catalog can cause.
_OF_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# How long an edit waits for the edit before it, and a transaction for the one before it, in seconds.
_EDIT_WAIT_S, _TURN_WAIT_S = 5.0, 30.0


def now() -> str:
    """Return the time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def chunks(items: Sequence[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class CatalogStore:
    """An open catalog. Many may be open for reading beside one for writing.

    Use `CatalogStore.open`; close it, or use it as a context manager.
    """

    def __init__(
        self,
        path: Path,
        file: CatalogFile,
        writer: sa.Engine | None = None,
        lock: WriterLock | None = None,
        purpose: str = "",
    ) -> None:
        self.path = path
        self._purpose = purpose
        self._file = file
        self._reader = CatalogReader(file)
        self._writer = writer
        self._lock = lock
        self._active: ModelRecord | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Literal["read", "write", "create", "edit"] = "read",
        *,
        purpose: str = "birdsearch",
    ) -> CatalogStore:
        """Open a catalog.

        Args:
            path: The catalog's folder.
            mode: `read` writes nothing but what brings an older catalog up to date; `write` is for long work, of
                which one runs at a time; `create` is `write` that makes a new catalog where there is none; `edit`
                is for what a person changes, at once and also beside long work.
            purpose: What the writer does, shown to others who find the catalog taken.

        Returns:
            The open catalog, at the current schema version.

        Raises:
            CatalogError: There is no catalog, it is damaged, not a catalog, or of a newer version.
            CatalogLockedError: Another process does long work on it, or an edit that takes too long.
            CatalogReadOnlyError: It is to be written and cannot be.
        """
        folder = Path(path).expanduser().absolute()
        file = folder / database.DATABASE_NAME
        if mode == "create" and not file.exists():
            _make_folder(folder)
        elif not file.exists():
            raise CatalogError(
                f"{folder}: there is no catalog here; make one with `birdsearch index FOLDER --catalog {folder}`"
            )
        if mode == "read":
            return cls._open_for_reading(folder, file)
        if mode == "edit":
            return cls._open_for_edit(folder, file, purpose)
        lock = WriterLock(folder / JOB_LOCK, purpose)
        lock.acquire()
        try:
            if mode == "create":
                file.touch()
            writer = database.open_writer(file)
            with _turn(folder, purpose):
                database.migrate(writer, file)
            store = cls(folder, CatalogFile(file), writer, lock, purpose)
            store._ensure_uid()
        except BaseException:
            lock.release()
            raise
        return store

    @classmethod
    def _open_for_reading(cls, folder: Path, file: Path) -> CatalogStore:
        try:
            return cls._opened(folder, file)
        except OldCatalogError:
            # Where it cannot be brought up to date now, that it is old is what there is to say.
            with contextlib.suppress(CatalogLockedError, CatalogReadOnlyError):
                cls.open(folder, "write", purpose="birdsearch: bringing the catalog up to date").close()
                return cls._opened(folder, file)
            raise

    @classmethod
    def _opened(cls, folder: Path, file: Path) -> CatalogStore:
        store = cls(folder, CatalogFile(file))
        try:
            store._check_readable(file)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _open_for_edit(cls, folder: Path, file: Path, purpose: str) -> CatalogStore:
        lock = WriterLock(folder / EDIT_LOCK, purpose, _EDIT_WAIT_S)
        lock.acquire()
        try:
            try:
                cls._opened(folder, file).close()
            except OldCatalogError:
                # To bring it up to date is no edit: no other process may be writing.
                cls.open(folder, "write", purpose=purpose).close()
            return cls(folder, CatalogFile(file), database.open_writer(file), lock, purpose)
        except BaseException:
            lock.release()
            raise

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Say whether there is a catalog in a folder; it may still be damaged."""
        return (Path(path).expanduser() / database.DATABASE_NAME).exists()

    def _check_readable(self, file: Path) -> None:
        with database.database_errors(file), self._reader.transaction() as connection:
            version = database.check_version(connection, file)
        if version < SCHEMA_VERSION:
            # An empty file is no old catalog, and is not made one by looking at it.
            error = OldCatalogError if version else CatalogError
            raise error(
                f"{self.path}: the catalog has schema version {version} and this birdsearch needs "
                f"{SCHEMA_VERSION}; `birdsearch rebuild --catalog {self.path}` brings it up to date"
            )

    def _ensure_uid(self) -> None:
        with self.writing() as connection:
            if self._meta(connection, "uid") is None:
                self._set_meta(connection, "uid", secrets.token_hex(16))

    def check_is(self, other: CatalogStore) -> None:
        """Refuse to be taken for another open catalog, or to be used once it was replaced.

        Raises:
            CatalogGoneError: The two are not one file, or it was deleted or replaced.
        """
        self._reader.check()
        if other._file.identity != self._file.identity:
            raise self._file.replaced()

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.path / database.DATABASE_NAME

    @property
    def writable(self) -> bool:
        """True if the catalog was opened for writing."""
        return self._writer is not None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that sees one state of the catalog, whatever is written meanwhile.

        Raises:
            CatalogGoneError: The catalog was deleted or replaced since it was opened.
        """
        with database.database_errors(self.database_path), self._reader.transaction() as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Hold one state of the catalog, to be read by several of its functions.

        Raises:
            CatalogGoneError: The catalog was deleted or replaced since it was opened.
        """
        with self.reading() as connection:
            yield Snapshot(connection)

    @contextlib.contextmanager
    def lookups(self) -> Iterator[sqlite3.Cursor]:
        """Open a cursor for many small reads, each of which sees what is committed by then."""
        with database.database_errors(self.database_path):
            connection = self._reader.connect()
            # Its statements run outside of SQLAlchemy's transaction, which never begins.
            try:
                yield database.cursor_of(connection)
            finally:
                connection.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that is committed whole or not at all.

        Raises:
            CatalogReadOnlyError: The catalog was opened for reading.
            CatalogGoneError: The catalog was deleted or replaced since it was opened.
        """
        if self._writer is None:
            raise CatalogReadOnlyError(f"{self.path}: the catalog was opened for reading")
        self._reader.check()
        with (
            _turn(self.path, self._purpose),
            database.database_errors(self.database_path),
            self._writer.begin() as connection,
        ):
            # Once more, as a connection that was opened just now might have found another file.
            self._reader.check()
            yield connection

    def close(self) -> None:
        """Close every connection and give the writer lock back."""
        self._reader.dispose()
        # The writer closes last: its closing folds the write-ahead log back into the main file.
        if self._writer is not None:
            with contextlib.ExitStack() as turn:
                # If the log cannot be folded back now, the next writer does it.
                with contextlib.suppress(CatalogError):
                    turn.enter_context(_turn(self.path, self._purpose))
                self._writer.dispose()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> CatalogStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, _OF_DAMAGE):
                self._explain(error)
        finally:
            self.close()

    def _explain(self, error: Exception) -> None:
        """Raise if the catalog is damaged: that is why a value in it made the program fail."""
        with self.reading() as connection:
            for fault in database_faults(connection):
                what = fault.message if fault.row_id is None else f"{fault.table} row {fault.row_id}"
                raise CatalogError(
                    f"{self.database_path}: the catalog is damaged: {what}. Nothing was changed by that; "
                    "`birdsearch check` lists all that is damaged. Restore the catalog from a backup, or move it "
                    "away and index again"
                ) from error

    # -- the model in use ------------------------------------------------------------------------------

    def _meta(self, connection: sa.Connection, key: str) -> str | None:
        return connection.execute(
            sa.select(schema.meta.c.value).where(schema.meta.c.key == key)
        ).scalar_one_or_none()

    def _set_meta(self, connection: sa.Connection, key: str, value: str) -> None:
        connection.execute(sa.insert(schema.meta).prefix_with("OR REPLACE").values(key=key, value=value))

    @property
    def uid(self) -> str:
        """A random name that tells this catalog's derived files from another's."""
        with self.reading() as connection:
            uid = self._meta(connection, "uid")
        if uid is None:
            raise CatalogError(f"{self.path}: the catalog has no identity; run `birdsearch rebuild`")
        return uid

    def active_model(self) -> ModelRecord | None:
        """Return the model that embeds new photos and answers queries, or None before the first."""
        with self.reading() as connection:
            known = connection.exec_driver_sql(
                "SELECT id, weights_path FROM model WHERE id = (SELECT value FROM meta WHERE key = 'model')"
            ).first()
            if known is None:
                refuse_damaged(connection, self.database_path, "meta", "model")
                return None
            # Of a model only the path of its weights ever changes, and every search asks for it.
            mine = self._active
            if mine is None or (mine.id, mine.weights_path) != tuple(known):
                refuse_damaged(connection, self.database_path, "meta", "model")
                row = connection.execute(sa.select(schema.model).where(schema.model.c.id == known.id)).one()
                self._active = mine = _model_record(row)
        return mine

    def use_model(self, model: Model) -> ModelRecord:
        """Register a model and make it the one in use.

        Args:
            model: A loaded model.

        Returns:
            Its record.
        """
        known = schema.model.c
        weights_path = os.fsencode(model.path)
        with self.writing() as connection:
            model_id = connection.execute(
                sa.select(known.id).where(
                    known.sha256 == model.sha256, known.preprocessing == model.preprocessing
                )
            ).scalar_one_or_none()
            if model_id is None:
                model_id = connection.execute(
                    sa.insert(schema.model)
                    .values(
                        name=model.name,
                        network=model.network,
                        sha256=model.sha256,
                        preprocessing=model.preprocessing,
                        embedding_size=model.embedding_size,
                        classes=json.dumps(list(model.classes), ensure_ascii=False),
                        head_weight=model.head_weight.astype("<f4").tobytes(),
                        head_bias=model.head_bias.astype("<f4").tobytes(),
                        weights_path=weights_path,
                    )
                    .returning(known.id)
                ).scalar_one()
            else:
                connection.execute(
                    sa.update(schema.model).where(known.id == model_id).values(weights_path=weights_path)
                )
            self._set_meta(connection, "model", str(model_id))
            row = connection.execute(sa.select(schema.model).where(known.id == model_id)).one()
        return _model_record(row)

    def moved_weights(self, model: ModelRecord, path: Path) -> None:
        """Remember where a model's weights file is now."""
        weights_path = os.fsencode(path)
        if weights_path != model.weights_path:
            with self.writing() as connection:
                connection.execute(
                    sa.update(schema.model)
                    .where(schema.model.c.id == model.id)
                    .values(weights_path=weights_path)
                )

    # -- reading -----------------------------------------------------------------------------------------

    def roots(self) -> list[tuple[int, bytes]]:
        """Return the folders that were indexed: (id, absolute path), in order of their paths."""
        with self.reading() as connection:
            rows = connection.execute(sa.select(schema.root.c.id, schema.root.c.path)).all()
        return sorted(((row.id, row.path) for row in rows), key=lambda item: item[1])

    def photos(self, photo_ids: Sequence[int]) -> dict[int, PhotoRecord]:
        """Return photos by id; ids that do not exist are left out."""
        with self.reading() as connection:
            return read_photos(connection, list(photo_ids))

    def views(self, view_ids: Sequence[int]) -> dict[int, ViewRecord]:
        """Return views by id; ids that do not exist are left out."""
        with self.reading() as connection:
            return read_views(connection, list(view_ids))

    def whole_views(self, photo_ids: Sequence[int]) -> dict[int, int]:
        """Return the id of the view of the whole frame, by photo id."""
        found: dict[int, int] = {}
        view = schema.view.c
        with self.reading() as connection:
            for ids in chunks(list(photo_ids)):
                rows = connection.execute(
                    sa.select(view.photo_id, view.id).where(view.kind == "whole", view.photo_id.in_(ids))
                )
                found.update((row.photo_id, row.id) for row in rows)
        return found

    def photo_ids(self, *, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return photo ids by the picture's digest, or by a file's SHA-256 in catalogs made before schema 5.

        What is not in the catalog is left out.
        """
        found: dict[bytes, int] = {}
        photo, former, merged = schema.photo.c, schema.former_digest.c, schema.merged_photo.c
        with self.reading() as connection:
            for some in chunks(list(digests)):
                rows = connection.execute(
                    sa.select(former.digest, sa.func.coalesce(merged.into_id, former.photo_id).label("id"))
                    .outerjoin(schema.merged_photo, merged.photo_id == former.photo_id)
                    .where(former.digest.in_(some))
                )
                found.update((row.digest, row.id) for row in rows)
                rows = connection.execute(sa.select(photo.digest, photo.id).where(photo.digest.in_(some)))
                found.update((row.digest, row.id) for row in rows)
        return found

    def current_id(self, photo_id: int) -> int:
        """Return the id that a photo has now: that of the photo it was merged into, if it was; else its own."""
        merged = schema.merged_photo.c
        with self.reading() as connection:
            found = connection.execute(sa.select(merged.into_id).where(merged.photo_id == photo_id))
            return int(found.scalar_one_or_none() or photo_id)

    def rendering(self, photo_id: int) -> str | None:
        """Return how a photo was shown when it was embedded; None where that is not known."""
        with self.reading() as connection:
            photo = schema.photo.c
            return connection.execute(
                sa.select(photo.rendering).where(photo.id == photo_id)
            ).scalar_one_or_none()

    def photo_at(self, path: bytes) -> int | None:
        """Return the id of the photo at an absolute path, or None.

        A file belongs to the innermost root, but every root that is a prefix of the path is tried.
        """
        file = schema.file.c
        with self.reading() as connection:
            for row in connection.execute(sa.select(schema.root.c.id, schema.root.c.path)):
                prefix = row.path.rstrip(b"/") + b"/"
                if path.startswith(prefix):
                    photo_id = connection.execute(
                        sa.select(file.photo_id).where(
                            file.root_id == row.id, file.path == path[len(prefix) :]
                        )
                    ).scalar_one_or_none()
                    if photo_id is not None:
                        return int(photo_id)
        return None

    def embeddings(self, model_id: int, view_ids: Sequence[int]) -> dict[int, np.ndarray]:
        """Return stored un-normalised vectors by view id, (C,) float32 each, without missing and damaged ones."""
        vectors: dict[int, np.ndarray] = {}
        embedding, damaged = schema.embedding.c, list[int]()
        with self.reading() as connection:
            size = connection.execute(
                sa.select(schema.model.c.embedding_size).where(schema.model.c.id == model_id)
            ).scalar_one_or_none()
            if size is None:
                return {}
            for ids in chunks(list(view_ids)):
                rows = connection.execute(
                    sa.select(embedding.view_id, embedding.vector, embedding.crc32).where(
                        embedding.model_id == model_id, embedding.view_id.in_(ids)
                    )
                ).all()
                decoded, is_sound = decode_vectors(
                    [row.vector for row in rows], [row.crc32 for row in rows], size
                )
                for row, vector, sound in zip(rows, decoded, is_sound.tolist(), strict=True):
                    if sound:
                        vectors[row.view_id] = vector
                    else:
                        damaged.append(row.view_id)
            warn_of_damage(connection, damaged)
        return vectors

    def failures(self) -> list[FailureRecord]:
        """Return the files that could not be indexed, in order of their paths."""
        file, root = schema.file.c, schema.root.c
        with self.reading() as connection:
            rows = connection.execute(
                sa.select(
                    root.path.label("root"), file.path, file.stage, file.code, file.reason, file.transient
                )
                .join(schema.root, root.id == file.root_id)
                .where(file.state == "error")
                .order_by(root.path, file.path)
            ).all()
        return [
            FailureRecord(
                path=os.path.join(row.root, row.path),  # noqa: PTH118
                stage=row.stage,
                code=row.code,
                reason=row.reason,
                transient=bool(row.transient),
            )
            for row in rows
        ]

    def counts(self) -> CatalogCounts:
        """Return how much the catalog holds."""
        file = schema.file.c
        with self.reading() as connection:
            model_id = self._meta(connection, "model")
            states = connection.execute(sa.select(file.state, sa.func.count()).group_by(file.state))
            by_state = {row[0]: row[1] for row in states}
            roots = connection.execute(sa.select(schema.root.c.id, schema.root.c.path))
            away = [row.id for row in roots if not is_there(row.path)]
            files_away = connection.execute(
                sa.select(sa.func.count()).where(file.state == "present", file.root_id.in_(away))
            ).scalar_one()
            codes = connection.execute(
                sa.select(file.code, sa.func.count())
                .where(file.state == "error")
                .group_by(file.code)
                .order_by(file.code)
            )
            by_code = {row[0]: row[1] for row in codes}
            total = connection.execute(sa.select(sa.func.count()).select_from(schema.photo)).scalar_one()
            live = connection.execute(
                sa.select(sa.func.count(sa.distinct(file.photo_id))).where(live_file)
            ).scalar_one()
            embedding = schema.embedding.c
            stored = sa.select(sa.func.count()).where(embedding.model_id == int(model_id or 0))
            # Where nothing is lost, nothing has to be looked up for each vector.
            live_only = stored if live == total else stored.where(live_view(embedding.view_id))
            embeddings = connection.execute(live_only).scalar_one()
        size = sum(entry.stat().st_size for entry in self.path.rglob("*") if entry.is_file())
        return CatalogCounts(
            photos=live,
            missing_photos=total - live,
            files=by_state.get("present", 0) - files_away,
            files_away=files_away,
            missing_files=by_state.get("missing", 0),
            failures=by_code,
            embeddings=embeddings,
            bytes=size,
        )


def _turn(folder: Path, purpose: str) -> WriterLock:
    """Return the lock under which one process at a time writes.

    NOTE: SQLite lets one transaction write at a time; but before 3.51.3 one that folds the log back while another
    begins to write can damage a catalog, so that both are done by turns.
    """
    return WriterLock(folder / TURN_LOCK, purpose, _TURN_WAIT_S)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogReadOnlyError(f"{folder}: cannot make a catalog here ({error.strerror})") from error


def _model_record(row: sa.Row[tuple[object, ...]]) -> ModelRecord:
    classes = tuple(json.loads(row.classes))
    head_bias = np.frombuffer(row.head_bias, dtype="<f4").astype(np.float32)
    return ModelRecord(
        id=row.id,
        name=row.name,
        network=row.network,
        sha256=row.sha256,
        preprocessing=row.preprocessing,
        embedding_size=row.embedding_size,
        classes=classes,
        head_weight=np.frombuffer(row.head_weight, dtype="<f4").astype(np.float32).reshape(len(classes), -1),
        head_bias=head_bias,
        weights_path=row.weights_path,
    )
