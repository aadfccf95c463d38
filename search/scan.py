"""Looking at vectors: which may be found, and all of these in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors import VectorIndex
from birdsearch.indexer.vectors_lists import Block, best

__all__ = ["Everything", "Look", "MovedError", "Picked", "picked", "rows_of", "verify"]

# Scores held at a time, 16 MB, and rows of a matrix product.
_SCORES, _ROWS = 1 << 22, 16_384
# Rows gathered at a time, 1 MB. Of a run of rows one in so many has to be wanted, or they are gathered.
_GATHERED, _DENSE = 2048, 4
# Where fewer than one view in so many is allowed, their positions are sorted rather than marked among all.
_SPARSE = 16


class MovedError(Exception):
    """A damaged part of the snapshot was read from the catalog: vectors have other positions now."""


class Look(Protocol):
    """A way to look at vectors."""

    def best(self, queries: NDArray[np.float32], fetch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The highest scores and where they are, as `birdsearch.indexer.vectors_lists.best`."""

    def blocks(self, query: NDArray[np.float32]) -> Iterator[Block]:
        """All that is looked at for one query."""


class Picked:
    """Positions that are searched.

    Attributes:
        end: How many positions there are.
        is_filtered: True if views were left out that the index holds.
    """

    def __init__(
        self,
        end: int,
        positions: NDArray[np.int64] | None = None,
        mask: NDArray[np.bool_] | None = None,
        *,
        is_filtered: bool,
    ) -> None:
        self.end = end
        self.is_filtered = is_filtered
        self._positions = positions
        self._mask = mask
        self._count = end
        if mask is not None:
            self._count = int(np.count_nonzero(mask))
        elif positions is not None:
            self._count = len(positions)

    def __len__(self) -> int:
        return self._count

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(end,) bool: which positions are searched."""
        if self._mask is None:
            self._mask = np.ones(self.end, bool)
            if self._positions is not None:
                self._mask[:] = False
                self._mask[self._positions] = True
        return self._mask

    def between(self, start: int, end: int) -> NDArray[np.int64] | None:
        """(n,) int64, rising: those from a position up to another; None for all of them."""
        if self._positions is None and self._mask is not None:
            self._positions = np.flatnonzero(self._mask)
        if self._positions is None:
            return None
        low, high = np.searchsorted(self._positions, [start, end]).tolist()
        return self._positions[low:high]


def picked(
    index: VectorIndex, allowed: NDArray[np.int64] | None, exclude: NDArray[np.int64] | None
) -> Picked:
    """What may be found: all that was not removed, or the allowed, less what is excluded."""
    barred = np.zeros(0, np.int64) if exclude is None else index.positions(exclude)
    if allowed is None and not len(barred):
        return Picked(index.end, index.live, is_filtered=False)
    if allowed is not None and len(allowed) * _SPARSE < index.end:
        positions = np.sort(index.positions(allowed))
        is_first = np.diff(positions, prepend=-1) > 0
        positions = positions if is_first.all() else positions[is_first]
        if len(barred):
            positions = np.setdiff1d(positions, barred, assume_unique=True)
        return Picked(index.end, positions, is_filtered=True)
    mask = np.zeros(index.end, bool)
    if allowed is not None:
        mask[index.positions(allowed)] = True
    else:
        mask[slice(None) if index.live is None else index.live] = True
    mask[barred] = False
    return Picked(index.end, mask=mask, is_filtered=True)


def verify(index: VectorIndex, blocks: NDArray[np.int64] | None) -> None:
    """Verify blocks of the snapshot, all if None, before they are looked at.

    Raises:
        MovedError: Damage was found; pick anew.
    """
    if not index.verify(blocks):
        raise MovedError


def rows_of(
    vectors: NDArray[np.float32], first: int, some: NDArray[np.int64] | None, most: int
) -> Iterator[Block]:
    """Vectors, the first of which is at position `first`, in parts: all, or those that are picked."""
    if some is None:
        for start in range(0, len(vectors), most):
            rows = vectors[start : start + most]
            yield np.arange(first + start, first + start + len(rows)), rows, None
        return
    if not len(some):
        return
    # One buffer for all parts: a part is used before the next is asked for.
    gathered = np.empty((min(most, _GATHERED, len(some)), vectors.shape[1]), np.float32)
    for start in range(0, len(some), len(gathered)):
        part = some[start : start + len(gathered)]
        low, high = int(part[0]) - first, int(part[-1]) - first + 1
        if high - low == len(part):
            yield part, vectors[low:high], None
        elif high - low <= _DENSE * len(part):
            yield part, vectors[low:high], part - first - low
        else:
            rows = gathered[: len(part)]
            # Places are in range; any mode but `raise` writes straight into the buffer.
            np.take(vectors, part - first, axis=0, out=rows, mode="clip")
            yield part, rows, None


class Everything:
    """Looks at all vectors that are picked."""

    def __init__(self, index: VectorIndex, chosen: Picked) -> None:
        self._index = index
        self._picked = chosen

    def verify(self) -> None:
        """Verify what is looked at.

        Raises:
            MovedError: Damage was found; pick anew.
        """
        index, chosen = self._index, self._picked
        if index.base is not None and not index.is_verified:
            some = chosen.between(0, index.start)
            verify(
                index, None if some is None else np.searchsorted(index.base.offsets, some, side="right") - 1
            )

    def best(self, queries: NDArray[np.float32], fetch: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The highest scores and where they are."""
        self.verify()
        return best(queries, self._blocks(max(_ROWS, _SCORES // len(queries))), fetch)

    def blocks(self, query: NDArray[np.float32]) -> Iterator[Block]:  # noqa: ARG002
        """All that is looked at."""
        return self._blocks(_ROWS)

    def _blocks(self, most: int) -> Iterator[Block]:
        index, chosen = self._index, self._picked
        if index.base is not None:
            yield from rows_of(index.base.vectors, 0, chosen.between(0, index.start), most)
        yield from rows_of(index.added, index.start, chosen.between(index.start, chosen.end), most)
