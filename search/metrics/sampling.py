"""Intervals by bootstrap, and fair samples of photos to score on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.retrieval import Names, as_codes

__all__ = [
    "Estimate",
    "Statistic",
    "bootstrap_interval",
    "estimate",
    "few_shot",
    "paired_bootstrap",
    "split_by_group",
]

Statistic: TypeAlias = Callable[[NDArray[Any]], Any]
"""What takes (N, ...) values to one number."""

# Draws that are held at a time.
_DRAWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The number.
        low: Lower end of the interval; NaN if there is none.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: NDArray[Any],
    statistic: Statistic = np.mean,
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic (Efron and Tibshirani 1993, section 13.3).

    Values are drawn with replacement, as many as there are; with groups, whole groups are drawn, as many as
    there are, since photos of one event are not independent (Davison and Hinkley 1997, section 3.8).

    Args:
        values: (N, ...) one row a photo. For a statistic of several arrays, such as AUROC, stack them.
        statistic: Takes rows to one number. The mean of (N,) values is fast; anything else is called for
            each sample.
        groups: N groups, or None if every row is independent.
        samples: At least 1.
        seed: Of the draws.
        level: Share of the samples inside, above 0 and below 1.

    Returns:
        Low and high. Samples in which the statistic is NaN, such as AUROC without positives, are left out.
        NaN and NaN where nothing can be said about the spread: fewer than two rows or groups.

    Raises:
        InvalidInputError: The lengths differ, a value is NaN, or an option is out of its range.
    """
    values = np.asarray(values)
    if not values.ndim or (groups is not None and len(groups) != len(values)):
        raise InvalidInputError(
            f"values {values.shape} need as many groups, got {'none' if groups is None else len(groups)}"
        )
    if np.isnan(values).any():
        raise InvalidInputError("values must not be NaN: leave out photos without a score")
    if samples < 1 or not 0 < level < 1:
        raise InvalidInputError(
            f"samples must be at least 1 and level between 0 and 1, got {samples}, {level}"
        )
    units = np.arange(len(values)) if groups is None else as_codes(groups)[0]
    sizes = np.bincount(units)
    if len(sizes) < 2:
        return float("nan"), float("nan")
    if statistic is np.mean and values.ndim == 1:
        totals = np.bincount(units, values)
        found = np.concatenate(
            [totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) for drawn in _draws(sizes, samples, seed)]
        )
    else:
        found = _statistics(values[np.argsort(units, kind="stable")], statistic, sizes, samples, seed)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def estimate(
    values: NDArray[Any],
    statistic: Statistic = np.mean,
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """A statistic of values, with its bootstrap interval.

    Args:
        values: As for `bootstrap_interval`, and the rest too.
        statistic: Takes rows to one number.
        groups: N groups, or None.
        samples: At least 1.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        The statistic of all values and its interval; all NaN without values.

    Raises:
        InvalidInputError: As `bootstrap_interval`.
    """
    low, high = bootstrap_interval(values, statistic, groups, samples, seed, level)
    return Estimate(float(statistic(np.asarray(values))) if len(values) else float("nan"), low, high)


def paired_bootstrap(
    a: NDArray[Any],
    b: NDArray[Any],
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Difference of the means of two scores of the same photos, mean(a) - mean(b).

    Each draw takes both scores of a photo, so that what is hard for both cancels out. An interval without 0
    says that they differ, at this level.

    Args:
        a: (N,) scores of one method.
        b: (N,) scores of another, in the same order.
        groups: N groups, or None.
        samples: At least 1.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        The difference with its interval, positive where `a` is greater.

    Raises:
        InvalidInputError: Shapes differ, or as `bootstrap_interval`.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InvalidInputError(f"paired scores must both be (N,), got {a.shape} and {b.shape}")
    return estimate(a - b, np.mean, groups, samples, seed, level)


def few_shot(labels: Names, groups: Names, shots: int, seed: int = 0) -> NDArray[np.int64]:
    """Photos of at most `shots` groups a label, drawn at random.

    A shot is a group: the frames of one event tell little more than one of them. With one seed, fewer shots
    are a part of more, and the choice does not depend on the order of the photos.

    Args:
        labels: N labels.
        groups: N groups; one may have several labels, and counts for each.
        shots: At least 1.
        seed: Of the draw.

    Returns:
        Rows of all photos of each label in the groups drawn for it, rising.

    Raises:
        InvalidInputError: The lengths differ, or `shots` is below 1.
    """
    if shots < 1:
        raise InvalidInputError(f"shots must be at least 1, got {shots}")
    pairs, places, _ = _pairs(labels, groups)
    key = np.random.default_rng(seed).random(len(pairs))
    order = np.lexsort((key, pairs[:, 0]))
    kept = np.zeros(len(pairs), dtype=bool)
    # Place of each pair within its label, in the order drawn.
    kept[order] = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[order, 0]) < shots
    return np.flatnonzero(kept[places])


def split_by_group(labels: Names, groups: Names, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Divide photos into references and queries such that no group is on both sides.

    Of each label, `share` of its groups become references, rounded up or down at random. A label of two or
    more groups has some on both sides. Where groups have several labels that may not be possible for all of
    them; then groups are moved, one at a time, as long as that leaves more labels on both sides.

    Args:
        labels: N labels.
        groups: N groups.
        share: Above 0 and below 1.
        seed: Of the draw, which does not depend on the order of the photos.

    Returns:
        (N,) True for a reference, False for a query.

    Raises:
        InvalidInputError: The lengths differ, or `share` is out of its range.
    """
    if not 0 < share < 1:
        raise InvalidInputError(f"share must be above 0 and below 1, got {share}")
    pairs, _, group_codes = _pairs(labels, groups)
    rng = np.random.default_rng(seed)
    groups_of = np.split(pairs[:, 1], np.flatnonzero(np.diff(pairs[:, 0])) + 1) if len(pairs) else []
    drawn = rng.permutation(int(group_codes.max(initial=-1)) + 1)
    rounding = rng.random(len(groups_of))
    # 1 for references, 0 for queries, -1 until it is decided.
    side = np.full(len(drawn), -1, dtype=np.int64)
    # Labels with few groups choose first.
    for label in sorted(range(len(groups_of)), key=lambda label: (len(groups_of[label]), label)):
        members = groups_of[label][np.argsort(drawn[groups_of[label]])]
        wanted = int(share * len(members) + rounding[label])
        if len(members) > 1:
            wanted = min(max(wanted, 1), len(members) - 1)
        free = members[side[members] < 0]
        taken = min(max(wanted - int((side[members] == 1).sum()), 0), len(free))
        side[free[:taken]], side[free[taken:]] = 1, 0
    _repair(side, groups_of, drawn)
    return np.asarray(side[group_codes] == 1, dtype=np.bool_)


def _repair(side: NDArray[np.int64], groups_of: list[NDArray[np.int64]], drawn: NDArray[np.int64]) -> None:
    """Move groups, one at a time, as long as more labels come to be on both sides."""
    labels_of: list[list[int]] = [[] for _ in side]
    for label, members in enumerate(groups_of):
        for group in members:
            labels_of[group].append(label)
    sizes = [len(members) for members in groups_of]
    references = [int((side[members] == 1).sum()) for members in groups_of]

    def gain(group: int) -> int:
        step = -1 if side[group] == 1 else 1
        return sum(
            (0 < references[label] + step < sizes[label]) - (0 < references[label] < sizes[label])
            for label in labels_of[group]
        )

    while True:
        missing = [label for label, size in enumerate(sizes) if size > 1 and references[label] in (0, size)]
        candidates = sorted({int(group) for label in missing for group in groups_of[label]})
        best = max(candidates, key=lambda group: (gain(group), -int(drawn[group])), default=None)
        if best is None or gain(best) < 1:
            return
        step = -1 if side[best] == 1 else 1
        side[best] = 1 - side[best]
        for label in labels_of[best]:
            references[label] += step


def _pairs(labels: Names, groups: Names) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs of label and group (P, 2), sorted; which pair each photo has; and its group's number."""
    if len(labels) != len(groups):
        raise InvalidInputError(f"{len(labels)} labels need as many groups, got {len(groups)}")
    (label_codes,), (group_codes,) = as_codes(labels), as_codes(groups)
    both = np.stack([label_codes, group_codes], axis=1)
    pairs, places = np.unique(both, axis=0, return_inverse=True)
    return pairs, places.reshape(-1), group_codes


def _draws(sizes: NDArray[np.int64], samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of the units in each sample, (b, units) at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS // len(sizes))
    for start in range(0, samples, rows):
        yield rng.integers(0, len(sizes), size=(min(rows, samples - start), len(sizes)))


def _statistics(
    values: NDArray[Any], statistic: Statistic, sizes: NDArray[np.int64], samples: int, seed: int
) -> NDArray[np.float64]:
    """The statistic of each sample of units, whose rows are next to each other in `values`."""
    starts = np.cumsum(sizes) - sizes
    found = []
    for block in _draws(sizes, samples, seed):
        for drawn in block:
            lengths = sizes[drawn]
            # Rows of the drawn units, one unit after the other.
            begins = np.repeat(starts[drawn] - (np.cumsum(lengths) - lengths), lengths)
            found.append(float(statistic(values[begins + np.arange(len(begins))])))
    return np.asarray(found, dtype=np.float64)
