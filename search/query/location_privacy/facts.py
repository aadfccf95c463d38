"""Where and when all photos of a catalog were taken and what they belong to, read at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.frames import Frames, read_frames
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.query.deployed import Assignment, assign
from birdsearch.search.query.location_privacy.reach import NO_TIME, PhotoFacts, cells_of, standing_cameras
from birdsearch.search.query.sorted_sets import distinct, is_in

__all__ = ["deployed_frames", "facts_key", "labels_key", "read_facts"]

_Key = tuple[object, ...]

# Runs that change no photo, no file, no deployment and no event.
_OF_LABELS = ("label%", "annotate%", "cluster%")
_PHOTOS = "SELECT id, captured_at, latitude, longitude, camera, serial, phash FROM photo ORDER BY id"
_FILES = "SELECT photo_id, root_id, path FROM file WHERE photo_id IS NOT NULL ORDER BY id"
_QUARANTINED = ("planned", "moved", "restored")


def facts_key(connection: sa.Connection) -> _Key:
    """Return what stays the same as long as the facts of `read_facts` do.

    Args:
        connection: An open transaction.
    """
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


def labels_key(connection: sa.Connection) -> _Key:
    """Return what stays the same as long as no label is given, taken back or predicted.

    Args:
        connection: An open transaction.
    """
    annotation, run, taxon = schema.annotation.c, schema.run.c, schema.taxon.c
    newest = sa.select(sa.func.max(run.id)).where(run.command == "label", run.outcome == "done")
    columns = (annotation.id, annotation.undone_run_id, taxon.id, taxon.run_id)
    model = sa.select(schema.meta.c.value).where(schema.meta.c.key == "model")
    count = sa.select(sa.func.count()).select_from(schema.annotation)
    parts = (newest.scalar_subquery(), model.scalar_subquery(), count.scalar_subquery())
    return tuple(connection.execute(sa.select(*parts, *map(_largest, columns))).one())


def _largest(column: sa.Column[Any]) -> sa.ScalarSelect[Any]:
    return sa.select(sa.func.max(column)).scalar_subquery()


def deployed_frames(store: CatalogStore, photo_ids: NDArray[np.int64]) -> tuple[Frames, Assignment] | None:
    """Return the deployments of photos, or None where there are no deployments.

    Args:
        store: An open catalog.
        photo_ids: (N,) int64.
    """
    deployments = read_deployments(store)
    if not deployments:
        return None
    frames = read_frames(store, photo_ids, with_lost=True)
    return frames, assign(deployments, frames)


def read_facts(store: CatalogStore, connection: sa.Connection) -> PhotoFacts:
    """Read the facts of all photos, those without a live file too: they make others hidden.

    Args:
        store: An open catalog; deployments are read from it.
        connection: An open transaction; all else is.
    """
    # By SQLite's own cursor: SQLAlchemy would take twice as long for rows that are looked at once.
    cursor = cursor_of(connection)
    rows = cursor.execute(_PHOTOS).fetchall()
    ids, times, latitudes, longitudes, cameras, serials, hashes = (
        zip(*rows, strict=True) if rows else ((),) * 7
    )
    photo_ids = np.array(ids, dtype=np.int64)
    moments = np.array([time or "NaT" for time in times], dtype="datetime64[s]")
    degrees = np.array([latitudes, longitudes], dtype=np.float64)
    cameras_of = _coded(
        None if camera is None else (camera, serial) for camera, serial in zip(cameras, serials, strict=True)
    )
    files = cursor.execute(_FILES).fetchall()
    folders = _coded((root_id, path.rpartition(b"/")[0]) for _, root_id, path in files)
    folder_rows = places_of(photo_ids, np.array([row[0] for row in files], dtype=np.int64))
    first = np.full(len(photo_ids), -1, np.int64)
    # Written from the last to the first, so that the first file's counts.
    first[folder_rows[::-1]] = folders[::-1]
    standing = standing_cameras(cameras_of, first, degrees[0], degrees[1])
    sites, degrees = _sites(store, photo_ids, degrees)
    return PhotoFacts(
        ids=photo_ids,
        seconds=np.where(np.isnat(moments), NO_TIME, moments.astype(np.int64)),
        cells=cells_of(degrees[0], degrees[1]),
        cameras=cameras_of,
        folder_rows=folder_rows,
        folders=folders,
        hashes=np.frombuffer(b"".join(one or bytes(8) for one in hashes), ">u8").astype(np.uint64),
        joined=_joined(connection, photo_ids),
        fixed=(standing, sites),
        pairs=_pairs(connection, photo_ids),
    )


def places_of(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of the wanted ids is among rising ids that hold it, (n,) int64."""
    return np.searchsorted(ids, wanted)


def _coded(values: Iterable[object]) -> NDArray[np.int64]:
    codes: dict[object, int] = {}
    found = [-1 if value is None else codes.setdefault(value, len(codes)) for value in values]
    return np.array(found, dtype=np.int64)


def _sites(
    store: CatalogStore, photo_ids: NDArray[np.int64], degrees: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The code of each photo's site, and its place, the deployment's where it tells none: (N,), (2, N)."""
    sites = np.full(len(photo_ids), -1, np.int64)
    deployed = deployed_frames(store, photo_ids)
    if deployed is None:
        return sites, degrees
    frames, assignment = deployed
    codes = _coded([*(one.site for one in assignment.deployments), None])
    positions = [(one.latitude, one.longitude) for one in assignment.deployments]
    known = np.array([*positions, (None, None)], dtype=np.float64)[assignment.codes]
    at = places_of(photo_ids, frames.photo_ids)
    sites[at] = codes[assignment.codes]
    of_site = np.full_like(degrees, np.nan)
    of_site[:, at] = known.T
    return sites, np.where(np.isnan(degrees).any(axis=0), of_site, degrees)


def _joined(connection: sa.Connection, photo_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """The event and the sighting of each photo by the newest finished run."""
    event, run = schema.event.c, schema.run.c
    newest = sa.select(sa.func.max(run.id)).where(run.command == "sightings", run.outcome == "done")
    rows = connection.execute(
        sa.select(event.photo_id, event.event, event.sighting).where(event.run_id == newest.scalar_subquery())
    ).all()
    stored = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 3)
    stored = stored[is_in(stored[:, 0], photo_ids)]
    found = []
    for column in (1, 2):
        codes = np.full(len(photo_ids), -1, np.int64)
        named = distinct(stored[:, column])
        codes[places_of(photo_ids, stored[:, 0])] = places_of(named, stored[:, column])
        found.append(codes)
    return tuple(found)


def _pairs(connection: sa.Connection, photo_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of photos whose files were set aside as copies, and of those that were kept for them."""
    row = schema.quarantine.c
    rows = connection.execute(
        sa.select(row.photo_id, row.keeper_id).where(row.state.in_(_QUARANTINED)).distinct()
    ).all()
    pairs = np.array([tuple(pair) for pair in rows], dtype=np.int64).reshape(-1, 2)
    return places_of(photo_ids, pairs[is_in(pairs, photo_ids).all(axis=1)])
