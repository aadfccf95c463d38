"""How fast and how faithful each runtime is on this machine, measured once and remembered."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError
from birdsearch.model.runtimes.engines import Engine
from birdsearch.model.runtimes.exports import check_pictures, write_cached
from birdsearch.model.runtimes.machine import machine_key
from birdsearch.model.runtimes.table import RUNTIMES

__all__ = ["Rate", "fastest", "least_cosine", "measure", "read_rates", "verify", "write_rates"]

_FILE, _GPU_FILE = "rates.json", "rates-gpu.json"


@dataclass(frozen=True, slots=True)
class Rate:
    """What a runtime did in turn with others.

    Attributes:
        runtime: Its name.
        median: Images a second, in the middle of its runs.
        slowest: Images a second of its slowest run.
        fastest: Images a second of its fastest run.
        cosine: The least cosine of a check picture's embedding to that of torch in float32; 1 is the same.
    """

    runtime: str
    median: float
    slowest: float
    fastest: float
    cosine: float

    @property
    def is_faithful(self) -> bool:
        """True if its embeddings are as near to the reference as its precision lets one expect."""
        return self.runtime == "torch" or self.cosine >= RUNTIMES[self.runtime].min_cosine


def least_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the least cosine of rows (B, C) of the same number; -1 if any of `found` is not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return -1.0
    one, other = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.where(lengths == 0, 1, lengths)).min())


def measure(
    engines: Mapping[str, Engine],
    size: tuple[int, int],
    expected: NDArray[np.float32],
    images: int = 16,
    runs: int = 3,
) -> list[Rate]:
    """Time engines on the same pictures, one after the other in each run.

    Args:
        engines: By the name of the runtime.
        size: (height, width) of the network's input in pixels.
        expected: (B, C) float32, embeddings of the check pictures by the reference.
        images: Pictures in a run.
        runs: Counted runs of each, after one that is not counted.

    Returns:
        A rate for each, in the same order.
    """
    checked = check_pictures(size, len(expected))
    pixels = np.resize(checked, (images, *checked.shape[1:]))
    cosines = {name: least_cosine(engine.embed(checked), expected) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(runs + 1):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.embed(pixels)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return [
        Rate(name, images / statistics.median(took), images / max(took), images / min(took), cosines[name])
        for name, took in seconds.items()
    ]


def fastest(rates: list[Rate]) -> str:
    """Return the fastest of the runtimes that are faithful; the earlier one where two are as fast."""
    return max((rate for rate in rates if rate.is_faithful), key=lambda rate: rate.median).runtime


def verify(runtime: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Raise an error unless a runtime computes what torch does, up to its precision; both are (B, C).

    Raises:
        BirdsearchError: It does not.
    """
    cosine, limit = least_cosine(found, expected), RUNTIMES[runtime].min_cosine
    if cosine < limit:
        raise BirdsearchError(
            f"runtime {runtime!r} computes something else than torch on this machine (cosine {cosine:.6f}, at "
            f"least {limit:g} is needed); use the runtime 'torch'"
        )


def read_rates(folder: Path | None, gpu: str = "") -> list[Rate] | None:
    """Return rates measured before with this processor, cores, GPU and libraries; None if there are none."""
    if folder is None:
        return None
    try:
        held = json.loads(_file(folder, gpu).read_bytes())
        rates = [Rate(**rate) for rate in held["rates"]]
        known = held["machine"] == machine_key(gpu) and all(rate.runtime in RUNTIMES for rate in rates)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rates if known and any(rate.is_faithful for rate in rates) else None


def write_rates(folder: Path | None, rates: list[Rate], gpu: str = "") -> None:
    """Remember rates; a cache that cannot be written remembers nothing."""
    if folder is None:
        return
    text = json.dumps({"machine": machine_key(gpu), "rates": [asdict(rate) for rate in rates]}, indent=1)
    write_cached(_file(folder, gpu), text.encode())


def _file(folder: Path, gpu: str) -> Path:
    return folder / (_GPU_FILE if gpu else _FILE)
