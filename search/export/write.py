"""Writing of files for people: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from birdsearch.errors import InvalidInputError
from birdsearch.files import write_whole

__all__ = ["write_file"]


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file, which appears whole or not at all.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise InvalidInputError(
            f"{path}: it cannot be written ({error.strerror or error}); name a file in a folder that exists and "
            "that you may write to"
        ) from error
