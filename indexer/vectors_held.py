"""Unit vectors by view id: those of a snapshot, those added since, less those removed since."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors_file import Snapshot

__all__ = ["HeldVectors"]

# Blocks of rows: bounds memory. Ids up to so many times the number of vectors are looked up in a table.
_ROWS, _SPARSE = 8192, 16
_NOWHERE = -1


class HeldVectors:
    """Unit-norm vectors by view id.

    A vector has a position: those of the snapshot come first, in its order, then those added since. Searching
    from several threads is safe; adding and removing while another thread searches is not.

    Attributes:
        dim: C.
        base: The snapshot, or None.
        start: The position after those of the snapshot.
        mended: How often vectors moved to other positions because damage was found.
        warnings: What was found wrong, for a person.
    """

    def __init__(self, dim: int, base: Snapshot | None = None) -> None:
        self.dim = dim
        self.warnings: tuple[str, ...] = ()
        self.mended = 0
        self._mending = threading.Lock()
        self.base: Snapshot | None
        self._hold(base)

    def _hold(self, base: Snapshot | None) -> None:
        """Hold what a snapshot holds, and nothing else."""
        self.base = base
        self.start = 0 if base is None else len(base.ids)
        self._is_verified = np.zeros(0 if base is None else len(base.checksums), bool)
        self._is_damaged = False
        self._added_ids = np.zeros(0, np.int64)
        self._added = np.zeros((0, self.dim), np.float32)
        self._count = 0
        self._gone = np.zeros(self.start, bool)
        self._live: NDArray[np.int64] | None = None
        self._places: _Places | None = None
        self._every = None if base is None else base.ids

    def __len__(self) -> int:
        return len(self._gone) - int(self._gone.sum()) if self._gone.any() else len(self._gone)

    @property
    def end(self) -> int:
        """How many positions there are, those of removed views included."""
        return len(self._gone)

    @property
    def added(self) -> NDArray[np.float32]:
        """(n, C) float32: the vectors beside the snapshot, which begin at position `len(base.ids)`."""
        return self._added[: self._count]

    @property
    def live(self) -> NDArray[np.int64] | None:
        """Positions that were not removed, rising; None if these are all."""
        if self._live is None and self._gone.any():
            self._live = np.flatnonzero(~self._gone)
        return self._live

    @property
    def view_ids(self) -> NDArray[np.int64]:
        """(N,) int64, in the order of `vectors`."""
        every = self._ids()
        return every if self.live is None else self.ids_at(self.live)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, C) float32 unit-norm, verified, not to be written: a view of the index where that is possible."""
        self.verify()
        if self.live is None and not self._count and self.base is not None:
            return self.base.vectors
        if self.live is None and self.base is None:
            return self.added
        return self.take(np.arange(len(self._gone)) if self.live is None else self.live)

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """View ids at positions."""
        return np.asarray(self._ids()[positions], dtype=np.int64)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors at positions, (n,) -> (n, C), without verifying them."""
        if not self._count and self.base is not None:
            return self.base.vectors[positions]
        if self.base is None:
            return self._added[positions]
        vectors = np.empty((len(positions), self.dim), np.float32)
        is_added = positions >= self.start
        vectors[is_added] = self._added[positions[is_added] - self.start]
        vectors[~is_added] = self.base.vectors[positions[~is_added]]
        return vectors

    def positions(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of views, in the order of their ids as given; those that it does not hold are left out."""
        if self._places is None:
            live = self.live
            self._places = _Places(self._ids(), np.arange(len(self._gone)) if live is None else live)
        found = self._places.of(np.asarray(view_ids, np.int64))
        is_here = found != _NOWHERE
        return found if is_here.all() else found[is_here]

    def _ids(self) -> NDArray[np.int64]:
        if self.base is None:
            return self._added_ids[: self._count]
        if self._every is None:
            self._every = np.concatenate([self.base.ids, self._added_ids[: self._count]])
        return self._every

    def add(self, view_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add views that it does not hold: (n,) ids and (n, C) float32, unit-norm."""
        if not len(view_ids):
            return
        self._reserve(len(view_ids))
        rows = slice(self._count, self._count + len(view_ids))
        self._added_ids[rows], self._added[rows] = view_ids, vectors
        self._count += len(view_ids)
        self._gone = np.append(self._gone, np.zeros(len(view_ids), bool))
        self._live = self._places = self._every = None

    def _reserve(self, more: int) -> None:
        wanted = self._count + more
        if wanted <= len(self._added):
            return
        room = max(wanted, self._count + self._count // 2)
        ids, vectors = np.zeros(room, np.int64), np.zeros((room, self.dim), np.float32)
        ids[: self._count], vectors[: self._count] = self._added_ids[: self._count], self.added
        self._added_ids, self._added = ids, vectors

    def remove(self, view_ids: NDArray[np.int64]) -> None:
        """Remove views; those that it does not hold are ignored."""
        positions = self.positions(view_ids)
        if len(positions):
            self._gone[positions] = True
            self._live = self._places = None

    @property
    def is_verified(self) -> bool:
        """True if every block of the snapshot was verified."""
        return bool(self._is_verified.all())

    def verify(self, blocks: NDArray[np.int64] | None = None) -> bool:
        """Verify blocks of the snapshot that were not verified before; damaged ones are read from the catalog.

        Args:
            blocks: (B,) their numbers; None for all.

        Returns:
            True if they are sound. False if views moved to other positions; `warnings` says why.
        """
        if self.base is None:
            return True
        asked = np.arange(len(self._is_verified)) if blocks is None else np.asarray(blocks)
        asked = np.unique(asked[~self._is_verified[asked]])
        if all(self.base.sound(block) for block in asked.tolist()):
            self._is_verified[asked] = True
            return True
        with self._mending:
            self._mend(self.base)
        return False

    def _mend(self, base: Snapshot) -> None:
        """Read what is damaged from the catalog: all at once, since where one block is damaged others may be."""
        blocks = np.flatnonzero(~self._is_verified)
        damaged = [block for block in blocks.tolist() if not base.sound(block)]
        if damaged:
            rows = np.concatenate([np.arange(*base.offsets[block : block + 2]) for block in damaged])
            rows = rows[~self._gone[rows]]
            self._gone[rows], self._live, self._places, self._is_damaged = True, None, None, True
            warning = (
                f"vector index {base.name}: {len(rows)} of its vectors are not what was written; they are read "
                "from the catalog, and `birdsearch rebuild` writes it anew"
            )
            self.warnings += (warning,)
            self._restore(np.sort(base.ids[rows]))
            self.mended += 1
        self._is_verified[blocks] = True

    def _restore(self, view_ids: NDArray[np.int64]) -> None:
        """Add the vectors of damaged blocks from where they came from."""
        raise NotImplementedError


class _Places:
    """Where each view is: a table as long as the highest id, or a sorted list where ids are too sparse."""

    def __init__(self, view_ids: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        ids = view_ids[positions]
        self._highest = int(ids.max(initial=-1))
        self._table: NDArray[np.int32] | None = None
        if self._highest < _SPARSE * (len(ids) + _ROWS):
            self._table = np.full(self._highest + 2, _NOWHERE, np.int32)
            self._table[ids] = positions
        else:
            order = np.argsort(ids, kind="stable")
            self._ids, self._positions = ids[order], positions[order]

    def of(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of views, -1 for those that are nowhere."""
        inside = view_ids
        if len(inside) and not 0 <= int(inside.min()) <= int(inside.max()) <= self._highest:
            inside = np.where((view_ids >= 0) & (view_ids <= self._highest), view_ids, self._highest + 1)
        if self._table is not None:
            return self._table[inside].astype(np.int64)
        places = np.minimum(np.searchsorted(self._ids, inside), len(self._ids) - 1)
        return np.where(self._ids[places] == inside, self._positions[places], _NOWHERE)
