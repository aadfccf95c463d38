"""Files of the catalog by their absolute paths."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_file
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = [
    "FileAtPath",
    "LiveFile",
    "files_at",
    "first_folders",
    "live_files",
    "live_paths",
]


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file that is not known to be gone and whose photo is known.

    Attributes:
        absolute: Its absolute path.
        root: Absolute path of the indexed folder that it belongs to.
        photo_id: Its photo.
    """

    absolute: bytes
    root: bytes
    photo_id: int


@dataclass(frozen=True, slots=True)
class FileAtPath:
    """A file that was indexed, or that could not be.

    Attributes:
        photo_id: The photo that it shows, or None.
        reason: Why there is none; else empty.
    """

    photo_id: int | None
    reason: str


def live_paths(store: CatalogStore, photo_ids: Collection[int]) -> set[tuple[int, bytes]]:
    """Return the photos with the absolute paths of their live files."""
    file, root = schema.file.c, schema.root.c
    found: set[tuple[int, bytes]] = set()
    with store.reading() as connection:
        for ids in chunks(sorted(photo_ids)):
            rows = connection.execute(
                sa.select(file.photo_id, root.path.label("root"), file.path)
                .join(schema.root, root.id == file.root_id)
                .where(file.photo_id.in_(ids), live_file)
            )
            found.update((row.photo_id, row.root.rstrip(b"/") + b"/" + row.path) for row in rows)
    return found


def live_files(store: CatalogStore) -> list[LiveFile]:
    """Return all files that are not known to be gone and whose photos are known, in order of their paths."""
    file, root = schema.file.c, schema.root.c
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(root.path.label("root"), file.path, file.photo_id)
            .join(schema.root, root.id == file.root_id)
            .where(live_file)
        ).all()
    found = (LiveFile(os.path.join(row.root, row.path), row.root, row.photo_id) for row in rows)  # noqa: PTH118
    return sorted(found, key=lambda one: one.absolute)


def files_at(store: CatalogStore, paths: Iterable[bytes]) -> dict[bytes, FileAtPath]:
    """Return what the catalog knows of absolute paths; those that it has no row for are left out."""
    file = schema.file.c
    found: dict[bytes, FileAtPath] = {}
    names = sorted(paths)
    with store.reading() as connection:
        roots = connection.execute(sa.select(schema.root.c.id, schema.root.c.path)).all()
        for root in roots:
            prefix = os.path.join(root.path, b"")  # noqa: PTH118
            below = [name[len(prefix) :] for name in names if name.startswith(prefix)]
            for some in chunks(below):
                for row in connection.execute(
                    sa.select(file.path, file.photo_id, file.reason).where(
                        file.root_id == root.id, file.path.in_(some)
                    )
                ):
                    # A file may have been recorded under an outer root before; the one with a photo counts.
                    name = prefix + row.path
                    if name not in found or found[name].photo_id is None:
                        found[name] = FileAtPath(row.photo_id, row.reason or "")
    return found


def first_folders(store: CatalogStore, photo_ids: Sequence[int]) -> dict[int, bytes]:
    """Return the folder of the first path of photos, by photo id; photos without a file are left out."""
    file, root = schema.file.c, schema.root.c
    first: dict[int, bytes] = {}
    with store.reading() as connection:
        for ids in chunks(photo_ids):
            for row in connection.execute(
                sa.select(file.photo_id, root.path.label("root"), file.path)
                .join(schema.root, root.id == file.root_id)
                .where(file.photo_id.in_(ids))
            ):
                path = os.path.join(row.root, row.path)  # noqa: PTH118 bytes
                first[row.photo_id] = min(first.get(row.photo_id, path), path)
    return {photo_id: os.path.dirname(path) for photo_id, path in first.items()}  # noqa: PTH120
