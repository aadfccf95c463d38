"""Photos and views that meet the conditions of a search, decided before the k-NN."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.filters import FILTERS, Folder, Where
from birdsearch.indexer.catalog.live import live_file
from birdsearch.indexer.catalog.store import CatalogStore, Snapshot, chunks
from birdsearch.indexer.catalog.taxa import clade_taxon_ids, find_clade, read_taxonomy
from birdsearch.indexer.catalog.verified_labels import labelled_photos

__all__ = ["allowed_views", "great_circle_km", "photos_of", "rows_allowed", "views_allowed"]

_EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius.
# More than half a cell of `birdsearch.search.query.location_privacy.coarsening`, in degrees.
_COARSE_SLACK = 0.051


def great_circle_km(
    lat: float, lon: float, lats: NDArray[np.float64], lons: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the great-circle distance of places from one place, on a sphere, by the haversine formula.

    Source: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984) 159.

    Args:
        lat: Degrees north.
        lon: Degrees east.
        lats: (N,) degrees north.
        lons: (N,) degrees east.

    Returns:
        (N,) kilometres.
    """
    phi, phis = math.radians(lat), np.radians(lats)
    half_height = np.sin((phis - phi) / 2) ** 2
    half_width = np.sin(np.radians(lons - lon) / 2) ** 2
    chord = half_height + math.cos(phi) * np.cos(phis) * half_width
    return np.asarray(2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0))))


def allowed_views(store: CatalogStore, model_id: int, where: Where) -> NDArray[np.int64]:
    """Return the views that a search with these conditions may find.

    Args:
        store: An open catalog.
        model_id: Views with a vector of this model.
        where: The conditions.

    Returns:
        (N,) int64 view ids, rising. Views of photos whose files are all missing are never among them.

    Raises:
        InvalidInputError: Nothing bears the name of the taxon, or more than one species does.
    """
    with store.reading() as connection:
        return views_allowed(Snapshot(connection), model_id, where)


def views_allowed(connection: Snapshot, model_id: int, where: Where) -> NDArray[np.int64]:
    """Return the views as `allowed_views` does, of a snapshot."""
    view, photo, embedding = schema.view.c, schema.photo.c, schema.embedding.c
    rows = rows_allowed(
        connection,
        sa.select(photo.id, view.id)
        .join(schema.view, view.photo_id == photo.id)
        .join(schema.embedding, embedding.view_id == view.id)
        .where(embedding.model_id == model_id)
        .order_by(view.id),
        where,
    )
    return np.fromiter((row[1] for row in rows), dtype=np.int64, count=len(rows))


def rows_allowed(
    connection: sa.Connection, statement: sa.Select[Any], where: Where
) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement whose photos meet the conditions and are not all missing.

    Args:
        connection: An open transaction.
        statement: It reads `photo`, and the photo's id is its first column.
        where: The conditions.

    Returns:
        The rows in the statement's order; columns after its own are not to be looked at.

    Raises:
        InvalidInputError: Nothing bears the name of the taxon, or more than one species does.
    """
    photo, file = schema.photo.c, schema.file.c
    in_folders = live_file
    if where.under or where.exclude_under:
        roots = [
            (row.id, row.path) for row in connection.execute(sa.select(schema.root.c.id, schema.root.c.path))
        ]
        if where.under:
            in_folders = sa.and_(in_folders, _is_under(roots, where.under))
        if where.exclude_under:
            in_folders = sa.and_(in_folders, sa.not_(_is_under(roots, where.exclude_under)))
    conditions = [
        # Not EXISTS: SQLite would look through the folders again for every photo.
        photo.id.in_(sa.select(file.photo_id).where(in_folders)),
        *_time_conditions(where),
        *_place_conditions(where),
        *_label_conditions(connection, where),
        *_text_conditions(connection, where),
    ]
    statement = statement.where(*conditions)
    if not where.needs_places:
        return connection.execute(statement).all()
    rows = connection.execute(statement.add_columns(photo.latitude, photo.longitude)).all()
    photo_ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    lats = np.fromiter((row[-2] for row in rows), dtype=np.float64, count=len(rows))
    lons = np.fromiter((row[-1] for row in rows), dtype=np.float64, count=len(rows))
    if where.coarse_by is not None:
        lats, lons = where.coarse_by.coarsened(Snapshot(connection), photo_ids, lats, lons)
    return [row for row, met in zip(rows, _in_place(where, lats, lons).tolist(), strict=True) if met]


def _in_place(where: Where, lats: NDArray[np.float64], lons: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which places, (N,) bool, are within `near` and `bbox`."""
    met = np.ones(len(lats), dtype=bool)
    if where.near is not None:
        lat, lon, km = where.near
        met &= great_circle_km(lat, lon, lats, lons) <= km
    if where.bbox is not None:
        south, west, north, east = where.bbox
        met &= (south <= lats) & (lats <= north)
        met &= np.logical_or.reduce([(low <= lons) & (lons <= high) for low, high in _spans(west, east)])
    return met


