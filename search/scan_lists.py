"""Looking at the vectors in the nearest lists."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors import VectorIndex
from birdsearch.indexer.vectors_file import Snapshot
from birdsearch.indexer.vectors_lists import Block, Lists, best, coarse, list_order, merged
from birdsearch.search.scan import Everything, Look, Picked, rows_of, verify

__all__ = ["look_at"]

# Where a filter leaves less than one vector in so many, or where more than one in so many would have to be looked
# at, all that it leaves are looked at: that takes no longer.
_FEW = 4
# Scores held at a time, 32 MB, and rows of a matrix product.
_SCORES, _ROWS = 1 << 23, 16_384
# Multiplications of a product of a list with its queries. OpenBLAS shares larger ones out among threads, which here
# takes as long as it saves, and where another program has the cores ten times as long.
_PRODUCT = 1 << 18
# The nearest lists that are put into order at first; more only where these do not suffice.
_NEAR = 256


def look_at(index: VectorIndex, chosen: Picked, width: int, *, exact: bool, effort: float) -> Look:
    """How to look for the `width` nearest among those picked; see `birdsearch.search.knn.nearest`.

    Raises:
        MovedError: Damage was found; pick anew.
    """
    base = index.base
    everything = Everything(index, chosen)
    if exact or base is None or base.lists is None or base.lists.beyond(width):
        return everything
    if chosen.is_filtered:
        if len(chosen) * _FEW <= chosen.end:
            return everything
        return _FilteredLists(index, base, base.lists, chosen, width, effort, everything)
    return _InLists(index, base, base.lists, chosen, width, effort)


class _InLists:
    """Looks at those that are picked and lie in the nearest lists of a query, and at those beside the lists."""

    def __init__(
        self, index: VectorIndex, base: Snapshot, lists: Lists, chosen: Picked, width: int, effort: float
    ) -> None:
        self._index, self._base, self._lists = index, base, lists
        self._width = width
        self._needed = effort * lists.volume(np.float64(width))
        self._listed, self._beside = chosen.between(0, index.start), chosen.between(index.start, chosen.end)
        self._sizes = np.diff(base.offsets)
        # Where each list begins among those of its vectors that are picked, and how many these are.
        self._starts = base.offsets if self._listed is None else np.searchsorted(self._listed, base.offsets)
        self._wanted = np.diff(self._starts)
        self._total = int(self._starts[-1])

    def best(self, queries: NDArray[np.float32], fetch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        visited = [self._visited(query) for query in queries]
        verify(self._index, np.unique(np.concatenate(visited)))
        scores = np.full((len(queries), fetch), -np.inf, np.float32)
        places = np.full((len(queries), fetch), -1, np.int64)
        most = max(int(self._wanted[numbers].sum()) for numbers in visited)
        step = max(1, _SCORES // max(most, 1))
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            found = self._scores(queries[rows], visited[rows])
            width = min(fetch, found.shape[1])
            if not width:
                continue
            columns = np.argpartition(found, found.shape[1] - width, axis=1)[:, -width:]
            scores[rows, :width] = np.take_along_axis(found, columns, 1)
            for row, numbers in enumerate(visited[rows]):
                places[start + row, :width] = self._places(numbers, columns[row])
        places[np.isneginf(scores)] = -1
        if len(self._index.added):
            blocks = rows_of(self._index.added, self._index.start, self._beside, _ROWS)
            scores, places = merged(scores, places, [best(queries, blocks, fetch)])
        return scores, places

    def blocks(self, query: NDArray[np.float32]) -> Iterator[Block]:
        for number in self._visited(query).tolist():
            yield from self._list(number)
        yield from rows_of(self._index.added, self._index.start, self._beside, _ROWS)

    def _visited(self, query: NDArray[np.float32]) -> NDArray[np.int64]:
        """The lists to look into: the nearest, until enough was looked at."""
        cosines = coarse(query, self._lists.centroids)
        if len(cosines) > _NEAR:
            near = np.argpartition(cosines, len(cosines) - _NEAR)[-_NEAR:]
            order = near[np.lexsort((near, -cosines[near]))]
            enough = self._enough(order)
            if enough is not None:
                return enough
        order = np.argsort(-cosines, kind="stable")
        enough = self._enough(order)
        return order[self._wanted[order] > 0] if enough is None else enough

    def _enough(self, order: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """As many of some lists, nearest first, as have to be looked into; None if all of them do not suffice."""
        wanted, looked = np.cumsum(self._wanted[order]), np.cumsum(self._sizes[order])
        is_enough = (looked >= self._needed) & (wanted >= min(self._width, self._total))
        last = int(is_enough.argmax())
        if not is_enough[last]:
            return None
        order = order[: last + 1]
        return order[self._wanted[order] > 0]

    def _list(self, number: int, most: int = _ROWS) -> Iterator[Block]:
        start, end = self._base.offsets[number : number + 2].tolist()
        among = self._starts[number : number + 2].tolist()
        some = None if self._listed is None else self._listed[slice(*among)]
        return rows_of(self._base.vectors[start:end], start, some, most)

    def _scores(self, queries: NDArray[np.float32], visited: list[NDArray[np.int64]]) -> NDArray[np.float32]:
        """(Q, n): the scores of each query in its lists, one list after the other; -inf where there are no more."""
        if len(queries) == 1:
            parts = [
                rows @ queries[0] if columns is None else (rows @ queries[0])[columns]
                for number in visited[0].tolist()
                for _, rows, columns in self._list(number)
            ]
            return np.concatenate([*parts, np.zeros(0, np.float32)])[None]
        # Every list is multiplied once with all the queries that look into it.
        lengths = [len(numbers) for numbers in visited]
        query = np.repeat(np.arange(len(queries)), lengths)
        begins = np.concatenate(
            [np.cumsum(self._wanted[numbers]) - self._wanted[numbers] for numbers in visited]
        )
        number = np.concatenate(visited)
        width = max(int(self._wanted[numbers].sum()) for numbers in visited)
        scores = np.full((len(queries), width), -np.inf, np.float32)
        order = np.argsort(number, kind="stable")
        query, begins, number = query[order], begins[order], number[order]
        edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1)).tolist()
        for first, last in itertools.pairwise(edges):
            among, columns_from = query[first:last], begins[first:last].tolist()
            asked, done = queries[among], 0
            most = max(1, _PRODUCT // asked.size)
            for _, rows, columns in self._list(int(number[first]), most):
                found = asked @ rows.T
                found = found if columns is None else found[:, columns]
                for row, column, line in zip(among.tolist(), columns_from, found, strict=True):
                    scores[row, column + done : column + done + len(line)] = line
                done += found.shape[1]
        return scores

    def _places(self, visited: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of what `_scores` has in some columns of a query; anything in those beyond its lists."""
        ends = np.cumsum(self._wanted[visited])
        part = np.minimum(np.searchsorted(ends, columns, side="right"), len(visited) - 1)
        among = self._starts[visited[part]] + columns - (ends - self._wanted[visited])[part]
        found = among if self._listed is None else self._listed[np.minimum(among, len(self._listed) - 1)]
        return np.asarray(found, dtype=np.int64)


