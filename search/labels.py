"""Labels from the classifier's logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.results import LabelEstimate

__all__ = ["softmax", "top_labels"]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of logits, over the last axis; large logits do not overflow.

    Args:
        logits: (..., classes), finite.

    Returns:
        (..., classes) float64; each row sums to 1.

    Raises:
        InvalidInputError: A logit is NaN or infinite.
    """
    wide = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise InvalidInputError("logits must be finite, got NaN or infinity; the embedding is damaged")
    if wide.shape[-1] == 0:
        return wide
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float64)


def top_labels(logits: NDArray[np.float32], classes: Sequence[str], k: int = 5) -> tuple[LabelEstimate, ...]:
    """The likeliest classes of one photo, by the network alone.

    Args:
        logits: (classes,) float32.
        classes: Class names in the order of the logits.
        k: How many; fewer if there are fewer classes.

    Returns:
        Likeliest first; of equal logits, the lower class index first.

    Raises:
        InvalidInputError: Logits and classes differ in number, `k` is negative, or a logit is not finite.
    """
    if logits.shape != (len(classes),):
        raise InvalidInputError(f"logits must have the shape ({len(classes)},), got {logits.shape}")
    if k < 0:
        raise InvalidInputError(f"k must be at least 0, got {k}")
    probabilities = softmax(logits)
    # By logit: distinct small logits can have the same probability of 0.
    order = np.argsort(-logits.astype(np.float64), kind="stable")[:k]
    return tuple(
        LabelEstimate(
            name=classes[index],
            scientific_name=None,
            rank="species",
            probability=float(probabilities[index]),
            p_model=float(probabilities[index]),
        )
        for index in order
    )
