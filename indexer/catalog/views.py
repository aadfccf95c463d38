"""Facts of the photos behind views, by view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_photo
from birdsearch.indexer.catalog.photos import read_photos, read_views
from birdsearch.indexer.catalog.records import PhotoRecord
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = [
    "Capture",
    "Taken",
    "ViewTimes",
    "photos_of_views",
    "view_captures",
    "view_facts",
    "view_times",
    "views_of_photos",
    "views_taken",
    "whole_views",
]


@dataclass(frozen=True, slots=True)
class Taken:
    """When and where the photo of a view was taken.

    Attributes:
        photo_id: The photo.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
    """

    photo_id: int
    captured_at: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ViewTimes:
    """Times and perceptual hashes of views.

    Attributes:
        view_ids: (N,) int64, rising.
        times: (N,) datetime64[us], wall-clock times; NaT where unknown.
        hashes: (N,) uint64, 0 where there is none.
        has_hash: (N,) bool.
    """

    view_ids: NDArray[np.int64]
    times: NDArray[np.datetime64]
    hashes: NDArray[np.uint64]
    has_hash: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Capture:
    """How the photo of a view was taken, and its hash.

    Attributes:
        photo_id: The photo.
        camera: Make and model, or None.
        serial: Serial number, or None.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        phash: Perceptual hash of 8 bytes, or None.
    """

    photo_id: int
    camera: str | None
    serial: str | None
    captured_at: str | None
    phash: bytes | None


def view_captures(store: CatalogStore, view_ids: Sequence[int]) -> dict[int, Capture]:
    """Return how the photos of views were taken, by view id; ids that do not exist are left out."""
    view, photo = schema.view.c, schema.photo.c
    columns = (photo.camera, photo.serial, photo.captured_at, photo.phash)
    found: dict[int, Capture] = {}
    with store.reading() as connection:
        for ids in chunks(view_ids):
            rows = connection.execute(
                sa.select(view.id, view.photo_id, *columns)
                .join(schema.photo, photo.id == view.photo_id)
                .where(view.id.in_(ids))
            )
            found.update((view_id, Capture(*capture)) for view_id, *capture in rows)
    return found


def view_times(store: CatalogStore) -> ViewTimes:
    """Return times and hashes of all views of photos that have a live file."""
    view, photo = schema.view.c, schema.photo.c
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(view.id, photo.captured_at, photo.phash)
            .join(schema.photo, photo.id == view.photo_id)
            .where(live_photo(photo.id))
            .order_by(view.id)
        ).all()
    return ViewTimes(
        np.array([row.id for row in rows], dtype=np.int64),
        np.array([row.captured_at or "NaT" for row in rows], dtype="datetime64[us]"),
        np.array([int.from_bytes(row.phash or b"") for row in rows], dtype=np.uint64),
        np.array([row.phash is not None for row in rows], dtype=bool),
    )


def views_taken(store: CatalogStore, view_ids: Sequence[int]) -> dict[int, Taken]:
    """Return when and where views were taken, by view id; ids that do not exist are left out."""
    view, photo = schema.view.c, schema.photo.c
    found: dict[int, Taken] = {}
    with store.reading() as connection:
        for ids in chunks(view_ids):
            rows = connection.execute(
                sa.select(view.id, view.photo_id, photo.captured_at, photo.latitude, photo.longitude)
                .join(schema.photo, photo.id == view.photo_id)
                .where(view.id.in_(ids))
            )
            found.update((view_id, Taken(*taken)) for view_id, *taken in rows)
    return found


def photos_of_views(store: CatalogStore, view_ids: Sequence[int]) -> dict[int, PhotoRecord]:
    """Return the photos of views, by view id; ids that do not exist are left out."""
    with store.reading() as connection:
        views = read_views(connection, list(view_ids))
        photos = read_photos(connection, sorted({view.photo_id for view in views.values()}))
    return {view_id: photos[view.photo_id] for view_id, view in views.items()}


def views_of_photos(store: CatalogStore, photo_ids: Sequence[int]) -> list[int]:
    """Return the views of photos, rising; ids of no photo are left out."""
    view = schema.view.c
    found: list[int] = []
    with store.reading() as connection:
        for ids in chunks(photo_ids):
            found += connection.execute(sa.select(view.id).where(view.photo_id.in_(ids))).scalars()
    return sorted(found)


def whole_views(store: CatalogStore, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of some views that are of the whole frame, in the order of each chunk's ids."""
    view = schema.view.c
    kept: list[int] = []
    with store.reading() as connection:
        for ids in chunks(view_ids.tolist()):
            kept += connection.execute(
                sa.select(view.id).where(view.id.in_(ids), view.kind == "whole").order_by(view.id)
            ).scalars()
    return np.array(kept, dtype=np.int64)


def view_facts(store: CatalogStore, view_ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], list[bytes]]:
    """Return the sharpness of the photo of each view, (N,) float64, -inf where unknown; and its digest."""
    view, photo = schema.view.c, schema.photo.c
    found: dict[int, tuple[float | None, bytes]] = {}
    with store.reading() as connection:
        for ids in chunks(view_ids.tolist()):
            for row in connection.execute(
                sa.select(view.id, photo.sharpness, photo.digest)
                .join(schema.photo, photo.id == view.photo_id)
                .where(view.id.in_(ids))
            ):
                found[row.id] = (row.sharpness, row.digest)
    sharpness = [found[view_id][0] for view_id in view_ids.tolist()]
    known = [-np.inf if value is None else value for value in sharpness]
    return np.nan_to_num(np.array(known, np.float64), nan=-np.inf, neginf=-np.inf), [
        found[view_id][1] for view_id in view_ids.tolist()
    ]
