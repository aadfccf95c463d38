"""The probability that a bird is of no known label, and roll-up to the rank that is still sure.

One logistic model over several signs, since each alone misses cases that another sees: how sure the fused label
is, how near the nearest verified photos and the nearest class mean are, how sure the network is, and the free
energy of its logits (Liu et al., arXiv 2010.03759). It is fitted on known birds whose label was hidden from
both experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.taxa import RANKS
from birdsearch.search.labels.fusion import Estimates, NeighbourEvidence
from birdsearch.search.labels.space import ROOT, LabelSpace
from birdsearch.search.query.background import above_background

__all__ = ["Rolled", "UnknownParameters", "fit_logistic", "roll_up", "signs", "unknown_score"]

SIGNS = ("fused", "nearest", "neighbours", "mean", "model", "energy")
_CLIP = 12.0
_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class UnknownParameters:
    """A logistic model on standardised signs.

    Attributes:
        intercept: Log-odds of a photo with average signs.
        weights: One for each of `SIGNS`.
        centre: Averages of the signs.
        scale: Standard deviations of the signs.
        above: For genus, family and order: how often the likeliest clade is right for a bird of no known label.
    """

    intercept: float = -1.5
    weights: tuple[float, ...] = (-1.2, -0.5, 0.0, -0.3, 0.0, 0.0)
    centre: tuple[float, ...] = (2.0, 0.55, 0.4, 0.5, 0.0, 0.0)
    scale: tuple[float, ...] = (2.0, 0.2, 0.2, 0.2, 3.0, 1e9)
    above: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        sizes = {len(self.weights), len(self.centre), len(self.scale)}
        if sizes != {len(SIGNS)} or len(self.above) != 3:
            raise InvalidInputError(
                f"the unknown model needs {len(SIGNS)} signs and three ranks above species"
            )
        values = (self.intercept, *self.weights, *self.centre, *self.scale, *self.above)
        if not np.isfinite(values).all() or min(self.scale) <= 0:
            raise InvalidInputError(
                "the numbers of the unknown model have to be finite, and its scales above 0"
            )


def signs(
    logits: NDArray[np.float32],
    evidence: NeighbourEvidence,
    estimates: Estimates,
    background: float,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the signs of an unknown bird, for each photo.

    Args:
        logits: (B, M) float32.
        evidence: What the verified photos say.
        estimates: The fused labels.
        background: mu of the references.
        allowed: (M,) classes that the model is held to know; all by default.

    Returns:
        (B, 6) float64 in the order of `SIGNS`; each points to "known" as it rises. Without verified photos those
        that need them are at what an average photo has.
    """
    plain = UnknownParameters()
    top = estimates.probabilities.max(axis=1)
    sure = np.clip(np.log(top) - np.log1p(-np.minimum(top, 1 - 1e-12)), -_CLIP, _CLIP)
    alike = above_background(evidence.cosines, background)
    present = evidence.nearest >= 0
    near = (
        np.where(present[:, 0], alike[:, 0], plain.centre[1])
        if alike.shape[1]
        else np.full(len(top), plain.centre[1])
    )
    some = present[:, :_NEIGHBOURS]
    counts = some.sum(axis=1)
    sums = np.where(some, alike[:, :_NEIGHBOURS], 0.0).sum(axis=1)
    several = np.divide(sums, counts, out=np.full(len(top), plain.centre[2]), where=counts > 0)
    means = np.where(evidence.verified, above_background(evidence.means, background), -np.inf).max(axis=1)
    mean = np.where(np.isfinite(means), means, plain.centre[3])
    used = logits.astype(np.float64)
    if allowed is not None:
        used = np.where(allowed, used, -np.inf)
    if used.shape[1] and (allowed is None or allowed.any()):
        highest = used.max(axis=1)
        energy = highest + np.log(np.exp(used - highest[:, None]).sum(axis=1))
        first = np.exp(highest - energy)
        model = np.clip(np.log(first) - np.log1p(-np.minimum(first, 1 - 1e-12)), -_CLIP, _CLIP)
    else:
        energy = model = np.zeros(len(top))
    return np.stack([sure, near, several, mean, model, energy], axis=1)


