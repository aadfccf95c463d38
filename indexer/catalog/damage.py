"""Messages about damaged vectors: which photos they are of, and what mends them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.photos import read_photos, rows_by_id
from birdsearch.indexer.catalog.records import PhotoRecord

__all__ = ["damage_warning", "name_photos", "warn_of_damage"]

log = logging.getLogger(__name__)

# Photos named in one warning; `birdsearch check` names all.
_NAMED = 5


def warn_of_damage(connection: sa.Connection, view_ids: Sequence[int]) -> None:
    """Log which photos have a damaged vector, each once for a connection.

    Args:
        connection: An open transaction.
        view_ids: Views whose stored vector is damaged, of any model.
    """
    if not view_ids:
        return
    named: set[int] = connection.info.setdefault("damaged_vectors", set())
    fresh = sorted(set(view_ids) - named)
    named.update(fresh)
    if fresh:
        log.warning("%s", damage_warning(connection, fresh))


def damage_warning(connection: sa.Connection, view_ids: Sequence[int]) -> str:
    """Return a warning about damaged vectors: which photos they are of, and how to repair them.

    Args:
        connection: An open transaction.
        view_ids: Views whose stored vector is damaged.
    """
    names = name_photos(connection, view_ids[:_NAMED])
    more = f" and {len(view_ids) - _NAMED} more" if len(view_ids) > _NAMED else ""
    count = "the stored vector is" if len(view_ids) == 1 else f"{len(view_ids)} stored vectors are"
    return (
        f"{count} damaged and left out: {', '.join(names)}{more}; the next `birdsearch index` embeds "
        f"{'it' if len(view_ids) == 1 else 'them'} again"
    )


def name_photos(connection: sa.Connection, view_ids: Sequence[int]) -> list[str]:
    """Return the path and the id of the photo of each view, for a message; views of one photo name it once."""
    rows = rows_by_id(connection, "SELECT photo_id FROM view WHERE id IN (*)", view_ids)
    photo_ids = sorted({photo_id for (photo_id,) in rows})
    photos = read_photos(connection, photo_ids)
    return [
        f"{display_path(photos[photo_id].path)} (photo {photo_id})"
        if _has_path(photos, photo_id)
        else f"photo {photo_id}"
        for photo_id in photo_ids
    ]


def _has_path(photos: Mapping[int, PhotoRecord], photo_id: int) -> bool:
    return photo_id in photos and photos[photo_id].path != b""
