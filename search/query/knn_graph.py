"""The k-NN graph of many vectors: exact as far as that is fast enough, beyond it by an inverted file.

Cosines are summed in float64 in one order and rounded to float32 once, so that copies of a vector have the same
cosine to everything and the ranking does not depend on FAISS's batches or threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.faiss_threads import one_thread

__all__ = ["KnnGraph", "Progress", "knn_graph", "near_pairs"]

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

# Measured on two cores: all pairs of 100,000 x 128 take half a minute, of 200,000 two minutes.
_EXACT = 50_000
# Candidates fetched beyond k: near-ties with the k-th are mostly settled among them.
_SPARE = 8
# Queries at a time: with k = 20 of 128 numbers they take 60 MB in float64.
_ROWS = 2048
# An inverted file is trained on so many vectors a list (FAISS's own lower bound is 39), and measured by so many.
_TRAINED, _MEASURED = 40, 1000
_RECALL = 0.97
_NO_MORE = -1


@dataclass(frozen=True, slots=True, eq=False)
class KnnGraph:
    """The nearest neighbours of each vector among the others.

    Attributes:
        neighbours: (N, k) int64 rows, nearest first, equally near ones by row; -1 where there are no more.
        cosines: (N, k) float32, -1..1, higher is more alike; -1 where there are no more.
        recall: Share of the true k nearest that were found: 1.0 if exact, else as measured on a sample.
    """

    neighbours: NDArray[np.int64]
    cosines: NDArray[np.float32]
    recall: float


def knn_graph(
    unit: NDArray[np.float32], k: int, *, exact: bool | None = None, progress: Progress | None = None
) -> KnnGraph:
    """Return the k nearest neighbours of every vector, itself left out.

    Copies of one vector are searched once. Up to 50,000 distinct vectors all pairs are compared. Beyond, an
    inverted file (Sivic and Zisserman, "Video Google", ICCV 2003) of about 4 sqrt(N) lists is searched, in so
    many lists that the recall, measured against exact search on 1,000 vectors, reaches 0.97.

    Args:
        unit: (N, C) float32, unit-norm.
        k: How many neighbours.
        exact: Compare all pairs, or do not; None decides by N.
        progress: Called with how many vectors were searched.

    Returns:
        The graph. Memory beyond it: the vectors once more, and once more again for the inverted file.

    Raises:
        InvalidInputError: `unit` is not (N, C) or not finite, or `k` is below 1.
    """
    if unit.ndim != 2 or k < 1:
        raise InvalidInputError(
            f"vectors are {unit.shape} and k is {k}; they have to be (N, C) and at least 1"
        )
    if not np.isfinite(unit).all():
        raise InvalidInputError("vectors must be finite, got NaN or infinity")
    unit = np.ascontiguousarray(unit, dtype=np.float32)
    if len(unit) < 2 or not unit.shape[1]:
        return KnnGraph(*_empty(len(unit), k), 1.0)
    first, copy_of = _distinct(unit)
    is_distinct = len(first) == len(unit)
    rows = unit if is_distinct else np.ascontiguousarray(unit[first])
    told = progress or (lambda _what, _done, _total: None)
    if exact if exact is not None else len(rows) <= _EXACT:
        neighbours, cosines = _searched(rows, k, None, told)
        recall = 1.0
    else:
        # FAISS's k-means may add in another order with other numbers of threads.
        with one_thread():
            index = _inverted_file(rows)
        recall = _tune(index, rows, k)
        neighbours, cosines = _searched(rows, k, index, told)
    if not is_distinct:
        neighbours, cosines = _with_copies(rows, first, copy_of, neighbours, cosines)
    return KnnGraph(neighbours, cosines, recall)


def near_pairs(
    graph: KnnGraph, min_cosine: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return pairs of vectors that are alike, read off their k nearest.

    A pair is missed if each of the two has k others at least as near: choose k above the size of a burst.

    Args:
        graph: A k-NN graph.
        min_cosine: The least cosine.

    Returns:
        Left rows, right rows, cosines: (P,) each. Left is less than right; sorted by left, then right; every
        pair once.
    """
    left, column = np.nonzero((graph.cosines >= min_cosine) & (graph.neighbours >= 0))
    right, cosines = graph.neighbours[left, column], graph.cosines[left, column]
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, chosen = np.unique(low * len(graph.neighbours) + high, return_index=True)
    return low[chosen], high[chosen], cosines[chosen]


