"""A benchmark of the vector index of a catalog: recall against exact search, and time."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.build import write_index
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.vectors.snapshot import read_snapshot
from birdsearch.search.query.knn import nearest

__all__ = ["EFFORTS", "SearchMeasure", "measure_search"]

EFFORTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
# Queries that are timed one by one, and rounds in which all ways to search take turns.
_ALONE, _ROUNDS = 50, 3


@dataclass(frozen=True, slots=True)
class SearchMeasure:
    """One way to search.

    Attributes:
        search: `exact` or `lists`.
        effort: So many times the lists that were measured to suffice; None if exact.
        recall: Share of the true k nearest that were found.
        alone_ms: Milliseconds for a query on its own, the median.
        per_second: Queries a second if all are asked at once.
    """

    search: str
    effort: float | None
    recall: float
    alone_ms: float
    per_second: float


def measure_search(
    index: VectorIndex, k: int = 20, queries: int = 200, *, make_lists: bool = False, seed: int = 0
) -> list[SearchMeasure]:
    """Search exactly, and in lists with several efforts if the index has them.

    Stored vectors are asked for, each left out of its own answer.

    Args:
        index: A catalog's vectors.
        k: How many neighbours.
        queries: How many vectors to ask for.
        make_lists: Put the vectors into lists, in a temporary file, if they are not in any.
        seed: Which vectors.

    Returns:
        Exact search first, then rising effort. The index is verified first, which is not timed.

    Raises:
        InvalidInputError: `k` or `queries` is below 1, or there are fewer than two vectors.
    """
    if k < 1 or queries < 1:
        raise InvalidInputError(f"k is {k} and queries {queries}; they have to be at least 1")
    if len(index) < 2:
        raise InvalidInputError(f"{len(index)} vectors are too few to search among")
    if index.nprobe is not None or not make_lists:
        return _measured(index, k, queries, seed)
    with tempfile.TemporaryDirectory(prefix="birdsearch-") as folder:
        path = Path(folder) / "lists"
        index.verify()
        base = read_snapshot(path, write_index(index, path, 0), index.dim)
        return _measured(VectorIndex(index.dim, index.model_id, index.seq, base), k, queries, seed)


def _measured(index: VectorIndex, k: int, queries: int, seed: int) -> list[SearchMeasure]:
    index.verify()
    ids = np.sort(index.view_ids)
    ids = ids[np.sort(np.random.default_rng(seed).permutation(len(ids))[:queries])]
    unit = index.take(index.positions(ids))
    truth = nearest(index, unit, k + 1, exact=True).view_ids
    efforts: list[float | None] = [None]
    if index.nprobe is not None and index.nprobe.lists_for(k + 1) is not None:
        efforts += EFFORTS
    alone: dict[float | None, list[float]] = {effort: [] for effort in efforts}
    together: dict[float | None, list[float]] = {effort: [] for effort in efforts}
    recall: dict[float | None, float] = {}
    for _ in range(_ROUNDS):
        for effort in efforts:
            is_exact, times = effort is None, 1.0 if effort is None else effort
            for row in range(min(_ALONE, len(unit))):
                started = time.perf_counter()
                nearest(index, unit[row : row + 1], k + 1, exact=is_exact, effort=times)
                alone[effort].append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            found = nearest(index, unit, k + 1, exact=is_exact, effort=times).view_ids
            together[effort].append(len(unit) / (time.perf_counter() - started))
            recall[effort] = _recall(ids, truth, found)
    return [
        SearchMeasure(
            "exact" if effort is None else "lists",
            effort,
            recall[effort],
            statistics.median(alone[effort]),
            statistics.median(together[effort]),
        )
        for effort in efforts
    ]


def _recall(ids: NDArray[np.int64], truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    shares = []
    for own, true_ids, found_ids in zip(ids, truth, found, strict=True):
        # One more than k was fetched: either the view itself is there, or as many others as near as it.
        wanted = true_ids[true_ids != own][: truth.shape[1] - 1]
        shares.append(np.isin(wanted, found_ids[found_ids != own][: truth.shape[1] - 1]).mean())
    return float(np.mean(shares))
