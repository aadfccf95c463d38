"""Clusters of photos by their embeddings, without labels.

`auto` works in five steps:

1. The mean is taken off the embeddings, and each is moved towards its nearest neighbours, once and twice.
2. The vectors are parted at every scale, by Leiden on their k-NN graph and by Ward's linkage, as they are, smoothed
   once, and smoothed twice.
3. Of all these partitions the one with the highest silhouette is taken; the best of each family votes with it on
   where each photo belongs; last, each photo goes where the nearest centre is.
4. The directions that vary within these clusters are weighed down, and steps 1 to 3 are done once more.
5. What fits its cluster no better than photos fit clusters that are not theirs is an outlier.

Nothing is chosen by labels. Whether there are clusters at all is told by the same on vectors drawn without any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.clusters.choice import (
    agreement,
    compact,
    far_out,
    fit,
    settled,
    small_strength,
    whitened,
)
from birdsearch.search.clusters.leiden import require_cluster_extra
from birdsearch.search.clusters.scales import (
    Partition,
    Space,
    best_of,
    leiden_profile,
    make_space,
    micro_clusters,
    ward_profile,
)
from birdsearch.search.query.background import background_cosine
from birdsearch.search.query.knn_graph import Progress

__all__ = ["METHODS", "Clustering", "cluster_vectors"]

METHODS = ("auto", "hdbscan", "graph", "kmeans")

NEIGHBOURS = 15
LEAST_STRENGTH = 0.5

# Fewer vectors have no structure to speak of.
_FEWEST = 6
# Mean cosine of vectors without structure that are one cluster: photos of one species have 0.40 to 0.64,
# unrelated ones 0.1.
_ALIKE = 0.35
# How many times the silhouette of surrogates without structure that of Ward's clusters has to be. On photos of one
# species, or of a species each, it was up to 1.1 times, on those of two to fifty 1.2 to 9 times.
_STRUCTURE, _SURROGATES = 1.1, 3
# Two clumps of copies have a silhouette of 1, and so has what is drawn along the line between them.
_PLAIN_TO_SEE = 0.95
# Of more vectors, surrogates take too long.
_SURROGATE_MOST = 2_000
_HDBSCAN_MOST = 50_000
_HDBSCAN_SIZES = (2, 3, 5, 8, 12, 20)
_KMEANS_ROUNDS = 50
# Where the covariance within clusters is known less than that, weighing directions by it does more harm than good.
_MOST_SHRINKAGE = 0.3
# What is far from the others of its cluster stays if it is more alike to it than this share of the vectors to
# strangers.
_DOUBT = 0.95
_TINY = 1e-5
# Rows at a time, which bounds memory.
_ROWS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """The clusters of photos.

    Attributes:
        labels: (N,) int64: clusters by falling size, of equal ones that with the smallest member first; -1 outlier.
        strength: (N,) float64, 0..1: how well each fits its cluster; higher is better; 0 for outliers.
        method: What was asked for.
        parameters: With what it was done.
        scores: What the parameters were chosen by, and more about the result.
    """

    labels: NDArray[np.int64]
    strength: NDArray[np.float64]
    method: str
    parameters: Mapping[str, float | int | str]
    scores: Mapping[str, float]


def cluster_vectors(
    unit: NDArray[np.float32],
    method: str = "auto",
    *,
    k: int | None = None,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
    min_size: int | None = None,
    min_strength: float = LEAST_STRENGTH,
    neighbours: int = NEIGHBOURS,
) -> Clustering:
    """Part vectors into clusters and outliers.

    The partition does not depend on the order of the vectors, and copies of a vector are always together.

    Args:
        unit: (N, C) float32, unit-norm. Zero vectors are outliers.
        method: `auto`: see above. `graph`: the same by Leiden alone. `hdbscan`: HDBSCAN on vectors smoothed
            once, its least cluster chosen by silhouette. `kmeans`: k-means on them, started from Ward's clusters.
        k: Number of clusters, for `auto` and `kmeans`; chosen by silhouette if None. Outliers come off them.
        seed: For Leiden.
        groups: (N,) int64: photos of one group, such as an event, are no evidence that they are like each other;
            every vector is a group of its own if None.
        progress: Called with what is done, how much of it, and of how much.
        min_size: Clusters of fewer vectors are outliers; None for sqrt(N) / 10, 2 to 10.
        min_strength: Vectors that fit their cluster less are outliers, 0..1. At 0.5 they fit it no better than the
            median vector fits the best cluster that is not its own.
        neighbours: k of the k-NN graph.

    Returns:
        The clusters. Where there is no structure, all are of one cluster if they are alike (mean cosine 0.35 or
        more), else all are outliers.

    Raises:
        InvalidInputError: An argument is out of range, or the method does not take it.
        BirdsearchError: The packages of `birdsearch[cluster]` are not installed.
    """
    _check(unit, method, k, groups)
    if neighbours < 2 or (min_size is not None and min_size < 1):
        raise InvalidInputError(
            f"neighbours is {neighbours} and min_size {min_size}; they have to be at least 2 and 1"
        )
    if not 0.0 <= min_strength <= 1.0:
        raise InvalidInputError(f"min_strength is {min_strength}; it has to be within 0 to 1")
    require_cluster_extra()
    told = progress or _silent
    unit = np.ascontiguousarray(unit, dtype=np.float32) + np.float32(0.0)
    order = _canonical(unit, groups)
    rows = unit[order]
    is_sound = rows.any(axis=1) if rows.shape[1] else np.zeros(len(rows), bool)
    rows = rows[is_sound]
    number = (
        None
        if groups is None
        else np.unique(groups[order][is_sound], return_inverse=True)[1].astype(np.int64)
    )
    least = int(np.clip(round(len(rows) ** 0.5 / 10), 2, 10)) if min_size is None else min_size
    work = _Work(rows, number, k, seed, least, min_strength, neighbours, told)
    found = work.run(method)
    labels, strengths = np.full(len(unit), -1, np.int64), np.zeros(len(unit))
    labels[order[is_sound]], strengths[order[is_sound]] = found.labels, found.strength
    labels = _numbered(labels)
    strengths[labels < 0] = 0.0
    parameters = {
        "min_size": least,
        "min_strength": min_strength,
        "neighbours": neighbours,
        "seed": seed,
        **found.parameters,
    }
    return Clustering(labels, strengths, method, MappingProxyType(parameters), MappingProxyType(found.scores))


def _check(unit: NDArray[np.float32], method: str, k: int | None, groups: NDArray[np.int64] | None) -> None:
    if method not in METHODS:
        raise InvalidInputError(f"there is no method {method!r}; the methods are {', '.join(METHODS)}")
    if unit.ndim != 2 or (groups is not None and groups.shape != (len(unit),)):
        raise InvalidInputError(
            f"vectors of shape {unit.shape} have to be (N, C) and need as many groups, got "
            f"{None if groups is None else groups.shape}"
        )
    if k is not None and method in ("graph", "hdbscan"):
        raise InvalidInputError(f"{method} finds the number of clusters itself; give k to auto or kmeans")
    if k is not None and k < 1:
        raise InvalidInputError(f"k is {k}; it has to be at least 1")
    norms = np.linalg.norm(unit.astype(np.float64), axis=1)
    # Written so that NaN fails too.
    if not ((np.abs(norms - 1.0) < 1e-3) | (norms == 0.0)).all():
        raise InvalidInputError(
            "embeddings must be finite and unit-norm; see `birdsearch.indexer.vectors.index.normalised`"
        )
    if method == "hdbscan" and len(unit) > _HDBSCAN_MOST:
        raise InvalidInputError(
            f"hdbscan takes up to {_HDBSCAN_MOST} vectors, got {len(unit)}; use auto, which has no such limit"
        )


def _canonical(unit: NDArray[np.float32], groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the rows of the vectors in an order that depends on their values, not on their order."""
    if not len(unit) or not unit.shape[1]:
        return np.arange(len(unit))
    keys = unit.view(np.dtype((np.void, unit.shape[1] * 4))).ravel()
    number = np.unique(keys, return_inverse=True)[1]
    return np.lexsort((number,)) if groups is None else np.lexsort((groups, number))


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters by falling size, of equal ones that with the smallest member first."""
    member = np.flatnonzero(labels >= 0)
    names, first, number, sizes = np.unique(
        labels[member], return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(names), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(names))
    found = np.full(len(labels), -1, np.int64)
    found[member] = rank[number]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """The result of a method, in canonical order."""

    labels: NDArray[np.int64]
    strength: NDArray[np.float64]
    parameters: dict[str, float | int | str]
    scores: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Vectors in canonical order, and what is asked of them."""

    rows: NDArray[np.float32]
    groups: NDArray[np.int64] | None
    k: int | None
    seed: int
    least: int
    least_strength: float
    neighbours: int
    told: Progress

    def run(self, method: str) -> _Result:
        count = len(self.rows)
        centred = _centred(self.rows)
        # Rows that are the mean have no direction from it.
        if count < _FEWEST or not centred.any(axis=1).all():
            return self._one_or_none({})
        space = self._space(centred)
        scores: dict[str, float] = {}
        if self.k is None and count <= _SURROGATE_MOST:
            first = best_of(ward_profile(space, 1, None)).score
            scores = {"ward_silhouette": first, "surrogate_silhouette": self._surrogate_score(centred)}
            if first < min(_STRUCTURE * scores["surrogate_silhouette"], _PLAIN_TO_SEE):
                return self._one_or_none(scores)
        if method == "hdbscan":
            return self._hdbscan(space, scores)
        found = self._kmeans(space) if method == "kmeans" else self._parted(space, method)
        scores["plain_silhouette"] = space.silhouette(found.labels, 0)
        parameters: dict[str, float | int | str] = {}
        if method != "kmeans":
            turned, shrinkage = whitened(centred, found.labels, self.groups)
            parameters["shrinkage"] = shrinkage
            if shrinkage < _MOST_SHRINKAGE:
                space = self._space(turned)
                found = self._parted(space, method)
        parameters |= {"family": found.family, "scale": found.scale}
        scores |= {"silhouette": found.score, "clusters": float(found.count)}
        return self._with_outliers(space, found.labels, parameters, scores)

    def _space(self, unit: NDArray[np.float32]) -> Space:
        return make_space(unit, self.groups, min(self.neighbours, len(unit) - 1), self.told)

    def _parted(self, space: Space, method: str) -> Partition:
        """Return the best partition of all families, corrected by the best of each, then by the vectors."""
        families = []
        micro = micro_clusters(space, self.seed) if method == "auto" else None
        for level in space.levels:
            if self.k is None:
                families.append(best_of(leiden_profile(space, level, self.seed)))
            if method == "auto":
                families.append(best_of(ward_profile(space, level, micro, self.k)))
            self.told("scales", level + 1, space.levels[-1] + 1)
        best = best_of(families)
        labels, _ = agreement(best.labels, [each.labels for each in families if each is not best])
        return self._settled(space, best, labels)

    def _settled(
        self, space: Space, chosen: Partition, labels: NDArray[np.int64], rounds: int = 5
    ) -> Partition:
        labels = settled(space.rows[0], compact(labels), rounds)
        return Partition(chosen.family, chosen.scale, labels, space.score(labels))

    def _kmeans(self, space: Space) -> Partition:
        """Run k-means from Ward's clusters, among the vectors smoothed once."""
        best = best_of(ward_profile(space, 1, micro_clusters(space, self.seed), self.k))
        labels = settled(space.rows[1], best.labels, _KMEANS_ROUNDS)
        return Partition("kmeans", float(best.count), labels, space.score(labels))

    def _hdbscan(self, space: Space, scores: dict[str, float]) -> _Result:
        """Run HDBSCAN on the vectors smoothed once; its least cluster is that with the highest silhouette.

        Source: R. Campello, D. Moulavi, J. Sander, "Density-based clustering based on hierarchical density
        estimates", PAKDD 2013.
        """
        from sklearn.cluster import HDBSCAN

        tried = []
        sizes = [size for size in _HDBSCAN_SIZES if size <= max(len(self.rows) // 2, 2)]
        for size in sizes:
            model = HDBSCAN(min_cluster_size=size, copy=True).fit(space.rows[1])
            labels = np.maximum(np.asarray(model.labels_, np.int64), -1)
            tried.append((space.score(labels), -size, labels, np.asarray(model.probabilities_, np.float64)))
            self.told("scales", len(tried), len(sizes))
        score, size, labels, strength = max(tried, key=lambda each: each[:2])
        labels = self._large_enough(labels)
        scores |= {"silhouette": score, "plain_silhouette": space.silhouette(labels, 0)}
        return _Result(labels, strength, {"min_cluster_size": -size}, scores)

    def _with_outliers(
        self,
        space: Space,
        labels: NDArray[np.int64],
        parameters: dict[str, float | int | str],
        scores: dict[str, float],
    ) -> _Result:
        found = fit(space.rows[1], labels, self.groups)
        strength = np.minimum(found.strength, small_strength(space.rows[0], labels, self.groups))
        plain = fit(space.rows[0], labels, self.groups)
        is_far = far_out(plain.own, labels) & (plain.strength < _DOUBT)
        strength[is_far] = np.minimum(strength[is_far], plain.strength[is_far] / 2)
        if labels.max() > 0:
            labels = np.where(strength < self.least_strength, -1, labels)
        labels = self._large_enough(labels)
        return _Result(labels, strength, parameters, scores)

    def _large_enough(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Make outliers of clusters that are too small. Copies of a vector are together."""
        if len(self.rows):
            is_new = np.append(True, (self.rows[1:] != self.rows[:-1]).any(axis=1))
            labels = labels[np.flatnonzero(is_new)[np.cumsum(is_new) - 1]]
        sizes = np.bincount(labels[labels >= 0], minlength=1)
        return np.where((labels >= 0) & (sizes[labels] >= self.least), labels, -1)

    def _surrogate_score(self, centred: NDArray[np.float32]) -> float:
        """Return the best silhouette that Ward's clusters reach where there are no clusters.

        Source: R. Tibshirani, G. Walther, T. Hastie, "Estimating the number of clusters in a data set via the gap
        statistic", J. Royal Statistical Society B 63, 2001: the same on data without structure. Here those are
        drawn from the normal distribution with the covariance of the vectors.
        """
        best = 0.0
        for number in range(_SURROGATES):
            mixing = np.random.default_rng([self.seed, number]).normal(size=(len(centred), len(centred)))
            drawn = normalised((mixing @ centred.astype(np.float64)).astype(np.float32))
            space = make_space(drawn, None, min(self.neighbours, len(drawn) - 1), _silent, deepest=1)
            best = max(best, best_of(ward_profile(space, 1, None)).score)
        return best

    def _one_or_none(self, scores: dict[str, float]) -> _Result:
        """Put all into one cluster if they are alike; else all are outliers."""
        count = len(self.rows)
        mean = background_cosine(self.rows, self.groups)
        is_one = count >= max(self.least, 2) and mean >= _ALIKE
        wide = self.rows.astype(np.float64)
        strength = np.clip(wide @ normalised(wide.sum(axis=0, keepdims=True).astype(np.float32))[0], 0.0, 1.0)
        labels = np.full(count, 0 if is_one else -1, np.int64)
        return _Result(labels, strength, {"family": "none"}, scores | {"mean_cosine": mean})


def _silent(_what: str, _done: int, _total: int) -> None:
    pass


def _centred(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return unit-norm vectors from the mean: (N, C) -> (N, C); zeros where a vector is the mean."""
    if not len(unit):
        return unit
    mean = unit.mean(axis=0, dtype=np.float64)
    centred = np.empty_like(unit)
    for start in range(0, len(unit), _ROWS):
        from_mean = unit[start : start + _ROWS].astype(np.float64) - mean
        from_mean[np.abs(from_mean).max(axis=1) < _TINY] = 0.0
        centred[start : start + _ROWS] = normalised(from_mean.astype(np.float32))
    return centred
