"""The photos that meet conditions, in order, whole or a page at a time."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.filtered_photos import rows_allowed
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["IdPage", "list_ids", "page_of_ids"]

_LARGEST_ID = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class IdPage:
    """Some photos.

    Attributes:
        ids: Their ids, in order.
        next: What `page_of_ids` takes for those after them, or None at the end.
        total: Photos that meet the conditions.
    """

    ids: tuple[int, ...]
    next: str | None
    total: int


def list_ids(store: CatalogStore, where: Where, sort: str) -> list[int]:
    """Return all photos that meet conditions.

    Args:
        store: An open catalog.
        where: The conditions; photos whose files are all missing never meet them.
        sort: `captured_at` or `id`, with `-` before it the other way round. Photos without a time come last.

    Returns:
        Ids in order.
    """
    with store.reading() as connection:
        rows = rows_allowed(connection, sa.select(schema.photo.c.id).order_by(*_order(sort)), where)
    return [row[0] for row in rows]


def page_of_ids(store: CatalogStore, where: Where, sort: str, limit: int, cursor: str | None) -> IdPage:
    """Return some of the photos that meet conditions, beginning after one of them in their order.

    They begin after a photo, not after a count: while photos are added or leave, none is shown twice and none that
    stays is left out.

    Args:
        store: An open catalog.
        where: The conditions.
        sort: As `list_ids`.
        limit: How many at most.
        cursor: `next` of the page before, or None for the first.

    Raises:
        InvalidInputError: The cursor is none, or of another order.
    """
    photo = schema.photo.c
    statement = sa.select(photo.id, photo.captured_at).order_by(*_order(sort))
    if cursor is not None:
        statement = statement.where(_after(sort, *_decoded(cursor, sort)))
    if not where.needs_places:
        statement = statement.limit(limit + 1)
    with store.reading() as connection:
        rows = rows_allowed(connection, statement, where)
        if cursor is None and len(rows) <= limit:
            total = len(rows)
        elif where.needs_places:
            total = len(rows_allowed(connection, sa.select(photo.id), where))
        else:
            total = rows_allowed(connection, sa.select(sa.func.count(photo.id)), where)[0][0]
    shown = rows[:limit]
    following = _encoded(sort, shown[-1][1], shown[-1][0]) if len(rows) > limit else None
    return IdPage(tuple(row[0] for row in shown), following, total)


def _order(sort: str) -> list[sa.ColumnElement[object]]:
    photo = schema.photo.c
    if sort == "id":
        return [photo.id.asc()]
    if sort == "-id":
        return [photo.id.desc()]
    # As SQLite's index on the times has them: nothing is less than a time, so it comes last the other way round.
    if sort == "captured_at":
        return [photo.captured_at.asc().nulls_last(), photo.id.asc()]
    return [photo.captured_at.desc(), photo.id.desc()]


def _after(sort: str, captured_at: str | None, photo_id: int) -> sa.ColumnElement[bool]:
    """Return SQL: the photo comes later in the order than the one of this time and id."""
    photo = schema.photo.c
    by_id = photo.id < photo_id if sort.startswith("-") else photo.id > photo_id
    if sort.endswith("id"):
        return by_id
    if captured_at is None:
        return sa.and_(photo.captured_at.is_(None), by_id)
    later = photo.captured_at < captured_at if sort.startswith("-") else photo.captured_at > captured_at
    return sa.or_(later, sa.and_(photo.captured_at == captured_at, by_id), photo.captured_at.is_(None))


def _encoded(sort: str, captured_at: str | None, photo_id: int) -> str:
    text = json.dumps([sort, captured_at, photo_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str, sort: str) -> tuple[str | None, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        made_for, captured_at, photo_id = value
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise InvalidInputError("cursor: pass what `next` of the page before was, as it is") from None
    is_whole = isinstance(photo_id, int) and not isinstance(photo_id, bool) and abs(photo_id) <= _LARGEST_ID
    if not is_whole or not isinstance(captured_at, str | None):
        raise InvalidInputError("cursor: pass what `next` of the page before was, as it is")
    if made_for != sort:
        raise InvalidInputError(
            f"cursor: it is of the order {made_for!r}, not {sort!r}; begin again without it"
        )
    return captured_at, photo_id
