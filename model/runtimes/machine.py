"""What results that are kept about running a network hang on: the machine and its libraries."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from importlib import metadata
from pathlib import Path

from birdsearch.cores import cores
from birdsearch.model.runtimes.table import RUNTIMES

__all__ = ["machine_key"]


def machine_key(gpu: str = "") -> str:
    """Processor, cores, GPU and libraries as one hexadecimal number: another one where any of them is another.

    Args:
        gpu: Name of the GPU that is used, if one is.
    """
    parts = [platform.machine(), _processor(), str(cores())]
    parts += [gpu] if gpu else []
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
