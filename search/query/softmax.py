"""Softmax of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["softmax"]


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities of logits, over the last axis; large logits do not overflow.

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
