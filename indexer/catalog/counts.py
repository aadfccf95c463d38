"""How many photos, labels and files a catalog holds, as a service shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_file, live_photo
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labelled_photos

__all__ = ["CatalogSummary", "PhotoCounts", "catalog_summary", "photo_counts"]


@dataclass(frozen=True, slots=True)
class PhotoCounts:
    """Photos that have a live file.

    Attributes:
        photos: How many.
        verified: Those with a positive label in force.
    """

    photos: int
    verified: int


@dataclass(frozen=True, slots=True)
class CatalogSummary:
    """What a catalog holds.

    Attributes:
        counts: Photos that have a live file.
        first: The earliest time of one of them, local, ISO 8601, or None.
        last: The latest time, or None.
        files_missing: Files that were there once.
        cameras: Makes and models, in order.
        photos_of_roots: Photos with a live file in a root, by the root's id; roots without any are left out.
    """

    counts: PhotoCounts
    first: str | None
    last: str | None
    files_missing: int
    cameras: tuple[str, ...]
    photos_of_roots: Mapping[int, int]


def photo_counts(store: CatalogStore) -> PhotoCounts:
    """Return how many photos there are; those without any file left are not counted."""
    with store.reading() as connection:
        return _photo_counts(connection)


def _photo_counts(connection: sa.Connection) -> PhotoCounts:
    photo = schema.photo.c
    every = sa.select(sa.func.count()).select_from(schema.photo).where(live_photo(photo.id))
    verified = every.where(photo.id.in_(labelled_photos(with_lost=False)))
    return PhotoCounts(connection.execute(every).scalar_one(), connection.execute(verified).scalar_one())


def catalog_summary(store: CatalogStore) -> CatalogSummary:
    """Return what a catalog holds."""
    photo, file = schema.photo.c, schema.file.c
    is_live = live_photo(photo.id)
    missing = sa.select(sa.func.count()).select_from(schema.file).where(file.state == "missing")
    cameras = sa.select(photo.camera).where(photo.camera.is_not(None), is_live).distinct()
    of_roots = sa.select(file.root_id, sa.func.count(sa.distinct(file.photo_id))).where(live_file)
    with store.reading() as connection:
        times = sa.select(sa.func.min(photo.captured_at), sa.func.max(photo.captured_at)).where(is_live)
        first, last = connection.execute(times).one()
        return CatalogSummary(
            _photo_counts(connection),
            first,
            last,
            connection.execute(missing).scalar_one(),
            tuple(connection.execute(cameras.order_by(photo.camera)).scalars()),
            {row[0]: row[1] for row in connection.execute(of_roots.group_by(file.root_id))},
        )
