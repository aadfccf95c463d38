"""Scores of confidences: calibration, rejection of the unknown, and proper scoring rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = [
    "CoverageRisk",
    "Reliability",
    "RocCurve",
    "auroc",
    "brier",
    "brier_each",
    "coverage_risk",
    "expected_calibration_error",
    "fpr_at_tpr",
    "negative_log_likelihood",
    "negative_log_likelihood_each",
    "reliability",
    "roc_curve",
]

# How far rounding may carry a probability, or a sum of them, from where it belongs.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often answers of about the same confidence were right.

    Attributes:
        edges: (bins + 1,) float64, from 0 to 1; a bin holds its upper edge, and the first also 0.
        counts: (bins,) int64, answers in each bin.
        confidence: (bins,) float64, their mean confidence; NaN in an empty bin.
        accuracy: (bins,) float64, the share of them that were right; NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between accuracy and confidence, bins weighted by their counts; NaN without answers."""
        if not self.counts.sum():
            return float("nan")
        held = self.counts > 0
        gaps = np.abs(self.accuracy[held] - self.confidence[held])
        return float((self.counts[held] * gaps).sum() / self.counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class CoverageRisk:
    """Share of wrong answers among the most confident ones.

    Attributes:
        coverage: (N,) float64, share of the answers that are given: 1/N, 2/N, ..., 1.
        risk: (N,) float64, share of those that are wrong; lower is better.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]

    @property
    def aurc(self) -> float:
        """Area under the curve: the mean of `risk`, lower is better; NaN without answers."""
        return float(self.risk.mean()) if len(self.risk) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """What each threshold on a score lets through.

    Attributes:
        thresholds: (T,) float64, falling, infinity first; scores of at least the threshold pass.
        false_positive_rate: (T,) float64, share of the negatives that pass; NaN if there are none.
        true_positive_rate: (T,) float64, share of the positives that pass; NaN if there are none.
    """

    thresholds: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]


def reliability(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Confidence and accuracy in bins of equal width.

    Bin m of M holds the answers with a confidence in ((m - 1) / M, m / M] (Guo et al. 2017, "On Calibration
    of Modern Neural Networks", arXiv 1706.04599, section 2).

    Args:
        confidence: (N,) probability of the answer that was given, 0..1.
        right: (N,) bool, whether it was right.
        bins: M, at least 1.

    Returns:
        What is in each bin.

    Raises:
        InvalidInputError: Shapes differ, a confidence is outside 0..1, `right` is not bool, or `bins` is
            below 1.
    """
    confidence, right = _unit_interval(confidence), _flags(right, len(confidence), "right")
    if bins < 1:
        raise InvalidInputError(f"bins must be at least 1, got {bins}")
    edges = np.arange(bins + 1) / bins
    places = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(places, confidence, minlength=bins) / counts
        accuracy = np.bincount(places, right, minlength=bins) / counts
    return Reliability(edges, counts.astype(np.int64), mean, accuracy)


def expected_calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> float:
    """How far confidence is from accuracy, on average over the answers.

    ECE = sum_m (n_m / N) |accuracy_m - confidence_m| over bins of equal width (Guo et al. 2017, arXiv
    1706.04599, section 2). It depends on the number of bins, and is biased upwards where they hold few
    answers: compare it only at equal N and bins.

    Args:
        confidence: (N,) probability of the answer that was given, 0..1.
        right: (N,) bool, whether it was right.
        bins: How many, at least 1.

    Returns:
        0..1, lower is better; NaN without answers.

    Raises:
        InvalidInputError: As `reliability`.
    """
    return reliability(confidence, right, bins).expected_calibration_error


def auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how likely a positive scores higher than a negative, ties counting half.

    AUROC = (sum of the positives' ranks - P (P + 1) / 2) / (P N), equal scores having the mean of their ranks
    (Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve", Radiology 143).

    Args:
        scores: (N,) higher means more likely positive; may be infinite.
        positive: (N,) bool.

    Returns:
        0..1, higher is better, 0.5 by chance; NaN if there is no positive or no negative.

    Raises:
        InvalidInputError: Shapes differ, a score is NaN, or `positive` is not bool.
    """
    scores, positive = _scores(scores), _flags(positive, len(scores), "positive")
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[places][positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def roc_curve(scores: NDArray[Any], positive: NDArray[np.bool_]) -> RocCurve:
    """True against false positive rate at every threshold (Fawcett 2006, Pattern Recognition Letters 27).

    Args:
        scores: (N,) higher means more likely positive.
        positive: (N,) bool.

    Returns:
        From (0, 0) to (1, 1), with a point for each distinct score.

    Raises:
        InvalidInputError: As `auroc`.
    """
    scores, positive = _scores(scores), _flags(positive, len(scores), "positive")
    values, places = np.unique(-scores, return_inverse=True)
    passed = [
        np.concatenate([[0.0], np.cumsum(np.bincount(places, kind, minlength=len(values)))])
        for kind in (~positive, positive)
    ]
    with np.errstate(invalid="ignore"):
        false, true = (np.asarray(count / count[-1], dtype=np.float64) for count in passed)
    return RocCurve(np.concatenate([[np.inf], -values]), false, true)


def fpr_at_tpr(scores: NDArray[Any], positive: NDArray[np.bool_], tpr: float = 0.95) -> float:
    """Share of the negatives that pass at the highest threshold which at least `tpr` of the positives pass.

    With `tpr` = 0.95 the FPR95 of out-of-distribution detection (Liang, Li and Srikant 2018, arXiv
    1706.02690, section 4), without interpolation.

    Args:
        scores: (N,) higher means more likely positive; what equals the threshold passes.
        positive: (N,) bool.
        tpr: Above 0, at most 1.

    Returns:
        0..1, lower is better; NaN if there is no positive or no negative.

    Raises:
        InvalidInputError: As `auroc`, or `tpr` is out of its range.
    """
    scores, positive = _scores(scores), _flags(positive, len(scores), "positive")
    if not 0 < tpr <= 1:
        raise InvalidInputError(f"tpr must be above 0 and at most 1, got {tpr}")
    positives = int(positive.sum())
    if not positives or positives == len(positive):
        return float("nan")
    needed = math.ceil(tpr * positives)
    # A product that should be whole may have been rounded up.
    if (needed - 1) / positives >= tpr:
        needed -= 1
    threshold = np.sort(scores[positive])[positives - needed]
    return float((scores[~positive] >= threshold).mean())


def coverage_risk(confidence: NDArray[Any], right: NDArray[np.bool_]) -> CoverageRisk:
    """Share of wrong answers when only the most confident ones are given, for every number of them.

    risk(n) = wrong among the n most confident / n, and AURC = (1/N) sum_n risk(n) (Geifman, Uziel and
    El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", arXiv 1805.08206).

    NOTE: where equal confidences leave open which answers are the n most confident, risk(n) is its mean over
    all their orders; the paper does not say. So the curve does not depend on the order of the input.

    Args:
        confidence: (N,) higher means surer; any scale.
        right: (N,) bool.

    Returns:
        The curve.

    Raises:
        InvalidInputError: Shapes differ, a confidence is NaN, or `right` is not bool.
    """
    confidence, right = _scores(confidence), _flags(right, len(confidence), "right")
    _, places, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(places, ~right, minlength=len(counts))
    # Each answer brings the mean error of those that are as confident.
    errors = np.cumsum(np.repeat(wrong / counts, counts))
    given = np.arange(1, len(errors) + 1)
    return CoverageRisk(given / max(1, len(errors)), errors / given)


def brier_each(probabilities: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Brier score of each photo: sum over classes of (p_l - [l is its label])^2 (Brier 1950).

    Args:
        probabilities: (N, L), each row sums to 1.
        labels: (N,) class numbers, 0..L-1. Leave out photos whose label is no class.

    Returns:
        (N,) float64, 0..2, lower is better.

    Raises:
        InvalidInputError: Shapes differ, a row does not sum to 1, or a label is no class.
    """
    probabilities, labels = _distribution(probabilities, labels)
    gaps = probabilities.copy()
    gaps[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.square(gaps).sum(axis=1), dtype=np.float64)


def brier(probabilities: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Mean of `brier_each`; NaN without photos."""
    each = brier_each(probabilities, labels)
    return float(each.mean()) if len(each) else float("nan")


def negative_log_likelihood_each(
    probabilities: NDArray[Any], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Negative natural logarithm of the probability that each photo's label was given.

    A probability below 2.2e-16, float64's precision, counts as that: one such photo costs 36 nats, where the
    true logarithm could make every mean infinite.

    Args:
        probabilities: (N, L), each row sums to 1.
        labels: (N,) class numbers, 0..L-1. Leave out photos whose label is no class.

    Returns:
        (N,) float64 in nats, lower is better.

    Raises:
        InvalidInputError: Shapes differ, a row does not sum to 1, or a label is no class.
    """
    probabilities, labels = _distribution(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    # Not -0.0 where the label is certain.
    return np.asarray(np.abs(np.log(np.clip(own, np.finfo(np.float64).eps, 1.0))), dtype=np.float64)


def negative_log_likelihood(probabilities: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Mean of `negative_log_likelihood_each`; NaN without photos."""
    each = negative_log_likelihood_each(probabilities, labels)
    return float(each.mean()) if len(each) else float("nan")


def _scores(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(values, dtype=np.float64)
    if wide.ndim != 1:
        raise InvalidInputError(f"scores must be (N,), got {wide.shape}")
    if np.isnan(wide).any():
        raise InvalidInputError("scores must not be NaN")
    return wide


def _unit_interval(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = _scores(values)
    if len(wide) and not (wide.min() >= -_TOLERANCE and wide.max() <= 1 + _TOLERANCE):
        raise InvalidInputError(f"a confidence must be in 0..1, got {wide.min():g}..{wide.max():g}")
    return np.clip(wide, 0.0, 1.0)


def _flags(values: NDArray[np.bool_], count: int, what: str) -> NDArray[np.bool_]:
    flags = np.asarray(values)
    # An empty list is an array of float64.
    if flags.size and flags.dtype != np.bool_:
        raise InvalidInputError(f"{what} must be bool, got {flags.dtype}")
    if flags.shape != (count,):
        raise InvalidInputError(f"{what} must be ({count},) for as many scores, got {flags.shape}")
    return flags.astype(np.bool_, copy=False)


def _distribution(
    probabilities: NDArray[Any], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    wide, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if wide.ndim != 2 or labels.shape != (len(wide),):
        raise InvalidInputError(
            f"probabilities and labels must be (N, L) and (N,), got {wide.shape} and {labels.shape}"
        )
    if not len(wide):
        return wide, labels.astype(np.int64)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInputError(f"labels must be class numbers, got {labels.dtype}")
    classes = wide.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InvalidInputError(
            f"labels must be 0..{classes - 1}, got {labels.min()}..{labels.max()}; leave out photos whose "
            "label is no class"
        )
    sums = wide.sum(axis=1)
    if not (wide.min() >= -_TOLERANCE and np.abs(sums - 1).max() <= _TOLERANCE):
        raise InvalidInputError("each row of probabilities must be positive and sum to 1")
    return wide, labels.astype(np.int64)
