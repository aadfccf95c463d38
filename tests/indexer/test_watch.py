"""A stage that gives no sign of life ends the run, whichever it is and whatever it is stuck in."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError, StalledError
from birdsearch.indexer import pipeline, plan
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.in_flight import InFlight
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import index_archive
from birdsearch.indexer.verify import check_catalog
from birdsearch.indexer.watch import Watch
from birdsearch.indexer.writer import CatalogWriter
from birdsearch.model import Model

MakePhoto = Callable[..., Path]

STALL_S = 2.0
LONG_S = 60.0


@pytest.fixture
def stuck() -> Iterator[Callable[..., Any]]:
    """A function that does not return while the test runs, but lets other threads run."""
    end = threading.Event()

    def wait(*_arguments: object, **_options: object) -> None:
        end.wait(LONG_S)

    yield wait
    end.set()


@pytest.fixture
def archive(tmp_path: Path, make_photo: MakePhoto) -> Path:
    for number in range(12):
        make_photo(tmp_path / "archive" / f"{number:02d}.png", number, size=(8, 8))
    return tmp_path / "archive"


def _index(catalog: Path, model: Model, archive: Path, stall_s: float = STALL_S) -> None:
    options = IndexOptions(workers=1, batch_size=4, stall_s=stall_s)
    with CatalogStore.open(catalog, "create") as store:
        index_archive(store, model, [archive], options)


@pytest.mark.parametrize(
    ("target", "name", "stage"),
    [
        (plan._Scan, "run", "the crawl of the folders"),
        (InFlight, "judge", "the supervision of the decoders"),
        (Model, "infer_pixels", "the network"),
        (CatalogWriter, "commit", "the writing of the catalog"),
        (CatalogWriter, "reconcile", "the writing of what moved or is gone"),
        (pipeline, "_save_vectors", "the saving of the vector index"),
    ],
)
def test_a_stage_that_gives_no_sign_ends_the_run_with_its_name_and_loses_nothing(
    target: Any,
    name: str,
    stage: str,
    stuck: Callable[..., Any],
    tmp_path: Path,
    archive: Path,
    make_photo: MakePhoto,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _index(tmp_path / "catalog", tiny_model, archive, LONG_S)
    make_photo(archive / "new.png", 50, size=(8, 8))
    with monkeypatch.context() as patched:
        patched.setattr(target, name, stuck)
        with pytest.raises(StalledError, match=f"^{stage} gave no sign of life for ") as raised:
            _index(tmp_path / "catalog", tiny_model, archive)
    assert raised.value.stage == stage
    assert STALL_S < raised.value.seconds < LONG_S / 2
    assert "the next run goes on from there" in str(raised.value)
    assert "BIRDSEARCH_STALL_SECONDS" in str(raised.value)
    with CatalogStore.open(tmp_path / "catalog") as store:
        assert check_catalog(store).vectors >= 12


def test_a_library_that_is_stuck_while_others_run_ends_the_run(
    tmp_path: Path, archive: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = ctypes.CDLL(None).sleep
    monkeypatch.setattr(Model, "infer_pixels", lambda *_: sleep(20))
    with pytest.raises(StalledError, match=r"^the network gave no sign of life"):
        _index(tmp_path / "catalog", tiny_model, archive)


def test_stages_that_all_wait_for_each_other_end_the_run() -> None:
    watch = Watch(limit_s=0.3)
    end = threading.Event()

    def work() -> None:
        with watch.at_work("the network"):
            pass
        end.wait(LONG_S)

    try:
        with pytest.raises(StalledError, match=r"^the run gave no sign of life"):
            watch.run(work)
    finally:
        end.set()


def test_a_slow_stage_that_gives_signs_is_left_alone_and_without_a_limit_one_that_gives_none() -> None:
    def signs() -> int:
        with watch.at_work("the crawl") as sign:
            for _ in range(12):
                time.sleep(0.1)
                sign()
        return 7

    watch = Watch(limit_s=0.6)
    assert watch.run(signs) == 7
    watch = Watch(limit_s=0)
    assert watch.run(lambda: time.sleep(0.5)) is None


def test_the_stages_that_are_at_work_are_told_while_they_are() -> None:
    told: list[str] = []
    watch = Watch(on_tick=told.append)

    def work() -> None:
        with watch.at_work("the network"), watch.at_work("the writing of the catalog"):
            time.sleep(0.3)
        time.sleep(0.3)

    watch.run(work)
    assert "the network, the writing of the catalog" in told
    assert told[-1] == "nothing"


def test_time_that_the_process_was_stopped_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.cumsum([0.0, *[3600.0] * 8]).tolist())
    # The module's own clock: that of the process is also the one of servers in other threads.
    monkeypatch.setattr("birdsearch.indexer.watch.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert Watch(limit_s=600).run(lambda: threading.Event().wait(0.45)) is False


def test_a_limit_that_is_none_is_refused() -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="stall_s is"):
            IndexOptions(stall_s=value)
