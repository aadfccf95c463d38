"""Scores of confidences: calibration, and the risk at each coverage.

scikit-learn has neither: its `calibration_curve` keeps no counts of the bins, which the expected calibration error
is weighted by, and it has no coverage-risk curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = [
    "CoverageRisk",
    "Reliability",
    "checked_flags",
    "checked_scores",
    "coverage_risk",
    "expected_calibration_error",
    "reliability",
]

# How far rounding may carry a probability, or a sum of them, from where it belongs.
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Accuracy of the answers of about the same confidence.

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


def reliability(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> Reliability:
    """Return confidence and accuracy in bins of equal width.

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
    confidence, right = _unit_interval(confidence), checked_flags(right, len(confidence), "right")
    if bins < 1:
        raise InvalidInputError(f"bins must be at least 1, got {bins}")
    edges = np.arange(bins + 1) / bins
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bin_of, confidence, minlength=bins) / counts
        accuracy = np.bincount(bin_of, right, minlength=bins) / counts
    return Reliability(edges, counts.astype(np.int64), mean, accuracy)


def expected_calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return how far confidence is from accuracy, on average over the answers.

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


def coverage_risk(confidence: NDArray[Any], right: NDArray[np.bool_]) -> CoverageRisk:
    """Return the share of wrong answers among the most confident ones, for every number of them.

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
    confidence, right = checked_scores(confidence), checked_flags(right, len(confidence), "right")
    _, level_of, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(level_of, ~right, minlength=len(counts))
    # Each answer brings the mean error of those that are as confident.
    errors = np.cumsum(np.repeat(wrong / counts, counts))
    given = np.arange(1, len(errors) + 1)
    return CoverageRisk(given / max(1, len(errors)), errors / given)


def checked_scores(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return scores (N,) as float64; raise `InvalidInputError` for another shape or NaN."""
    wide = np.asarray(values, dtype=np.float64)
    if wide.ndim != 1:
        raise InvalidInputError(f"scores must be (N,), got {wide.shape}")
    if np.isnan(wide).any():
        raise InvalidInputError("scores must not be NaN")
    return wide


def _unit_interval(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = checked_scores(values)
    if len(wide) and not (wide.min() >= -_TOLERANCE and wide.max() <= 1 + _TOLERANCE):
        raise InvalidInputError(f"a confidence must be in 0..1, got {wide.min():g}..{wide.max():g}")
    return np.clip(wide, 0.0, 1.0)


def checked_flags(values: NDArray[np.bool_], count: int, what: str) -> NDArray[np.bool_]:
    """Return flags (count,); raise `InvalidInputError`, which names them, for another shape or type."""
    flags = np.asarray(values)
    # An empty list is an array of float64.
    if flags.size and flags.dtype != np.bool_:
        raise InvalidInputError(f"{what} must be bool, got {flags.dtype}")
    if flags.shape != (count,):
        raise InvalidInputError(f"{what} must be ({count},) for as many scores, got {flags.shape}")
    return flags.astype(np.bool_, copy=False)
