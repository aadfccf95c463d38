"""k-means of few vectors, for a cluster that is cut by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["split_vectors"]

_STARTS, _ROUNDS = 10, 100


def split_vectors(
    unit: NDArray[np.float32], k: int, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cut unit-norm vectors into k parts by their cosines; each vector is in one of them.

    Spherical k-means (I. S. Dhillon, D. S. Modha, "Concept Decompositions for Large Sparse Text Data using
    Clustering", Machine Learning 42 (2001) 143), the best of ten starts by k-means++ (D. Arthur, S. Vassilvitskii,
    SODA 2007). The same vectors in the same order and the same seed give the same parts.

    NOTE: `cluster_vectors` finds outliers and drops small clusters. A cut into k parts gives k parts.
    NOTE: k-means of scikit-learn has another aim: it takes distances to means, not cosines to directions, and does
    not always find the cut with the greatest sum of cosines.

    Args:
        unit: (N, C) float32, unit-norm.
        k: Number of parts.
        seed: Of the starts.

    Returns:
        (N,) int64 parts, 0 to k - 1, none empty; and (N,) float64 strengths, 0..1: the silhouette of each vector
        with respect to the mean directions, (b - a) / max(a, b), a and b the cosine distances to its own and to
        the next one.

    Raises:
        InvalidInputError: `k` is below 1, or there are not so many different vectors.
    """
    wide = unit.astype(np.float64)
    different = len(np.unique(unit, axis=0))
    if not 1 <= k <= different:
        raise InvalidInputError(f"{different} different vectors cannot be cut into {k} parts")
    rng = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64], NDArray[np.float64]] | None = None
    for _ in range(_STARTS):
        labels, cosines = _lloyd(wide, _start(wide, k, rng))
        fit = float(cosines[np.arange(len(wide)), labels].sum())
        # Ties, to rounding, go to the first.
        if len(np.unique(labels)) == k and (best is None or fit > best[0] + 1e-9):
            best = (fit, labels, cosines)
    if best is None:
        raise InvalidInputError(f"the vectors cannot be cut into {k} parts: too many are nearly the same")
    _, labels, cosines = best
    return labels, _silhouettes(labels, cosines)


def _start(unit: NDArray[np.float64], k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Choose vectors to start from: each next one with a chance that rises with its distance to those chosen."""
    chosen = [int(rng.integers(len(unit)))]
    far = np.full(len(unit), np.inf)
    while len(chosen) < k:
        far = np.minimum(far, np.clip(1.0 - unit @ unit[chosen[-1]], 0.0, None))
        far[far < 1e-12] = 0.0
        # A vector that is there already is never drawn again, as long as there are others.
        weights = far if far.any() else np.ones(len(unit))
        chosen.append(int(rng.choice(len(unit), p=weights / weights.sum())))
    return unit[chosen]


def _lloyd(
    unit: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = np.full(len(unit), -1, np.int64)
    for _ in range(_ROUNDS):
        cosines = unit @ centres.T
        moved = cosines.argmax(axis=1)
        if (moved == labels).all():
            break
        labels = moved
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, unit)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 1e-12, sums / np.where(norms > 1e-12, norms, 1.0), centres)
    return labels, unit @ centres.T


def _silhouettes(labels: NDArray[np.int64], cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.arange(len(labels))
    own = 1.0 - cosines[rows, labels]
    others = 1.0 - cosines
    others[rows, labels] = np.inf
    other = others.min(axis=1)
    if cosines.shape[1] < 2:
        return np.ones(len(labels))
    fits = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return np.asarray(fits.clip(0.0, 1.0), dtype=np.float64)
