"""k-nearest neighbours over a vector index, filtered before the search: exact, or in lists of near vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import VectorIndex
from birdsearch.indexer.vectors.scan import TOGETHER, scan
from birdsearch.indexer.vectors.snapshot import IndexSnapshot, error_bound

__all__ = ["Neighbours", "nearest"]

# Candidates fetched beyond k, so that near-ties with the k-th are mostly settled by one search; and how many
# times as many are fetched where they are not.
_SPARE, _MORE = 32, 8
# Numbers of candidates' vectors held at a time, 32 MB in float64, and queries at a time.
_NUMBERS, _QUERIES = 1 << 22, 512
# Where fewer than one vector in so many may be found, gathering them is faster than looking into every list.
_FEW = 6
# Where more than one list in so many would have to be looked into, or where these hold more than may be found,
# everything that may be found is looked at.
_MOST = 4
# How a filter goes with the lists is judged by so many of the positions that it leaves; what it leaves in the lists
# looked into may be so many standard deviations less than what chance would.
_JUDGED, _LESS = 100_000, 3.0


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
    """Return the k most similar views of each query, among the allowed ones.

    Which views are looked at: all that are allowed, if the index is not in lists of near ones, if few are allowed,
    if many neighbours are asked for, or if `exact`. Else those in the nearest lists, as many as were measured to
    hold 0.99 of the true neighbours. Where a share s of the vectors is allowed, the k nearest of them are among
    about k / s nearest of all, and so many more lists are looked into; unless the filter leaves less in the lists
    of a query than chance would. Then it leaves out what is like the query, and all that is allowed is looked at.

    Candidates are found in float32, whose last bits depend on the size of the batch and on the number of threads.
    Every candidate that could be among the k best of those looked at, given the error bound of a float32 inner
    product, is scored again in float64, summed in one order and rounded to float32 once. So similarities are exact,
    and a query has the same answer alone and in a batch.

    Args:
        index: Unit-norm vectors.
        queries: (Q, C) float32, unit-norm.
        k: How many, at least 0.
        allowed: View ids to search, or None for all. Ids that the index does not hold are ignored.
        exclude: View ids left out for every query.
        exact: Look at all allowed views, however many.
        effort: So many times the lists that were measured to suffice, above 0.

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
        try:
            return _Search(index, k, allowed, exclude, np.inf if exact else effort).answer(queries)
        except _MovedError:
            continue


class _MovedError(Exception):
    """The snapshot was damaged, and all was read from the catalog: vectors have other positions now."""


