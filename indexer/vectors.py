"""The FAISS follower: a vector index that is read from a verified snapshot and catches up with the catalog.

The catalog's `change` log says which (view, model) pairs are searchable. A `VectorIndex` holds those of one
model up to a `seq`; it can be thrown away and made again from the stored embeddings at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import sqlalchemy as sa

from birdsearch.errors import CatalogError
from birdsearch.indexer import tables
from birdsearch.indexer.catalog import CatalogStore, live_file, now

__all__ = ["VectorIndex", "normalised"]

_log = logging.getLogger(__name__)

_FOLDER = "vectors"
# Rows fetched, normalised and added at a time: bounds the memory of a rebuild.
_ROWS = 10_000


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors scaled to unit length, so that their inner product is the cosine.

    Args:
        vectors: (B, C) float32.

    Returns:
        (B, C) float32, C-contiguous, unit-norm. A zero vector stays zero.
    """
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.ascontiguousarray(wide / np.where(norms == 0.0, 1.0, norms), dtype=np.float32)


class VectorIndex:
    """Unit-norm vectors of one model by view id, exact.

    Searching from several threads is safe; adding while another thread searches is not.

    Attributes:
        index: The FAISS index, inner product, ids are view ids.
        model_id: The model whose vectors it holds.
        seq: The last row of the change log that it has seen.
        warnings: What was found wrong with snapshots while opening, for a person.
        is_saved: True if the newest registered snapshot holds the same.
    """

    def __init__(
        self,
        index: faiss.IndexIDMap2,
        model_id: int,
        seq: int,
        *,
        warnings: Sequence[str] = (),
        is_saved: bool = False,
    ) -> None:
        # FAISS's Python wrappers take arrays where the signatures that type checkers see take pointers.
        self.index: Any = index
        self.model_id = model_id
        self.seq = seq
        self.warnings = tuple(warnings)
        self.is_saved = is_saved

    @classmethod
    def open(cls, store: CatalogStore, model_id: int, dim: int) -> VectorIndex:
        """The current vectors of a model: the newest snapshot that verifies, caught up; else made anew.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.

        Returns:
            An index that holds exactly what the catalog says. `warnings` names each snapshot that was
            damaged, missing or not of this catalog.
        """
        warnings = []
        with store.reading() as connection:
            snapshot = tables.snapshot.c
            rows = connection.execute(
                sa.select(tables.snapshot)
                .where(snapshot.model_id == model_id)
                .order_by(snapshot.generation.desc())
            ).all()
        for row in rows:
            try:
                index = _read_snapshot(store.path / _FOLDER / row.file, row.sha256, dim, row.n)
            except (OSError, RuntimeError, CatalogError) as error:
                warnings.append(f"vector index {row.file}: {error}; it is made again from the catalog")
                continue
            found = cls(index, model_id, row.seq, warnings=warnings, is_saved=not warnings)
            found.replay(store)
            return found
        return cls.build(store, model_id, dim, warnings=warnings)

    @classmethod
    def build(
        cls, store: CatalogStore, model_id: int, dim: int, *, warnings: Sequence[str] = ()
    ) -> VectorIndex:
        """The current vectors of a model, from the stored embeddings alone.

        Args:
            store: An open catalog; reading is enough.
            model_id: The model.
            dim: Its embedding size.
            warnings: What to keep as `warnings`.

        Returns:
            An index that holds exactly what the catalog says.
        """
        found = cls(faiss.IndexIDMap2(faiss.IndexFlatIP(dim)), model_id, 0, warnings=warnings)
        found._fill(store)
        return found

    def _fill(self, store: CatalogStore) -> None:
        embedding, file, view = tables.embedding.c, tables.file.c, tables.view.c
        with store.reading() as connection:
            self.seq = _last_seq(connection)
            live = sa.exists().where(file.photo_id == view.photo_id, live_file)
            rows = connection.execute(
                sa.select(embedding.view_id, embedding.vector)
                .join(tables.view, view.id == embedding.view_id)
                .where(embedding.model_id == self.model_id, live)
                .order_by(embedding.view_id)
                .execution_options(yield_per=_ROWS)
            )
            for part in rows.partitions(_ROWS):
                self._add([row.view_id for row in part], [row.vector for row in part])

    def replay(self, store: CatalogStore) -> int:
        """Catch up with the catalog.

        Args:
            store: An open catalog.

        Returns:
            How many rows of the change log were new.
        """
        change, embedding = tables.change.c, tables.embedding.c
        with store.reading() as connection:
            last = _last_seq(connection)
            # Only the last word on a view counts: what was added and removed since leaves no trace.
            latest: dict[int, str] = {}
            seen = 0
            for row in connection.execute(
                sa.select(change.view_id, change.op)
                .where(change.model_id == self.model_id, change.seq > self.seq)
                .order_by(change.seq)
            ):
                latest[row.view_id] = row.op
                seen += 1
            if latest:
                self.is_saved = False
                self.index.remove_ids(np.fromiter(latest, dtype=np.int64, count=len(latest)))
            added = sorted(view_id for view_id, op in latest.items() if op == "add")
            for ids in _runs(added):
                vectors = {
                    row.view_id: row.vector
                    for row in connection.execute(
                        sa.select(embedding.view_id, embedding.vector).where(
                            embedding.model_id == self.model_id, embedding.view_id.in_(ids)
                        )
                    )
                }
                present = [view_id for view_id in ids if view_id in vectors]
                self._add(present, [vectors[view_id] for view_id in present])
            self.seq = last
        return seen

    def _add(self, view_ids: Sequence[int], blobs: Sequence[bytes]) -> None:
        # A damaged row is left out here and named by `check_catalog`; it must not take the others with it.
        size = 4 * self.index.d
        whole = [(view_id, blob) for view_id, blob in zip(view_ids, blobs, strict=True) if len(blob) == size]
        if len(whole) < len(view_ids):
            self.warnings += (
                f"{len(view_ids) - len(whole)} stored vectors are damaged; `birdsearch check` names their photos",
            )
        if not whole:
            return
        vectors = np.frombuffer(b"".join(blob for _, blob in whole), dtype="<f4").reshape(len(whole), -1)
        ids = np.fromiter((view_id for view_id, _ in whole), dtype=np.int64, count=len(whole))
        self.index.add_with_ids(normalised(vectors), ids)

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def view_ids(self) -> np.ndarray:
        """(N,) int64, in the order of the index."""
        return faiss.vector_to_array(self.index.id_map).astype(np.int64)

    @property
    def vectors(self) -> np.ndarray:
        """(N, C) float32 unit-norm, in the order of the index; a view into its memory, not to be written."""
        flat: Any = faiss.downcast_index(self.index.index)
        if flat.ntotal == 0:
            return np.zeros((0, flat.d), dtype=np.float32)
        stored = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        return np.asarray(stored, dtype=np.float32).reshape(flat.ntotal, flat.d)  # (N * C,) -> (N, C)

    def save(self, store: CatalogStore) -> Path:
        """Write a snapshot and register it; the ones before the last are deleted.

        The file is complete, synced and hashed before the catalog knows of it, so that a crash or a full
        disk at any point leaves the snapshot before it in use.

        Args:
            store: A catalog open for writing.

        Returns:
            The snapshot's path.

        Raises:
            CatalogError: The snapshot cannot be written; the one before stays in use.
        """
        folder = store.path / _FOLDER
        snapshot = tables.snapshot.c
        with store.reading() as connection:
            newest = connection.execute(
                sa.select(sa.func.max(snapshot.generation)).where(snapshot.model_id == self.model_id)
            ).scalar_one()
        generation = (newest or 0) + 1
        path = folder / f"model{self.model_id}-{generation:06d}.faiss"
        temporary = path.with_suffix(".tmp")
        try:
            folder.mkdir(exist_ok=True)
            faiss.write_index(self.index, str(temporary))
            digest = _sync_and_hash(temporary)
            temporary.replace(path)
            _sync_folder(folder)
        except (OSError, RuntimeError) as error:
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
                    n=len(self),
                    dim=self.index.d,
                    sha256=digest,
                    file=path.name,
                    created_at=now(),
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
        self.is_saved = True
        return path


def _last_seq(connection: sa.Connection) -> int:
    return int(
        connection.execute(sa.select(sa.func.coalesce(sa.func.max(tables.change.c.seq), 0))).scalar_one()
    )


def _runs(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _ROWS):
        yield ids[start : start + _ROWS]


def _read_snapshot(path: Path, sha256: str, dim: int, count: int) -> faiss.IndexIDMap2:
    """Read a snapshot after its hash was checked: FAISS trusts the sizes that a file claims."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise CatalogError("its content is not what was written")
    index = faiss.read_index(str(path))
    if not isinstance(index, faiss.IndexIDMap2) or index.d != dim or index.ntotal != count:
        raise CatalogError(f"it does not hold {count} vectors of {dim} dimensions")
    return index


def _sync_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
