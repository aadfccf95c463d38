"""The stored vectors of many views at once, as they are and as unit vectors."""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray

from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, chunks

__all__ = ["normalised", "read_vectors", "stored_vectors", "unit_vectors"]

# Rows fetched or normalised at a time: bounds what is held beside the answer.
_ROWS = 10_000
# A run of ids with fewer gaps than this is fetched as a range, which SQLite reads twice as fast as a list of ids.
_SPARSE = 2


def normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors scaled to unit length, so that their inner product is the cosine.

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
    """The vectors that a catalog stores of some views.

    Args:
        store: An open catalog.
        model_id: Whose vectors.
        view_ids: (N,) ids, in any order; one may occur twice.

    Returns:
        (N, C) float32 vectors as stored, un-normalised, and (N,) bool, which of them are there, of the right
        length and finite; the others are zeros.
    """
    with store.reading() as connection:
        size = connection.execute(
            sa.select(tables.model.c.embedding_size).where(tables.model.c.id == model_id)
        ).scalar_one_or_none()
        return read_vectors(connection, model_id, size or 0, view_ids)


def unit_vectors(
    store: CatalogStore, model_id: int, view_ids: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The stored vectors of some views, scaled to unit length.

    Args:
        store: An open catalog.
        model_id: Whose vectors.
        view_ids: (N,) ids, in any order; one may occur twice.

    Returns:
        (N, C) float32, unit-norm, and (N,) bool, which of them are there, whole, finite and not zero; the others
        are rows of zeros.
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
    """As `stored_vectors`, within a transaction; `size` is C."""
    given = np.asarray(view_ids, dtype=np.int64)
    wanted, back = np.unique(given, return_inverse=True)
    vectors, whole = np.zeros((len(wanted), size), np.float32), np.zeros(len(wanted), bool)
    embedding = tables.embedding.c
    columns = sa.select(embedding.view_id, embedding.vector).where(
        embedding.model_id == model_id, sa.func.length(embedding.vector) == 4 * size
    )
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
        # (n * C,) -> (n, C)
        read = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), size)
        places = np.searchsorted(ids, found)
        # Finite but so large that the length is not: nothing can be said by it.
        kept = (ids[np.minimum(places, len(ids) - 1)] == found) & np.isfinite(read).all(axis=1)
        vectors[start + places[kept]], whole[start + places[kept]] = read[kept], True
    if len(given) == len(wanted) and np.array_equal(given, wanted):
        return vectors, whole
    return vectors[back], whole[back]
