"""Means over classes, intervals by bootstrap, and fair samples of photos to score on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.retrieval import Names, as_codes

__all__ = [
    "Estimate",
    "bootstrap_interval",
    "estimate",
    "few_shot",
    "macro_mean",
    "paired_bootstrap",
]

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
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean (Efron and Tibshirani 1993, section 13.3).

    Values are drawn with replacement, as many as there are; with groups, whole groups are drawn, as many as
    there are, since photos of one event are not independent (Davison and Hinkley 1997, section 3.8).
    `scipy.stats.bootstrap` knows no groups.

    Args:
        values: (N,) one a photo.
        groups: N groups, or None if every row is independent.
        samples: At least 1.
        seed: Of the draws.
        level: Share of the samples inside, above 0 and below 1.

    Returns:
        Low and high; NaN and NaN where nothing can be said about the spread: fewer than two values or groups.

    Raises:
        InvalidInputError: The lengths differ, a value is NaN, or an option is out of its range.
    """
    values = np.asarray(values)
    if values.ndim != 1 or (groups is not None and len(groups) != len(values)):
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
    totals = np.bincount(units, values)
    found = np.concatenate(
        [totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) for drawn in _draws(sizes, samples, seed)]
    )
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def estimate(
    values: NDArray[Any],
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Return the mean of values with its bootstrap interval.

    Args:
        values: As for `bootstrap_interval`, and the rest too.
        groups: N groups, or None.
        samples: At least 1.
        seed: Of the draws.
        level: Of the interval.

    Returns:
        The mean of all values and its interval; all NaN without values.

    Raises:
        InvalidInputError: As `bootstrap_interval`.
    """
    low, high = bootstrap_interval(values, groups, samples, seed, level)
    return Estimate(float(np.mean(values)) if len(values) else float("nan"), low, high)


def paired_bootstrap(
    a: NDArray[Any],
    b: NDArray[Any],
    groups: Names | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Return the difference of the means of two scores of the same photos, mean(a) - mean(b).

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
    return estimate(a - b, groups, samples, seed, level)


def few_shot(labels: Names, groups: Names, shots: int, seed: int = 0) -> NDArray[np.int64]:
    """Return photos of at most `shots` groups a label, drawn at random.

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
    if len(labels) != len(groups):
        raise InvalidInputError(f"{len(labels)} labels need as many groups, got {len(groups)}")
    codes = np.stack([as_codes(labels)[0], as_codes(groups)[0]], axis=1)
    pairs, of_photo = np.unique(codes, axis=0, return_inverse=True)
    key = np.random.default_rng(seed).random(len(pairs))
    order = np.lexsort((key, pairs[:, 0]))
    kept = np.zeros(len(pairs), dtype=bool)
    # Position of each pair within its label, in the order drawn.
    kept[order] = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[order, 0]) < shots
    return np.flatnonzero(kept[of_photo.reshape(-1)])


def macro_mean(values: NDArray[Any], classes: Names) -> float:
    """Return the mean over classes of the mean value of a class, so that rare classes count as much as common ones.

    Args:
        values: (N,) numbers or bool.
        classes: N classes.

    Returns:
        The mean; NaN without values.

    Raises:
        InvalidInputError: The lengths differ.
    """
    if len(values) != len(classes):
        raise InvalidInputError(f"{len(values)} values need as many classes, got {len(classes)}")
    if not len(values):
        return float("nan")
    _, codes, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    return float((np.bincount(codes, values) / counts).mean())


def _draws(sizes: NDArray[np.int64], samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the units in each sample, (b, units) at a time, so that memory is bounded."""
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWS // len(sizes))
    for start in range(0, samples, rows):
        yield rng.integers(0, len(sizes), size=(min(rows, samples - start), len(sizes)))
