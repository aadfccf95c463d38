"""Pooling of the labels of several frames of one bird, without taking a burst for as many witnesses.

Frames i with probabilities p_i(c) are pooled log-linearly,

    log p(c) = log prior(c) + sum_i w_i (log p_i(c) - log prior(c)) + const,

the only kind of pool that is externally Bayesian (C. Genest, J. V. Zidek, "Combining Probability Distributions: A
Critique and an Annotated Bibliography", Statistical Science 1 (1986) 114-135, section 3). With weights of 1 it
would be Bayes' rule for frames that err independently. Frames of a burst do not: n of them whose errors correlate
by rho are worth n / (1 + (n - 1) rho) independent ones (the design effect: L. Kish, "Survey Sampling", Wiley 1965,
section 5.4), so each weighs 1 / (1 + (n - 1) rho): from 1 each at rho = 0 to 1 altogether at rho = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["frame_weights", "likeness", "pool_labels", "pool_scores"]

# Of a label that a frame rules out altogether, so that one frame's certainty is not beyond appeal.
_LEAST = 1e-9


def pool_labels(
    probabilities: NDArray[np.float64],
    groups: NDArray[np.int64],
    rho: float | NDArray[np.float64],
    prior: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the pooled probabilities of some frames; see the module's formula.

    Args:
        probabilities: (F, L) float64, each row sums to 1; F and L are at least 1.
        groups: (F,) int64: frames of one group depend on each other, those of two groups do not.
        rho: How much: 0 not at all .. 1 wholly; one number, or (F,) float64 with that of each frame's group.
        prior: (L,) float64, what the labels are without a frame; equally likely by default.

    Returns:
        (L,) float64, sums to 1. n frames that are the same and wholly dependent give what one of them does.

    Raises:
        InvalidInputError: The shapes do not fit, there is no frame, or `rho` is not within 0 to 1.
    """
    if probabilities.ndim != 2 or not probabilities.size:
        raise InvalidInputError(
            f"probabilities must be (frames, labels) with one of each at least, got {probabilities.shape}"
        )
    labels = probabilities.shape[1]
    start = np.full(labels, 1.0 / labels) if prior is None else np.asarray(prior, dtype=np.float64)
    if start.shape != (labels,) or not (start > 0).all():
        raise InvalidInputError(f"the prior must be {labels} numbers above 0, got shape {start.shape}")
    weights = frame_weights(groups, rho)
    if len(weights) != len(probabilities):
        raise InvalidInputError(f"{len(probabilities)} frames need as many groups, got {len(weights)}")
    base = np.log(start / start.sum())
    found = base + (weights[:, None] * (np.log(np.maximum(probabilities, _LEAST)) - base)).sum(axis=0)
    pooled = np.exp(found - found.max())
    return np.asarray(pooled / pooled.sum())


def pool_scores(
    scores: NDArray[np.float64],
    groups: NDArray[np.int64],
    rho: float | NDArray[np.float64],
    prior: float = 0.5,
) -> float:
    """Return the pooled probability of one thing that is or is not, such as that a bird is of no known label.

    Args:
        scores: (F,) float64, 0..1.
        groups: As `pool_labels` takes them.
        rho: As `pool_labels` takes it.
        prior: What the probability is without a frame, above 0 and below 1.

    Returns:
        0..1.

    Raises:
        InvalidInputError: As `pool_labels`.
    """
    both = np.stack([1.0 - scores, scores], axis=1)
    return float(pool_labels(both, groups, rho, np.array([1.0 - prior, prior]))[1])


def frame_weights(groups: NDArray[np.int64], rho: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight of each frame: 1 / (1 + (n - 1) rho), with n frames in its group.

    Args:
        groups: (F,) int64.
        rho: One number, or (F,) float64, 0..1.

    Returns:
        (F,) float64, above 0 and at most 1.

    Raises:
        InvalidInputError: `rho` is not within 0 to 1, or of another length.
    """
    share = np.asarray(rho, dtype=np.float64)
    if share.shape not in ((), groups.shape):
        raise InvalidInputError(f"rho must be one number or {len(groups)}, got shape {share.shape}")
    if not ((share >= 0) & (share <= 1)).all():
        raise InvalidInputError("rho has to be within 0 (independent) to 1 (wholly dependent)")
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (1.0 + (counts[which.reshape(-1)] - 1) * share))


def likeness(
    unit: NDArray[np.float32], groups: NDArray[np.int64], background: float = 0.0
) -> NDArray[np.float64]:
    """Return how much the frames of each group depend on each other, by how alike they look.

    The mean cosine of two frames of a group, less what unrelated photos have in common: (cos - mu) / (1 - mu).

    Args:
        unit: (F, C) float32, unit-norm; a row of zeros is a frame without a vector, which counts as wholly alike.
        groups: (F,) int64.
        background: mu, mean cosine of unrelated photos, below 1.

    Returns:
        (F,) float64, 0..1, the rho of each frame's group; 1 for a frame alone.
    """
    _, which, counts = np.unique(groups, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    vectors = unit.astype(np.float64)
    has = vectors.any(axis=1)
    sums = np.zeros((len(counts), unit.shape[1]))
    np.add.at(sums, which, vectors)
    known = np.bincount(which, weights=has, minlength=len(counts))
    # Sum over pairs of different frames; those with one that has no vector are taken as 1.
    pairs = counts * (counts - 1.0)
    seen = known * (known - 1.0)
    alike = ((sums**2).sum(axis=1) - known - background * seen) / (1.0 - background) + (pairs - seen)
    mean = np.divide(alike, pairs, out=np.ones(len(counts)), where=pairs > 0)
    return np.asarray(np.clip(mean, 0.0, 1.0)[which])
