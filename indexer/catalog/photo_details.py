"""Photos with everything that is shown of them: a page of them in a few statements, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import read_vectors
from birdsearch.indexer.catalog.reach import PlacedFile, Reach
from birdsearch.indexer.catalog.records import ModelRecord, Prediction, ViewRecord
from birdsearch.indexer.catalog.runs import newest_finished
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.model.images.box import Box

__all__ = ["FileState", "PhotoDetails", "photo_details"]


@dataclass(frozen=True, slots=True)
class FileState:
    """A file with a photo's content.

    Attributes:
        absolute: Its absolute path.
        state: `present`, `missing` or `error`.
    """

    absolute: bytes
    state: str


@dataclass(frozen=True, slots=True, eq=False)
class PhotoDetails:
    """A photo and what the catalog knows of it.

    Attributes:
        id: Its id.
        width: Pixels, upright.
        height: Pixels, upright.
        format: Format of its file, such as `JPEG`.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        camera: Make and model, or None.
        lens: Lens model, or None.
        files: Its files, those that can be reached first.
        views: Its views, by their ids.
        prediction: What the newest finished `label` run made of the whole frame, or None.
        embedding: (C,) float32, un-normalised, of the whole frame where there is no prediction; else None.
    """

    id: int
    width: int
    height: int
    format: str
    captured_at: str | None
    latitude: float | None
    longitude: float | None
    camera: str | None
    lens: str | None
    files: tuple[FileState, ...]
    views: tuple[ViewRecord, ...]
    prediction: Prediction | None
    embedding: NDArray[np.float32] | None


def photo_details(
    store: CatalogStore, photo_ids: Sequence[int], record: ModelRecord | None
) -> dict[int, PhotoDetails]:
    """Return photos by id; ids that do not exist are left out.

    Args:
        store: An open catalog.
        photo_ids: The ids, each once.
        record: The model whose embeddings are wanted, or None for no embeddings.
    """
    photo = schema.photo.c
    columns = (
        *(photo.id, photo.width, photo.height, photo.format, photo.captured_at),
        *(photo.latitude, photo.longitude, photo.camera, photo.lens),
    )
    with store.reading() as connection:
        rows = {
            row.id: row._asdict()
            for ids in chunks(list(photo_ids))
            for row in connection.execute(sa.select(*columns).where(photo.id.in_(ids)))
        }
        known = list(rows)
        files = _files(connection, known)
        views = _views(connection, known)
        whole = {one.id: one.photo_id for some in views.values() for one in some if one.kind == "whole"}
        predictions = _predictions(connection, list(whole))
        rest = [view_id for view_id in whole if view_id not in predictions]
        vectors = _vectors(connection, record, rest)
    of_photo = {whole[view_id]: one for view_id, one in predictions.items()}
    vector_of = {whole[view_id]: vector for view_id, vector in vectors.items()}
    return {
        photo_id: PhotoDetails(
            **row,
            files=files.get(photo_id, ()),
            views=tuple(views.get(photo_id, ())),
            prediction=of_photo.get(photo_id),
            embedding=vector_of.get(photo_id),
        )
        for photo_id, row in rows.items()
    }


def _files(connection: sa.Connection, photo_ids: Sequence[int]) -> dict[int, tuple[FileState, ...]]:
    file, root = schema.file.c, schema.root.c
    roots = {row.id: row.path for row in connection.execute(sa.select(root.id, root.path))}
    found: defaultdict[int, dict[PlacedFile, str]] = defaultdict(dict)
    for ids in chunks(photo_ids):
        for row in connection.execute(
            sa.select(file.photo_id, file.root_id, file.path, file.state).where(file.photo_id.in_(ids))
        ):
            placed = PlacedFile(row.state == "missing", roots[row.root_id], row.path)
            found[row.photo_id][placed] = row.state
    reach = Reach()
    return {
        photo_id: tuple(FileState(placed.absolute, states[placed]) for placed in reach.in_order(states))
        for photo_id, states in found.items()
    }


def _views(connection: sa.Connection, photo_ids: Sequence[int]) -> dict[int, list[ViewRecord]]:
    view = schema.view.c
    found: defaultdict[int, list[ViewRecord]] = defaultdict(list)
    for ids in chunks(photo_ids):
        for row in connection.execute(
            sa.select(view.id, view.photo_id, view.kind, view.x, view.y, view.w, view.h)
            .where(view.photo_id.in_(ids))
            .order_by(view.id)
        ):
            box = Box(row.x, row.y, row.w, row.h)
            found[row.photo_id].append(ViewRecord(row.id, row.photo_id, row.kind, box))
    return found


def _predictions(connection: sa.Connection, view_ids: Sequence[int]) -> dict[int, Prediction]:
    table = schema.prediction.c
    newest = newest_finished("label")
    columns = [table[name] for name in Prediction.__dataclass_fields__]
    return {
        row.view_id: Prediction(*row)
        for ids in chunks(view_ids)
        for row in connection.execute(
            sa.select(*columns).where(table.run_id == newest.scalar_subquery(), table.view_id.in_(ids))
        )
    }


def _vectors(
    connection: sa.Connection, record: ModelRecord | None, view_ids: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    if record is None or not view_ids:
        return {}
    vectors, usable = read_vectors(connection, record.id, record.embedding_size, view_ids)
    return {view_ids[row]: vectors[row] for row in np.flatnonzero(usable).tolist()}
