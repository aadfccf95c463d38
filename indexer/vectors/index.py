"""The vector index: a follower of the catalog that is mapped from a verified snapshot and catches up.

The catalog's `change` log says which (view, model) pairs are searchable. A `VectorIndex` holds those of one
model up to a `seq`; it can be thrown away and made again from the stored embeddings at any time.

It has two parts. The snapshot is mapped from a file and never changes; what was added since lies beside it in
memory, what was removed since is marked. A new snapshot is written once a hundredth has changed, so that a few
new photos cost a few rows read from the catalog rather than a file written anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog.changes import last_change, latest_changes
from birdsearch.indexer.catalog.damage import damage_warning
from birdsearch.indexer.catalog.embeddings import live_embedded_views, normalised, sift_vectors
from birdsearch.indexer.catalog.snapshots import (
    SnapshotRecord,
    newest_generation,
    read_snapshots,
    register_snapshot,
)
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot
from birdsearch.indexer.vectors.build import EXACT_UP_TO, write_index
from birdsearch.indexer.vectors.nprobe import Nprobe
from birdsearch.indexer.vectors.rows import RowTable
from birdsearch.indexer.vectors.snapshot import IndexSnapshot, Written, read_snapshot, rows_of

__all__ = ["EXACT_UP_TO", "VectorIndex", "normalised"]

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

_FOLDER = "vectors"
# Rows fetched, normalised and written at a time: bounds memory.
_ROWS = 8192
# A snapshot is written anew once one vector in 100 has changed; what is fewer is replayed at every opening.
_CHANGED = 100


class VectorIndex:
    """Unit-norm vectors of one model by view id. One thread at a time may use it.

    A vector has a position: those of the snapshot come first, by view id, then those added since.

    Attributes:
        dim: C.
        model_id: The model whose vectors it holds.
        seq: The last row of the change log that it has seen.
        warnings: What was found wrong with snapshots, for a person.
        base: The snapshot; None if all vectors are in memory.
    """

    def __init__(
        self,
        dim: int,
        model_id: int,
        seq: int,
        base: IndexSnapshot | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.dim = dim
        self.model_id = model_id
        self.seq = seq
        self.warnings = tuple(warnings)
        self._store: CatalogStore | None = None
        self._is_newest = base is not None and not warnings
        self._hold(base)

    def _hold(self, base: IndexSnapshot | None) -> None:
        """Hold what a snapshot holds, and nothing else."""
        self.base = base
        self._added = _faiss.IndexFlatIP(self.dim)
        self._ids = np.zeros(0, np.int64) if base is None else base.ids
        self._gone = np.zeros(len(self._ids), bool)
        self._row_table: RowTable | None = None

    @classmethod
    def of(
        cls, view_ids: NDArray[np.int64], vectors: NDArray[np.float32], model_id: int = 0, seq: int = 0
    ) -> VectorIndex:
        """Return an index of given vectors: (N,) distinct ids and (N, C) float32, unit-norm."""
        found = cls(vectors.shape[1], model_id, seq)
        found.add(view_ids, vectors)
        return found

    @classmethod
    def open(cls, store: CatalogStore, model_id: int, dim: int) -> VectorIndex:
        """Open the newest snapshot of a model that verifies, and catch up; build the index anew without one.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.

        Returns:
            An index that holds exactly what the catalog says. `warnings` names each snapshot that was
            damaged, missing or not of this catalog; it grows where damage is found later.
        """
        warnings = []
        for row in read_snapshots(store, model_id):
            try:
                nprobe = None if row.effort is None else Nprobe.from_json(row.effort)
                written = Written(row.sha256, row.count, nprobe)
                base = read_snapshot(store.path / _FOLDER / row.file, written, dim)
            except (OSError, ValueError, CatalogError) as error:
                warnings.append(f"vector index {row.file}: {error}; it is made again from the catalog")
                continue
            found = cls(dim, model_id, row.seq, base, warnings)
            found._store = store
            found.replay(store)
            return found
        return cls.build(store, model_id, dim, warnings=warnings)

    @classmethod
    def build(
        cls, store: CatalogStore, model_id: int, dim: int, *, warnings: Sequence[str] = ()
    ) -> VectorIndex:
        """Build an index from the stored embeddings alone; a search looks at all of its vectors.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.
            warnings: What to keep as `warnings`.

        Returns:
            An index that holds exactly what the catalog says.
        """
        found = cls(dim, model_id, 0, warnings=warnings)
        found._read_all(store)
        return found

    def _read_all(self, store: CatalogStore) -> None:
        self._hold(None)
        self._is_newest = False
        with store.snapshot() as snapshot:
            self.seq = last_change(snapshot)
            self._read(snapshot, live_embedded_views(snapshot, self.model_id))

    def replay(self, store: CatalogStore) -> int:
        """Catch up with the catalog.

        Args:
            store: An open catalog.

        Returns:
            How many rows of the change log were new.
        """
        with store.snapshot() as snapshot:
            return self.follow(snapshot)

    def follow(self, snapshot: Snapshot) -> int:
        """Catch up with a state of the catalog; nothing happens if the index has seen more than that.

        Args:
            snapshot: A state of the catalog.

        Returns:
            How many rows of the change log were new.
        """
        last = last_change(snapshot)
        if last <= self.seq:
            return 0
        latest, seen = latest_changes(snapshot, self.model_id, self.seq)
        if latest:
            self.remove(np.fromiter(latest, np.int64, len(latest)))
            added = np.array(sorted(view_id for view_id, op in latest.items() if op == "add"), np.int64)
            self._read(snapshot, added)
        self.seq = last
        return seen

    def _read(self, snapshot: Snapshot, view_ids: NDArray[np.int64]) -> None:
        damaged: list[int] = []
        for start in range(0, len(view_ids), _ROWS):
            some = view_ids[start : start + _ROWS]
            vectors, usable, unsound = sift_vectors(snapshot, self.model_id, self.dim, some)
            damaged += unsound
            self.add(some[usable], normalised(vectors[usable]))
        # A damaged row is left out; it must not take the others with it.
        if damaged:
            self.warnings += (damage_warning(snapshot, damaged),)

    def __len__(self) -> int:
        return len(self._gone) - int(np.count_nonzero(self._gone))

    @property
    def start(self) -> int:
        """The position after those of the snapshot."""
        return 0 if self.base is None else len(self.base)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(end,) bool: which positions hold a view that was removed."""
        return self._gone

    @property
    def nprobe(self) -> Nprobe | None:
        """How many lists of the snapshot to look into; None if a search looks at everything."""
        return None if self.base is None else self.base.nprobe

    @property
    def view_ids(self) -> NDArray[np.int64]:
        """(N,) int64, in the order of `vectors`."""
        return self._ids[~self._gone] if self._gone.any() else self._ids

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, C) float32 unit-norm, verified, not to be written: a copy if there is a snapshot."""
        self.verify()
        return self.take(np.flatnonzero(~self._gone))

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return view ids at positions."""
        return np.asarray(self._ids[positions], dtype=np.int64)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors at positions, (n,) -> (n, C), not verified; a view if they are one run in memory."""
        start, added = self.start, rows_of(self._added)
        is_added = positions >= start
        if self.base is None or is_added.all():
            rows = positions - start
            is_run = len(rows) > 0 and bool((np.diff(rows) == 1).all())
            return added[rows[0] : rows[-1] + 1] if is_run else added[rows]
        if not is_added.any():
            return self.base.take(positions)
        vectors = np.empty((len(positions), self.dim), np.float32)
        vectors[is_added] = added[positions[is_added] - start]
        vectors[~is_added] = self.base.take(positions[~is_added])
        return vectors

    def positions(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return positions of views, in the order of their ids as given; those not in the index are left out."""
        if self._row_table is None:
            self._row_table = RowTable(self._ids, np.flatnonzero(~self._gone))
        found = self._row_table.of(np.asarray(view_ids, np.int64))
        return found[found >= 0]

    def add(self, view_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add views that it does not hold: (n,) ids and (n, C) float32, unit-norm."""
        if len(view_ids):
            self._added.add(np.ascontiguousarray(vectors))
            self._ids = np.concatenate([self._ids, view_ids])
            self._gone = np.append(self._gone, np.zeros(len(view_ids), bool))
            self._row_table = None

    def remove(self, view_ids: NDArray[np.int64]) -> None:
        """Remove views; those that it does not hold are ignored."""
        positions = self.positions(view_ids)
        if len(positions):
            self._gone[positions] = True
            self._row_table = None

    def verify(self, lists: NDArray[np.int64] | None = None) -> bool:
        """Verify lists of the snapshot, all if None, that were not verified before.

        Returns:
            True if they are sound. False if they are not and all was read from the catalog, as `warnings` says:
            views have other positions now.

        Raises:
            CatalogError: They are not sound, and the index was not opened from a catalog.
        """
        if self.base is None or self.base.is_sound(lists):
            return True
        warning = f"vector index {self.base.name}: its content is not what was written"
        if self._store is None:
            raise CatalogError(warning)
        self.warnings += (f"{warning}; it is made again from the catalog",)
        self._read_all(self._store)
        return False

    @property
    def is_saved(self) -> bool:
        """True if the newest snapshot holds the same, but for a hundredth that is soon replayed."""
        changed = len(self._ids) - self.start + int(np.count_nonzero(self._gone[: self.start]))
        return self._is_newest and changed * _CHANGED <= self.start

    def save(
        self,
        store: CatalogStore,
        *,
        exact_up_to: int = EXACT_UP_TO,
        on_step: Callable[[], None] = lambda: None,
    ) -> Path:
        """Write a snapshot and register it, and go on with it; the ones before the last are deleted.

        The file is complete, synced and hashed before the catalog knows of it, so that a crash or a full
        disk at any point leaves the snapshot before it in use.

        Args:
            store: A catalog open for writing.
            exact_up_to: Number of vectors beyond which they are put into lists.
            on_step: Called now and then while many are written; what it raises leaves the one before in use.

        Returns:
            The snapshot's path.

        Raises:
            CatalogError: The snapshot cannot be written; the one before stays in use.
        """
        self.verify()
        folder = store.path / _FOLDER
        generation = newest_generation(store, self.model_id) + 1
        path = folder / f"model{self.model_id}-{generation:06d}.faiss"
        temporary = path.with_suffix(".tmp")
        try:
            folder.mkdir(exist_ok=True)
            written = write_index(self, temporary, exact_up_to, on_step)
            temporary.replace(path)
            _sync_folder(folder)
            base = read_snapshot(path, written, self.dim)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CatalogError(
                f"{path}: the vector index could not be written ({error}); photos are safe, and the next run "
                "or `birdsearch rebuild` writes it"
            ) from error
        record = SnapshotRecord(
            model_id=self.model_id,
            generation=generation,
            seq=self.seq,
            count=written.count,
            dim=self.dim,
            sha256=written.sha256,
            file=path.name,
            lists=0 if written.nprobe is None else written.nprobe.count,
            recall=1.0 if written.nprobe is None else written.nprobe.recall,
            effort=None if written.nprobe is None else written.nprobe.to_json(),
        )
        kept = register_snapshot(store, record)
        for stale in folder.iterdir():
            if stale.name not in kept:
                stale.unlink(missing_ok=True)
        self._hold(base)
        self._is_newest, self._store = True, store
        return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
