"""A catalog that others write to, replace or delete while it is open."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogGoneError, CatalogLockedError
from birdsearch.indexer.catalog import connection as database
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

_NOBODY = 65534

# Reads the catalog as an account that may not write to it, a transaction for each line: `count` answers at once,
# `hold` keeps its transaction open until the next line comes.
_READER = """
import sys
from birdsearch.errors import BirdsearchError
from birdsearch.indexer.catalog.store import CatalogStore

with CatalogStore.open(sys.argv[1]) as store:
    for line in sys.stdin:
        try:
            with store.reading() as connection:
                count = "SELECT count(*), sum(length(path)) FROM root"
                told = connection.exec_driver_sql(count).one()
                if line.strip() == "hold":
                    print("held", flush=True)
                    sys.stdin.readline()
                    told = connection.exec_driver_sql(count).one()
            print(told[0], flush=True)
        except BirdsearchError as error:
            print(type(error).__name__, error, flush=True)
"""


def _add_roots(store: CatalogStore, names: range, length: int = 10) -> None:
    with store.writing() as connection:
        rows = [{"path": f"/{name}".ljust(length, "x").encode(), "added_at": "now"} for name in names]
        connection.execute(sa.insert(schema.root), rows)


class _Reader:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, line: str = "count") -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def error(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read()


@contextlib.contextmanager
def _reader(folder: Path, without_override: tuple[str, ...]) -> Iterator[_Reader]:
    command = [*without_override, "-c", _READER, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield _Reader(process)
        assert process.stdin is not None
        process.stdin.close()


@contextlib.contextmanager
def _owner(folder: Path) -> Iterator[CatalogStore]:
    """The catalog opened for writing by an account that may."""
    _permit(folder, 0o755, 0o644)
    try:
        with CatalogStore.open(folder, "write") as store:
            yield store
    finally:
        _permit(folder, 0o555, 0o444)


def _permit(folder: Path, for_folder: int, for_files: int) -> None:
    if os.getuid() == 0:
        # The owner is another account than the reader's, which has no right to pass over permissions.
        for path in (folder, *folder.iterdir()):
            os.chown(path, _NOBODY, _NOBODY)
        return
    folder.chmod(for_folder)
    for path in folder.iterdir():
        path.chmod(for_files)


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Path]:
    """A catalog with one root, closed, of another account."""
    folder = tmp_path / "catalog"
    with CatalogStore.open(folder, "create") as store:
        _add_roots(store, range(1))
    _permit(folder, 0o555, 0o444)
    yield folder
    folder.chmod(0o755)


def test_an_account_that_may_not_write_sees_what_the_owner_commits(
    owned: Path, without_override: tuple[str, ...]
) -> None:
    assert not list(owned.glob(f"{database.DATABASE_NAME}-*"))
    with _reader(owned, without_override) as reader:
        assert reader.ask() == "1"
        with _owner(owned) as store:
            _add_roots(store, range(1, 2))
            assert reader.ask() == "2"
            # So much that the write-ahead log is folded back into the file.
            _add_roots(store, range(2, 2002), length=4000)
            assert reader.ask() == "2002"
        assert reader.ask() == "2002"
        with _owner(owned) as store:
            _add_roots(store, range(2002, 2003))
            assert reader.ask() == "2003"
        assert reader.ask() == "2003"


def test_a_reading_that_the_owners_writing_may_have_spoilt_is_not_believed(
    owned: Path, without_override: tuple[str, ...]
) -> None:
    with _reader(owned, without_override) as reader:
        assert reader.ask("hold") == "held"
        with _owner(owned) as store:
            _add_roots(store, range(1, 2001), length=4000)
        told = reader.ask("go on")
        assert told.startswith(f"{CatalogLockedError.__name__} ")
        assert "written to while it was being read; try again" in told
        assert reader.ask() == "2001"


@pytest.mark.parametrize("has_index", [True, False])
def test_what_a_killed_writer_left_is_read_or_said_to_need_its_owner(
    owned: Path, without_override: tuple[str, ...], has_index: bool
) -> None:
    with _owner(owned) as store:
        _add_roots(store, range(1, 2))
        left = {path: path.read_bytes() for path in owned.iterdir() if path.name != "lock"}
    owned.chmod(0o755)
    for path, content in left.items():
        if has_index or not path.name.endswith("-shm"):
            path.unlink(missing_ok=True)
            path.write_bytes(content)
    _permit(owned, 0o555, 0o444)
    with _reader(owned, without_override) as reader:
        assert (
            reader.ask() == "2" if has_index else "the last one that wrote did not finish" in reader.error()
        )


def _another(folder: Path) -> Path:
    with CatalogStore.open(folder, "create") as store:
        _add_roots(store, range(5))
    return folder


def _replace_folder(catalog: Path, other: Path) -> None:
    catalog.rename(catalog.with_name("before"))
    other.rename(catalog)


def _replace_file(catalog: Path, other: Path) -> None:
    (other / database.DATABASE_NAME).replace(catalog / database.DATABASE_NAME)


def _copy_over(catalog: Path, other: Path) -> None:
    shutil.copyfile(other / database.DATABASE_NAME, catalog / database.DATABASE_NAME)


def _delete(catalog: Path, _other: Path) -> None:
    shutil.rmtree(catalog)


@pytest.mark.parametrize("replace", [_replace_folder, _replace_file, _copy_over, _delete])
def test_a_catalog_that_was_replaced_is_neither_read_nor_written(tmp_path: Path, replace: object) -> None:
    assert callable(replace)
    other = _another(tmp_path / "other")
    folder = tmp_path / "catalog"
    with CatalogStore.open(folder, "create") as store:
        _add_roots(store, range(1))
    with CatalogStore.open(folder) as reading, CatalogStore.open(folder, "write") as writing:
        assert len(reading.roots()) == len(writing.roots()) == 1
        replace(folder, other)
        for store in (reading, writing):
            with pytest.raises(CatalogGoneError, match=r"(replaced|deleted).*nothing was written"):
                store.roots()
        with pytest.raises(CatalogGoneError):
            _add_roots(writing, range(7, 8))
    if replace is not _delete:
        found = CatalogStore.open(folder)
        assert len(found.roots()) == 5
        found.close()


def test_a_catalog_whose_disk_comes_back_is_read_on(tmp_path: Path) -> None:
    folder = _another(tmp_path / "catalog")
    with CatalogStore.open(folder) as store:
        folder.rename(tmp_path / "away")
        with pytest.raises(CatalogGoneError, match="the catalog is gone"):
            store.roots()
        (tmp_path / "away").rename(folder)
        assert len(store.roots()) == 5
