"""Exact k-nearest neighbours over a vector index, filtered before the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors import VectorIndex

__all__ = ["Neighbours", "nearest"]

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

# Candidates fetched beyond k, so that near-ties at the k-th place are mostly settled by one search.
_SPARE = 32


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
) -> Neighbours:
    """The k most similar views of each query, among the allowed ones.

    FAISS finds candidates in float32, whose last bits depend on the size of the batch and on the number of
    threads. Every candidate that could be among the k best, given the error bound of a float32 inner product
    (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1), is scored again in
    float64, summed in one order and rounded to float32 once. So a query has the same answer alone and in a
    batch.

    Args:
        index: Unit-norm vectors.
        queries: (Q, C) float32, unit-norm.
        k: How many, at least 0.
        allowed: View ids to search, or None for all. Ids that the index does not hold are ignored.
        exclude: View ids left out for every query.

    Returns:
        Ordered by falling similarity, equal ones by rising view id. `k'` is the lesser of `k` and the number
        of views that may be found; there are no padding entries.

    Raises:
        InvalidInputError: `queries` has another shape or is not finite, or `k` is negative.
    """
    dim = int(index.index.d)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InvalidInputError(f"queries must be (Q, {dim}), got {queries.shape}")
    if k < 0:
        raise InvalidInputError(f"k must be at least 0, got {k}")
    if not np.isfinite(queries).all():
        raise InvalidInputError("queries must be finite, got NaN or infinity")
    nothing = Neighbours(np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32))
    if k == 0 or not len(queries) or not len(index) or (allowed is not None and not len(allowed)):
        return nothing
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    selection = _Selection(allowed, exclude)
    fetch = min(len(index), k + _SPARE)
    scores, found = index.index.search(queries, fetch, params=selection.parameters)
    # FAISS pads with id -1, in every row alike, where fewer views pass the filter than were asked for.
    passing = int((found[0] >= 0).sum())
    if not passing:
        return nothing
    is_complete = passing < fetch or fetch == len(index)
    slack = _error_bound(dim)
    view_ids = np.empty((len(queries), min(k, passing)), np.int64)
    similarities = np.empty(view_ids.shape, np.float32)
    for row, query in enumerate(queries):
        ids, exact = _ranked(index, query, found[row, :passing])
        if not is_complete:
            threshold = float(exact[k - 1]) - slack
            if scores[row, passing - 1] >= threshold:
                ids, exact = _ranked(index, query, _above(index, query, threshold, selection))
        view_ids[row], similarities[row] = ids[:k], exact[:k]
    return Neighbours(view_ids, similarities)


def _error_bound(dim: int) -> float:
    """How far FAISS's score of two unit vectors may lie from the rounded exact one."""
    unit = float(np.finfo(np.float32).eps) / 2
    # One more term for the final rounding, and room for norms that are 1 only to float32's precision.
    return 2 * (dim + 4) * unit


def _ranked(
    index: VectorIndex, query: NDArray[np.float32], view_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Views of one query with their exact similarities, best first."""
    vectors = index.index.reconstruct_batch(np.ascontiguousarray(view_ids))
    # Products of two float32 are exact in float64; a sum along contiguous rows has one order whatever their
    # number, which a matrix product does not promise.
    products = vectors.astype(np.float64) * query.astype(np.float64)
    exact = np.clip(products.sum(axis=1), -1.0, 1.0).astype(np.float32)
    order = np.lexsort((view_ids, -exact))
    return view_ids[order], exact[order]


def _above(
    index: VectorIndex, query: NDArray[np.float32], threshold: float, selection: _Selection
) -> NDArray[np.int64]:
    below = float(np.nextafter(np.float32(threshold), np.float32(-2.0)))
    _, _, view_ids = index.index.range_search(query[None, :], below, params=selection.parameters)
    return np.asarray(view_ids, dtype=np.int64)


class _Selection:
    """Which ids FAISS looks at.

    Attributes:
        parameters: What a FAISS search takes, or None for all.
    """

    def __init__(self, allowed: NDArray[np.int64] | None, exclude: NDArray[np.int64] | None) -> None:
        # FAISS keeps pointers only: the selectors and their memory live as long as this object.
        self._kept: list[Any] = []
        self.parameters: Any = None
        excluded = None if exclude is None or not len(exclude) else np.asarray(exclude, dtype=np.int64)
        if allowed is not None:
            bitmap = _bitmap(np.asarray(allowed, dtype=np.int64), excluded)
            self._use(_faiss.IDSelectorBitmap(bitmap), bitmap)
        elif excluded is not None:
            inner = _faiss.IDSelectorBatch(excluded)
            self._use(_faiss.IDSelectorNot(inner), inner, excluded)

    def _use(self, selector: Any, *kept: object) -> None:
        self._kept.extend([selector, *kept])
        self.parameters = _faiss.SearchParameters(sel=selector)


def _bitmap(allowed: NDArray[np.int64], excluded: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """One bit an id, the lowest bit of the first byte being id 0."""
    bits = np.zeros(max(int(allowed.max()), 0) + 1, dtype=bool)
    bits[allowed[allowed >= 0]] = True
    if excluded is not None:
        bits[excluded[(excluded >= 0) & (excluded < len(bits))]] = False
    return np.packbits(bits, bitorder="little")
