"""Photos that a person said are no copies of each other, however alike they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, now

__all__ = ["DistinctPair", "is_rejected", "reject", "rejected_pairs", "unreject"]

_COMMAND = "dedup reject"
_UNDO_COMMAND = "dedup reject --undo"
# Pairs of this many photos are a hundred thousand rows: a list that somebody passed by mistake.
_MOST = 500


@dataclass(frozen=True, slots=True)
class DistinctPair:
    """Two photos that are no copies of each other, who said so, and when (UTC, ISO 8601)."""

    first_id: int
    second_id: int
    who: str
    at: str


def rejected_pairs(store: CatalogStore) -> list[DistinctPair]:
    """The pairs that were rejected, in order of the photos' ids, the smaller id first."""
    row = schema.distinct_pair.c
    with store.reading() as connection:
        return [
            DistinctPair(*found)
            for found in connection.execute(
                sa.select(row.first_id, row.second_id, row.who, row.at).order_by(row.first_id, row.second_id)
            )
        ]


def is_rejected(store: CatalogStore, one_id: int, other_id: int) -> bool:
    """Whether a person said that two photos are no copies of each other."""
    row = schema.distinct_pair.c
    first, second = sorted((one_id, other_id))
    wanted = sa.select(row.first_id).where(row.first_id == first, row.second_id == second)
    with store.reading() as connection:
        return connection.execute(wanted).first() is not None


def reject(store: CatalogStore, photo_ids: Sequence[int], who: str) -> int:
    """Remember that no two of some photos are copies of each other.

    Args:
        store: A catalog open for writing.
        photo_ids: At least two different photos; of more, every pair is remembered.
        who: Who says so.

    Returns:
        How many pairs were not known yet.

    Raises:
        InvalidInputError: These are not two photos, or far too many, or one is not in the catalog.
    """
    pairs = _pairs(store, photo_ids)
    with store.writing() as connection:
        run_id = start_run(connection, _COMMAND)
        added = 0
        for first, second in pairs:
            insert = sqlite.insert(schema.distinct_pair).values(
                first_id=first, second_id=second, who=who, at=now(), run_id=run_id
            )
            added += connection.execute(insert.on_conflict_do_nothing()).rowcount
        finish_run(connection, run_id, {"pairs": added})
    return added


def unreject(store: CatalogStore, photo_ids: Sequence[int]) -> int:
    """Forget that some photos are no copies of each other.

    Args:
        store: A catalog open for writing.
        photo_ids: At least two different photos; of more, every pair is forgotten.

    Returns:
        How many pairs were known.

    Raises:
        InvalidInputError: As `reject`.
    """
    pairs = _pairs(store, photo_ids)
    row = schema.distinct_pair.c
    with store.writing() as connection:
        run_id = start_run(connection, _UNDO_COMMAND)
        removed = 0
        for first, second in pairs:
            removed += connection.execute(
                sa.delete(schema.distinct_pair).where(row.first_id == first, row.second_id == second)
            ).rowcount
        finish_run(connection, run_id, {"pairs": removed})
    return removed


def _pairs(store: CatalogStore, photo_ids: Sequence[int]) -> list[tuple[int, int]]:
    ids = sorted(set(photo_ids))
    if len(ids) < 2:
        raise InvalidInputError(
            "these are one photo: files of the same content are copies, whatever is said; "
            "--reference DIR leaves the files of a folder alone"
        )
    if len(ids) > _MOST:
        raise InvalidInputError(f"{len(ids)} photos were given; at most {_MOST} can be rejected together")
    absent = [photo_id for photo_id in ids if photo_id not in store.photos(ids)]
    if absent:
        raise InvalidInputError(f"photo {absent[0]} is not in the catalog")
    return list(itertools.combinations(ids, 2))
