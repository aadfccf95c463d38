"""Sets of numbers as rising arrays, without NumPy's masked arrays, which are slow to load."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct", "is_in"]


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return each value once, rising.

    Args:
        values: (N,), in any order.
    """
    ordered = np.sort(values)
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def is_in(values: NDArray[Any], rising: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of the values are among rising ones.

    Args:
        values: Of any shape.
        rising: (M,).

    Returns:
        Bools of the shape of `values`.
    """
    if not len(rising):
        return np.zeros(values.shape, bool)
    at = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    return np.asarray(rising[at] == values)
