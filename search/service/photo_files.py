"""Safe opening of photo files: none outside the indexed folders."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from birdsearch.indexer.catalog.photo_content import PhotoContent
from birdsearch.model.images.file_io import OPEN_FLAGS

__all__ = ["open_inside", "opened"]


def open_inside(path: bytes, roots: Sequence[bytes]) -> int | None:
    """Open a regular file that lies in one of some folders, links followed.

    Args:
        path: Absolute path.
        roots: The folders.

    Returns:
        A descriptor, to be closed, or None: there is no such file, it may not be read, it is no regular file, or a
        link has led out of the folders.
    """
    try:
        descriptor = os.open(path, OPEN_FLAGS)
    except OSError:
        return None
    try:
        if _is_inside(descriptor, path, roots):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _is_inside(descriptor: int, path: bytes, roots: Sequence[bytes]) -> bool:
    # What was opened must be what lies at a path without links in a root, whatever is moved about meanwhile.
    status, real = os.fstat(descriptor), os.path.realpath(path)
    there = os.lstat(real)
    return (
        stat.S_ISREG(status.st_mode)
        and (status.st_dev, status.st_ino) == (there.st_dev, there.st_ino)
        and any(real.startswith(os.path.realpath(root).rstrip(b"/") + b"/") for root in roots)
    )


@contextlib.contextmanager
def opened(found: PhotoContent) -> Iterator[tuple[int, bytes] | None]:
    """Yield the descriptor and path of the first of a photo's files that can be opened, or None."""
    for path in found.paths:
        descriptor = open_inside(path, found.roots)
        if descriptor is not None:
            try:
                yield descriptor, path
            finally:
                os.close(descriptor)
            return
    yield None
