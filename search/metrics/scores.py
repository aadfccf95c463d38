"""Scores of labels and retrieval on photos of known truth.

Accuracy is here, what is about rankings in `metrics_retrieval`, about confidences in `metrics_calibration`,
and about intervals and fair samples in `metrics_sampling`; all of it can be imported from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.calibration import (
    CoverageRisk,
    Reliability,
    RocCurve,
    auroc,
    brier,
    brier_each,
    coverage_risk,
    expected_calibration_error,
    fpr_at_tpr,
    negative_log_likelihood,
    negative_log_likelihood_each,
    reliability,
    roc_curve,
)
from birdsearch.search.metrics.retrieval import (
    KnnScores,
    Names,
    RetrievalScores,
    as_codes,
    knn_scores,
    retrieval_scores,
)
from birdsearch.search.metrics.sampling import (
    Estimate,
    bootstrap_interval,
    estimate,
    few_shot,
    paired_bootstrap,
    split_by_group,
)

__all__ = [
    "CoverageRisk",
    "Estimate",
    "KnnScores",
    "Names",
    "Reliability",
    "RetrievalScores",
    "RocCurve",
    "TopK",
    "as_codes",
    "auroc",
    "bootstrap_interval",
    "brier",
    "brier_each",
    "coverage_risk",
    "estimate",
    "expected_calibration_error",
    "few_shot",
    "fpr_at_tpr",
    "knn_scores",
    "macro_mean",
    "negative_log_likelihood",
    "negative_log_likelihood_each",
    "paired_bootstrap",
    "reliability",
    "retrieval_scores",
    "roc_curve",
    "split_by_group",
    "top_k",
    "top_k_ranked",
]


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """Top-k accuracy.

    Attributes:
        k: How many answers were looked at.
        micro: Share of the photos whose label was among them, 0..1, higher is better; NaN without photos.
        macro: Mean over true classes of that share; NaN without photos.
        right: (N,) bool, whether each photo's label was among them.
    """

    k: int
    micro: float
    macro: float
    right: NDArray[np.bool_]


def top_k(
    probabilities: NDArray[Any], labels: NDArray[np.int64], k: int = 1, classes: Names | None = None
) -> TopK:
    """Top-k accuracy of probabilities.

    A photo is right if fewer than k classes come before its label, that is, are more probable, or as probable
    and lower in number.

    Args:
        probabilities: (N, L) floats; only their order in a row counts, so logits will do.
        labels: (N,) class numbers. -1, no such class, is always wrong.
        k: At least 1.
        classes: (N,) true classes that the macro mean is over; by default the labels, where all -1 are one
            class. Give them where the photos of no class are of several species.

    Returns:
        The accuracy.

    Raises:
        InvalidInputError: Shapes differ, a probability is NaN, a label is no class, or `k` is below 1.
    """
    scores, labels = np.asarray(probabilities), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != (len(scores),) or not np.issubdtype(scores.dtype, np.floating):
        raise InvalidInputError(
            f"probabilities and labels must be floats (N, L) and (N,), got {scores.dtype} {scores.shape} "
            f"and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise InvalidInputError("probabilities must not be NaN")
    if len(labels) and not (labels.min() >= -1 and labels.max() < scores.shape[1]):
        raise InvalidInputError(
            f"labels must be -1..{scores.shape[1] - 1}, got {labels.min()}..{labels.max()}"
        )
    known = labels >= 0
    before = np.zeros(len(labels), dtype=np.int64)
    # (n, 1) labels and their scores, n photos with a class
    own = labels[known].astype(np.int64)[:, None]
    score = np.take_along_axis(scores[known], own, axis=1)
    is_lower = np.arange(scores.shape[1])[None, :] < own
    before[known] = ((scores[known] > score) | ((scores[known] == score) & is_lower)).sum(axis=1)
    return _top_k(known & (before < _checked_k(k)), labels, k, classes)


def top_k_ranked(
    ranked: NDArray[np.int64], labels: NDArray[np.int64], k: int = 1, classes: Names | None = None
) -> TopK:
    """Top-k accuracy of answers that are ranked already.

    Args:
        ranked: (N, R) class numbers, best first; -1 where there are no more answers.
        labels: (N,) class numbers. -1, no such class, is always wrong.
        k: At least 1.
        classes: As for `top_k`.

    Returns:
        The accuracy.

    Raises:
        InvalidInputError: Shapes differ, the answers are not integers, or `k` is below 1.
    """
    ranked, labels = np.asarray(ranked), np.asarray(labels)
    if ranked.ndim != 2 or labels.shape != (len(ranked),) or not np.issubdtype(ranked.dtype, np.integer):
        raise InvalidInputError(
            f"ranked labels and labels must be integers (N, R) and (N,), got {ranked.dtype} {ranked.shape} "
            f"and {labels.shape}"
        )
    right = (ranked[:, : _checked_k(k)] == labels[:, None]).any(axis=1) & (labels >= 0)
    return _top_k(right, labels, k, classes)


def macro_mean(values: NDArray[Any], classes: Names) -> float:
    """Mean over classes of the mean value of a class, so that rare classes count as much as common ones.

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
    _, places, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    return float((np.bincount(places, values) / counts).mean())


def _top_k(right: NDArray[np.bool_], labels: NDArray[np.int64], k: int, classes: Names | None) -> TopK:
    truth = labels if classes is None else classes
    micro = float(right.mean()) if len(right) else float("nan")
    return TopK(k, micro, macro_mean(right, truth), right)


def _checked_k(k: int) -> int:
    if k < 1:
        raise InvalidInputError(f"k must be at least 1, got {k}")
    return k
