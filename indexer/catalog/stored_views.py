"""Views with their stored embeddings, so that a photo of the catalog that is asked about need not be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.damage import warn_of_damage
from birdsearch.indexer.catalog.photos import rows_by_id
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.vector_bytes import decode_vectors
from birdsearch.model.images.box import Box

__all__ = ["StoredView", "stored_by_digest", "stored_photos", "stored_views"]

_COLUMNS = """
    SELECT view.photo_id, view.id, view.x, view.y, view.w, view.h, embedding.vector, embedding.crc32
    FROM view LEFT JOIN embedding ON embedding.view_id = view.id AND embedding.model_id = {model_id}
"""


@dataclass(frozen=True, slots=True, eq=False)
class StoredView:
    """A view and its embedding.

    Attributes:
        photo_id: The photo.
        view_id: The view.
        box: The region of it, None for the whole frame.
        embedding: (C,) float32, un-normalised; None if there is none by the model, or it is damaged.
    """

    photo_id: int
    view_id: int
    box: Box | None
    embedding: NDArray[np.float32] | None


def stored_photos(
    store: CatalogStore, record: ModelRecord, photo_ids: Sequence[int]
) -> dict[int, StoredView]:
    """Return the whole frames of photos, by photo id; ids that do not exist are left out.

    Args:
        store: An open catalog.
        record: The model whose embeddings are wanted.
        photo_ids: The ids.
    """
    statement = f"{_COLUMNS} WHERE view.kind = 'whole' AND view.photo_id IN (*)"
    with store.reading() as connection:
        rows = rows_by_id(connection, statement.format(model_id=record.id), photo_ids)
        return {view.photo_id: view for view in _views(connection, record, list(rows))}


def stored_views(store: CatalogStore, record: ModelRecord, view_ids: Sequence[int]) -> dict[int, StoredView]:
    """Return views by id; ids that do not exist are left out.

    Args:
        store: An open catalog.
        record: The model whose embeddings are wanted.
        view_ids: The ids.
    """
    statement = f"{_COLUMNS} WHERE view.id IN (*)"
    with store.reading() as connection:
        rows = rows_by_id(connection, statement.format(model_id=record.id), view_ids)
        return {view.view_id: view for view in _views(connection, record, list(rows))}


def stored_by_digest(store: CatalogStore, record: ModelRecord, digests: Sequence[bytes]) -> StoredView | None:
    """Return the whole frame of the photo with one of some digests, or None if the catalog has none.

    Args:
        store: An open catalog.
        record: The model whose embedding is wanted.
        digests: The digest of a picture, and the SHA-256 of its file, by which photos that were indexed before
            schema 5 may be known.
    """
    marks = ", ".join("?" * len(digests))
    of_photo = f"(SELECT photo.id FROM photo WHERE photo.digest IN ({marks}))"  # noqa: S608
    statement = _COLUMNS + "WHERE view.kind = 'whole' AND view.photo_id IN " + of_photo
    with store.reading() as connection:
        rows = cursor_of(connection).execute(statement.format(model_id=record.id), digests)
        return next(iter(_views(connection, record, rows.fetchall())), None)


def _views(
    connection: sa.Connection, record: ModelRecord, rows: Sequence[tuple[Any, ...]]
) -> list[StoredView]:
    vectors, is_sound = decode_vectors(
        [row[-2] for row in rows], [row[-1] for row in rows], record.embedding_size
    )
    found, damaged = [], []
    for (photo_id, view_id, *sides, blob, _), vector, sound in zip(
        rows, vectors, is_sound.tolist(), strict=True
    ):
        box = Box(*sides)
        found.append(StoredView(photo_id, view_id, None if box.is_whole else box, vector if sound else None))
        if blob is not None and not sound:
            damaged.append(view_id)
    warn_of_damage(connection, damaged)
    return found
