"""Count how many of many fresh processes hang at their first batch, beside busy loops.

What only happens the first time that a process uses a native library is seen by nothing else: every start is a
process of its own, with everything compiled and kept already, whose first batch goes to several threads at once.

Usage: python benchmarks/fresh_starts.py [--starts 500] [--way index] [--runtime openvino] [--busy 2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.xcit import XCiT

__all__ = ["WAYS", "Starts", "count_starts"]

WAYS = ("index", "query", "engine")
"""What a fresh process does: `birdsearch index` of a new catalog, `birdsearch query` of as many photos that the
catalog does not have, or only the network and its first batch, with many threads that switch as often as they can:
the least like a user's process, and the likeliest to hang."""

PHOTOS = 32
"""Photos in the first batch: enough that every thread of the network gets some."""

_SIDE = 32
_BUSY_LOOP = "while True: pass"
_ENGINE = """
import sys
import numpy as np
import birdsearch.model.runtimes.engines as engines
from birdsearch.model import load_model
engines.cores = lambda: 16
sys.setswitchinterval(1e-6)
model = load_model(sys.argv[1], runtime=sys.argv[2])
assert model.infer_pixels(np.zeros((2 * int(sys.argv[3]), *model.input_size, 3), np.uint8)).embeddings.any()
"""


@dataclass(frozen=True, slots=True)
class Starts:
    """What became of a number of fresh processes.

    Attributes:
        count: How many there were.
        hung: How many had not ended at their deadline.
        failed: What those that ended with another status than 0 said last.
        slowest_s: Seconds that the slowest took of those that ended.
    """

    count: int
    hung: int
    failed: tuple[str, ...]
    slowest_s: float


def count_starts(
    scratch: Path, way: str, count: int, *, runtime: str, deadline_s: float, busy: int
) -> Starts:
    """Start fresh processes, one after the other.

    Args:
        scratch: An empty folder, in which everything is made.
        way: One of `WAYS`.
        count: How many.
        runtime: What runs the network, a key of `birdsearch.model.RUNTIMES`.
        deadline_s: A process that has not ended by then hangs, and is killed.
        busy: Processes that do nothing but use up a core beside.

    Returns:
        What became of them.
    """
    environment = {**os.environ, "BIRDSEARCH_CACHE": str(scratch / "cache"), "BIRDSEARCH_RUNTIME": runtime}
    weights = _weights(scratch / "tiny.pt")
    photos = _photos(scratch / "photos", 0)
    others = _photos(scratch / "others", PHOTOS)
    catalog = scratch / "catalog"
    index = ["-m", "birdsearch", "index", str(photos), "--weights", str(weights), "--catalog", str(catalog)]
    commands = {
        "index": index,
        "query": [
            *("-m", "birdsearch", "query"),
            *map(str, sorted(others.iterdir())),
            "--catalog",
            str(catalog),
        ],
        "engine": ["-c", _ENGINE, str(weights), runtime, str(PHOTOS)],
    }
    # Everything that is made once and kept is made here; a hang is no reason not to count the others.
    while _run(index, environment, deadline_s)[0] != 0:
        shutil.rmtree(catalog, ignore_errors=True)
    hung, failed, slowest = 0, [], 0.0
    with _busy_loops(busy):
        for _ in range(count):
            if way == "index":
                shutil.rmtree(catalog, ignore_errors=True)
            began = time.monotonic()
            status, said = _run(commands[way], environment, deadline_s)
            if status is None:
                hung += 1
                continue
            slowest = max(slowest, time.monotonic() - began)
            if status != 0:
                failed.append(said)
    return Starts(count, hung, tuple(failed), slowest)


def _run(arguments: Sequence[str], environment: dict[str, str], deadline_s: float) -> tuple[int | None, str]:
    """The status of a fresh process, None if it did not end in time; and the last line that it said."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return status, lines[-1] if lines else "it said nothing"


@contextlib.contextmanager
def _busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-I", "-S", "-c", _BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _weights(path: Path) -> Path:
    network = XCiT(variant("xcit_nano12_p16"), 5)
    network.initialise(1)
    stats = RgbStats((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    save_checkpoint(path, network, [f"species {number}" for number in range(5)], (_SIDE, _SIDE), stats)
    return path


def _photos(folder: Path, seed: int) -> Path:
    folder.mkdir()
    for number in range(seed, seed + PHOTOS):
        noise = np.random.default_rng(number).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:03d}.png")
    return folder


def main() -> int:
    """Count, print, and exit 1 if any process hung or failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=500)
    parser.add_argument(
        "--way", choices=WAYS, action="append", help="may be given several times; index if not"
    )
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds")
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside")
    asked = parser.parse_args()
    is_bad = False
    for way in asked.way or ["index"]:
        with tempfile.TemporaryDirectory() as scratch:
            found = count_starts(
                Path(scratch),
                way,
                asked.starts,
                runtime=asked.runtime,
                deadline_s=asked.deadline,
                busy=asked.busy,
            )
        print(
            f"{way} with {asked.runtime}: {found.hung} of {found.count} fresh processes hung "
            f"({asked.busy} busy loops beside); the slowest of the others took {found.slowest_s:.1f} s",
            flush=True,
        )
        for said in sorted(set(found.failed)):
            print(f"  {found.failed.count(said)} failed: {said}")
        is_bad |= bool(found.hung or found.failed)
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
