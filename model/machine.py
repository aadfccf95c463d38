"""What results that are kept about running a network hang on: the machine and its libraries."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path

from birdsearch.model.runtimes import RUNTIMES

__all__ = ["machine_key"]


def machine_key() -> str:
    """Processor, cores and libraries as one hexadecimal number: another one where any of them is another."""
    affinity = getattr(os, "sched_getaffinity", None)
    parts = [platform.machine(), _processor(), str(len(affinity(0)) if affinity else os.cpu_count())]
    for library in sorted({spec.library for spec in RUNTIMES.values()}):
        with contextlib.suppress(metadata.PackageNotFoundError):
            parts.append(f"{library} {metadata.version(library)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()
