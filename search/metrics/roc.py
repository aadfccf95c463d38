"""Telling two kinds apart by a score: the ROC curve, the area under it, and one point of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.calibration import checked_flags, checked_scores

__all__ = ["RocCurve", "auroc", "fpr_at_tpr", "roc_curve"]


@dataclass(frozen=True, slots=True, eq=False)
class RocCurve:
    """Rates of each threshold on a score.

    Attributes:
        thresholds: (T,) float64, falling, infinity first; scores of at least the threshold pass.
        false_positive_rate: (T,) float64, share of the negatives that pass; NaN if there are none.
        true_positive_rate: (T,) float64, share of the positives that pass; NaN if there are none.
    """

    thresholds: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]


def roc_curve(scores: NDArray[Any], positive: NDArray[np.bool_]) -> RocCurve:
    """Return true against false positive rate at every threshold (Fawcett 2006, Pattern Recognition Letters 27).

    Args:
        scores: (N,) higher means more likely positive; may be infinite.
        positive: (N,) bool.

    Returns:
        From (0, 0) to (1, 1), with a point for each distinct score.

    Raises:
        InvalidInputError: Shapes differ, there are no scores, a score is NaN, or `positive` is not bool.
    """
    scores = checked_scores(scores)
    positive = checked_flags(positive, len(scores), "positive")
    if not len(scores):
        raise InvalidInputError("a ROC curve needs scores, got none")
    # By the order of the scores: scikit-learn takes no infinite ones.
    values, order = np.unique(scores, return_inverse=True)
    with warnings.catch_warnings():
        # Of one kind only, the other's rate is NaN, as is documented.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        false, true, at = metrics.roc_curve(positive, order, drop_intermediate=False)
    thresholds = np.concatenate([[np.inf], values[at[1:].astype(np.int64)]])
    return RocCurve(thresholds, np.asarray(false), np.asarray(true))


def auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how likely a positive scores higher than a negative, ties half.

    Args:
        scores: (N,) higher means more likely positive; may be infinite.
        positive: (N,) bool.

    Returns:
        0..1, higher is better, 0.5 by chance; NaN if there is no positive or no negative.

    Raises:
        InvalidInputError: As `roc_curve`.
    """
    curve = roc_curve(scores, positive)
    return float(metrics.auc(curve.false_positive_rate, curve.true_positive_rate))


def fpr_at_tpr(scores: NDArray[Any], positive: NDArray[np.bool_], tpr: float = 0.95) -> float:
    """Return the share of the negatives that pass at the highest threshold which `tpr` of the positives pass.

    With `tpr` = 0.95 the FPR95 of out-of-distribution detection (Liang, Li and Srikant 2018, arXiv
    1706.02690, section 4), without interpolation.

    Args:
        scores: (N,) higher means more likely positive; what equals the threshold passes.
        positive: (N,) bool.
        tpr: Above 0, at most 1.

    Returns:
        0..1, lower is better; NaN if there is no positive or no negative.

    Raises:
        InvalidInputError: As `roc_curve`, or `tpr` is out of its range.
    """
    if not 0 < tpr <= 1:
        raise InvalidInputError(f"tpr must be above 0 and at most 1, got {tpr}")
    curve = roc_curve(scores, positive)
    if not np.isfinite(curve.true_positive_rate).all():
        return float("nan")
    return float(curve.false_positive_rate[np.argmax(curve.true_positive_rate >= tpr)])
