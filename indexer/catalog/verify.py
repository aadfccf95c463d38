"""Verification: is the catalog what it says it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import drop_damaged_vectors
from birdsearch.indexer.catalog.photos import read_photos, read_views
from birdsearch.indexer.catalog.soundness import database_faults, schema_faults
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.vector_bytes import vector_fault
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.model.images.digest import is_file

__all__ = ["CheckReport", "Problem", "RebuildReport", "check_catalog", "rebuild_catalog"]

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


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was verified, and what was found.

    Attributes:
        vectors: Stored vectors that were verified by checksum.
        files: Files whose content was hashed; 0 unless asked for.
        problems: Everything that is wrong; empty is good.
    """

    vectors: int
    files: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild did.

    Attributes:
        vectors: Vectors in the new vector index.
        dropped: Photos, path and id, whose stored vector was damaged; the next index run embeds them again.
    """

    vectors: int
    dropped: tuple[str, ...]


def check_catalog(
    store: CatalogStore, *, files: bool = False, progress: Callable[[int], None] | None = None
) -> CheckReport:
    """Verify the database, every stored vector, the vector index and, on request, every file.

    Args:
        store: An open catalog; reading is enough.
        files: Read every present file again and compare its hash.
        progress: Told the number of vectors and files verified so far.

    Returns:
        The report. Nothing is changed.
    """
    problems = list(_database_problems(store))
    vectors, hashed = 0, 0
    damaged: set[int] = set()
    try:
        for view_id, problem in _vector_problems(store):
            vectors += 1
            if problem is not None:
                damaged.add(view_id)
                problems.append(problem)
            if progress is not None:
                progress(vectors)
        problems += _index_problems(store, damaged)
        if files:
            for problem in _file_problems(store):
                hashed += 1
                if problem is not None:
                    problems.append(problem)
                if progress is not None:
                    progress(vectors + hashed)
    except CatalogError as error:
        # What is already known to be damaged is told, though it keeps the rest from being verified.
        if not problems:
            raise
        problems.append(Problem("database", store.database_path.name, f"the rest was not verified: {error}"))
    return CheckReport(vectors=vectors, files=hashed, problems=tuple(problems))


def _database_problems(store: CatalogStore) -> Iterator[Problem]:
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
    """Name a row for a person: by its photo where it is of one."""
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


def _vector_problems(store: CatalogStore) -> Iterator[tuple[int, Problem | None]]:
    """One item a stored vector: its view, and what is wrong with it, or None."""
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


def _index_problems(store: CatalogStore, damaged: set[int]) -> list[Problem]:
    """What is wrong with the vector index; views whose stored vector is damaged are told by that alone."""
    model = store.active_model()
    if model is None:
        return []
    followed = VectorIndex.open(store, model.id, model.embedding_size)
    followed.verify()
    followed.remove(np.array(sorted(damaged), np.int64))
    problems = [Problem("index", "vectors", warning) for warning in followed.warnings]
    truth = VectorIndex.build(store, model.id, model.embedding_size)
    truth.remove(np.array(sorted(damaged), np.int64))
    ids, true_ids = followed.view_ids, truth.view_ids
    if set(ids.tolist()) != set(true_ids.tolist()):
        problems.append(
            Problem(
                "index",
                "vectors",
                f"holds {len(ids)} views and the catalog {len(true_ids)}, or others; `birdsearch rebuild` mends it",
            )
        )
    elif not np.array_equal(followed.vectors[np.argsort(ids)], truth.vectors[np.argsort(true_ids)]):
        problems.append(
            Problem("index", "vectors", "differs from the stored vectors; `birdsearch rebuild` mends it")
        )
    return problems


def _file_problems(store: CatalogStore) -> Iterator[Problem | None]:
    """One item a file that is held to be there: what is wrong with it, or None."""
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


def rebuild_catalog(store: CatalogStore) -> RebuildReport:
    """Drop damaged vectors and make the vector index of the model in use anew from the stored ones.

    Args:
        store: A catalog open for writing.

    Returns:
        What was done.

    Raises:
        CatalogError: The catalog or the vector index could not be written.
    """
    dropped = drop_damaged_vectors(store)
    active = store.active_model()
    count = 0
    if active is not None:
        vectors = VectorIndex.build(store, active.id, active.embedding_size)
        vectors.save(store)
        count = len(vectors)
    return RebuildReport(vectors=count, dropped=dropped)