def _empty(count: int, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.full((count, k), _NO_MORE, np.int64), np.full((count, k), -1.0, np.float32)


def _distinct(unit: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of the first of each distinct vector, rising, and for every vector which of them it is."""
    # Adding zero makes -0.0 and 0.0 one.
    keys = (unit + np.float32(0.0)).view(np.dtype((np.void, unit.shape[1] * 4))).ravel()
    _, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return np.sort(first), rank[numbers]


def _inverted_file(rows: NDArray[np.float32]) -> Any:
    lists = int(np.clip(4 * np.sqrt(len(rows)), 1, max(len(rows) // _TRAINED, 1)))
    index = _faiss.IndexIVFFlat(
        _faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed, index.cp.niter, index.cp.spherical = 0, 8, True
    index.cp.min_points_per_centroid = 1
    chosen = np.sort(
        np.random.default_rng(0).choice(len(rows), min(len(rows), lists * _TRAINED), replace=False)
    )
    index.train(np.ascontiguousarray(rows[chosen]))
    for start in range(0, len(rows), 65_536):
        index.add(rows[start : start + 65_536])
    return index


def _tune(index: Any, rows: NDArray[np.float32], k: int) -> float:
    """Search in more and more lists until the recall is enough; the recall comes back."""
    chosen = np.sort(np.random.default_rng(1).choice(len(rows), min(len(rows), _MEASURED), replace=False))
    queries = np.ascontiguousarray(rows[chosen])
    fetch = min(k + 1, len(rows))
    truth, _ = faiss.knn(queries, rows, fetch, metric=faiss.METRIC_INNER_PRODUCT)
    # A neighbour as near as the true k-th is as good; float32 sums differ in their last bits.
    least = truth[:, -1:] - 1e-6
    lists = min(4, index.nlist)
    while True:
        index.nprobe = lists
        found, _ = index.search(queries, fetch)
        # The query itself is among both.
        recall = float(((found >= least).sum(axis=1) - 1).clip(0).mean() / max(fetch - 1, 1))
        if recall >= _RECALL or lists == index.nlist:
            return min(recall, 1.0)
        lists = min(round(lists * 1.5), index.nlist)


def _searched(
    rows: NDArray[np.float32], k: int, index: Any | None, told: Progress
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k nearest of distinct vectors: candidates by FAISS, ranked by exact cosines."""
    neighbours, cosines = _empty(len(rows), k)
    width = min(k, len(rows) - 1)
    fetch = min(len(rows), k + 1 + _SPARE)
    # How far a float32 sum of C products may lie from the exact one (Higham, section 3.1), twice.
    slack = 2 * (rows.shape[1] + 4) * float(np.finfo(np.float32).eps) / 2
    for start in range(0, len(rows), _ROWS):
        queries = np.arange(start, min(start + _ROWS, len(rows)))
        block = rows[start : queries[-1] + 1]
        if index is None:
            scores, found = faiss.knn(block, rows, fetch, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            scores, found = index.search(block, fetch)
        exact = _cosines(block, rows, found)
        exact[(found == queries[:, None]) | (found < 0)] = -np.inf
        # Falling cosine, then rising row.
        order = np.lexsort((found, -exact), axis=1)[:, :width]
        best, near = np.take_along_axis(exact, order, 1), np.take_along_axis(found, order, 1)
        near[np.isneginf(best)] = _NO_MORE
        if index is None and fetch < len(rows):
            for row in np.flatnonzero(scores[:, -1] >= best[:, -1] - slack):
                near[row], best[row] = _nearest_of_all(
                    rows, int(queries[row]), float(best[row, -1]) - slack, width
                )
        neighbours[queries, :width], cosines[queries, :width] = near, np.where(near < 0, np.float32(-1), best)
        told("neighbours", int(queries[-1]) + 1, len(rows))
    return neighbours, cosines


def _cosines(
    queries: NDArray[np.float32], rows: NDArray[np.float32], neighbours: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return exact cosines of (Q, C) to `rows[neighbours]`, (Q, n): (Q, n) float32."""
    # Products of two float32 are exact in float64; a sum along contiguous rows has one order whatever their number.
    products = rows[neighbours].astype(np.float64)
    products *= queries[:, None, :]
    return np.asarray(np.clip(products.sum(axis=2), -1.0, 1.0), dtype=np.float32)


def _nearest_of_all(
    rows: NDArray[np.float32], query: int, threshold: float, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest where float32 cannot separate the k-th from those behind it."""
    found = np.flatnonzero(rows @ rows[query] >= threshold)
    found = found[found != query]
    exact = _cosines(rows[query : query + 1], rows, found[None, :])[0]
    order = np.lexsort((found, -exact))[:width]
    return found[order], exact[order]


def _with_copies(
    rows: NDArray[np.float32],
    first: NDArray[np.int64],
    copy_of: NDArray[np.int64],
    near: NDArray[np.int64],
    near_cosines: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the graph of all vectors, from that of the distinct ones."""
    k = near.shape[1]
    neighbours, cosines = _empty(len(copy_of), k)
    members = np.argsort(copy_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(copy_of, minlength=len(first)))])
    sizes = np.diff(starts)
    own = np.clip((rows.astype(np.float64) ** 2).sum(axis=1), -1.0, 1.0).astype(np.float32)
    crowded = (sizes > 1) | ((sizes[near] > 1) & (near >= 0)).any(axis=1)
    # Where no copy is about, only the numbers change.
    plain = np.flatnonzero(~crowded)
    neighbours[first[plain]] = np.where(near[plain] < 0, _NO_MORE, first[near[plain]])
    cosines[first[plain]] = near_cosines[plain]
    for row in np.flatnonzero(crowded).tolist():
        mine = members[starts[row] : starts[row + 1]]
        known = near[row][near[row] >= 0]
        # More than k + 1 copies of a vector cannot all be neighbours of one.
        among = [
            members[starts[each] : min(starts[each + 1], starts[each] + k + 1)] for each in (row, *known)
        ]
        found = np.concatenate(among)
        exact = np.repeat(
            np.concatenate([own[row : row + 1], near_cosines[row, : len(known)]]), [len(a) for a in among]
        )
        order = np.lexsort((found, -exact))[: k + 1]
        found, exact = found[order], exact[order]
        width = min(k, len(found) - 1)
        # Each copy leaves itself out; those that are not among the first k + 1 take the first k.
        is_other = found != mine[:, None]
        columns = np.argsort(~is_other, axis=1, kind="stable")[:, :width]
        neighbours[mine, :width], cosines[mine, :width] = found[columns], exact[columns]
    return neighbours, cosines
