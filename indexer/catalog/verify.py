"""Verification of the database, the stored vectors and the indexed files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.photos import read_photos, read_views
from birdsearch.indexer.catalog.soundness import database_faults, schema_faults
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.vector_bytes import vector_fault
from birdsearch.model.images.digest import is_file

__all__ = ["Problem", "database_problems", "file_problems", "vector_problems"]

_CHANGED = "a byte of it changed on the disk: its two copies in the catalog differ"
_RESTORE = "restore the catalog from a backup, or move it away and index again"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        part: `database`, `vector`, `index` or `file`.
        where: The photo's path, or the part of the catalog.
        what: What is wrong and how to mend it.
    """

    part: str
    where: str
    what: str


def database_problems(store: CatalogStore) -> Iterator[Problem]:
    """Yield what is wrong with the database: its pages, its second copies, its schema and its references."""
    name = store.database_path.name
    with store.reading() as connection:
        for fault in database_faults(connection):
            if fault.table is None or fault.row_id is None:
                yield Problem("database", name, f"{fault.message}; {_RESTORE}")
            else:
                yield Problem(
                    "database", _named(connection, fault.table, fault.row_id), f"{_CHANGED}; {_RESTORE}"
                )
        for changed in schema_faults(connection):
            yield Problem("database", changed, f"its definition is not what birdsearch wrote; {_RESTORE}")
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield Problem("database", name, f"row {row[1]} of table {row[0]} points to a missing {row[2]}")


def _named(connection: sa.Connection, table: str, row_id: int) -> str:
    """Return a row's name for people: with its photo where it is of one."""
    row = (
        connection.execute(
            sa.select(schema.metadata.tables[table]).where(sa.literal_column("rowid") == row_id)
        )
        .mappings()
        .first()
    )
    known = {} if row is None else dict(row)
    photo_id = row_id if table == "photo" else known.get("photo_id")
    if photo_id is None and isinstance(known.get("view_id"), int):
        found = read_views(connection, [known["view_id"]]).get(known["view_id"])
        photo_id = None if found is None else found.photo_id
    photo = read_photos(connection, [photo_id]).get(photo_id) if isinstance(photo_id, int) else None
    where = f"{table} row {row_id}"
    return where if photo is None else f"{display_path(photo.path)} (photo {photo.id}), {where}"


def vector_problems(store: CatalogStore) -> Iterator[tuple[int, Problem | None]]:
    """Yield for each stored vector its view, and what is wrong with it, or None."""
    embedding, view, model = schema.embedding.c, schema.view.c, schema.model.c
    with store.reading() as connection:
        for row in connection.execute(
            sa.select(
                embedding.view_id, embedding.vector, embedding.crc32, view.photo_id, model.embedding_size
            )
            .join(schema.view, view.id == embedding.view_id)
            .join(schema.model, model.id == embedding.model_id)
            .order_by(embedding.view_id)
            .execution_options(yield_per=10_000)
        ):
            wrong = vector_fault(row.vector, row.crc32, row.embedding_size)
            if wrong is None:
                yield row.view_id, None
                continue
            photo = store.photos([row.photo_id]).get(row.photo_id)
            where = f"{display_path(photo.path)} (photo {photo.id})" if photo else f"photo {row.photo_id}"
            mend = "the next `birdsearch index` embeds the photo again"
            yield row.view_id, Problem("vector", where, f"{wrong}; {mend}")


def file_problems(store: CatalogStore) -> Iterator[Problem | None]:
    """Read each present file; yield what is wrong with it, or None."""
    file, photo, root = schema.file.c, schema.photo.c, schema.root.c
    with store.reading() as connection:
        for row in connection.execute(
            sa.select(
                root.path.label("root"),
                file.path,
                sa.func.coalesce(file.digest, photo.digest).label("digest"),
            )
            .join(schema.root, root.id == file.root_id)
            .join(schema.photo, photo.id == file.photo_id)
            .where(file.state == "present")
            .order_by(root.path, file.path)
            .execution_options(yield_per=1_000)
        ):
            path = os.path.join(row.root, row.path)  # noqa: PTH118
            try:
                with open(path, "rb") as content:  # noqa: PTH123
                    is_as_read = is_file(content.read(), row.digest)
            except OSError as error:
                yield Problem("file", display_path(path), f"cannot be read: {error.strerror}")
                continue
            if is_as_read:
                yield None
            else:
                yield Problem(
                    "file", display_path(path), "its content changed since it was indexed; index again"
                )
