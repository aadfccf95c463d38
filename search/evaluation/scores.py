"""Scores of retrieval and labels against known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.retrieval import retrieval_scores

__all__ = ["Recall", "recall_at_k", "top1"]


@dataclass(frozen=True, slots=True)
class Recall:
    """Recall at k: the share of queries with at least one photo of their label among the k nearest.

    Attributes:
        k: How many neighbours were looked at.
        value: 0..1, higher is better; NaN if there was no query.
        queries: How many photos had another of their label, outside their group, to be found.
    """

    k: int
    value: float
    queries: int


def recall_at_k(
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    groups: Sequence[str],
    k: int = 1,
    queries: NDArray[np.bool_] | None = None,
) -> Recall:
    """Return recall at k by exact cosine, where a photo never finds its own group.

    Frames of a burst and copies of a photo are nearly the same picture: counting them as found would measure
    nothing. A photo whose label has no photo outside its group is no query, since it has nothing to find.

    Args:
        vectors: (N, C) float32, unit-norm.
        labels: N labels.
        groups: N groups, such as the event that a photo belongs to.
        k: How many neighbours, at least 1. Of equally near ones the first in order counts.
        queries: (N,) which photos may be queries; all by default. Every photo may be found.

    Returns:
        The recall.

    Raises:
        InvalidInputError: The lengths differ, or `k` is below 1.
    """
    count = len(vectors)
    if len(labels) != count or len(groups) != count or (queries is not None and len(queries) != count):
        raise InvalidInputError(
            f"{count} vectors need as many labels and groups, got {len(labels)} and {len(groups)}"
        )
    if k < 1:
        raise InvalidInputError(f"k must be at least 1, got {k}")
    asked = np.ones(count, dtype=bool) if queries is None else queries
    named, grouped = np.asarray(labels, dtype=str), np.asarray(groups, dtype=str)
    scores = retrieval_scores(vectors[asked], named[asked], grouped[asked], vectors, named, grouped, ks=(k,))
    return Recall(k=k, value=scores.recall_at_k(k), queries=len(scores.query))


def top1(logits: NDArray[np.float32], classes: Sequence[str], labels: Sequence[str]) -> tuple[float, int]:
    """Return the share of photos whose likeliest class is their label, among those whose label is a class.

    Args:
        logits: (N, classes) float32.
        classes: Class names in the order of the logits.
        labels: N labels.

    Returns:
        Accuracy 0..1 (NaN if no label is a class), and how many photos it is over.

    Raises:
        InvalidInputError: The lengths differ.
    """
    if logits.shape != (len(labels), len(classes)):
        raise InvalidInputError(
            f"logits must be ({len(labels)}, {len(classes)}) for these labels and classes, got {logits.shape}"
        )
    known = set(classes)
    right = [
        classes[int(row.argmax())] == label
        for row, label in zip(logits, labels, strict=True)
        if label in known
    ]
    return (float(np.mean(right)) if right else float("nan")), len(right)
