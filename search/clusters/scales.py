"""Partitions of one set of vectors at every scale, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.search.clusters.choice import fit
from birdsearch.search.clusters.leiden import Merges, community_graph, leiden, smoothed, ward
from birdsearch.search.query.knn_graph import KnnGraph, Progress, knn_graph

__all__ = ["Partition", "Space", "best_of", "leiden_profile", "make_space", "micro_clusters", "ward_profile"]

ALPHA = 3.0
_SMOOTHING = 10
# Up to so many vectors everything is tried; with more, only what tells most.
_SMALL, _MIDDLE = 6_000, 60_000
# Leaves of a linkage: their costs take 130 MB.
_LEAVES = 4_000
# Silhouettes of more vectors than that are those of a seeded sample.
_SCORED = 6_000
_RESOLUTIONS = (0.5, 32.0)
_FINEST = 4096.0


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """One way to part the vectors.

    Attributes:
        family: What found it, such as `leiden-1`: the number says how often the vectors were smoothed.
        scale: Its resolution or its number of clusters.
        labels: (N,) int64, 0..K-1.
        score: As `Space.score`; higher is better.
    """

    family: str
    scale: float
    labels: NDArray[np.int64]
    score: float

    @property
    def count(self) -> int:
        """How many clusters."""
        return int(self.labels.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Vectors, the same smoothed once and more, and their k-NN graphs.

    Attributes:
        rows: (N, C) float32 each, unit-norm and centred: as they are, smoothed once, and perhaps twice.
        graphs: As many graphs.
        groups: (N,) int64, or None.
        sample: Places whose silhouettes are taken; None for all.
    """

    rows: tuple[NDArray[np.float32], ...]
    graphs: tuple[KnnGraph, ...]
    groups: NDArray[np.int64] | None
    sample: NDArray[np.int64] | None

    def score(self, labels: NDArray[np.int64]) -> float:
        """Mean silhouette of a partition, half of it among the vectors as they are, half among those smoothed once.

        The former tells too little where clusters touch; the latter has a second summit where the clusters are as
        small as the neighbourhoods that were smoothed over.
        """
        return (self.silhouette(labels, 0) + self.silhouette(labels, 1)) / 2

    def silhouette(self, labels: NDArray[np.int64], level: int) -> float:
        """Mean silhouette among the vectors smoothed `level` times."""
        found = fit(self.rows[level], labels, self.groups, self.sample).silhouettes
        return float(found.mean()) if len(found) else 0.0

    @property
    def levels(self) -> range:
        """How often smoothed the vectors are that are parted: all of the levels, or of many vectors only one."""
        return range(len(self.rows)) if self.sample is None else range(1, 2)


def make_space(
    unit: NDArray[np.float32],
    groups: NDArray[np.int64] | None,
    neighbours: int,
    told: Progress,
    deepest: int = 2,
) -> Space:
    """Smooth vectors at most `deepest` times, and find their neighbours."""
    rows, graphs = [unit], [knn_graph(unit, neighbours, progress=told)]
    for _ in range(deepest if len(unit) <= _SCORED else 1):
        rows.append(smoothed(rows[-1], graphs[-1], _SMOOTHING, ALPHA))
        graphs.append(knn_graph(rows[-1], neighbours, progress=told))
    sample = None
    if len(unit) > _SCORED:
        sample = np.sort(np.random.default_rng(2).choice(len(unit), _SCORED, replace=False))
    return Space(tuple(rows), tuple(graphs), groups, sample)


def best_of(partitions: Iterable[Partition]) -> Partition:
    """Return the partition with the highest silhouette; of equal ones the one with the fewest clusters."""
    return min(partitions, key=lambda each: (-each.score, each.count, each.family, each.scale))


def leiden_profile(space: Space, level: int, seed: int) -> list[Partition]:
    """Return Leiden's partitions from coarse to fine.

    Resolutions are in equal ratios, closer about the best, and go beyond the last as long as finer is better.
    """
    edges = community_graph(space.graphs[level], ALPHA)
    count = len(space.rows[0])
    found: dict[float, Partition] = {}

    def score(resolution: float) -> float:
        if resolution not in found:
            labels = leiden(edges, resolution, seed)
            found[resolution] = Partition(f"leiden-{level}", resolution, labels, space.score(labels))
        return found[resolution].score

    ratio = 2.0**0.5 if count <= _SMALL else 2.0 if count <= _MIDDLE else 4.0
    low, high = _RESOLUTIONS
    _climb(score, low, high, ratio, lambda: max(each.count for each in found.values()) > count // 3)
    return list(found.values())


def _climb(
    score: Callable[[float], float], low: float, high: float, ratio: float, is_finest: Callable[[], bool]
) -> None:
    """Score a grid in equal ratios, go on while the end is the best, then halve the ratio about the best."""
    grid = [low]
    while grid[-1] * ratio <= high * 1.001:
        grid.append(grid[-1] * ratio)
    for value in grid:
        score(value)
    while max(grid, key=score) == grid[-1] and grid[-1] < _FINEST and not is_finest():
        grid.append(grid[-1] * ratio)
        score(grid[-1])
    while ratio > 1.5:
        ratio = ratio**0.5
        best = max(grid, key=score)
        grid += [best / ratio, best * ratio]
        for value in grid[-2:]:
            score(value)


def ward_profile(
    space: Space, level: int, micro: NDArray[np.int64] | None, k: int | None = None
) -> list[Partition]:
    """Cut Ward's linkage at numbers of clusters in equal ratios, and at all between those next to the best.

    Args:
        space: What is parted.
        level: How often smoothed.
        micro: (N,) int64, clusters that are joined from the outset; None for none.
        k: Only this number of clusters.
    """
    tree = ward(space.rows[level], micro)
    leaves = len(tree.pairs) + 1
    if k is not None:
        return _cuts(space, level, tree, [min(k, leaves)])
    most = max(min(leaves, len(space.rows[0]) // 2), 2)
    tried = sorted({int(each) for each in np.geomspace(2, most, 40).round()})
    found = _cuts(space, level, tree, tried)
    best = best_of(found).count
    index = int(np.searchsorted(tried, best))
    low, high = tried[max(index - 1, 0)], tried[min(index + 1, len(tried) - 1)]
    between = sorted({int(each) for each in np.linspace(low, high, 24).round()} - set(tried))
    return found + (_cuts(space, level, tree, between) if between else [])


def _cuts(space: Space, level: int, tree: Merges, counts: list[int]) -> list[Partition]:
    return [
        Partition(f"ward-{level}", float(count), labels, space.score(labels))
        for count, labels in zip(counts, tree.cut(counts), strict=True)
    ]


def micro_clusters(space: Space, seed: int) -> NDArray[np.int64] | None:
    """Return the leaves of Ward's linkage: None for the vectors themselves, or, of many, Leiden's finest clusters.

    Returns:
        (N,) int64, at most 4,000 clusters; None if there are no more vectors than that.
    """
    if len(space.rows[0]) <= _LEAVES:
        return None
    edges: Any = community_graph(space.graphs[1], ALPHA)
    resolution, chosen = 16.0, None
    while resolution <= _FINEST:
        labels = leiden(edges, resolution, seed)
        if labels.max() >= _LEAVES:
            break
        chosen, resolution = labels, resolution * 2.0
    return chosen if chosen is not None else np.zeros(len(space.rows[0]), np.int64)
