"""Live photos: those with a live file, which take part.

A photo whose files are all gone keeps its labels, vectors and clusters, and comes back with the file. Until then it
takes no part: it is no hit and no voter, is not judged, clustered or counted. Whatever reads photos, views or
labels for an answer asks one of these conditions, or something that does: `allowed_views`, `labels_in_force`.
"""

from __future__ import annotations

import sqlalchemy as sa

from birdsearch.indexer.catalog import schema

__all__ = ["live_file", "live_photo", "live_view"]

live_file = sa.and_(schema.file.c.photo_id.is_not(None), schema.file.c.state != "missing")
"""SQL: the content of the file is known, and it is not known to be gone. One that could not be read just now is
live."""


def live_photo(photo_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return SQL: the photo of this id has a live file.

    Args:
        photo_id: A column of the statement, such as `tables.photo.c.id`.
    """
    return sa.exists().where(schema.file.c.photo_id == photo_id, live_file)


def live_view(view_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return SQL: the view of this id is one of a photo that has a live file.

    Args:
        view_id: A column of the statement, such as `tables.annotation.c.view_id`.
    """
    view = schema.view.alias("live_view")
    return sa.exists().where(view.c.id == view_id, view.c.photo_id == schema.file.c.photo_id, live_file)
