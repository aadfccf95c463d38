"""Timing two or more things fairly: in turn, in one run, as ratios."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["Spread", "interleaved", "machine", "report", "spread"]

_PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "faiss-cpu", "sqlalchemy", "openvino", "onnxruntime"),
    *("usearch", "birder", "imagededup"),
)


def machine() -> dict[str, object]:
    """What a result depends on: the machine, and the versions of what is installed of the packages that matter."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the middle and the greatest of several values."""

    min: float
    median: float
    max: float

    def __str__(self) -> str:
        return f"{self.median:8.3g}  ({self.min:.3g} .. {self.max:.3g})"


def spread(values: list[float]) -> Spread:
    """Spread of values."""
    return Spread(min(values), statistics.median(values), max(values))


def interleaved(candidates: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each candidate, in turn: A B A B ..., after a warm-up of each.

    Args:
        candidates: What to time, by name.
        runs: Counted runs of each.

    Returns:
        Seconds by name, in the order of the runs.
    """
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, candidate in candidates.items():
            started = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def report(title: str, seconds: Mapping[str, list[float]], work: int, unit: str, folder: Path) -> None:
    """Print rates and ratios, the first candidate against each other one, and write them as JSON.

    Args:
        title: Name of the benchmark, and of the file.
        seconds: As `interleaved` gives them.
        work: How many units one run does.
        unit: What they are.
        folder: Where the JSON goes.
    """
    names = list(seconds)
    rates = {name: spread([work / value for value in values]) for name, values in seconds.items()}
    ratios = {
        name: spread([theirs / ours for ours, theirs in zip(seconds[names[0]], seconds[name], strict=True)])
        for name in names[1:]
    }
    print(f"\n{title}: {work} {unit} a run, {len(seconds[names[0]])} runs in turn")
    for name, rate in rates.items():
        print(f"  {name:44} {rate} {unit}/s")
    for name, ratio in ratios.items():
        print(f"  {names[0]} against {name:{39 - len(names[0])}} {ratio} times")
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "title": title,
        "machine": machine(),
        "rates": {name: asdict(rate) for name, rate in rates.items()},
        "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
    }
    (folder / f"{title.replace(' ', '-')}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
