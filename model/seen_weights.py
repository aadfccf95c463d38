"""What weights files were seen on this machine, so that one that changed by itself is noticed.

Published weights are known by their hash, and a `.pt` file has a checksum for each tensor. Others have nothing to
be compared with but themselves: a file with the same date and size and another hash was damaged on the disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from birdsearch.errors import WeightsError
from birdsearch.model.runtimes.exports import write_cached
from birdsearch.settings import Settings

__all__ = ["refuse_changed"]

_FILE = "seen.json"
_MOST = 1000


def refuse_changed(path: Path, sha256: str, settings: Settings) -> None:
    """Raise if a weights file is not what it was, though its date is; else remember it.

    Args:
        path: The file.
        sha256: Its hash now.
        settings: Says where the cache is; where that cannot be written nothing is remembered.

    Raises:
        WeightsError: It was damaged.
    """
    file = settings.cache / "weights" / _FILE
    try:
        status = path.stat()
    except OSError:
        return
    facts, resolved = [status.st_size, status.st_mtime_ns], str(path.resolve())
    seen = _seen(file)
    known = seen.get(resolved)
    if known == [*facts, sha256]:
        return
    if isinstance(known, list) and known[:2] == facts:
        raise WeightsError(
            f"{path}: its content changed (sha256 {sha256[:12]}) and its date did not, so it was damaged on the "
            "disk. Get the file again; if the change is meant, `touch` the file"
        )
    seen[resolved] = [*facts, sha256]
    write_cached(file, json.dumps(dict(list(seen.items())[-_MOST:])).encode())


def _seen(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
