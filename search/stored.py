"""What a catalog has stored of a photo that is asked about: its embedding, so that it need not be decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.indexer.database import cursor_of
from birdsearch.indexer.lookups import rows_by_id
from birdsearch.indexer.records import Box, ModelRecord

__all__ = ["StoredView", "stored_by_digest", "stored_photos", "stored_views"]

_COLUMNS = """
    SELECT view.photo_id, view.id, view.x, view.y, view.w, view.h, embedding.vector
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
    connection: sa.Connection, record: ModelRecord, photo_ids: Sequence[int]
) -> dict[int, StoredView]:
    """The whole frames of photos, by photo id; ids that do not exist are left out."""
    statement = f"{_COLUMNS} WHERE view.kind = 'whole' AND view.photo_id IN (*)"
    rows = rows_by_id(connection, statement.format(model_id=record.id), photo_ids)
    return {view.photo_id: view for view in _views(record, rows)}


def stored_views(
    connection: sa.Connection, record: ModelRecord, view_ids: Sequence[int]
) -> dict[int, StoredView]:
    """Views by id; ids that do not exist are left out."""
    statement = f"{_COLUMNS} WHERE view.id IN (*)"
    rows = rows_by_id(connection, statement.format(model_id=record.id), view_ids)
    return {view.view_id: view for view in _views(record, rows)}


def stored_by_digest(connection: sa.Connection, record: ModelRecord, digest: bytes) -> StoredView | None:
    """The whole frame of the photo with this content, or None if the catalog has none."""
    of_photo = "(SELECT photo.id FROM photo WHERE photo.digest = ?)"
    statement = _COLUMNS + "WHERE view.kind = 'whole' AND view.photo_id = " + of_photo
    rows = cursor_of(connection).execute(statement.format(model_id=record.id), (digest,))
    return next(iter(_views(record, rows)), None)


def _views(record: ModelRecord, rows: Iterable[tuple[Any, ...]]) -> Iterable[StoredView]:
    for photo_id, view_id, *sides, blob in rows:
        box = Box(*sides)
        embedding = None
        if blob is not None and len(blob) == 4 * record.embedding_size:
            found = np.frombuffer(blob, "<f4").astype(np.float32)
            embedding = found if np.isfinite(found).all() else None
        yield StoredView(photo_id, view_id, None if box.is_whole else box, embedding)
