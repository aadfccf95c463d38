"""Lists of near vectors: what lets a search look at few of many vectors, and how few.

An inverted file (Sivic and Zisserman, "Video Google", ICCV 2003): vectors lie in the list of their nearest
centroid, and a query looks into the lists whose centroids are nearest to it. How far it has to look is not
guessed but measured: for some of the stored vectors, how many others lie in the lists up to that of each true
neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.embeddings import normalised

__all__ = [
    "Block",
    "Lists",
    "best",
    "coarse",
    "list_of",
    "list_order",
    "measured",
    "merged",
    "trained",
    "training_rows",
]

Block = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64] | None]
"""Positions (n,), rows of vectors, and which of the rows these are; None if they are all, in order."""

# The k at which recall is stated, and the recall that the effort is chosen for on one half of the sample: a little
# above the 0.99 that it has to have on the other half.
_BEST = 20
_RECALL = 0.993
# So many vectors train a list, in so many rounds; so many others measure, half of them to choose and half to state.
_TRAINED, _ROUNDS, _MEASURED = 40, 10, 2000
# Neighbours up to which the effort is measured; a search for more looks at everything.
_NEIGHBOURS = (_BEST, 50, 100, 200, 500, 1000)
_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Centroids, and how many vectors to look at.

    Attributes:
        centroids: (L, C) float32, unit-norm.
        neighbours: (K,) int64, rising.
        volumes: (K,) int64: so many vectors have to be looked at to find so many neighbours.
        recall: Share of the true 20 nearest found, measured on stored vectors that neither trained the centroids
            nor chose the effort.
        trained_on: How many vectors there were when the centroids were trained.
    """

    centroids: NDArray[np.float32]
    neighbours: NDArray[np.int64]
    volumes: NDArray[np.int64]
    recall: float
    trained_on: int

    def volume(self, neighbours: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
        """How many vectors to look at to find so many neighbours; infinite beyond what was measured."""
        if not len(self.neighbours):
            return np.full(np.shape(neighbours), np.inf)
        looked = np.interp(np.log(np.maximum(neighbours, 1.0)), np.log(self.neighbours), self.volumes)
        return np.where(neighbours > self.neighbours[-1], np.inf, looked)

    def beyond(self, neighbours: int) -> bool:
        """Say whether a search for so many has to look at everything."""
        return not len(self.neighbours) or neighbours > int(self.neighbours[-1])


def trained(sample: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Centroids by spherical k-means (Dhillon and Modha, Machine Learning 42, 2001).

    Args:
        sample: (S, C) float32, unit-norm, S at least `count`.
        count: How many centroids.
        seed: What the first centroids are drawn by.

    Returns:
        (count, C) float32, unit-norm.
    """
    rng = np.random.default_rng(seed)
    centroids = sample[np.sort(rng.choice(len(sample), count, replace=False))]
    for _ in range(_ROUNDS):
        number = np.concatenate(
            [list_of(sample[start : start + _ROWS], centroids) for start in range(0, len(sample), _ROWS)]
        )
        order = np.argsort(number, kind="stable")
        sizes = np.bincount(number, minlength=count)
        used = sizes > 0
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        sums = np.empty(centroids.shape, np.float32)
        sums[used] = np.add.reduceat(sample[order], starts[used], axis=0)
        # A centroid that lost all its vectors begins anew at one of them.
        sums[~used] = sample[rng.choice(len(sample), int((~used).sum()), replace=False)]
        centroids = normalised(sums)
    return centroids


def list_of(unit: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the nearest centroid of each vector, (B, C) -> (B,)."""
    return np.asarray((unit @ centroids.T).argmax(axis=1), dtype=np.int64)


def list_order(query: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of all lists, (L,), nearest centroid first, of equally near ones the lower first."""
    return np.argsort(-coarse(query, centroids), kind="stable")


def coarse(query: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of one query to all centroids, (L,).

    Not a matrix product, whose last bits depend on the number of queries: a query looks into the same lists
    whatever others it is asked with.
    """
    return np.asarray(np.einsum("lc,c->l", centroids, query), dtype=np.float32)


def best(
    queries: NDArray[np.float32], blocks: Iterator[Block], fetch: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Where the highest inner products are, in float32.

    Args:
        queries: (Q, C) float32.
        blocks: What is looked at. Positions do not repeat.
        fetch: How many.

    Returns:
        Scores (Q, fetch) float32 and positions (Q, fetch) int64, in no order; -inf and -1 where there are no more.
        Of those equal to the lowest returned, any may be left out.
    """
    scores = np.full((len(queries), fetch), -np.inf, np.float32)
    places = np.full((len(queries), fetch), -1, np.int64)
    least = np.full(len(queries), -np.inf, np.float32)
    waiting: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    for positions, rows, columns in blocks:
        found = queries @ rows.T
        if columns is not None:
            found = found[:, columns]
        if np.isneginf(least).any():
            chosen = np.broadcast_to(np.arange(found.shape[1]), found.shape)
            if found.shape[1] > fetch:
                chosen = np.argpartition(found, found.shape[1] - fetch, axis=1)[:, -fetch:]
            waiting.append((np.take_along_axis(found, chosen, 1), positions[chosen]))
        else:
            waiting.append(_above(found, positions, least))
        # Sorted out once it is worth while; till then the least is lower than it could be, which does no harm.
        if sum(more.shape[1] for more, _ in waiting) >= fetch:
            scores, places = merged(scores, places, waiting)
            least, waiting = scores.min(axis=1), []
    return merged(scores, places, waiting)


def _above(
    found: NDArray[np.float32], positions: NDArray[np.int64], least: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The scores above the least that counts, moved to the left."""
    if len(found) == 1:
        columns = np.flatnonzero(found[0] > least[0])
        return found[:, columns], positions[columns][None]
    # `np.nonzero` takes several times as long in two dimensions.
    rows, columns = np.divmod(np.flatnonzero(found > least[:, None]), found.shape[1])
    counts = np.bincount(rows, minlength=len(found))
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = int(counts.max(initial=0))
    scores = np.full((len(found), width), -np.inf, np.float32)
    places = np.full((len(found), width), -1, np.int64)
    scores[rows, within], places[rows, within] = found[rows, columns], positions[columns]
    return scores, places


def merged(
    scores: NDArray[np.float32],
    places: NDArray[np.int64],
    more: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest of several sets of scores and places, (Q, any) each, as many as the first has."""
    fetch = scores.shape[1]
    scores = np.hstack([scores, *(found for found, _ in more)])
    places = np.hstack([places, *(found for _, found in more)])
    chosen = np.argpartition(scores, scores.shape[1] - fetch, axis=1)[:, -fetch:]
    return np.take_along_axis(scores, chosen, 1), np.take_along_axis(places, chosen, 1)


def measured(
    vectors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    centroids: NDArray[np.float32],
    sample: NDArray[np.int64],
    trained_on: int,
) -> Lists:
    """Lists whose effort is chosen on one half of a sample and whose recall is stated on the other.

    Args:
        vectors: (N, C) float32, unit-norm, list by list.
        offsets: (L + 1,) int64: where each list begins, and N.
        centroids: (L, C) float32, unit-norm.
        sample: (S,) int64 rows to measure with, none of which trained the centroids; each is left out of its own
            neighbours.
        trained_on: Kept.
    """
    # With nothing to measure by, every search looks at everything.
    width = min(_NEIGHBOURS[-1], len(vectors) - 1) if len(sample) > 1 else 0
    wanted = np.array([k for k in _NEIGHBOURS if k <= width], np.int64)
    sizes = np.diff(offsets)
    needed = np.empty((len(sample), width), np.int64)
    step = 250
    for start in range(0, len(sample), step):
        rows = sample[start : start + step]
        queries = np.ascontiguousarray(vectors[rows])
        scores, places = best(queries, _slices(vectors), width + 1)
        scores[places == rows[:, None]] = np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, 1:]
        places = np.take_along_axis(places, order, 1)
        numbers = np.searchsorted(offsets, places, side="right") - 1
        for row, query in enumerate(queries):
            visited = list_order(query, centroids)
            reach = np.empty(len(visited), np.int64)
            reach[visited] = np.cumsum(sizes[visited])
            needed[start + row] = reach[numbers[row]]
    choosing, stating = needed[::2], needed[1::2]
    volumes = np.array(
        [np.quantile(choosing[:, :k], _RECALL, method="higher") for k in wanted.tolist()], np.int64
    )
    found = stating[:, :_BEST] <= (volumes[0] if len(volumes) else len(vectors))
    return Lists(
        centroids,
        wanted,
        np.maximum.accumulate(volumes),
        float(found.mean()) if found.size else 1.0,
        trained_on,
    )


def _slices(vectors: NDArray[np.float32]) -> Iterator[Block]:
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        yield np.arange(start, start + len(rows)), rows, None


def training_rows(view_ids: NDArray[np.int64], lists: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which vectors train centroids and which, none of these, measure: rising places.

    A hash of its id says what a vector is used for, so that those that measure did not train, even if the centroids
    are older and there were fewer vectors then.

    Args:
        view_ids: (N,) distinct ids.
        lists: L.
    """
    # The finaliser of splitmix64 (Steele et al., OOPSLA 2014); overflow is meant.
    keys = view_ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn = np.argsort(keys ^ (keys >> np.uint64(31)), kind="stable")
    held_out = min(_MEASURED, len(drawn) // 4)
    return np.sort(drawn[held_out : held_out + _TRAINED * lists]), np.sort(drawn[:held_out])
