"""Who waits for whom: long work, edits, and single transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogLockedError
from birdsearch.indexer.catalog import connection as database
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog import store as catalog_module
from birdsearch.indexer.catalog.store import CatalogStore

# Opens a catalog in a mode, says so, and adds a row for each line; `many` adds 200, each in its own transaction.
_WRITER = """
import sys
import sqlalchemy as sa
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

folder, mode, name = sys.argv[1:]
with CatalogStore.open(folder, mode, purpose=name) as store:
    print("open", flush=True)
    for line in sys.stdin:
        for number in range(200 if line.strip() == "many" else 1):
            with store.writing() as connection:
                path = f"/{name}/{number}".ljust(500, "x").encode()
                connection.execute(sa.insert(schema.root).values(path=path, added_at="now"))
        print("written", flush=True)
"""


@contextlib.contextmanager
def writer(folder: Path, mode: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the catalog open."""
    command = [sys.executable, "-c", _WRITER, str(folder), mode, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.stdin.close()


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _add(store: CatalogStore, path: bytes) -> None:
    with store.writing() as connection:
        connection.execute(sa.insert(schema.root).values(path=path, added_at="now"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalog."""
    CatalogStore.open(tmp_path / "catalog", "create").close()
    return tmp_path / "catalog"


def test_an_edit_is_written_at_once_while_long_work_holds_the_catalog(folder: Path) -> None:
    with writer(folder, "write", "dedup --apply"):
        begun = time.monotonic()
        with CatalogStore.open(folder, "edit") as store:
            _add(store, b"/a")
        assert time.monotonic() - begun < catalog_module._EDIT_WAIT_S
        with CatalogStore.open(folder) as store:
            assert [path for _, path in store.roots()] == [b"/a"]
        with pytest.raises(CatalogLockedError, match=r"process \d+ on .*dedup --apply"):
            CatalogStore.open(folder, "write")


def test_an_edit_waits_for_another_one_but_not_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "_EDIT_WAIT_S", 0.2)
    with writer(folder, "edit", "annotate import"):
        with pytest.raises(CatalogLockedError, match=r"process \d+ on .*annotate import.*is writing"):
            CatalogStore.open(folder, "edit")
        monkeypatch.setattr(catalog_module, "_EDIT_WAIT_S", 20.0)
        # Long work is not held up by edits.
        CatalogStore.open(folder, "write").close()
    CatalogStore.open(folder, "edit").close()


def test_an_older_catalog_is_not_brought_up_to_date_for_an_edit_while_long_work_uses_it(folder: Path) -> None:
    file = folder / database.DATABASE_NAME
    with CatalogStore.open(folder, "write"):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 1")
        with pytest.raises(CatalogLockedError):
            CatalogStore.open(folder, "edit")


def test_processes_that_write_at_the_same_time_lose_nothing_and_leave_a_sound_catalog(folder: Path) -> None:
    with writer(folder, "write", "index") as job, writer(folder, "edit", "annotate") as edit:
        for process in (job, edit):
            _tell(process, "many")
        with CatalogStore.open(folder) as reading:
            for process in (job, edit):
                assert process.stdout is not None
                assert process.stdout.readline() == "written\n"
            assert len(reading.roots()) == 400
    with contextlib.closing(sqlite3.connect(folder / database.DATABASE_NAME)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM root").fetchone() == (400,)
