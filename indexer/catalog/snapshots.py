"""Registered snapshots of the vector indexes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = [
    "SnapshotRecord",
    "newest_generation",
    "newest_snapshot",
    "read_snapshots",
    "register_snapshot",
]


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A snapshot of a vector index.

    Attributes:
        model_id: The model of its vectors.
        generation: Number of the snapshot, from 1.
        seq: The last change of the catalog that it contains.
        count: How many vectors it holds.
        dim: C.
        sha256: Hash of the file, hexadecimal.
        file: Name of the file.
        lists: In how many inverted lists the vectors are; 0 if a search looks at all of them.
        recall: Measured share of the true 20 nearest that a search finds; 1.0 if it looks at all.
        effort: How many lists to look into, as JSON, or None.
    """

    model_id: int
    generation: int
    seq: int
    count: int
    dim: int
    sha256: str
    file: str
    lists: int
    recall: float
    effort: str | None


def read_snapshots(store: CatalogStore, model_id: int) -> list[SnapshotRecord]:
    """Return the snapshots of a model that can still be read, newest first."""
    with store.reading() as connection:
        return [_record(row) for row in connection.execute(_newest_first(model_id))]


def newest_snapshot(store: CatalogStore, model_id: int) -> SnapshotRecord | None:
    """Return the newest snapshot of a model; None before the first."""
    with store.reading() as connection:
        row = connection.execute(_newest_first(model_id).limit(1)).first()
    return None if row is None else _record(row)


def newest_generation(store: CatalogStore, model_id: int) -> int:
    """Return the last generation of a model's snapshots, 0 before the first."""
    snapshot = schema.snapshot.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(snapshot.generation)).where(snapshot.model_id == model_id)
        ).scalar_one()
    return newest or 0


def register_snapshot(store: CatalogStore, record: SnapshotRecord) -> set[str]:
    """Register a snapshot and forget all of its model but the one before it, which a reader may have chosen.

    Args:
        store: A catalog open for writing.
        record: The snapshot, complete on the disk.

    Returns:
        The names of all files that are registered now.
    """
    snapshot = schema.snapshot.c
    with store.writing() as connection:
        connection.execute(
            sa.insert(schema.snapshot).values(
                model_id=record.model_id,
                generation=record.generation,
                seq=record.seq,
                n=record.count,
                dim=record.dim,
                sha256=record.sha256,
                file=record.file,
                created_at=now(),
                lists=record.lists,
                recall=record.recall,
                effort=record.effort,
            )
        )
        connection.execute(
            sa.delete(schema.snapshot).where(
                snapshot.model_id == record.model_id, snapshot.generation < record.generation - 1
            )
        )
        return set(connection.execute(sa.select(snapshot.file)).scalars())


def _newest_first(model_id: int) -> sa.Select[Any]:
    snapshot = schema.snapshot.c
    return (
        sa.select(schema.snapshot)
        .where(snapshot.model_id == model_id, snapshot.lists.is_not(None))
        .order_by(snapshot.generation.desc())
    )


def _record(row: Any) -> SnapshotRecord:
    return SnapshotRecord(
        *(row.model_id, row.generation, row.seq, row.n, row.dim, row.sha256, row.file),
        *(row.lists, row.recall, row.effort),
    )
