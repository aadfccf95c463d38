from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import StalledError
from birdsearch.first_use import first_use
from birdsearch.model import load_model
from birdsearch.model.runtimes.engines import CHUNK, installed_runtimes
from birdsearch.settings import Settings
from tests.soak import repeats

FRESH_STARTS = Path(__file__).parents[2] / "benchmarks" / "fresh_starts.py"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cache = tmp_path_factory.mktemp("cache")
    return Settings(cache, cache, None)


@pytest.mark.parametrize("runtime", sorted({"onnxruntime", "openvino"} & set(installed_runtimes())))
def test_the_first_inference_is_over_before_another_thread_begins_one(
    runtime: str, weights_file: Path, settings: Settings
) -> None:
    model = load_model(weights_file, runtime=runtime, settings=settings)
    engine: Any = model._engine
    original, spans = engine._run, []

    def run(chunk: np.ndarray) -> Any:
        began = time.monotonic()
        time.sleep(0.05)
        found = original(chunk)
        spans.append((began, time.monotonic()))
        return found

    engine._run = run
    # It was verified when it was made; what is kept is not, so that what follows is its first use.
    engine._is_used = False
    pixels = np.zeros((3 * CHUNK, 64, 96, 3), np.uint8)
    with ThreadPoolExecutor(3) as pool:
        for found in [pool.submit(model.infer_pixels, pixels) for _ in range(3)]:
            found.result(timeout=60)
    (_, over), *others = sorted(spans)
    assert len(others) == 8
    assert all(began >= over for began, _ in others)


def test_first_uses_take_turns() -> None:
    inside = 0

    def use(_: int) -> int:
        nonlocal inside
        with first_use("a library"), first_use("another that it needs"):
            inside += 1
            found = inside
            time.sleep(0.01)
            inside -= 1
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(8))) == [1] * 8


def test_who_waits_for_a_first_use_that_never_ends_is_told() -> None:
    begun, end = threading.Event(), threading.Event()

    def hang() -> None:
        with first_use("a library"):
            begun.set()
            end.wait(timeout=60)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        assert begun.wait(timeout=60)
        with (
            pytest.raises(StalledError, match=r"the start of rawpy.* gave no sign of life for 0 s"),
            first_use("rawpy", wait_s=0.05),
        ):
            pass
    finally:
        end.set()
        thread.join(timeout=60)
    with first_use("rawpy", wait_s=1.0):
        pass


def test_fresh_processes_get_through_their_first_batch() -> None:
    starts = repeats(4, 20)
    command = [sys.executable, str(FRESH_STARTS), "--starts", str(starts), "--way", "engine", "--busy", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"0 of {starts} fresh processes hung" in done.stdout
