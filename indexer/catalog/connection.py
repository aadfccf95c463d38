"""Opening the catalog's SQLite file: the settings every connection gets, versions and migrations."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event

from birdsearch.errors import CatalogError, CatalogLockedError, CatalogReadOnlyError
from birdsearch.indexer.catalog.migrations import MIGRATIONS, SCHEMA_VERSION

__all__ = [
    "DATABASE_NAME",
    "connect",
    "cursor_of",
    "database_errors",
    "migrate",
    "open_reader",
    "open_writer",
    "sqlite_note",
]

DATABASE_NAME = "birdsearch.sqlite"

# "bird" in ASCII: tells a catalog from any other SQLite file.
_APPLICATION_ID = 0x62697264
_BUSY_TIMEOUT_MS = 30_000
# Content hashes come in no order, so every photo touches its own page of their index: a large catalog's index
# has to stay in memory for a photo to cost the same as in a small one.
_CACHE_KIB = 64 << 10
# Releases of older lines that have the mend of 3.51.3: a log that was begun anew during a checkpoint was taken for
# one that was folded back (https://sqlite.org/wal.html, "The WAL-Reset Bug").
_WAL_RESET_FIXED = {(3, 50): 7, (3, 44): 6}
# What SQLite says of a damaged page under the name of another error.
_OF_DAMAGE = ("malformed database schema", "Could not decode to UTF-8", "unsupported file format")


def open_writer(path: Path) -> sa.Engine:
    """Return an engine whose transactions take the write lock at once (`BEGIN IMMEDIATE`).

    Args:
        path: The SQLite file; an empty one becomes a catalog with `migrate`.

    Returns:
        An engine with WAL, `synchronous=FULL` and `foreign_keys=ON` on every connection.
    """
    return _engine(_uri(path, "write"), begin="BEGIN IMMEDIATE", wal=True)


def open_reader(path: Path, *, alone: bool = False) -> sa.Engine:
    """Return an engine that can only read; each transaction sees one state of the catalog.

    Args:
        path: The SQLite file.
        alone: Read this file without the files that SQLite keeps beside it: right only as long as nobody writes.

    Returns:
        A read-only engine.
    """
    return _engine(_uri(path, "alone" if alone else "read"), begin="BEGIN", wal=False)


def connect(path: Path, mode: Literal["read", "alone", "write"]) -> sqlite3.Connection:
    """Open one connection that is not pooled; see `open_reader` and `open_writer`."""
    return sqlite3.connect(_uri(path, mode), uri=True, check_same_thread=False, isolation_level=None)


def _uri(path: Path, mode: Literal["read", "alone", "write"]) -> str:
    options = {"read": "mode=ro", "alone": "mode=ro&immutable=1", "write": "mode=rw"}
    return f"file:{quote(str(path))}?{options[mode]}"


def _engine(uri: str, *, begin: str, wal: bool) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None),
        poolclass=sa.pool.QueuePool,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        if wal:
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def sqlite_note(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> str | None:
    """Say what is to be known of this version of SQLite, or None.

    Args:
        version: Of SQLite.
    """
    fixed = version >= (3, 51, 3) or any(
        version[:2] == line and version[2] >= least for line, least in _WAL_RESET_FIXED.items()
    )
    if fixed or version < (3, 7):
        return None
    return (
        f"SQLite {'.'.join(map(str, version))} can damage a catalog if one process folds the write-ahead log back "
        "while another commits (fixed in 3.51.3, 3.50.7 and 3.44.6). birdsearch does both by turns; let no other "
        "program write to the catalog's file while birdsearch runs"
    )


def cursor_of(connection: sa.Connection) -> sqlite3.Cursor:
    """Return SQLite's own cursor, in the transaction of a connection.

    For statements that are run for every photo: SQLAlchemy's share in a small one is many times SQLite's.

    Args:
        connection: As `CatalogStore.reading` and `writing` give it.

    Returns:
        The cursor; it ends with the transaction.
    """
    inner = connection.connection.driver_connection
    if not isinstance(inner, sqlite3.Connection):
        raise CatalogError("the catalog's connection is closed")
    return inner.cursor()


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into the catalog's own, with the path and what to do.

    Args:
        path: The SQLite file, for the message.

    Raises:
        CatalogError: SQLite failed: a damaged file, a full disk, a lock held too long.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        # SQLite's own message quotes a damaged page.
        raise CatalogError(_damaged(path, "it holds text that is none")) from error
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if not isinstance(cause, sqlite3.Error):
            raise
        name = getattr(cause, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or any(
            text in str(cause) for text in _OF_DAMAGE
        ):
            raise CatalogError(_damaged(path, cause)) from error
        if name == "SQLITE_FULL":
            raise CatalogError(
                f"{path}: the disk is full; what was committed is safe. Free some space and run again"
            ) from error
        if name.startswith("SQLITE_IOERR"):
            raise CatalogError(
                f"{path}: the disk that holds the catalog could not be read or written ({cause}); it may be full, "
                "over a quota or failing. What was committed is safe. Free some space or check the disk, and run "
                "again"
            ) from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise CatalogLockedError(f"{path}: another process holds the catalog; try again") from error
        if name.startswith("SQLITE_READONLY"):
            raise CatalogReadOnlyError(f"{path}: the catalog cannot be written ({cause})") from error
        raise CatalogError(f"{path}: {cause}") from error


def _damaged(path: Path, why: object) -> str:
    return (
        f"{path}: the catalog is damaged ({why}); nothing was changed. Restore it from a backup, or move it away "
        "and index again"
    )


def check_version(connection: sa.Connection, path: Path) -> int:
    """Return the schema version of an open catalog.

    Args:
        connection: An open connection.
        path: The SQLite file, for the message.

    Returns:
        The version, 0 for a file with nothing in it.

    Raises:
        CatalogError: The file is not a catalog, or was made by a newer version.
    """
    application_id = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if application_id != _APPLICATION_ID and (tables or version or application_id):
        raise CatalogError(f"{path}: a SQLite file, but not a birdsearch catalog; it was left as it is")
    if version > SCHEMA_VERSION:
        raise CatalogError(
            f"{path}: the catalog has schema version {version}, this birdsearch knows up to "
            f"{SCHEMA_VERSION}; use the newer birdsearch that made it"
        )
    return int(version)


def migrate(engine: sa.Engine, path: Path) -> None:
    """Bring a catalog to the current schema, each version in a transaction of its own.

    A migration that is cut short leaves the version it started from, and is run again the next time.

    Args:
        engine: A writer.
        path: The SQLite file, for messages.

    Raises:
        CatalogError: The file is not a catalog, is damaged, or was made by a newer version.
    """
    with database_errors(path):
        with engine.begin() as connection:
            version = check_version(connection, path)
        for number in range(version, SCHEMA_VERSION):
            with engine.begin() as connection:
                for statement in MIGRATIONS[number]:
                    connection.exec_driver_sql(statement)
                connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {number + 1}")
