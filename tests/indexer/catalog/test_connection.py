"""The catalog's file: its settings, versions, and what is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogError, CatalogLockedError, CatalogReadOnlyError
from birdsearch.indexer.catalog import connection as database
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.lock import JOB_LOCK, WriterLock
from birdsearch.indexer.catalog.migrations import MIGRATIONS, SCHEMA_VERSION
from birdsearch.indexer.catalog.store import CatalogStore


def _schema(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Columns, keys and indexes of every table, without regard to how the statements are written."""
    described = {}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
        if name.startswith("sqlite_"):
            continue
        described[name] = [
            *connection.execute(f"PRAGMA table_xinfo({name})"),
            *sorted(row[2:] for row in connection.execute(f"PRAGMA foreign_key_list({name})")),
            *sorted(row[2:] for row in connection.execute(f"PRAGMA index_list({name})")),
            *connection.execute(
                "SELECT listed.name, held.name FROM pragma_index_list(?) AS listed, "
                "pragma_index_info(listed.name) AS held WHERE listed.origin = 'c' ORDER BY listed.name, held.seqno",
                (name,),
            ),
        ]
    return described


def test_the_migrated_schema_is_the_one_that_the_code_uses(tmp_path: Path) -> None:
    CatalogStore.open(tmp_path / "catalog", "create").close()
    migrated = sqlite3.connect(tmp_path / "catalog" / database.DATABASE_NAME)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}")
    schema.metadata.create_all(engine)
    engine.dispose()
    declared = sqlite3.connect(tmp_path / "declared.sqlite")
    assert _schema(migrated) == _schema(declared)
    for connection in (migrated, declared):
        connection.close()


