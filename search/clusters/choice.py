"""The choice of one of many partitions without labels, and the clusters that several of them agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors.index import normalised

__all__ = ["Fit", "agreement", "compact", "far_out", "fit", "settled", "small_strength", "whitened"]

# Rows at a time, so that rows times clusters stays within bounds.
_CELLS = 16_000_000
_SAMPLE = 1_000
_ROWS = 65_536
# Distances below this are rounding, not distance.
_TINY = 1e-6


def compact(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the same partition with clusters numbered from 0 on; -1 stays."""
    found = np.full(len(labels), -1, np.int64)
    member = labels >= 0
    found[member] = np.unique(labels[member], return_inverse=True)[1]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The likeness of vectors to their own clusters and to others.

    Attributes:
        own: (R,) float64, mean cosine to the members of its cluster that are not of its own group; NaN where
        there are
            none, or no cluster.
        next: (R,) float64, the greatest mean cosine to the members of another cluster; -2 where there is no other.
    """

    own: NDArray[np.float64]
    next: NDArray[np.float64]

    @property
    def silhouettes(self) -> NDArray[np.float64]:
        """(R,) float64, (b - a) / max(a, b) of the distances 1 - cosine, -1..1, higher is better.

        0 without a cluster, where a cluster holds no other group, and where there is no other cluster.

        Source: P. Rousseeuw, "Silhouettes", J. Computational and Applied Mathematics 20, 1987. He gives 0 to
        what is alone in its cluster.
        """
        within, between = np.clip(1.0 - self.own, 0.0, 2.0), np.clip(1.0 - self.next, 0.0, 2.0)
        value = (between - within) / np.maximum(np.maximum(within, between), _TINY)
        return np.where(np.isnan(self.own) | (self.next < -1.5), 0.0, np.nan_to_num(value))

    @property
    def strength(self) -> NDArray[np.float64]:
        """(R,) float64, 0..1, higher is better.

        It is the share of the vectors that are less alike to the best cluster that is not theirs than this one is
        to its own.

        What is in no cluster's kind goes where it is least unlike, as a member goes to the best of the others: so
        these tell how alike a stranger is (a conformal score; Vovk et al., "Algorithmic Learning in a Random
        World", 2005, section 2.2). 0 without a cluster, 1 where a cluster holds no other group.
        """
        strangers = np.sort(self.next)
        if not len(strangers):
            return np.zeros(0)
        share = np.searchsorted(strangers, self.own) / len(strangers)
        return np.where(np.isnan(self.own), 1.0, share)


def fit(
    unit: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    rows: NDArray[np.int64] | None = None,
) -> Fit:
    """Return how well vectors fit their clusters, from the clusters' sums, without all pairs.

    Members of a vector's own group do not count for its own cluster, so that a burst does not pass for a cluster.

    Args:
        unit: (N, C) float32, unit-norm.
        labels: (N,) int64, clusters; -1 for none.
        groups: (N,) int64; every vector is a group of its own if None.
        rows: (R,) int64, the rows to answer for; all if None.
    """
    asked = np.arange(len(unit)) if rows is None else rows
    own, best = np.full(len(asked), np.nan), np.full(len(asked), -2.0)
    labels = compact(labels)
    count = int(labels.max(initial=-1)) + 1
    if not count:
        return Fit(own, best)
    sizes = np.bincount(labels[labels >= 0], minlength=count).astype(np.float64)
    sums = _sums(unit, labels, count)
    together, own_sums, own_sizes = _own_groups(unit, labels, groups, asked)
    step = max(_CELLS // count, 1)
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        vectors, label = unit[asked[part]].astype(np.float64), labels[asked[part]]
        # (B, C) @ (C, K) -> (B, K)
        products = vectors @ sums.T
        mine = products[np.arange(len(label)), label]
        if own_sums is None:
            less, fewer = (vectors**2).sum(axis=1), np.ones(len(label))
        else:
            less, fewer = (vectors * own_sums[together[part]]).sum(axis=1), own_sizes[together[part]]
        others = sizes[label] - fewer
        own[part] = np.where((label >= 0) & (others > 0), (mine - less) / np.maximum(others, 1.0), np.nan)
        products /= sizes
        member = np.flatnonzero(label >= 0)
        products[member, label[member]] = -2.0
        best[part] = products.max(axis=1)
    return Fit(own, best)


def far_out(own: NDArray[np.float64], labels: NDArray[np.int64], fewest: int = 8) -> NDArray[np.bool_]:
    """Return which vectors are far from all others of their cluster.

    That is more than 3 interquartile ranges below its first quartile.

    Source: J. Tukey, "Exploratory Data Analysis", 1977, section 2D ("far out").

    Args:
        own: (N,) float64, how alike each is to its cluster (see `Fit`); NaN where that is not known.
        labels: (N,) int64, clusters; -1 for none.
        fewest: Of clusters with fewer known members nothing is said.
    """
    found = np.zeros(len(labels), dtype=bool)
    for members in _members(np.where(np.isnan(own), -1, labels)):
        if len(members) >= fewest:
            first, third = np.quantile(own[members], [0.25, 0.75])
            found[members] = own[members] < first - 3.0 * (third - first)
    return found


def _members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each cluster's members."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def small_strength(
    unit: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    largest: int = 5,
) -> NDArray[np.float64]:
    """Return the strength within clusters of a few vectors, which might as well have been put together by chance.

    Among many strangers some two are alike. So a cluster of s vectors is not compared with other clusters, but
    with the s - 1 nearest of all vectors that are in other clusters.

    Args:
        unit: (N, C) float32, unit-norm, not smoothed: smoothing makes a pair of strangers alike.
        labels: (N,) int64, clusters; -1 for none.
        groups: (N,) int64; every vector is a group of its own if None.
        largest: s of the largest such clusters.

    Returns:
        (N,) float64: for members of clusters of 2 to `largest` vectors the share of (up to 1,000, seeded)
        vectors that are less alike to their s - 1 nearest strangers than this one is to its cluster; 1 for all
        others.
    """
    strength = np.ones(len(unit))
    labels = compact(labels)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    size = np.where(labels >= 0, sizes[labels], 0)
    small = np.flatnonzero((size > 1) & (size <= largest))
    if not len(small) or len(sizes) < 2:
        return strength
    own = fit(unit, labels, groups, small).own
    count = min(len(unit), _SAMPLE)
    sample = np.sort(np.random.default_rng(3).choice(len(unit), count, replace=False))
    nearest = np.full((count, largest - 1), -1.0)
    step = max(_CELLS // len(unit), 1)
    for start in range(0, count, step):
        rows = sample[start : start + step]
        cosines = unit[rows] @ unit.T
        cosines[labels[rows, None] == labels] = -1.0
        width = min(largest - 1, len(unit))
        best = np.partition(cosines, len(unit) - width, axis=1)[:, -width:]
        nearest[start : start + step, :width] = np.sort(best, axis=1)[:, ::-1]
    means = np.sort(np.cumsum(nearest, axis=1) / np.arange(1, largest), axis=0)
    for others in range(1, largest):
        chosen = (size[small] == others + 1) & ~np.isnan(own)
        strength[small[chosen]] = np.searchsorted(means[:, others - 1], own[chosen]) / count
    return strength


def _sums(unit: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return the sum of each cluster's vectors, (K, C) float64."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    sums = np.zeros((count, unit.shape[1]))
    for start in range(0, len(order), _ROWS):
        part = order[start : start + _ROWS]
        number = labels[part]
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        sums[number[starts]] += np.add.reduceat(unit[part].astype(np.float64), starts, axis=0)
    return sums


def _own_groups(
    unit: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    asked: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return for each given vector the number of its (cluster, group), and sums and sizes of those."""
    if groups is None:
        return np.zeros(0, np.int64), None, np.zeros(0)
    number = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    keys = (labels + 1) * (int(number.max()) + 1) + number
    wanted, together = np.unique(keys[asked], return_inverse=True)
    found = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    inside = np.where(wanted[found] == keys, found, -1)
    sums = _sums(unit, inside, len(wanted))
    return together, sums, np.bincount(inside[inside >= 0], minlength=len(wanted)).astype(np.float64)


def agreement(
    reference: NDArray[np.int64], partitions: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Let partitions vote: each vector goes where most of them put it, in terms of the reference's clusters.

    A cluster speaks for the cluster of the reference that overlaps it most (Jaccard index), if each is the other's
    best; else for none.

    Source: S. Dudoit, J. Fridlyand, "Bagging to improve the accuracy of a clustering procedure", Bioinformatics 19,
    2003 (their BagClust1).

    Args:
        reference: (N,) int64, 0..K-1, none missing. It votes too, and first: it has its way where votes are equal.
        partitions: (N,) int64 each.

    Returns:
        Labels of the reference's clusters, (N,) int64, and the share of the votes for them, (N,) float64.
    """
    votes = [reference]
    votes += [_in_terms_of(reference, compact(partition)) for partition in partitions]
    best, most = reference.copy(), np.zeros(len(reference), np.int64)
    for mine in votes:
        said = np.zeros(len(reference), np.int64)
        for other in votes:
            said += mine == other
        ahead = (said > most) & (mine >= 0)
        best[ahead], most[ahead] = mine[ahead], said[ahead]
    return best, most / len(votes)


def _in_terms_of(reference: NDArray[np.int64], partition: NDArray[np.int64]) -> NDArray[np.int64]:
    width = int(partition.max()) + 1
    sizes, their_sizes = np.bincount(reference), np.bincount(partition)
    cells, shared = np.unique(reference * width + partition, return_counts=True)
    row, column = np.divmod(cells, width)
    jaccard = shared / (sizes[row] + their_sizes[column] - shared)
    # Of equal overlaps the first of the reference's clusters, and of the partition's, counts.
    order = np.lexsort((column, row, -jaccard))
    best_row, best_column = np.full(width, -1), np.full(len(sizes), -1)
    for cell in order[::-1].tolist():
        best_row[column[cell]], best_column[row[cell]] = row[cell], column[cell]
    mutual = (best_row >= 0) & (best_column[best_row] == np.arange(width))
    return np.where(mutual, best_row, -1)[partition].astype(np.int64)


def settled(unit: NDArray[np.float32], labels: NDArray[np.int64], rounds: int = 5) -> NDArray[np.int64]:
    """Move each vector to the cluster whose centre is nearest, and the centres after them, a few times.

    Smoothed vectors tell how many clusters there are and where; at their borders, where smoothing has drawn vectors
    over, the vectors themselves tell better.

    Args:
        unit: (N, C) float32, unit-norm.
        labels: (N,) int64, 0..K-1.
        rounds: At most so many; fewer if nothing moves.

    Returns:
        (N,) int64, 0 on; of equally near centres the first counts.
    """
    for _ in range(rounds):
        centres = normalised(_sums(unit, labels, int(labels.max(initial=-1)) + 1).astype(np.float32))
        step = max(_CELLS // max(len(centres), 1), 1)
        moved = np.empty(len(unit), np.int64)
        for start in range(0, len(unit), step):
            moved[start : start + step] = (unit[start : start + step] @ centres.T).argmax(axis=1)
        moved = compact(moved)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


def whitened(
    unit: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], float]:
    """Return vectors in which the directions that vary within clusters count less: pose, light, background.

    They are multiplied by the inverse root of the covariance within clusters, as linear discriminant analysis does
    with classes. Photos of one group and cluster are one observation, their mean. The covariance is shrunk
    towards a multiple of the identity as far as the observations are too few to know it.

    Source: C. Ding, T. Li, "Adaptive dimension reduction using discriminant analysis and k-means clustering", ICML
    2007; the shrinkage is that of O. Ledoit, M. Wolf, J. Multivariate Analysis 88, 2004, Lemma 3.2 to 3.4.

    Args:
        unit: (N, C) float32, unit-norm and centred.
        labels: (N,) int64, clusters; -1 for none.
        groups: (N,) int64; every vector is a group of its own if None.

    Returns:
        (N, C) float32, unit-norm and centred, and the shrinkage, 0..1. With a shrinkage of 1 the directions are as
        they were.
    """
    labels = compact(labels)
    width = unit.shape[1]
    number = np.arange(len(unit)) if groups is None else np.unique(groups, return_inverse=True)[1]
    keys = np.where(labels < 0, -1, labels * (int(number.max(initial=0)) + 1) + number)
    observed = compact(keys)
    count = int(observed.max(initial=-1)) + 1
    if count < 2:
        return unit, 1.0
    means = _sums(unit, observed, count) / np.bincount(observed[observed >= 0], minlength=count)[:, None]
    cluster = np.zeros(count, np.int64)
    cluster[observed[observed >= 0]] = labels[observed >= 0]
    sizes = np.bincount(cluster)
    centres = np.zeros((len(sizes), width))
    np.add.at(centres, cluster, means)
    residuals = means - (centres / sizes[:, None])[cluster]
    many = sizes[cluster] > 1
    # A mean of n observations takes 1 / n of their spread with it.
    residuals = residuals[many] * np.sqrt(sizes[cluster] / np.maximum(sizes[cluster] - 1, 1))[many, None]
    if len(residuals) < 2:
        return unit, 1.0
    covariance = residuals.T @ residuals / len(residuals)
    scale = float(np.trace(covariance)) / width
    if scale <= _TINY**2:
        return unit, 1.0
    spread = float(((covariance - scale * np.eye(width)) ** 2).sum())
    fourth = float(((residuals**2).sum(axis=1) ** 2).sum()) / len(residuals)
    noise = max(fourth - float((covariance**2).sum()), 0.0) / len(residuals)
    shrinkage = 1.0 if spread <= 0.0 else min(noise / spread, 1.0)
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * scale * np.eye(width)
    values, axes = np.linalg.eigh(shrunk)
    turn, mean = axes / np.sqrt(values), unit.mean(axis=0, dtype=np.float64)
    turned = np.empty_like(unit)
    for start in range(0, len(unit), _ROWS):
        block = (unit[start : start + _ROWS].astype(np.float64) - mean) @ turn
        turned[start : start + _ROWS] = normalised(block.astype(np.float32))
    return turned, shrinkage
