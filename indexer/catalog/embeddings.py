"""The stored vectors of many views at once, as they are and as unit vectors."""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.damage import name_photos, warn_of_damage
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.indexer.catalog.vector_bytes import decode_vectors

__all__ = [
    "drop_damaged_vectors",
    "live_embedded_views",
    "normalised",
    "read_vectors",
    "sift_vectors",
    "stored_vectors",
    "unit_vectors",
]

# Rows fetched or normalised at a time: bounds what is held beside the answer.
_ROWS = 10_000
# A run of ids with fewer gaps than this is fetched as a range, which SQLite reads twice as fast as a list of ids.
_SPARSE = 2
_ALL = "SELECT view_id, vector, crc32 FROM embedding WHERE model_id = ?"


def normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors scaled to unit length, so that their inner product is the cosine.

    Args:
        vectors: (B, C) float32.

    Returns:
        (B, C) float32, C-contiguous, unit-norm. A zero vector stays zero.
    """
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide / np.where(norms == 0.0, 1.0, norms), dtype=np.float32)


def stored_vectors(
    store: CatalogStore, model_id: int, view_ids: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors that a catalog stores of some views.

    Args:
        store: An open catalog.
        model_id: Whose vectors.
        view_ids: (N,) ids, in any order; one may occur twice.

    Returns:
        (N, C) float32 vectors as stored, un-normalised, and (N,) bool, which of them are there and sound; the
        others are zeros. A damaged one is named in a warning.
    """
    with store.reading() as connection:
        size = connection.execute(
            sa.select(schema.model.c.embedding_size).where(schema.model.c.id == model_id)
        ).scalar_one_or_none()
        return read_vectors(connection, model_id, size or 0, view_ids)


def unit_vectors(
    store: CatalogStore, model_id: int, view_ids: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the stored vectors of some views, scaled to unit length.

    Args:
        store: An open catalog.
        model_id: Whose vectors.
        view_ids: (N,) ids, in any order; one may occur twice.

    Returns:
        (N, C) float32, unit-norm, and (N,) bool, which of them are there, sound and not zero; the others are rows
        of zeros.
    """
    vectors, usable = stored_vectors(store, model_id, view_ids)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        vectors[rows] = normalised(vectors[rows])
        usable[rows] &= vectors[rows].any(axis=1)
    return vectors, usable


def read_vectors(
    connection: sa.Connection, model_id: int, size: int, view_ids: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return what `stored_vectors` does, within a transaction; `size` is C."""
    vectors, is_sound, damaged = sift_vectors(connection, model_id, size, view_ids)
    warn_of_damage(connection, damaged)
    return vectors, is_sound


def sift_vectors(
    connection: sa.Connection, model_id: int, size: int, view_ids: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[int]]:
    """Return what `read_vectors` does, and the views whose vector is damaged, which are not logged."""
    given = np.asarray(view_ids, dtype=np.int64)
    wanted, back = np.unique(given, return_inverse=True)
    vectors, whole = np.zeros((len(wanted), size), np.float32), np.zeros(len(wanted), bool)
    embedding = schema.embedding.c
    columns = sa.select(embedding.view_id, embedding.vector, embedding.crc32).where(
        embedding.model_id == model_id
    )
    damaged: list[int] = []
    for start in range(0, len(wanted), _ROWS):
        ids = wanted[start : start + _ROWS]
        low, high = int(ids[0]), int(ids[-1])
        if high - low < _SPARSE * len(ids):
            rows = list(connection.execute(columns.where(embedding.view_id.between(low, high))))
        else:
            rows = [
                row
                for some in chunks(ids.tolist())
                for row in connection.execute(columns.where(embedding.view_id.in_(some)))
            ]
        found = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        read, is_sound = decode_vectors([row[1] for row in rows], [row[2] for row in rows], size)
        rows_of_found = np.searchsorted(ids, found)
        asked = ids[np.minimum(rows_of_found, len(ids) - 1)] == found
        damaged += found[asked & ~is_sound].tolist()
        kept = asked & is_sound
        vectors[start + rows_of_found[kept]], whole[start + rows_of_found[kept]] = read[kept], True
    if len(given) == len(wanted) and np.array_equal(given, wanted):
        return vectors, whole, damaged
    return vectors[back], whole[back], damaged


def live_embedded_views(connection: sa.Connection, model_id: int) -> NDArray[np.int64]:
    """Return the views that have a vector of a model and whose photo has a live file, (N,) int64, rising."""
    embedding, view = schema.embedding.c, schema.view.c
    rows = connection.execute(
        sa.select(embedding.view_id)
        .join(schema.view, view.id == embedding.view_id)
        .where(embedding.model_id == model_id, live_photo(view.photo_id))
        .order_by(embedding.view_id)
        .execution_options(yield_per=_ROWS)
    )
    return np.fromiter((row[0] for row in rows), np.int64)


def drop_damaged_vectors(store: CatalogStore) -> tuple[str, ...]:
    """Verify every stored vector and delete those that are damaged, so that an index run embeds their photos again.

    Args:
        store: A catalog open for writing.

    Returns:
        The photos, by path and id.

    Raises:
        CatalogError: The catalog could not be read or written.
    """
    damaged: list[tuple[int, int]] = []
    with store.reading() as connection:
        models = connection.execute(sa.select(schema.model.c.id, schema.model.c.embedding_size)).all()
        for model_id, size in models:
            rows = cursor_of(connection).execute(_ALL, (model_id,))
            while some := rows.fetchmany(_ROWS):
                vectors, is_sound = decode_vectors([row[1] for row in some], [row[2] for row in some], size)
                is_sound &= vectors.any(axis=1)
                damaged += [(some[row][0], model_id) for row in np.flatnonzero(~is_sound).tolist()]
        names = tuple(name_photos(connection, [view_id for view_id, _ in damaged]))
    if damaged:
        with store.writing() as connection:
            cursor = cursor_of(connection)
            cursor.executemany("DELETE FROM embedding WHERE view_id = ? AND model_id = ?", damaged)
            cursor.executemany("INSERT INTO change (op, view_id, model_id) VALUES ('remove', ?, ?)", damaged)
    return names
