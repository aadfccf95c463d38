"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(target: Path, content: bytes | memoryview, *, sync: bool = False) -> None:
    """Write a file under another name beside it, then rename it; what was there before is replaced.

    Args:
        target: The file.
        content: All of it.
        sync: Have it on the disk before it gets its name.

    Raises:
        OSError: It cannot be written; the file that was there stays as it was.
    """
    temporary = target.with_name(f".birdsearch-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