class _FilteredLists:
    """Looks at those that are picked by a filter, in as many of the nearest lists as it takes.

    The k nearest of those picked are among the r nearest of all, and how many vectors to look at for r is what was
    measured. What r is depends on the filter and on the query: where the filter has left out all that is like the
    query, r is high. It is counted among the vectors looked at, and if it is higher than was thought, more lists
    are looked into; in the end all that is picked. Scores are summed in one order here, since by them is decided
    what is looked at.
    """

    def __init__(
        self,
        index: VectorIndex,
        base: Snapshot,
        lists: Lists,
        chosen: Picked,
        width: int,
        effort: float,
        everything: Everything,
    ) -> None:
        self._index, self._base, self._lists, self._everything = index, base, lists, everything
        self._width, self._effort = width, effort
        self._beside = index.start + np.flatnonzero(chosen.mask[index.start :])
        self._mask = chosen.mask
        self._sizes = np.diff(base.offsets)
        self._expected = width * chosen.end / len(chosen)

    def best(self, queries: NDArray[np.float32], fetch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = np.full((len(queries), fetch), -np.inf, np.float32)
        places = np.full((len(queries), fetch), -1, np.int64)
        far = []
        for row, query in enumerate(queries):
            found = self._in_lists(query)
            if found is None:
                far.append(row)
                continue
            width = min(fetch, len(found[0]))
            columns = np.argpartition(found[0], len(found[0]) - width)[-width:]
            scores[row, :width], places[row, :width] = found[0][columns], found[1][columns]
        if len(self._index.added):
            blocks = rows_of(self._index.added, self._index.start, self._beside, _ROWS)
            scores, places = merged(scores, places, [best(queries, blocks, fetch)])
        if far:
            scores[far], places[far] = self._everything.best(queries[far], fetch)
        return scores, places

    def blocks(self, query: NDArray[np.float32]) -> Iterator[Block]:
        found = self._in_lists(query)
        if found is None:
            yield from self._everything.blocks(query)
            return
        yield from rows_of(self._base.vectors, 0, np.sort(found[1]), _ROWS)
        yield from rows_of(self._index.added, self._index.start, self._beside, _ROWS)

    def _in_lists(self, query: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Scores and positions of those picked in the nearest lists; None if all have to be looked at."""
        order = list_order(query, self._lists.centroids)
        looked = np.cumsum(self._sizes[order])
        scores, places = np.zeros(0, np.float32), np.zeros(0, np.int64)
        among, done, is_short = self._expected, 0, True
        while True:
            needed = self._effort * float(self._lists.volume(np.float64(among)))
            if needed * _FEW > looked[-1] or (is_short and done == len(order)):
                return None
            upto = max(int(np.searchsorted(looked, needed)) + 1, done + is_short)
            if upto <= done:
                break
            verify(self._index, order[done:upto])
            edges = [self._base.offsets[number : number + 2].tolist() for number in order[done:upto].tolist()]
            parts = [np.einsum("nc,c->n", self._base.vectors[start:end], query) for start, end in edges]
            scores = np.concatenate([scores, *parts])
            places = np.concatenate([places, *(np.arange(start, end) for start, end in edges)])
            done = upto
            is_picked = self._mask[places]
            mine = scores[is_picked]
            is_short = len(mine) < self._width
            if is_short:
                among *= 2.0
                continue
            least = np.partition(mine, len(mine) - self._width)[len(mine) - self._width]
            among = max(among, float(np.count_nonzero(scores >= least)))
        is_picked = self._mask[places]
        return scores[is_picked], places[is_picked]