class _Search:
    """One search: what may be found, and where it is looked for."""

    def __init__(
        self,
        index: VectorIndex,
        k: int,
        allowed: NDArray[np.int64] | None,
        exclude: NDArray[np.int64] | None,
        effort: float,
    ) -> None:
        self._index = index
        self._barred = np.zeros(0, np.int64) if exclude is None else index.positions(exclude)
        # The positions that may be found, rising; None for all that are not barred or gone.
        self._kept = None if allowed is None else self._among(index.positions(allowed))
        if self._kept is not None:
            self._count = len(self._kept)
        else:
            self._count = len(index.gone) if self._mask is None else int(np.count_nonzero(self._mask))
        self._width = min(k, self._count)
        self._effort = effort
        self._judged: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None

    def answer(self, queries: NDArray[np.float32]) -> Neighbours:
        """Return the neighbours of (Q, C) queries."""
        view_ids = np.empty((len(queries), self._width), np.int64)
        similarities = np.empty(view_ids.shape, np.float32)
        pending, fetch = np.arange(len(queries)), min(self._count, self._width + _SPARE)
        slack = error_bound(self._index.dim)
        while view_ids.size and len(pending):
            unsure = []
            step = max(1, min(_QUERIES, _NUMBERS // (fetch * self._index.dim)))
            for start in range(0, len(pending), step):
                rows = pending[start : start + step]
                lowest, ids, exactly = self._ranked(queries[rows], fetch)
                view_ids[rows], similarities[rows] = ids[:, : self._width], exactly[:, : self._width]
                # Where something was left out that may be as near as the k-th.
                unsure.append(rows[lowest >= similarities[rows, -1] - slack])
            if fetch >= self._count:
                break
            pending, fetch = np.concatenate(unsure), min(self._count, _MORE * fetch)
        return Neighbours(view_ids, similarities)

    def _ranked(
        self, queries: NDArray[np.float32], fetch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        """Return the lowest score fetched (Q,), and views (Q, fetch) with their exact similarities, best first."""
        scores, positions = self._found(queries, fetch)
        scores[positions < 0] = -np.inf
        exactly = np.empty(positions.shape, np.float32)
        step = max(1, _NUMBERS // (len(queries) * self._index.dim))
        for start in range(0, positions.shape[1], step):
            some = np.maximum(positions[:, start : start + step], 0)
            # (Q * n, C) -> (Q, n, C)
            vectors = self._index.take(some.ravel()).reshape(*some.shape, self._index.dim)
            # Products of two float32 are exact in float64; a sum along contiguous rows has one order whatever
            # their number, which a matrix product does not promise.
            products = vectors.astype(np.float64)
            products *= queries[:, None, :]
            exactly[:, start : start + step] = np.clip(products.sum(axis=2), -1.0, 1.0)
        exactly[positions < 0] = -np.inf
        view_ids = self._index.ids_at(positions)
        order = np.lexsort((view_ids, -exactly), axis=1)
        return (
            scores.min(axis=1),
            np.take_along_axis(view_ids, order, 1),
            np.take_along_axis(exactly, order, 1),
        )

    def _everything(
        self, queries: NDArray[np.float32], fetch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores and positions among all that may be found."""
        index, base = self._index, self._index.base
        self._verify(None)
        if base is None or len(queries) >= TOGETHER or self._count * _FEW < len(index.gone):
            return scan(queries, self._positions(0), index.take, fetch)
        every = np.tile(np.arange(base.lists), (len(queries), 1))
        found = base.search(queries, fetch, every, self._base_mask)
        return scan(queries, self._positions(index.start), index.take, fetch, found)

    def _found(
        self, queries: NDArray[np.float32], fetch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores and positions in the nearest lists and beside them, or everywhere."""
        index, base = self._index, self._index.base
        scores = np.empty((len(queries), fetch), np.float32)
        positions = np.empty((len(queries), fetch), np.int64)
        is_far = np.ones(len(queries), bool)
        # Those asked for are among so many nearest of all, if chance decides what may be found.
        share = self._count / len(index.gone)
        lists = self._lists_for(self._width / share)
        if base is not None and lists is not None:
            visited = base.nearest_lists(queries, lists)
            is_far[:] = False
            if self._kept is not None:
                held, kept = self._in_each_list(base, self._kept)
                expected = share * held[visited].sum(axis=1)
                is_far = kept[visited].sum(axis=1) < expected - _LESS * np.sqrt(expected)
            near = np.flatnonzero(~is_far)
            if len(near):
                self._verify(visited[near])
                found = base.search(queries[near], fetch, visited[near], self._base_mask)
                found = scan(queries[near], self._positions(index.start), index.take, fetch, found)
                scores[near], positions[near] = found
                is_far[near] = (found[1] >= 0).sum(axis=1) < self._width
        far = np.flatnonzero(is_far)
        if len(far):
            scores[far], positions[far] = self._everything(queries[far], fetch)
        return scores, positions

    def _lists_for(self, neighbours: float) -> int | None:
        """Return into how many lists to look; None for everything."""
        base = self._index.base
        if base is None or base.nprobe is None:
            return None
        lists = base.nprobe.lists_for(neighbours)
        needed = np.inf if lists is None else max(self._effort * lists, 1.0)
        most = min(base.lists / _MOST, base.lists * self._count / len(self._index.gone))
        return None if needed > most else int(np.ceil(needed))

    def _in_each_list(
        self, base: IndexSnapshot, kept: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Count how many of some vectors are in each list, and how many of these may be found: (L,) each."""
        if self._judged is None:
            step = max(1, len(kept) // _JUDGED)
            among = base.list_of[kept[: np.searchsorted(kept, len(base)) : step]]
            self._judged = (base.sizes / step, np.bincount(among, minlength=base.lists))
        return self._judged

    def _among(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions without those that are barred, rising and distinct."""
        if not (positions[1:] > positions[:-1]).all():
            positions = np.unique(positions)
        return positions[~np.isin(positions, self._barred)] if len(self._barred) else positions

    @cached_property
    def _mask(self) -> NDArray[np.bool_] | None:
        """Which positions may be found; None for all."""
        if self._kept is not None:
            mask = np.zeros(len(self._index.gone), bool)
            mask[self._kept] = True
            return mask
        if not len(self._barred) and not self._index.gone.any():
            return None
        mask = ~self._index.gone
        mask[self._barred] = False
        return mask

    @property
    def _base_mask(self) -> NDArray[np.bool_] | None:
        return None if self._mask is None else self._mask[: self._index.start]

    def _positions(self, start: int) -> NDArray[np.int64]:
        """Return the positions, from one on, that may be found."""
        if self._kept is not None:
            return self._kept[np.searchsorted(self._kept, start) :]
        if self._mask is not None:
            return start + np.flatnonzero(self._mask[start:])
        return np.arange(start, len(self._index.gone))

    def _verify(self, lists: NDArray[np.int64] | None) -> None:
        if not self._index.verify(lists):
            raise _MovedError