def _time_conditions(where: Where) -> list[sa.ColumnElement[bool]]:
    captured_at = schema.photo.c.captured_at
    earliest, latest = where.span
    conditions = []
    # ISO 8601 texts of one form order as their times do.
    if earliest is not None:
        conditions.append(captured_at >= earliest.isoformat())
    if latest is not None:
        conditions.append(captured_at <= latest.isoformat())
    return conditions


def _place_conditions(where: Where) -> list[sa.ColumnElement[bool]]:
    latitude, longitude = schema.photo.c.latitude, schema.photo.c.longitude
    conditions: list[sa.ColumnElement[bool]] = []
    # A place that is coarsened may be shown half a cell away.
    slack = 0.0 if where.coarse_by is None else _COARSE_SLACK
    if where.near is not None:
        lat, _, km = where.near
        # A little wider than the circle, so that rounding never loses a place on its rim.
        reach = math.degrees(km / _EARTH_RADIUS_KM) * (1 + 1e-9) + 1e-9 + slack
        conditions += [latitude.between(lat - reach, lat + reach), longitude.is_not(None)]
    if where.bbox is not None:
        south, west, north, east = where.bbox
        conditions += [latitude.between(south - slack, north + slack), longitude.is_not(None)]
        if where.coarse_by is None:
            conditions.append(sa.or_(*(longitude.between(low, high) for low, high in _spans(west, east))))
    return conditions


def _spans(west: float, east: float) -> list[tuple[float, float]]:
    """Return the ranges of longitudes from west to east."""
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    # 180 and -180 are one meridian.
    spans += [(-180.0, -180.0)] if any(high == 180.0 for _, high in spans) else []
    spans += [(180.0, 180.0)] if any(low == -180.0 for low, _ in spans) else []
    return spans


def _label_conditions(connection: sa.Connection, where: Where) -> list[sa.ColumnElement[bool]]:
    photo_id = schema.photo.c.id
    conditions: list[sa.ColumnElement[bool]] = []
    if where.taxon is not None:
        taxonomy = read_taxonomy(connection)
        taxon_ids = clade_taxon_ids(connection, taxonomy, find_clade(taxonomy, where.taxon))
        conditions.append(photo_id.in_(labelled_photos(taxon_ids, with_lost=False)))
    if where.verified is not None:
        has_label = photo_id.in_(labelled_photos(with_lost=False))
        conditions.append(has_label if where.verified else ~has_label)
    return conditions


def _text_conditions(connection: sa.Connection, where: Where) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    for each in FILTERS:
        wanted = getattr(where, each.name)
        if each.column is None or wanted is None:
            continue
        column = schema.photo.c[each.column]
        known = connection.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars()
        # In Python: SQLite folds the case of ASCII only.
        conditions.append(column.in_([text for text in known if _text_matches(wanted, text)]))
    return conditions


def _text_matches(wanted: str, name: str) -> bool:
    pattern = wanted.strip().casefold()
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(name.casefold(), pattern)
    return pattern in name.casefold()


def _is_under(roots: Sequence[tuple[int, bytes]], folders: Sequence[Folder]) -> sa.ColumnElement[bool]:
    """Return SQL for paths that are one of the folders or below one, compared by component as bytes."""
    file = schema.file.c
    conditions: list[sa.ColumnElement[bool]] = []
    for folder in sorted({name for given in folders for name in _absolute_names(given)}):
        for root_id, root in roots:
            if _is_within(root, folder):
                conditions.append(file.root_id == root_id)
            elif _is_within(folder, root):
                path = folder[len(root.rstrip(b"/")) + 1 :]
                # "0" is the byte after "/": the range holds what begins with `path/`, and uses the index.
                below = sa.and_(file.path >= path + b"/", file.path < path + b"0")
                conditions.append(sa.and_(file.root_id == root_id, sa.or_(file.path == path, below)))
    return sa.or_(sa.false(), *conditions)


def _absolute_names(folder: Folder) -> set[bytes]:
    """Return the folder's name as given and with links resolved.

    Roots are stored resolved; a link that was followed below one is not.
    """
    # As bytes, which Path does not take; and `Path.resolve` is not what `abspath` is.
    name = os.path.expanduser(os.fsencode(folder))  # noqa: PTH111
    return {os.path.abspath(name), os.path.realpath(name)}  # noqa: PTH100


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def photos_of(store: CatalogStore, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the photo of each view, (n,) int64; -1 for a view that does not exist."""
    view = schema.view.c
    found = np.full(len(view_ids), -1, np.int64)
    row_of = {view_id: at for at, view_id in enumerate(view_ids.tolist())}
    with store.reading() as connection:
        for some in chunks(view_ids.tolist()):
            for row in connection.execute(sa.select(view.id, view.photo_id).where(view.id.in_(some))):
                found[row_of[row.id]] = row.photo_id
    return found