def unknown_score(found: NDArray[np.float64], parameters: UnknownParameters) -> NDArray[np.float64]:
    """Return the probability that a bird is of no known label.

    Args:
        found: (B, 6) float64, as `signs` gives them.
        parameters: The fitted model, or the default one.

    Returns:
        (B,) float64, 0..1; higher is less known.
    """
    standard = (found - np.array(parameters.centre)) / np.array(parameters.scale)
    # Summed row by row, which a matrix product does not promise: a photo has one score in every batch.
    odds = parameters.intercept + (standard * np.array(parameters.weights)).sum(axis=1)
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -60, 60))))


def fit_logistic(
    features: NDArray[np.float64],
    positive: NDArray[np.bool_],
    weights: NDArray[np.float64],
    prior: float = 1.0,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fit logistic regression with a normal prior on the weights, by Newton's method.

    Args:
        features: (N, F) float64.
        positive: (N,) bool.
        weights: (N,) float64, how much a row counts.
        prior: Inverse variance of the weights, on standardised features.

    Returns:
        Intercept, weights (F,), centre (F,) and scale (F,); the scale of a constant feature is 1.
    """
    total = weights.sum()
    centre = weights @ features / total
    deviation = np.sqrt(weights @ (features - centre) ** 2 / total)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    rows = np.concatenate([np.ones((len(features), 1)), (features - centre) / scale], axis=1)
    penalty = np.diag([1e-6] + [prior] * features.shape[1])
    theta = np.zeros(rows.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(rows @ theta, -30, 30)))
        gradient = rows.T @ (weights * (p - positive)) + penalty @ theta
        hessian = (rows * (weights * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ rows + penalty
        step = np.linalg.solve(hessian, gradient)
        # A long step may overshoot where the two are separable.
        theta -= step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(theta[0]), theta[1:], centre, scale


@dataclass(frozen=True, slots=True)
class Rolled:
    """A label at the finest rank that reaches the asked confidence.

    Attributes:
        name: The label, clade or `bird`.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That it is right, 0..1.
        species: Number of the likeliest label.
    """

    name: str
    rank: str
    probability: float
    species: int


def roll_up(
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.float64],
    space: LabelSpace,
    confidence: float,
    parameters: UnknownParameters,
) -> list[Rolled]:
    """Roll answers up to the finest rank that is as sure as asked.

    That the bird is of no known label counts against every rank; above species, as often as the clade of such a
    bird is not the likeliest one.

    Args:
        probabilities: (B, L) float64.
        unknown: (B,) float64.
        space: The labels.
        confidence: 0..1.
        parameters: Where `above` comes from.

    Returns:
        One answer a photo; `bird` with probability 1 where no rank is sure enough. Of equals the first.

    Raises:
        InvalidInputError: The confidence is not within 0..1.
    """
    if not 0 <= confidence <= 1:
        raise InvalidInputError(f"confidence is {confidence}; it has to be 0 to 1")
    best = probabilities.argmax(axis=1)
    sure = (1 - unknown) * probabilities.max(axis=1)
    answers: list[Rolled | None] = [
        Rolled(space.names[label], "species", float(p), int(label)) if p >= confidence else None
        for label, p in zip(best, sure, strict=True)
    ]
    for level, rank in enumerate(RANKS[1:]):
        clades = space.clade_probabilities(probabilities, rank)
        if not clades.shape[1]:
            continue
        at = clades.argmax(axis=1)
        p = np.minimum(clades.max(axis=1) * (1 - unknown) + parameters.above[level] * unknown, 1.0)
        for row in range(len(answers)):
            if answers[row] is None and p[row] >= confidence:
                name = space.clade_names[level][at[row]]
                answers[row] = Rolled(name, rank, float(p[row]), int(best[row]))
    return [
        Rolled(ROOT, ROOT, 1.0, int(label)) if answer is None else answer
        for answer, label in zip(answers, best, strict=True)
    ]
