"""Show sizes of files to people."""

from __future__ import annotations

__all__ = ["size_text"]


def size_text(size: int) -> str:
    """Return a number of bytes in decimal units: whole kB below 1 MB, then MB, GB or TB with one decimal."""
    kilobytes = max(1, round(size / 1e3)) if size else 0
    if kilobytes < 1000:
        return f"{kilobytes} kB"
    for unit, scale in (("MB", 1e6), ("GB", 1e9)):
        if round(size / scale, 1) < 1000:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e12:.1f} TB"
