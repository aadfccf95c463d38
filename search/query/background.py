"""The background cosine: how alike photos are that have nothing to do with each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["above_background", "background_cosine"]


def background_cosine(unit: NDArray[np.float32], groups: NDArray[np.int64] | None = None) -> float:
    """Mean cosine mu over pairs of different groups: all pairs less those within the groups, by sums of vectors.

    Args:
        unit: (N, C) float32, unit-norm.
        groups: (N,) int64; every vector is a group of its own if None.

    Returns:
        -1..0.99, so that `1 / (1 - mu)` stays finite even if all photos are alike; 0 for fewer than two groups.
    """
    sums = unit.astype(np.float64)
    sizes = np.ones(len(unit), np.int64)
    if groups is not None:
        numbers = np.unique(groups, return_inverse=True)[1]
        sizes = np.bincount(numbers)
        wide, sums = sums, np.zeros((len(sizes), unit.shape[1]))
        np.add.at(sums, numbers, wide)
    if len(sums) < 2:
        return 0.0
    pairs = float(len(unit)) ** 2 - float((sizes.astype(np.float64) ** 2).sum())
    whole = sums.sum(axis=0)
    return float(np.clip((whole @ whole - (sums * sums).sum()) / pairs, -1.0, 0.99))


def above_background(cosines: NDArray[np.float32], background: float) -> NDArray[np.float64]:
    """Return (cosine - mu) / (1 - mu): similarities above the background, 1 for the same, 0 for strangers."""
    return np.asarray((cosines.astype(np.float64) - background) / (1 - background))
