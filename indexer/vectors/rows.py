"""Positions of views by id: a table as long as the highest id, or a sorted array where ids are too sparse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowTable"]

# Ids up to `_SPARSE` times the number of views, or `_FEW`, are looked up in a table.
_SPARSE, _FEW = 16, 8192


class RowTable:
    """Positions of views by id.

    Args:
        view_ids: (E,) int64, the view at each position.
        positions: (N,) int64, those that hold a view.
    """

    def __init__(self, view_ids: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        ids = view_ids[positions]
        self._highest = int(ids.max(initial=-1))
        self._table: NDArray[np.int32] | None = None
        if self._highest < _SPARSE * (len(ids) + _FEW):
            self._table = np.full(self._highest + 2, -1, np.int32)
            self._table[ids] = positions
        else:
            order = np.argsort(ids, kind="stable")
            self._ids, self._positions = ids[order], positions[order]

    def of(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of views, -1 for those that have none."""
        inside = view_ids
        if len(inside) and not 0 <= int(inside.min()) <= int(inside.max()) <= self._highest:
            inside = np.where((view_ids >= 0) & (view_ids <= self._highest), view_ids, self._highest + 1)
        if self._table is not None:
            return self._table[inside].astype(np.int64)
        rows = np.minimum(np.searchsorted(self._ids, inside), len(self._ids) - 1)
        return np.where(self._ids[rows] == inside, self._positions[rows], -1)
