"""Who folds the write-ahead log back, and when: SQLite before 3.51.3 needs that to be done by turns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from birdsearch.cli import cli
from birdsearch.errors import CatalogLockedError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog import store as catalog_module
from birdsearch.indexer.catalog.connection import sqlite_note
from birdsearch.indexer.catalog.lock import TURN_LOCK, WriterLock
from birdsearch.indexer.catalog.store import CatalogStore

# Leaves as a killed process does: what it committed is in the log alone.
KILLED = """
import os, sys
import sqlalchemy as sa
from click.testing import CliRunner
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore
store = CatalogStore.open(sys.argv[1], "write")
with store.writing() as connection:
    connection.execute(sa.insert(schema.root).values(path=b"/kept", added_at="now"))
os._exit(9)
"""


def log_of(catalog: Path) -> bytes:
    return (catalog / "birdsearch.sqlite-wal").read_bytes()


def test_readers_never_fold_the_log_back(tmp_path: Path) -> None:
    CatalogStore.open(tmp_path, "create").close()
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    main, log = (tmp_path / "birdsearch.sqlite").read_bytes(), log_of(tmp_path)
    assert log
    for _ in range(2):
        # The last connection to close, each time.
        with CatalogStore.open(tmp_path) as store:
            assert store.roots() == [(1, b"/kept")]
        assert log_of(tmp_path) == log
        assert (tmp_path / "birdsearch.sqlite").read_bytes() == main
    CatalogStore.open(tmp_path, "write").close()
    assert not (tmp_path / "birdsearch.sqlite-wal").exists()
    with CatalogStore.open(tmp_path) as store:
        assert store.roots() == [(1, b"/kept")]


def test_a_commit_and_what_folds_the_log_back_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CatalogStore.open(tmp_path, "create").close()
    monkeypatch.setattr(catalog_module, "_TURN_WAIT_S", 0.2)
    taken = pytest.raises(CatalogLockedError)
    # Another's turn, and its connection is open.
    with CatalogStore.open(tmp_path, "edit") as other, other.writing(), taken:
        CatalogStore.open(tmp_path, "write")
    with CatalogStore.open(tmp_path, "write") as store:
        turn = WriterLock(tmp_path / TURN_LOCK, "another's turn")
        with turn, pytest.raises(CatalogLockedError, match="another's turn"), store.writing():
            pass
        with store.writing() as connection:
            connection.execute(sa.insert(schema.root).values(path=b"/kept", added_at="now"))


@pytest.mark.parametrize(
    ("version", "is_told"),
    [
        ((3, 6, 23), False),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_a_version_that_needs_turns_is_told(version: tuple[int, int, int], is_told: bool) -> None:
    note = sqlite_note(version)
    assert (note is not None) == is_told
    if note:
        assert ".".join(map(str, version)) in note


def test_check_says_what_is_to_be_known_of_sqlite_and_status_only_to_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdsearch.indexer.catalog.connection.sqlite_note", lambda: "of this version")
    CatalogStore.open(tmp_path / "catalog", "create").close()
    shown = {
        asked: CliRunner().invoke(cli, [*asked.split(), "--catalog", str(tmp_path / "catalog")]).output
        for asked in ("check", "status", "status --format json")
    }
    assert {asked: "of this version" in output for asked, output in shown.items()} == {
        "check": True,
        "status": False,
        "status --format json": True,
    }
