"""The vector index: a follower of the catalog that is mapped from a verified snapshot and catches up.

The catalog's `change` log says which (view, model) pairs are searchable. A `VectorIndex` holds those of one
model up to a `seq`; it can be thrown away and made again from the stored embeddings at any time.

It has two parts. The snapshot is mapped from a file and never changes; what was added since lies beside it in
memory, what was removed since is marked. A new snapshot is written once a hundredth has changed, so that a few
new photos cost a few rows read from the catalog rather than a file written anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import CatalogError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, live_file, now
from birdsearch.indexer.embeddings import normalised, read_vectors
from birdsearch.indexer.vectors_build import EXACT_UP_TO, write_index
from birdsearch.indexer.vectors_file import Snapshot, read_snapshot
from birdsearch.indexer.vectors_held import HeldVectors
from birdsearch.indexer.vectors_lists import Lists

__all__ = ["EXACT_UP_TO", "SnapshotState", "VectorIndex", "normalised", "snapshot_state"]

_FOLDER = "vectors"
# Rows fetched, normalised and written at a time: bounds memory.
_ROWS = 8192
# A snapshot is written anew once one vector in so many has changed; what is fewer is replayed at every opening.
_CHANGED = 100


class VectorIndex(HeldVectors):
    """Unit-norm vectors of one model by view id.

    Searching from several threads is safe; catching up while another thread searches is not.

    Attributes:
        model_id: The model whose vectors it holds.
        seq: The last row of the change log that it has seen.
        warnings: What was found wrong with snapshots, for a person.
    """

    def __init__(
        self, dim: int, model_id: int, seq: int, base: Snapshot | None = None, warnings: Sequence[str] = ()
    ) -> None:
        super().__init__(dim, base)
        self.model_id = model_id
        self.seq = seq
        self.warnings = tuple(warnings)
        self._is_newest = base is not None and not warnings
        self._store: CatalogStore | None = None

    @classmethod
    def of(
        cls, view_ids: NDArray[np.int64], vectors: NDArray[np.float32], model_id: int = 0, seq: int = 0
    ) -> VectorIndex:
        """An index of given vectors: (N,) distinct ids and (N, C) float32, unit-norm."""
        found = cls(vectors.shape[1], model_id, seq)
        found.add(view_ids, vectors)
        return found

    @classmethod
    def open(cls, store: CatalogStore, model_id: int, dim: int) -> VectorIndex:
        """The current vectors of a model: the newest snapshot that verifies, caught up; else made anew.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.

        Returns:
            An index that holds exactly what the catalog says. `warnings` names each snapshot that was
            damaged, missing or not of this catalog; it grows where damage is found later.
        """
        warnings = []
        with store.reading() as connection:
            snapshot = tables.snapshot.c
            rows = connection.execute(
                sa.select(tables.snapshot)
                .where(snapshot.model_id == model_id, snapshot.lists.is_not(None))
                .order_by(snapshot.generation.desc())
            ).all()
        for row in rows:
            try:
                base = read_snapshot(store.path / _FOLDER / row.file, row.sha256, dim, row.n)
            except (OSError, CatalogError) as error:
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
        """The current vectors of a model, from the stored embeddings alone; a search looks at all of them.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.
            warnings: What to keep as `warnings`.

        Returns:
            An index that holds exactly what the catalog says.
        """
        found = cls(dim, model_id, 0, warnings=warnings)
        embedding, file, view = tables.embedding.c, tables.file.c, tables.view.c
        with store.reading() as connection:
            found.seq = _last_seq(connection)
            live = sa.exists().where(file.photo_id == view.photo_id, live_file)
            rows = connection.execute(
                sa.select(embedding.view_id)
                .join(tables.view, view.id == embedding.view_id)
                .where(embedding.model_id == model_id, live)
                .order_by(embedding.view_id)
                .execution_options(yield_per=_ROWS)
            )
            view_ids = np.fromiter((row[0] for row in rows), np.int64)
            found._read(connection, view_ids)
        return found

    def replay(self, store: CatalogStore) -> int:
        """Catch up with the catalog.

        Args:
            store: An open catalog.

        Returns:
            How many rows of the change log were new.
        """
        change = tables.change.c
        with store.reading() as connection:
            last = _last_seq(connection)
            # Only the last word on a view counts: what was added and removed since leaves no trace.
            latest: dict[int, str] = {}
            seen = 0
            if last > self.seq:
                for view_id, op in connection.execute(
                    sa.select(change.view_id, change.op)
                    .where(change.model_id == self.model_id, change.seq > self.seq)
                    .order_by(change.seq)
                ):
                    latest[view_id] = op
                    seen += 1
            if latest:
                self.remove(np.fromiter(latest, np.int64, len(latest)))
                added = np.array(sorted(view_id for view_id, op in latest.items() if op == "add"), np.int64)
                self._read(connection, added)
            self.seq = last
        return seen

    def _read(self, connection: sa.Connection, view_ids: NDArray[np.int64]) -> None:
        self._reserve(len(view_ids))
        damaged = 0
        for start in range(0, len(view_ids), _ROWS):
            some = view_ids[start : start + _ROWS]
            vectors, usable = read_vectors(connection, self.model_id, self.dim, some)
            damaged += len(some) - int(usable.sum())
            self.add(some[usable], normalised(vectors[usable]))
        # A damaged row is left out here and named by `check_catalog`; it must not take the others with it.
        if damaged:
            self.warnings += (f"{damaged} stored vectors are damaged; `birdsearch check` names their photos",)

    @property
    def lists(self) -> Lists | None:
        """The lists of the snapshot; None if a search looks at everything."""
        return None if self.base is None else self.base.lists

    @property
    def is_saved(self) -> bool:
        """True if the newest snapshot holds the same, but for a hundredth that is soon replayed."""
        changed = self._count + int(self._gone[: self.start].sum())
        return self._is_newest and not self._is_damaged and changed * _CHANGED <= self.start

    def _restore(self, view_ids: NDArray[np.int64]) -> None:
        if self._store is not None:
            with self._store.reading() as connection:
                self._read(connection, view_ids)

    def save(self, store: CatalogStore, *, exact_up_to: int = EXACT_UP_TO) -> Path:
        """Write a snapshot and register it, and go on with it; the ones before the last are deleted.

        The file is complete, synced and hashed before the catalog knows of it, so that a crash or a full
        disk at any point leaves the snapshot before it in use.

        Args:
            store: A catalog open for writing.
            exact_up_to: Beyond so many vectors they are put into lists.

        Returns:
            The snapshot's path.

        Raises:
            CatalogError: The snapshot cannot be written; the one before stays in use.
        """
        self.verify()
        folder = store.path / _FOLDER
        snapshot = tables.snapshot.c
        with store.reading() as connection:
            newest = connection.execute(
                sa.select(sa.func.max(snapshot.generation)).where(snapshot.model_id == self.model_id)
            ).scalar_one()
        generation = (newest or 0) + 1
        path = folder / f"model{self.model_id}-{generation:06d}.vectors"
        temporary = path.with_suffix(".tmp")
        try:
            folder.mkdir(exist_ok=True)
            digest = write_index(self, temporary, exact_up_to)
            temporary.replace(path)
            _sync_folder(folder)
            base = read_snapshot(path, digest, self.dim, len(self))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CatalogError(
                f"{path}: the vector index could not be written ({error}); photos are safe, and the next run "
                "or `birdsearch rebuild` writes it"
            ) from error
        with store.writing() as connection:
            connection.execute(
                sa.insert(tables.snapshot).values(
                    model_id=self.model_id,
                    generation=generation,
                    seq=self.seq,
                    n=len(base.ids),
                    dim=self.dim,
                    sha256=digest,
                    file=path.name,
                    created_at=now(),
                    lists=0 if base.lists is None else len(base.lists.centroids),
                    recall=1.0 if base.lists is None else base.lists.recall,
                )
            )
            # The one before is kept: a reader may have chosen it a moment ago.
            connection.execute(
                sa.delete(tables.snapshot).where(
                    snapshot.model_id == self.model_id, snapshot.generation < generation - 1
                )
            )
            kept = set(connection.execute(sa.select(snapshot.file)).scalars())
        for stale in folder.iterdir():
            if stale.name not in kept:
                stale.unlink(missing_ok=True)
        self._hold(base)
        self._is_newest, self._store = True, store
        return path


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """How the newest snapshot of a model is searched.

    Attributes:
        vectors: How many vectors it holds.
        lists: In how many lists they are; 0 if a search looks at all of them.
        recall: Measured share of the true 20 nearest that a search finds; 1.0 if it looks at all.
    """

    vectors: int
    lists: int
    recall: float


def snapshot_state(store: CatalogStore, model_id: int) -> SnapshotState | None:
    """How a model's vectors are searched, as it was registered; None before the first snapshot."""
    snapshot = tables.snapshot.c
    with store.reading() as connection:
        row = connection.execute(
            sa.select(snapshot.n, snapshot.lists, snapshot.recall)
            .where(snapshot.model_id == model_id, snapshot.lists.is_not(None))
            .order_by(snapshot.generation.desc())
            .limit(1)
        ).first()
    return None if row is None else SnapshotState(row.n, row.lists, row.recall)


def _last_seq(connection: sa.Connection) -> int:
    return int(
        connection.execute(sa.select(sa.func.coalesce(sa.func.max(tables.change.c.seq), 0))).scalar_one()
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
