"""The machine and its libraries, on which kept results about running a network depend."""

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
    """Return a hexadecimal key that differs wherever processor, cores, GPU or libraries do.

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
