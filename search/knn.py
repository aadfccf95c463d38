"""k-nearest neighbours over a vector index, filtered before the search: exact, or by lists of near vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors import VectorIndex
from birdsearch.search.scan import Look, MovedError, Picked, picked
from birdsearch.search.scan_lists import look_at

__all__ = ["Neighbours", "nearest"]

# Candidates fetched beyond k, so that near-ties at the k-th place are mostly settled by one search.
_SPARE = 32
# Numbers of candidates' vectors held at a time, 32 MB in float64; queries at a time; candidates ranked at a time.
_NUMBERS, _QUERIES, _RANKED = 1 << 22, 512, 8192


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest views of each query.

    Attributes:
        view_ids: (Q, k') int64, nearest first; `k'` is less than asked if there are no more.
        similarities: (Q, k') float32, cosine, -1..1, higher is more alike.
    """

    view_ids: NDArray[np.int64]
    similarities: NDArray[np.float32]


def nearest(
    index: VectorIndex,
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None = None,
    exclude: NDArray[np.int64] | None = None,
    *,
    exact: bool = False,
    effort: float = 1.0,
) -> Neighbours:
    """The k most similar views of each query, among the allowed ones.

    Which views are looked at: all that are allowed, if the index has no lists, if few are allowed, if many
    neighbours are asked for, or if `exact`. Else those of the nearest lists, so many as were measured to hold
    0.99 of the true neighbours. Where a share s of the vectors in these lists is allowed, the k nearest of them
    are among about k / s nearest of all, and so many more lists are looked into.

    Candidates are found in float32, whose last bits depend on the size of the batch and on the number of threads.
    Every candidate that could be among the k best of those looked at, given the error bound of a float32 inner
    product (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1), is scored again in
    float64, summed in one order and rounded to float32 once. So similarities are exact, and a query has the same
    answer alone and in a batch.

    Args:
        index: Unit-norm vectors.
        queries: (Q, C) float32, unit-norm.
        k: How many, at least 0.
        allowed: View ids to search, or None for all. Ids that the index does not hold are ignored.
        exclude: View ids left out for every query.
        exact: Look at all allowed views, however many.
        effort: So many times the vectors that were measured to suffice, above 0.

    Returns:
        Ordered by falling similarity, equal ones by rising view id. `k'` is the lesser of `k` and the number
        of views that may be found; there are no padding entries.

    Raises:
        InvalidInputError: `queries` has another shape or is not finite, `k` is negative, or `effort` not above 0.
    """
    if queries.ndim != 2 or queries.shape[1] != index.dim:
        raise InvalidInputError(f"queries must be (Q, {index.dim}), got {queries.shape}")
    if k < 0:
        raise InvalidInputError(f"k must be at least 0, got {k}")
    if not np.isfinite(queries).all():
        raise InvalidInputError("queries must be finite, got NaN or infinity")
    if not effort > 0:
        raise InvalidInputError(f"effort must be above 0, got {effort}")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    while True:
        mended = index.mended
        try:
            found = _nearest(index, queries, k, picked(index, allowed, exclude), exact=exact, effort=effort)
        except MovedError:
            continue
        # Another thread may have found damage after what is searched was picked.
        if index.mended == mended:
            return found


def _nearest(
    index: VectorIndex, queries: NDArray[np.float32], k: int, chosen: Picked, *, exact: bool, effort: float
) -> Neighbours:
    width = min(k, len(chosen))
    view_ids = np.empty((len(queries), width), np.int64)
    similarities = np.empty(view_ids.shape, np.float32)
    if not view_ids.size:
        return Neighbours(view_ids, similarities)
    fetch = min(len(chosen), k + _SPARE)
    look = look_at(index, chosen, width, exact=exact, effort=effort)
    step = max(1, min(_QUERIES, _NUMBERS // (fetch * index.dim)))
    slack = _error_bound(index.dim)
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        scores, places = look.best(some, fetch)
        ids, exactly = _ranked(index, some, places)
        lowest = scores.min(axis=1)
        # Where something was left out that may be as near as the k-th.
        unsure = np.flatnonzero(lowest >= exactly[:, width - 1] - slack) if fetch < len(chosen) else ()
        view_ids[start : start + step], similarities[start : start + step] = (
            ids[:, :width],
            exactly[:, :width],
        )
        for row in unsure:
            threshold = float(exactly[row, width - 1]) - slack
            found = _above(look, some[row], threshold)
            ids_of, exact_of = _ranked_in_parts(index, some[row], found)
            view_ids[start + row], similarities[start + row] = ids_of[:width], exact_of[:width]
    return Neighbours(view_ids, similarities)


def _error_bound(dim: int) -> float:
    """How far a float32 score of two unit vectors may lie from the rounded exact one."""
    unit = float(np.finfo(np.float32).eps) / 2
    # One more term for the final rounding, and room for norms that are 1 only to float32's precision.
    return 2 * (dim + 4) * unit


def _ranked(
    index: VectorIndex, queries: NDArray[np.float32], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Views at places (Q, n) with their exact similarities, best first; last those at place -1."""
    # (Q * n, C) -> (Q, n, C)
    vectors = index.take(np.maximum(places, 0).ravel()).reshape(*places.shape, index.dim)
    # Products of two float32 are exact in float64; a sum along contiguous rows has one order whatever their
    # number, which a matrix product does not promise.
    products = vectors.astype(np.float64)
    products *= queries[:, None, :]
    exactly = np.clip(products.sum(axis=2), -1.0, 1.0).astype(np.float32)
    exactly[places < 0] = -np.inf
    view_ids = index.ids_at(places)
    order = np.lexsort((view_ids, -exactly), axis=1)
    return np.take_along_axis(view_ids, order, 1), np.take_along_axis(exactly, order, 1)


def _ranked_in_parts(
    index: VectorIndex, query: NDArray[np.float32], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    parts = [
        _ranked(index, query[None], places[None, start : start + _RANKED])
        for start in range(0, len(places), _RANKED)
    ]
    view_ids = np.concatenate([ids[0] for ids, _ in parts])
    exactly = np.concatenate([exact[0] for _, exact in parts])
    order = np.lexsort((view_ids, -exactly))
    return view_ids[order], exactly[order]


def _above(look: Look, query: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Positions of all whose score may be that high."""
    found = []
    for positions, rows, columns in look.blocks(query):
        scores = rows @ query
        scores = scores if columns is None else scores[columns]
        found.append(positions[scores >= threshold])
    return np.concatenate(found)
