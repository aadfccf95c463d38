"""Looking at every vector: the highest inner products of some queries with all that may be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.cores import cores
from birdsearch.indexer.vectors.faiss_threads import one_for_one

__all__ = ["TOGETHER", "scan"]

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

TOGETHER = 5
"""Number of queries from which a matrix product is faster than having FAISS compare them one by one."""

# Rows compared at a time: 2 MB of 128 numbers each, which a cache holds between gathering and comparing them.
_ROWS = 4096
# Rows that are worth a thread of their own, and threads at most: all of them read the same memory.
_SHARE, _MOST_THREADS = 4 * _ROWS, 4

# What FAISS has in a heap where nothing was found yet, or less.
_NOTHING = np.finfo(np.float32).min

_Take = Callable[[NDArray[np.int64]], NDArray[np.float32]]
_Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def scan(
    queries: NDArray[np.float32],
    positions: NDArray[np.int64],
    take: _Take,
    fetch: int,
    first: _Found | None = None,
) -> _Found:
    """Return the highest float32 inner products of queries with vectors, all of which are looked at.

    Args:
        queries: (Q, C) float32.
        positions: (n,) int64 of the vectors.
        take: Gives the vectors at some positions; may be called by several threads.
        fetch: How many.
        first: Scores and positions, (Q, any) each, that were found elsewhere.

    Returns:
        Scores (Q, fetch) and positions (Q, fetch), highest first; position -1 where there are no more.
    """
    best = _faiss.ResultHeap(len(queries), fetch, keep_max=True)
    if first is not None:
        best.add_result(*first)
    if len(queries) < TOGETHER:
        _one_by_one(queries, take, best, positions)
    else:
        shares = _shares(positions)
        heaps = [best, *(_faiss.ResultHeap(len(queries), fetch, keep_max=True) for _ in shares[1:])]
        look = partial(_together, np.ascontiguousarray(queries.T), take)
        if len(shares) == 1:
            look(best, positions)
        else:
            # How many threads FAISS uses is said thread by thread.
            alone = partial(faiss.omp_set_num_threads, 1)
            with ThreadPoolExecutor(len(shares), initializer=alone) as pool:
                list(pool.map(look, heaps, shares))
        for other in heaps[1:]:
            other.finalize()
            best.add_result(other.D, other.I)
    best.finalize()
    return best.D, best.I


def _shares(positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the positions of each thread, cut where blocks end, since a block can be read where it lies."""
    threads = max(1, min(_threads(), len(positions) // _SHARE))
    blocks = -(-len(positions) // _ROWS)
    return np.split(positions, [_ROWS * (blocks * number // threads) for number in range(1, threads)])


def _threads() -> int:
    """Return how many threads to use: one where NumPy's products have threads of their own."""
    blas_threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return min(_MOST_THREADS, cores()) if blas_threads == "1" else 1


def _one_by_one(queries: NDArray[np.float32], take: _Take, best: Any, positions: NDArray[np.int64]) -> None:
    for start in range(0, len(positions), _ROWS):
        some = positions[start : start + _ROWS]
        fetch = min(best.k, len(some))
        # Gathering vectors from all over is waiting for memory, which threads can do together.
        vectors = take(some)
        with one_for_one(len(queries)):
            scores, rows = faiss.knn(queries, vectors, fetch, metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, np.where(rows < 0, -1, some[rows]))


def _together(columns: NDArray[np.float32], take: _Take, best: Any, positions: NDArray[np.int64]) -> None:
    """Compare (C, Q) queries with the vectors at some positions, and add what is found to a heap."""
    # A short block first: what it has is a bar for all that comes after it.
    start, end = 0, min(max(4 * best.k, _ROWS // 8), _ROWS)
    while start < len(positions):
        some = positions[start:end]
        # Vectors times queries: half of the time that queries times vectors take.
        # The lowest of the best so far lies in the root of a query's heap.
        scores, rows = _above(take(some) @ columns, best.D[:, 0], best.k)
        best.add_result(scores, np.where(rows < 0, -1, some[rows]))
        start, end = end, (end // _ROWS + 1) * _ROWS


def _above(scores: NDArray[np.float32], lowest: NDArray[np.float32], fetch: int) -> _Found:
    """Return those of (n, Q) scores that exceed the lowest kept, (Q,), and their rows: (Q, any) each.

    Rows are -1 where a query has fewer. Once enough were seen hardly any are higher, which is why this takes a
    third of the time of looking for the best of every block.
    """
    length, count = scores.shape
    if fetch < length and (lowest <= _NOTHING).any():
        by_query = np.ascontiguousarray(scores.T)
        rows = np.argpartition(by_query, length - fetch, axis=1)[:, length - fetch :]
        return np.take_along_axis(by_query, rows, 1), rows
    indices = np.flatnonzero(scores > lowest)
    queries = indices % count
    indices = indices[np.argsort(queries, kind="stable")]
    rows, queries = np.divmod(indices, count)
    counts = np.bincount(queries, minlength=count)
    # (n,): the how many-th of its query each is.
    number = np.arange(len(indices)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (count, int(counts.max(initial=0)))
    found, where = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
    found[queries, number], where[queries, number] = scores.ravel()[indices], rows
    return found, where
