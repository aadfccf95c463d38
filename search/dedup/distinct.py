"""Pairs of photos that a person said are no copies of each other, however alike they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.copies import add_distinct_pairs, remove_distinct_pairs
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["reject", "unreject"]

_COMMAND = "dedup reject"
_UNDO_COMMAND = "dedup reject --undo"
# Pairs of this many photos are a hundred thousand rows: a list passed by mistake.
_MOST = 500


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
    return add_distinct_pairs(store, _COMMAND, _pairs(store, photo_ids), who)


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
    return remove_distinct_pairs(store, _UNDO_COMMAND, _pairs(store, photo_ids))


def _pairs(store: CatalogStore, photo_ids: Sequence[int]) -> list[tuple[int, int]]:
    ids = sorted(set(photo_ids))
    if len(ids) < 2:
        raise InvalidInputError(
            "these are one photo: files of the same content are copies, whatever is said; "
            "--reference DIR leaves the files of a folder alone"
        )
    if len(ids) > _MOST:
        raise InvalidInputError(f"{len(ids)} photos were given; at most {_MOST} can be rejected together")
    known = store.photos(ids)
    absent = [photo_id for photo_id in ids if photo_id not in known]
    if absent:
        raise InvalidInputError(f"photo {absent[0]} is not in the catalog")
    return list(itertools.combinations(ids, 2))
