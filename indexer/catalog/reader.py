"""Read transactions on the catalog file that was opened, whether or not this account may write to it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import sqlalchemy as sa

from birdsearch.errors import CatalogError, CatalogLockedError
from birdsearch.indexer.catalog import connection as database
from birdsearch.indexer.catalog.file import CatalogFile, Contents, contents_of

__all__ = ["CatalogReader"]

# A writer that comes or goes between two looks is met this often in a row at most.
_ATTEMPTS = 5


class CatalogReader:
    """Connections that can only read. Several threads may use it at once.

    SQLite needs two files beside a catalog even to read it, and keeps them as long as anybody has it open. Where
    they are not there and cannot be made, the catalog's own file holds everything and is read alone, and what was
    read counts only if that file was not written to meanwhile.

    Args:
        file: The catalog's file; each transaction is refused once its path leads to another one.
    """

    def __init__(self, file: CatalogFile) -> None:
        self._file = file
        self._shared = database.open_reader(file.path)
        self._lock = threading.Lock()
        self._alone: tuple[Contents, sa.Engine] | None = None
        self._recognised: Contents | None = None
        self._uid: str | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Read one state of the catalog, whatever is written meanwhile.

        Raises:
            CatalogGoneError: The catalog was deleted or replaced.
            CatalogLockedError: It was written to in a way that spoilt the reading; the next one will do.
        """
        self.check()
        if self._file.is_in_writable_folder:
            with self._shared.begin() as connection:
                yield connection
        else:
            with self._beside_its_owner() as connection:
                yield connection

    def connect(self) -> sa.Connection:
        """Connect outside of any transaction."""
        self.check()
        return self._shared.connect()

    def check(self) -> None:
        """Refuse to read on if the catalog is not the one that was opened.

        Raises:
            CatalogGoneError: It was deleted or replaced.
        """
        contents = contents_of(self._file.check())
        if contents == self._recognised:
            return
        # NOTE: one catalog can be copied over another in place; connections that are open would not notice.
        with contextlib.suppress(sqlite3.Error):
            uid = self._read_uid()
            with self._lock:
                if self._uid is not None and uid != self._uid:
                    raise self._file.replaced()
                self._uid, self._recognised = uid, contents

    def _read_uid(self) -> str | None:
        is_alone = self._file.is_alone and not self._file.is_in_writable_folder
        with contextlib.closing(database.connect(self._file.path, "alone" if is_alone else "read")) as fresh:
            row = fresh.execute("SELECT value FROM meta WHERE key = 'uid'").fetchone()
        return None if row is None else str(row[0])

    @contextlib.contextmanager
    def _beside_its_owner(self) -> Iterator[sa.Connection]:
        """Open a transaction in a folder where this account can make no files."""
        for attempt in range(_ATTEMPTS):
            contents = contents_of(self._file.check())
            if self._file.is_alone:
                with self._of_file_alone(contents) as connection:
                    yield connection
                return
            with contextlib.ExitStack() as stack:
                try:
                    connection = stack.enter_context(self._shared.begin())
                    # The state of the catalog is taken at the first statement.
                    connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first()
                except sa.exc.OperationalError as error:
                    if attempt + 1 == _ATTEMPTS:
                        raise CatalogError(
                            f"{self._file.path.parent}: this account may not write here, and the last one that "
                            "wrote did not finish; open the catalog once where it can be written (`birdsearch "
                            "status` there is enough)"
                        ) from error
                    continue
                yield connection
                return

    @contextlib.contextmanager
    def _of_file_alone(self, contents: Contents) -> Iterator[sa.Connection]:
        try:
            with self._engine_alone(contents).begin() as connection:
                yield connection
        except Exception as error:
            if contents_of(self._file.check()) != contents:
                raise self._changed() from error
            raise
        if contents_of(self._file.check()) != contents:
            raise self._changed()

    def _changed(self) -> CatalogLockedError:
        return CatalogLockedError(
            f"{self._file.path.parent}: the catalog was written to while it was being read; try again"
        )

    def _engine_alone(self, contents: Contents) -> sa.Engine:
        """Return an engine that reads the file alone, and caches its pages only until it is written to."""
        with self._lock:
            if self._alone is not None and self._alone[0] == contents:
                return self._alone[1]
            if self._alone is not None:
                self._alone[1].dispose()
            engine = database.open_reader(self._file.path, alone=True)
            self._alone = (contents, engine)
            return engine

    def dispose(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._alone is not None:
                self._alone[1].dispose()
                self._alone = None
        self._shared.dispose()
