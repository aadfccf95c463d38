"""An index run killed at random moments: what was acknowledged is there, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from birdsearch.indexer.catalog.connection import DATABASE_NAME
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.verify import check_catalog
from tests.soak import repeats

KILLS = repeats(12, 300)
LONGEST = 120.0
SEED = int(os.environ.get("BIRDSEARCH_TEST_SEED", "20240501"))

MakePhoto = Callable[..., Path]


class Server:
    """The process that forks index runs; `run` starts one and kills it after a while."""

    def __init__(self, weights: Path, catalog: Path, archive: Path) -> None:
        program = Path(__file__).with_name("index_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(weights), str(catalog), str(archive)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, kill_after: float | None) -> tuple[int, int, float]:
        """One index run: (files acknowledged, exit status, seconds)."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("go\n")
        started = time.monotonic()
        acknowledged = 0
        timer = None
        for line in stdout:
            word, value = line.split()
            if word == "pid":
                # A run that hangs is killed too, and then fails the test by its status.
                timer = threading.Timer(LONGEST if kill_after is None else kill_after, _kill, [int(value)])
                timer.start()
            elif word == "ack":
                acknowledged += int(value)
            elif word == "exit":
                if timer is not None:
                    timer.cancel()
                return acknowledged, int(value), time.monotonic() - started
        raise AssertionError("the index server ended")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Archive:
    """A folder that people work in between runs, and what it holds."""

    def __init__(self, folder: Path, make_photo: MakePhoto, generator: random.Random) -> None:
        self._folder = folder
        self._make_photo = make_photo
        self._random = generator
        self._made = 0
        self.files: list[Path] = []
        folder.mkdir()

    def change(self) -> None:
        for _ in range(24):
            self._made += 1
            folder = self._folder / f"day {self._random.randrange(5)}"
            self.files.append(self._make_photo(folder / f"{self._made:05d}.png", self._made, size=(8, 8)))
        self._random.shuffle(self.files)
        for _ in range(min(6, len(self.files))):
            path = self.files.pop()
            self.files.insert(0, path.rename(path.with_name(f"moved {path.name}")))
        for _ in range(2):
            self.files.pop().unlink()
        for path in self.files[:2]:
            self._made += 1
            self._make_photo(path, self._made, size=(8, 8))


@pytest.fixture
def server(tmp_path: Path, tiny_weights: Path) -> Iterator[Server]:
    started = Server(tiny_weights, tmp_path / "catalog", tmp_path / "archive")
    yield started
    started.close()


def _rows(catalog: Path, sql: str) -> set[tuple[Any, ...]]:
    """Rows, or nothing where the run was killed before there was a catalog."""
    if not (catalog / DATABASE_NAME).exists():
        return set()
    with contextlib.closing(sqlite3.connect(catalog / DATABASE_NAME)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return set()
        return set(connection.execute(sql))


def _assert_sound(catalog: Path) -> None:
    if not _rows(catalog, "SELECT value FROM meta WHERE key = 'model'"):
        return
    with CatalogStore.open(catalog) as store:
        report = check_catalog(store)
        assert report.problems == ()
        model = store.active_model()
        assert model is not None
        # The follower, caught up, holds exactly the photos that have a file.
        live = _rows(
            catalog,
            "SELECT DISTINCT view.id FROM view JOIN file USING (photo_id) "
            "JOIN embedding ON view_id = view.id WHERE state != 'missing'",
        )
        followed = VectorIndex.open(store, model.id, model.embedding_size).view_ids.tolist()
        assert sorted(followed) == sorted(view_id for (view_id,) in live)


def test_nothing_acknowledged_is_lost_however_often_a_run_is_killed(
    tmp_path: Path, server: Server, make_photo: MakePhoto
) -> None:
    print(f"seed {SEED}")
    generator = random.Random(SEED)
    catalog = tmp_path / "catalog"
    archive = Archive(tmp_path / "archive", make_photo, generator)
    archive.change()
    landed = 0
    usual = 1.5
    while landed < KILLS:
        archive.change()
        before = _rows(catalog, "SELECT digest FROM photo JOIN embedding ON view_id = photo.id")
        runs = _rows(catalog, "SELECT id FROM run")
        acknowledged, status, seconds = server.run(generator.uniform(0.0, usual))
        if status == 0:
            # Too late: it was done. Aim at the time that a run takes.
            usual = 0.5 * usual + 0.5 * seconds
        else:
            assert status == signal.SIGKILL
            landed += 1
        after = _rows(catalog, "SELECT digest FROM photo JOIN embedding ON view_id = photo.id")
        assert before <= after
        written = _rows(catalog, "SELECT id FROM file WHERE run_id = (SELECT max(id) FROM run)")
        if acknowledged:
            assert len(_rows(catalog, "SELECT id FROM run")) == len(runs) + 1
            assert len(written) >= acknowledged
        _assert_sound(catalog)
    acknowledged, status, _ = server.run(None)
    assert status == 0
    _assert_sound(catalog)
    present = {row[0] for row in _rows(catalog, "SELECT path FROM file WHERE state = 'present'")}
    assert present == {os.fsencode(path.relative_to(tmp_path / "archive")) for path in archive.files}
    acknowledged, status, _ = server.run(None)
    assert (acknowledged, status) == (0, 0)
    print(f"{landed} kills; {len(present)} photos")
