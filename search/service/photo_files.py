"""Opening the files of photos, and no others: what lies outside of the indexed folders is not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.reach import PlacedFile, Reach
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.file_io import OPEN_FLAGS
from birdsearch.model.images.rendering import PLAIN

__all__ = ["PhotoFile", "find_files", "open_inside", "opened"]


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo and where its content is found.

    Attributes:
        photo_id: Id of the photo.
        digest: Digest of the picture.
        size: Bytes of the file whose metadata counts.
        format: Its format, such as `JPEG`.
        paths: Absolute paths of its files that are not known to be missing, those that can be reached first.
        roots: The indexed folders.
        rendering: How the picture is turned and coloured; see `birdsearch.model.images.rendering`.
        sizes: Bytes of each of the paths; none if all have `size`.
    """

    photo_id: int
    digest: bytes
    size: int
    format: str
    paths: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    rendering: str = PLAIN
    sizes: tuple[int, ...] = ()

    @property
    def shown(self) -> bytes:
        """What tells how the photo looks: 32 bytes, another one if it is turned or coloured otherwise."""
        if self.rendering == PLAIN:
            return self.digest
        return hashlib.sha256(self.digest + self.rendering.encode()).digest()


def find_files(store: CatalogStore, photo_id: int) -> PhotoFile | None:
    """Where a photo is found, or None if there is no such photo."""
    photo, file, root = schema.photo.c, schema.file.c, schema.root.c
    with store.reading() as connection:
        found = connection.execute(
            sa.select(photo.digest, photo.size, photo.format, photo.rendering).where(photo.id == photo_id)
        ).one_or_none()
        if found is None:
            return None
        roots = {row.id: row.path for row in connection.execute(sa.select(root.id, root.path))}
        rows = connection.execute(
            sa.select(file.root_id, file.path, file.size).where(
                file.photo_id == photo_id, file.state != "missing"
            )
        ).all()
    sizes = {os.path.join(roots[row.root_id], row.path): row.size for row in rows}  # noqa: PTH118 bytes
    placed = Reach().in_order(PlacedFile(False, roots[row.root_id], row.path) for row in rows)
    paths = tuple(file.absolute for file in placed)
    return PhotoFile(
        photo_id,
        found.digest,
        found.size,
        found.format,
        paths,
        tuple(roots.values()),
        found.rendering or PLAIN,
        tuple(sizes[path] for path in paths),
    )


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
def opened(found: PhotoFile) -> Iterator[tuple[int, bytes] | None]:
    """The first of a photo's files that can be opened: its descriptor and path, or None."""
    for path in found.paths:
        descriptor = open_inside(path, found.roots)
        if descriptor is not None:
            try:
                yield descriptor, path
            finally:
                os.close(descriptor)
            return
    yield None
