"""What decides which places are hidden: where and when photos were taken, what they belong to, what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.runs import newest_finished
from birdsearch.indexer.catalog.store import Snapshot
from birdsearch.indexer.catalog.verified_labels import labelled_photos

__all__ = [
    "PlacedPhotos",
    "location_key",
    "photo_label_key",
    "photos_predicted",
    "photos_verified",
    "read_copies_aside",
    "read_file_folders",
    "read_last_events",
    "read_placed_photos",
    "read_taxon_names",
    "views_with_vectors",
]

_Key = tuple[object, ...]

# Runs that change no photo, no file, no deployment and no event.
_OF_LABELS = ("label%", "annotate%", "cluster%")
_PHOTOS = "SELECT id, captured_at, latitude, longitude, camera, serial, phash FROM photo ORDER BY id"
_FILES = "SELECT photo_id, root_id, path FROM file WHERE photo_id IS NOT NULL ORDER BY id"
_QUARANTINED = ("planned", "moved", "restored")


def location_key(connection: Snapshot) -> _Key:
    """Return a key that stays the same as long as no photo, file, deployment or event changes."""
    run, photo = schema.run.c, schema.photo.c
    newest = (
        sa.select(run.id, run.outcome)
        .where(*(run.command.not_like(pattern) for pattern in _OF_LABELS))
        .order_by(run.id.desc())
        .limit(1)
    )
    columns = (schema.change.c.seq, photo.id, schema.file.c.id, schema.event.c.run_id, schema.quarantine.c.id)
    key: list[object] = list(connection.execute(sa.select(*map(_largest, columns))).one())
    row = connection.execute(newest).one_or_none()
    key += [None, None] if row is None else [row.id, row.outcome]
    if row is not None and row.outcome is None:
        # It goes on, or was cut short: what it changes of photos shows in no number.
        sums = (sa.func.total(column) for column in (photo.latitude, photo.longitude))
        times = sa.func.total(sa.func.julianday(photo.captured_at))
        key += connection.execute(sa.select(*sums, times, sa.func.count(photo.phash))).one()
    return tuple(key)


def photo_label_key(connection: Snapshot) -> _Key:
    """Return a key that stays the same as long as no label is given, taken back or predicted."""
    annotation, taxon = schema.annotation.c, schema.taxon.c
    newest = newest_finished("label")
    columns = (annotation.id, annotation.undone_run_id, taxon.id, taxon.run_id)
    model = sa.select(schema.meta.c.value).where(schema.meta.c.key == "model")
    count = sa.select(sa.func.count()).select_from(schema.annotation)
    parts = (newest.scalar_subquery(), model.scalar_subquery(), count.scalar_subquery())
    return tuple(connection.execute(sa.select(*parts, *map(_largest, columns))).one())


def _largest(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    return sa.select(sa.func.max(column)).scalar_subquery()


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPhotos:
    """All photos by rising id, those without a live file too.

    Attributes:
        ids: (N,) int64.
        times: (N,) datetime64[s], wall-clock; NaT where unknown.
        degrees: (2, N) float64, latitudes and longitudes; NaN where unknown.
        cameras: Make and model, and serial number or None, of each photo; None where the camera is unknown.
        hashes: (N,) uint64 perceptual hashes, 0 where there is none.
    """

    ids: NDArray[np.int64]
    times: NDArray[np.datetime64]
    degrees: NDArray[np.float64]
    cameras: list[tuple[str, str | None] | None]
    hashes: NDArray[np.uint64]


def read_placed_photos(connection: Snapshot) -> PlacedPhotos:
    """Read where, when and by which camera all photos were taken."""
    # By SQLite's own cursor: SQLAlchemy would take twice as long for rows that are looked at once.
    rows = cursor_of(connection).execute(_PHOTOS).fetchall()
    ids, times, latitudes, longitudes, cameras, serials, hashes = (
        zip(*rows, strict=True) if rows else ((),) * 7
    )
    return PlacedPhotos(
        ids=np.array(ids, dtype=np.int64),
        times=np.array([time or "NaT" for time in times], dtype="datetime64[s]"),
        degrees=np.array([latitudes, longitudes], dtype=np.float64),
        cameras=[
            None if camera is None else (camera, serial)
            for camera, serial in zip(cameras, serials, strict=True)
        ],
        hashes=np.frombuffer(b"".join(one or bytes(8) for one in hashes), ">u8").astype(np.uint64),
    )


def read_file_folders(connection: Snapshot) -> tuple[NDArray[np.int64], list[tuple[int, bytes]]]:
    """Return the photo of each file, (F,) int64, in order of the files, and their folders: root and path in it."""
    files = cursor_of(connection).execute(_FILES).fetchall()
    photo_ids = np.array([row[0] for row in files], dtype=np.int64)
    return photo_ids, [(root_id, path.rpartition(b"/")[0]) for _, root_id, path in files]


def read_last_events(connection: Snapshot) -> NDArray[np.int64]:
    """Return photo, event and sighting, (N, 3) int64, by the newest finished `sightings` run."""
    event = schema.event.c
    newest = newest_finished("sightings")
    rows = connection.execute(
        sa.select(event.photo_id, event.event, event.sighting).where(event.run_id == newest.scalar_subquery())
    ).all()
    return np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 3)


def read_copies_aside(connection: Snapshot) -> NDArray[np.int64]:
    """Return the photos whose files were set aside as copies, each with the one kept for it: (N, 2) int64."""
    row = schema.quarantine.c
    rows = connection.execute(
        sa.select(row.photo_id, row.keeper_id).where(row.state.in_(_QUARANTINED)).distinct()
    ).all()
    return np.array([tuple(pair) for pair in rows], dtype=np.int64).reshape(-1, 2)


def read_taxon_names(connection: Snapshot) -> list[tuple[int, str, str]]:
    """Return the id, the name and the scientific name of each taxon of the catalog."""
    taxon = schema.taxon.c
    rows = connection.execute(sa.select(taxon.id, taxon.name, taxon.scientific_name))
    return [(row.id, row.name, row.scientific_name) for row in rows]


def photos_verified(
    connection: Snapshot, taxon_ids: Sequence[int], photo_ids: Sequence[int] | None
) -> set[int]:
    """Return the photos, of some or all, with a positive or uncertain label of one of the taxa in force."""
    if not taxon_ids:
        return set()
    statement = labelled_photos(taxon_ids, verdicts=("positive", "uncertain"), with_lost=True)
    return set(connection.execute(_of(statement, schema.view.c.photo_id, photo_ids)).scalars())


def photos_predicted(
    connection: Snapshot, photo_ids: Sequence[int] | None
) -> list[tuple[int, str, str | None]]:
    """Return photo, name and species of what the last `label` run said of views, of some photos or all."""
    view, prediction = schema.view.c, schema.prediction.c
    newest = newest_finished("label")
    statement = (
        sa.select(view.photo_id, prediction.name, prediction.species)
        .join(schema.prediction, prediction.view_id == view.id)
        .where(prediction.run_id == newest.scalar_subquery())
    )
    rows = connection.execute(_of(statement, view.photo_id, photo_ids)).all()
    return [(row.photo_id, row.name, row.species) for row in rows]


def views_with_vectors(
    connection: Snapshot, model_id: int, photo_ids: Sequence[int] | None
) -> NDArray[np.int64]:
    """Return view and photo, (V, 2) int64, of the views with a vector of a model, of some photos or all."""
    view, embedding = schema.view.c, schema.embedding.c
    statement = (
        sa.select(view.id, view.photo_id)
        .join(schema.embedding, embedding.view_id == view.id)
        .where(embedding.model_id == model_id)
    )
    rows = connection.execute(_of(statement, view.photo_id, photo_ids)).all()
    return np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)


def _of(
    statement: sa.Select[Any], photo_id: sa.ColumnElement[int], photo_ids: Sequence[int] | None
) -> sa.Select[Any]:
    return statement if photo_ids is None else statement.where(photo_id.in_(photo_ids))
