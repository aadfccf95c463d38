"""Read the bytes of photo files, bounded, and never wait for what is no file."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from dataclasses import dataclass

from birdsearch.errors import PhotoError

__all__ = [
    "OPEN_FLAGS",
    "PhotoLimits",
    "TimedSource",
    "read_descriptor",
    "read_error",
    "read_photo",
    "read_regular_file",
    "too_many_bytes",
]

OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0)
"""How a photo file is opened, so that a FIFO or a device is never waited for."""

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_READ_BLOCK = 1 << 20
# Files up to this size are read in one piece, without copying.
_LARGEST_READ = 1 << 28


@dataclass(frozen=True, slots=True)
class PhotoLimits:
    """What one photo may cost.

    Attributes:
        max_pixels: Width times height that is decoded at most.
        max_bytes: Size of a file that is read at most, in bytes.
        deadline_s: Seconds that decoding may take.
    """

    max_pixels: int = 250_000_000
    max_bytes: int = 1 << 30
    deadline_s: float = 20.0


class _DeadlineError(Exception):
    """Decoding took too long."""


class TimedSource(io.BytesIO):
    """The bytes of a photo as a file whose reads end when the deadline has passed."""

    def __init__(self, data: bytes, deadline: float) -> None:
        super().__init__(data)
        self.deadline = deadline
        self.expired = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO.read` does; raise once the deadline has passed, and note that in `expired`."""
        if time.monotonic() > self.deadline:
            self.expired = True
            raise _DeadlineError
        return super().read(size)


def read_photo(path: _Path, limits: PhotoLimits = PhotoLimits()) -> bytes:
    """Read the bytes of a photo file.

    Args:
        path: The file.
        limits: `max_bytes` is the most that is read.

    Returns:
        The file's content.

    Raises:
        PhotoError: With stage `read`: `vanished`, `unreadable`, `not-a-file`, `too-many-bytes`, `io-error`.
    """
    try:
        return read_regular_file(path, limits)[0]
    except OSError as error:
        raise read_error(error) from error


def read_regular_file(path: _Path, limits: PhotoLimits) -> tuple[bytes, os.stat_result, os.stat_result]:
    """Read a file that must be a regular one, without ever waiting for a FIFO or a device.

    Args:
        path: The file.
        limits: `max_bytes` is the most that is read.

    Returns:
        The content, and the file's status before and after reading.

    Raises:
        PhotoError: It is no regular file (`not-a-file`) or too large (`too-many-bytes`).
        OSError: The operating system could not open or read it; see `read_error`.
    """
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        return read_descriptor(descriptor, limits)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, limits: PhotoLimits) -> tuple[bytes, os.stat_result, os.stat_result]:
    """Return what `read_regular_file` does, of a file that was opened with `OPEN_FLAGS`; it stays open."""
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise PhotoError("read", "not-a-file", "it is not a regular file, so it is not read")
    if before.st_size > limits.max_bytes:
        raise too_many_bytes(before.st_size, limits)
    data = _read_all(descriptor, before.st_size, limits)
    return data, before, os.fstat(descriptor)


def _read_all(descriptor: int, size: int, limits: PhotoLimits) -> bytes:
    # One read of the size that the file has, and one that finds its end, for nearly all there are.
    data = os.read(descriptor, size + 1) if size <= _LARGEST_READ else b""
    if size <= _LARGEST_READ and len(data) == size:
        return data
    blocks, total = [data], len(data)
    while total <= limits.max_bytes and (block := os.read(descriptor, _READ_BLOCK)):
        blocks.append(block)
        total += len(block)
    if total > limits.max_bytes:
        raise too_many_bytes(total, limits)
    return b"".join(blocks)


def read_error(error: OSError) -> PhotoError:
    """Say as a `PhotoError` why the operating system did not read a file; all of these may pass."""
    text = error.strerror or type(error).__name__
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PhotoError("read", "vanished", "the file is not there any more", transient=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PhotoError("read", "unreadable", f"the file may not be read: {text}", transient=True)
    if error.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return PhotoError("read", "not-a-file", f"it is not a regular file, so it is not read: {text}")
    return PhotoError("read", "io-error", f"the file could not be read: {text}", transient=True)


def too_many_bytes(size: int, limits: PhotoLimits) -> PhotoError:
    """Return the error for a file above the limit."""
    reason = (
        f"the file is {size} bytes, more than the limit of {limits.max_bytes}; raise the limit to read it"
    )
    return PhotoError("read", "too-many-bytes", reason)