@pytest.mark.parametrize("version", range(SCHEMA_VERSION))
def test_every_older_version_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    folder = tmp_path / "catalog"
    folder.mkdir()
    old = sqlite3.connect(folder / database.DATABASE_NAME, isolation_level=None)
    for statements in MIGRATIONS[:version]:
        for statement in statements:
            old.execute(statement)
    if version:
        old.execute(f"PRAGMA user_version = {version}")
        old.execute(f"PRAGMA application_id = {0x62697264}")
    old.close()
    CatalogStore.open(folder, "write").close()
    connection = sqlite3.connect(folder / database.DATABASE_NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_a_catalog_of_the_first_schema_keeps_its_rows(tmp_path: Path) -> None:
    vector = np.array([0.5, -1.0], "<f4").tobytes()
    old_rows: dict[str, list[tuple[object, ...]]] = {
        "meta": [("model", "1"), ("uid", "0123456789abcdef")],
        "model": [(1, "tiny", "xcit", "0" * 64, "none", 2, '["crow"]', bytes(8), bytes(4), b"/w/tiny.pt")],
        "root": [(1, b"/archive", "2024-05-01T06:00:00+00:00")],
        "run": [(1, "index", "0.0.1", 1, "2024-05-01", "2024-05-01", "done", '{"new": 2}')],
        "snapshot": [(1, 1, 1, 2, 2, 2, "0" * 64, "index-1.faiss", "2024-05-01")],
        "photo": [
            (
                *(number, bytes([number]) * 32, 9, "JPEG", 4, 3, "2024-05-01T06:30:00", 120, 32.1, 34.8, 5.0),
                *("Nikon Z 9", "400 mm", "77", b"12345678", 0.25, 1),
            )
            for number in (1, 2)
        ],
        "file": [
            (1, 1, b"a/\xff.jpg", "present", 1, 9, 1, 2, 3, 4, None, None, None, 0, 1),
            (2, 1, b"b.jpg", "missing", 2, 9, 1, 2, 3, 5, None, None, None, 0, 1),
            (3, 1, b"c.jpg", "error", None, 0, 1, 2, 3, 6, "decode", "truncated", "it ends early", 0, 1),
        ],
        "view": [(number, number, "whole", 0.0, 0.0, 1.0, 1.0) for number in (1, 2)],
        "change": [(1, "add", 1, 1), (2, "add", 2, 1), (3, "remove", 2, 1)],
        "embedding": [(number, 1, vector, zlib.crc32(vector)) for number in (1, 2)],
    }
    folder = tmp_path / "catalog"
    folder.mkdir()
    old = sqlite3.connect(folder / database.DATABASE_NAME, isolation_level=None)
    for statement in MIGRATIONS[0]:
        old.execute(statement)
    old.execute("PRAGMA user_version = 1")
    old.execute(f"PRAGMA application_id = {0x62697264}")
    for table, rows in old_rows.items():
        marks = ", ".join("?" * len(rows[0]))
        old.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    old.close()
    # Not while somebody else writes; then by whatever opens it, even if only to read.
    with (
        WriterLock(folder / JOB_LOCK, "birdsearch index"),
        pytest.raises(CatalogError, match=r"schema version 1 .*rebuild"),
    ):
        CatalogStore.open(folder)
    with CatalogStore.open(folder) as store:
        assert store.counts().photos == 1
    with CatalogStore.open(folder, "write") as store:
        assert store.photo_at(b"/archive/a/\xff.jpg") == 1
        assert store.embeddings(1, [2])[2].tolist() == [0.5, -1.0]
        with store.writing() as connection:
            connection.execute(sa.insert(schema.root).values(path=b"/other", added_at="now"))
    migrated = sqlite3.connect(folder / database.DATABASE_NAME)
    assert migrated.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    for table, rows in old_rows.items():
        columns = ", ".join(row[1] for row in migrated.execute(f"PRAGMA table_info({table})"))
        kept = migrated.execute(f"SELECT {columns} FROM {table}").fetchall()
        # A later schema may add columns at the end of a row, and this test added a root.
        assert [row[: len(rows[0])] for row in kept][: len(rows)] == rows, table
    assert migrated.execute("SELECT id, path FROM root").fetchall() == [(1, b"/archive"), (2, b"/other")]
    assert migrated.execute("PRAGMA foreign_key_check").fetchall() == []
    for table in set(schema.metadata.tables) - set(old_rows):
        assert migrated.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    migrated.close()


def test_a_migration_that_fails_halfway_changes_nothing_and_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalog"
    cut_short = (*MIGRATIONS[0][:3], "SELECT * FROM nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (cut_short,))
        with pytest.raises(CatalogError, match="no such table"):
            CatalogStore.open(folder, "create")
    connection = sqlite3.connect(folder / database.DATABASE_NAME)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()
    CatalogStore.open(folder, "create").close()


def test_every_connection_is_durable_and_checks_foreign_keys(tmp_path: Path) -> None:
    with CatalogStore.open(tmp_path, "create") as store:
        for transaction in (store.reading, store.writing, store.reading):
            with transaction() as connection:
                for pragma, value in (("foreign_keys", 1), ("synchronous", 2), ("journal_mode", "wal")):
                    assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value
        with pytest.raises(CatalogError, match="FOREIGN KEY"), store.writing() as connection:
            connection.execute(sa.insert(schema.change).values(op="add", view_id=7, model_id=7))


def test_a_catalog_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    CatalogStore.open(tmp_path, "create").close()
    file = tmp_path / database.DATABASE_NAME
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = file.read_bytes()
    for mode in ("read", "write", "create"):
        with pytest.raises(CatalogError, match=f"version {SCHEMA_VERSION + 1}.*newer birdsearch"):
            CatalogStore.open(tmp_path, mode)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", ["read", "write", "create"])
def test_a_damaged_catalog_is_refused_and_never_made_anew_over_it(tmp_path: Path, mode: str) -> None:
    file = tmp_path / database.DATABASE_NAME
    file.write_bytes(b"this was a catalog once" * 1000)
    before = file.read_bytes()
    with pytest.raises(CatalogError, match="damaged"):
        CatalogStore.open(tmp_path, mode)  # type: ignore[arg-type]
    assert file.read_bytes() == before


def test_another_programs_sqlite_file_is_not_taken_for_a_catalog(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / database.DATABASE_NAME)
    connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()
    with pytest.raises(CatalogError, match="not a birdsearch catalog"):
        CatalogStore.open(tmp_path, "create")


def test_a_missing_catalog_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    for mode in ("read", "write"):
        with pytest.raises(CatalogError, match="birdsearch index FOLDER"):
            CatalogStore.open(tmp_path / "none", mode)
    assert not (tmp_path / "none").exists()


def test_a_second_writer_is_refused_at_once_and_told_who_holds_the_catalog(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from birdsearch.indexer.catalog.store import CatalogStore\n"
        "with CatalogStore.open(sys.argv[1], 'create', purpose='birdsearch index'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CatalogLockedError, match=rf"process {holder.pid} .*\(birdsearch index\)"):
            CatalogStore.open(tmp_path, "write")
        with CatalogStore.open(tmp_path) as reader:
            assert reader.counts().photos == 0
        holder.stdin.close()
        holder.wait()
    CatalogStore.open(tmp_path, "write").close()


def test_a_readers_transaction_does_not_see_what_is_committed_meanwhile(tmp_path: Path) -> None:
    with CatalogStore.open(tmp_path, "create") as writer, CatalogStore.open(tmp_path) as reader:
        with reader.reading() as before:
            count = sa.select(sa.func.count()).select_from(schema.root)
            assert before.execute(count).scalar_one() == 0
            with writer.writing() as connection:
                connection.execute(sa.insert(schema.root).values(path=b"/a", added_at="now"))
            assert before.execute(count).scalar_one() == 0
        assert len(reader.roots()) == 1


def test_a_catalog_on_a_read_only_folder_can_be_read_but_not_written(
    tmp_path: Path, without_override: tuple[str, ...]
) -> None:
    program = (
        "import sys\n"
        "from birdsearch.indexer.catalog.store import CatalogStore\n"
        "from birdsearch.errors import CatalogReadOnlyError\n"
        "with CatalogStore.open(sys.argv[1]) as store:\n"
        "    print(len(store.roots()))\n"
        "try:\n"
        "    CatalogStore.open(sys.argv[1], 'write')\n"
        "except CatalogReadOnlyError as error:\n"
        "    print(error)\n"
    )
    folder = tmp_path / "catalog"
    with CatalogStore.open(folder, "create") as store, store.writing() as connection:
        connection.execute(sa.insert(schema.root).values(path=b"/a", added_at="now"))
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(
            [*without_override, "-c", program, str(folder)], capture_output=True, text=True, check=False
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "1"
    assert "cannot be written" in done.stdout


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    CatalogStore.open(tmp_path, "create").close()
    with CatalogStore.open(tmp_path) as store:
        with pytest.raises(CatalogReadOnlyError, match="opened for reading"), store.writing():
            pass
        with pytest.raises(CatalogReadOnlyError), store.reading() as connection:
            connection.execute(sa.insert(schema.root).values(path=b"/a", added_at="now"))


def test_ids_of_deleted_rows_are_not_used_again(tmp_path: Path) -> None:
    with CatalogStore.open(tmp_path, "create") as store:
        ids = []
        for _ in range(3):
            with store.writing() as connection:
                new = sa.insert(schema.root).values(path=b"/a", added_at="now").returning(schema.root.c.id)
                ids.append(connection.execute(new).scalar_one())
                connection.execute(sa.delete(schema.root))
        assert ids == [1, 2, 3]
