"""The content of a photo: the files that hold it, and what tells whether it still looks the same."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.reach import PlacedFile, Reach
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.rendering import PLAIN

__all__ = ["PhotoContent", "find_content"]


@dataclass(frozen=True, slots=True)
class PhotoContent:
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
        """32 bytes that identify how the photo looks: others if it is turned or coloured otherwise."""
        if self.rendering == PLAIN:
            return self.digest
        return hashlib.sha256(self.digest + self.rendering.encode()).digest()


def find_content(store: CatalogStore, photo_id: int) -> PhotoContent | None:
    """Return where the content of a photo is found, or None if there is no such photo."""
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
    paths = tuple(one.absolute for one in placed)
    return PhotoContent(
        photo_id,
        found.digest,
        found.size,
        found.format,
        paths,
        tuple(roots.values()),
        found.rendering or PLAIN,
        tuple(sizes[path] for path in paths),
    )
