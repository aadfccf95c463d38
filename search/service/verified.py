"""What photos were verified to show."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import labels_in_force
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = ["verified_names", "views_of"]


def views_of(store: CatalogStore, photo_ids: Sequence[int]) -> list[int]:
    """The views of photos, rising; ids of no photo are left out."""
    view = schema.view.c
    found: list[int] = []
    with store.reading() as connection:
        for ids in chunks(photo_ids):
            found += connection.execute(sa.select(view.id).where(view.photo_id.in_(ids))).scalars()
    return sorted(found)


def verified_names(store: CatalogStore, photo_ids: Sequence[int]) -> dict[int, str]:
    """The taxon that each photo bears a positive label of; of several views, that of the first.

    Args:
        store: An open catalog.
        photo_ids: Ids; photos without such a label are left out.
    """
    found: dict[int, str] = {}
    for label in labels_in_force(store, "positive", photo_ids):
        found.setdefault(label.photo_id, label.name)
    return found
