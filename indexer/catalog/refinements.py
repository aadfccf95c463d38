"""Registered files of refined vectors."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = ["Refinement", "find_refinement", "newest_refinement", "register_refinement"]


@dataclass(frozen=True, slots=True)
class Refinement:
    """A file of refined vectors.

    Attributes:
        model_id: The model of the vectors.
        generation: Number of the file, from 1.
        seq: The last change of the catalog that the vectors contain.
        count: How many vectors there are.
        dim: C.
        parameters: How they were made, as JSON.
        sha256: Hash of the file, hexadecimal.
        file: Its name.
    """

    model_id: int
    generation: int
    seq: int
    count: int
    dim: int
    parameters: str
    sha256: str
    file: str


def find_refinement(store: CatalogStore, model_id: int, seq: int, parameters: str) -> Refinement | None:
    """Return the newest file made of one state of a model's vectors by some parameters, or None."""
    table = schema.refinement.c
    with store.reading() as connection:
        row = connection.execute(
            sa.select(schema.refinement)
            .where(table.model_id == model_id, table.seq == seq, table.parameters == parameters)
            .order_by(table.generation.desc())
            .limit(1)
        ).first()
    if row is None:
        return None
    return Refinement(
        *(row.model_id, row.generation, row.seq, row.n, row.dim, row.parameters, row.sha256, row.file)
    )


def newest_refinement(store: CatalogStore, model_id: int) -> int:
    """Return the last generation of a model's refined vectors, 0 before the first."""
    table = schema.refinement.c
    with store.reading() as connection:
        newest = connection.execute(
            sa.select(sa.func.max(table.generation)).where(table.model_id == model_id)
        ).scalar_one()
    return newest or 0


def register_refinement(store: CatalogStore, refinement: Refinement) -> set[str]:
    """Register a file and forget all of its model but the one before it.

    Args:
        store: A catalog open for writing.
        refinement: The file, complete on the disk.

    Returns:
        The names of all files that are registered now.
    """
    table = schema.refinement.c
    with store.writing() as connection:
        connection.execute(
            sa.insert(schema.refinement).values(
                model_id=refinement.model_id,
                generation=refinement.generation,
                seq=refinement.seq,
                n=refinement.count,
                dim=refinement.dim,
                parameters=refinement.parameters,
                sha256=refinement.sha256,
                file=refinement.file,
                created_at=now(),
            )
        )
        connection.execute(
            sa.delete(schema.refinement).where(
                table.model_id == refinement.model_id, table.generation < refinement.generation - 1
            )
        )
        return set(connection.execute(sa.select(table.file)).scalars())
