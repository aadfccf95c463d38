"""Whether rows of the catalog are as birdsearch wrote them: SQLite compares each with its second copy.

A value that answers depend on lies in its table and in the index `<table>_twice`. A byte that changed on the disk
changes one of the two, and `PRAGMA integrity_check` says which row no longer has its twin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog.migrations import MIGRATIONS

__all__ = ["RowFault", "database_faults", "refuse_damaged", "schema_faults"]

_MISSING = re.compile(r"row (\d+) missing from index (\w+)")
# Messages asked for: enough to see what kind of damage it is.
_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class RowFault:
    """Something that is wrong in the database.

    Attributes:
        table: The table, or None if it is not one row that is wrong.
        row_id: The row's number in its table, or None.
        message: What SQLite says.
    """

    table: str | None
    row_id: int | None
    message: str


def database_faults(connection: sa.Connection, table: str | None = None) -> Iterator[RowFault]:
    """Verify pages, rows and indexes.

    Args:
        connection: An open transaction.
        table: Verify this table and its indexes only.

    Yields:
        What is wrong; a row that lacks its twin in several indexes once.
    """
    argument = _MESSAGES if table is None else table
    messages = [
        message
        for (message,) in connection.exec_driver_sql(f"PRAGMA integrity_check({argument})")
        if message != "ok"
    ]
    if not messages:
        return
    indexes = connection.exec_driver_sql("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index'")
    tables_of = {name: owner for name, owner in indexes}  # noqa: C416 a row is no tuple to type checkers
    seen: set[tuple[str, int]] = set()
    for message in messages:
        found = _MISSING.fullmatch(message)
        owner = None if found is None else tables_of.get(found[2])
        if found is None or owner is None:
            yield RowFault(table, None, message)
        elif (owner, int(found[1])) not in seen:
            seen.add((owner, int(found[1])))
            yield RowFault(owner, int(found[1]), message)


def refuse_damaged(connection: sa.Connection, path: Path, *names: str) -> None:
    """Raise if tables that decide answers are damaged. For small tables, each time they are loaded.

    Args:
        connection: An open transaction.
        path: The SQLite file, for the message.
        names: The tables.

    Raises:
        CatalogError: A row is not as it was written.
    """
    for name in names:
        for fault in database_faults(connection, name):
            row = "" if fault.row_id is None else f" row {fault.row_id}"
            raise CatalogError(
                f"{path}: {name}{row} is damaged: it is not what birdsearch wrote ({fault.message}). Nothing was "
                "changed. Restore the catalog from a backup; `birdsearch check` lists all that is damaged"
            )


def schema_faults(connection: sa.Connection) -> Iterator[str]:
    """Compare the statements of the schema with those of this version's migrations.

    Yields:
        The name of each table or index that is not as it should be.
    """
    statement = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    engine = sa.create_engine("sqlite://")
    with engine.begin() as fresh:
        for statements in MIGRATIONS:
            for each in statements:
                fresh.exec_driver_sql(each)
        expected = {tuple(row) for row in fresh.exec_driver_sql(statement)}
    engine.dispose()
    found = {tuple(row) for row in connection.exec_driver_sql(statement)}
    yield from sorted({row[1] for row in expected ^ found if not row[1].startswith("sqlite_stat")})
