"""What an index run asks of files, and how it records those that it could not see or that are gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from birdsearch.indexer.catalog import statements
from birdsearch.indexer.catalog.changes import live_pairs, write_changes
from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.file_metadata import settle_metadata
from birdsearch.indexer.catalog.id_set import IdSet
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = ["files_there", "known_files", "settle_gone", "write_crawl_problems"]

# Rows of files that are gone which are written, and followed in the change log, together.
_GONE_ROWS = 10_000

Heirs = dict[int, list[int]]
"""Ids of new files, in order, by the photo that they show."""


def known_files(
    store: CatalogStore, model_id: int | None, root_id: int, paths: Sequence[bytes]
) -> dict[bytes, tuple[Any, ...]]:
    """Look files of a root up.

    Args:
        store: An open catalog.
        model_id: Whose vector counts.
        root_id: The root.
        paths: Paths relative to it.

    Returns:
        By path: the path, id, photo id, state, failure code, whether that is transient, size, mtime_ns, ctime_ns,
        reading, and whether the photo has a vector. Paths that are not known are left out.
    """
    statement = statements.KNOWN.format(statements.marks(paths))
    with store.reading() as connection:
        return {row[0]: row for row in cursor_of(connection).execute(statement, (model_id, root_id, *paths))}


def files_there(
    store: CatalogStore, blind: Mapping[int, tuple[bytes, ...]], seen: IdSet
) -> Iterator[tuple[int, int, int | None, bool]]:
    """List the files of some roots that the catalog holds as there, by id, in one transaction.

    Args:
        store: An open catalog.
        blind: For each of the roots, the beginnings of paths that a crawl could not look at.
        seen: Ids of files that it saw.

    Yields:
        Root id, file id, photo id or None, and whether the crawl would have seen the file but did not.
    """
    with store.reading() as connection:
        look_up = cursor_of(connection)
        for root_id, file_id, photo_id in cursor_of(connection).execute(statements.THERE):
            if root_id not in blind:
                continue
            is_unseen = file_id not in seen
            if is_unseen and blind[root_id]:
                ((path,),) = look_up.execute(statements.PATH, (file_id,))
                is_unseen = not path.startswith(blind[root_id])
            yield root_id, file_id, photo_id, is_unseen


def write_crawl_problems(
    store: CatalogStore, run_id: int, found: Sequence[tuple[int, bytes, str, str]]
) -> list[int]:
    """Record paths that a crawl could not enter or open, in one transaction.

    Args:
        store: A catalog open for writing.
        run_id: The run.
        found: Root id, path relative to it, failure code and reason of each.

    Returns:
        The file ids of the paths, in order.
    """
    file_ids = []
    with store.writing() as connection:
        cursor = cursor_of(connection)
        for root_id, path, code, reason in found:
            known = cursor.execute(statements.AT, (root_id, path)).fetchone()
            photo_id, *read = (None, None, 0, None) if known is None else known[1:]
            why = ("crawl", code, reason, 1)
            row = (None, root_id, path, "error", photo_id, 0, 0, 0, 0, 0, *why, run_id, *read)
            cursor.execute(statements.UPSERT_FILE, row)
            file_ids.append(cursor.execute(statements.AT, (root_id, path)).fetchone()[0])
    return file_ids


def settle_gone(
    store: CatalogStore,
    run_id: int,
    rows: Sequence[tuple[int, int | None]],
    created: IdSet,
    check: Callable[[Mapping[int, Sequence[int]]], None],
    on_step: Callable[[], None],
) -> tuple[int, int]:
    """Record where files that were not found are now, or that they are missing, in one transaction.

    Each new path takes over the row of one old path of the same content: the file moved.

    Args:
        store: A catalog open for writing.
        run_id: The run.
        rows: File id and photo id of each file that was not found, rising.
        created: Ids of files that this run made.
        check: Called with the photos that other files still show, each with those of these files that the run
            made; what it raises leaves all as it was.
        on_step: Called now and then; likewise.

    Returns:
        How many files moved, and how many are missing.
    """
    with store.writing() as connection:
        heirs = _elsewhere(cursor_of(connection), rows, created)
        check(heirs)
        return _mark_gone(connection, run_id, rows, heirs, on_step)


def _elsewhere(cursor: sqlite3.Cursor, rows: Sequence[tuple[int, int | None]], created: IdSet) -> Heirs:
    """Return the photos that other files than these show, with those of the other files that are new."""
    gone = IdSet()
    for file_id, _ in rows:
        gone.add(file_id)
    heirs: Heirs = {}
    for some in chunks(sorted({photo_id for _, photo_id in rows if photo_id is not None})):
        for file_id, photo_id in cursor.execute(statements.SHOWING.format(statements.marks(some)), some):
            if file_id not in gone:
                heirs.setdefault(photo_id, [])
                if file_id in created:
                    heirs[photo_id].append(file_id)
    return heirs


def _mark_gone(
    connection: sa.Connection,
    run_id: int,
    rows: Sequence[tuple[int, int | None]],
    heirs: Heirs,
    on_step: Callable[[], None],
) -> tuple[int, int]:
    cursor = cursor_of(connection)
    forgotten = [(file_id,) for file_id, photo_id in rows if photo_id is None]
    cursor.executemany("DELETE FROM file WHERE id = ?", forgotten)
    moved_count = missing_count = 0
    # Photo by photo, so that what is held in memory does not grow with what is gone.
    by_photo = sorted((photo_id, file_id) for file_id, photo_id in rows if photo_id is not None)
    for some in chunks(by_photo, _GONE_ROWS):
        on_step()
        photos = {photo_id for photo_id, _ in some}
        before = live_pairs(connection, photos)
        missing = []
        for photo_id, file_id in some:
            if heirs.get(photo_id):
                _move_row(cursor, file_id, heirs[photo_id].pop(0))
                moved_count += 1
            else:
                missing.append((run_id, file_id))
        cursor.executemany(statements.MARK_MISSING, missing)
        missing_count += len(missing)
        settle_metadata(cursor, photos)
        write_changes(connection, before, photos)
    return moved_count, missing_count


def _move_row(cursor: sqlite3.Cursor, file_id: int, heir_id: int) -> None:
    """Let the old row `file_id` describe the file that the new row `heir_id` was made for."""
    heir = cursor.execute(statements.FILE, (heir_id,)).fetchone()
    cursor.execute("DELETE FROM file WHERE id = ?", (heir_id,))
    cursor.execute(statements.REPLACE_FILE, (*heir, file_id))
