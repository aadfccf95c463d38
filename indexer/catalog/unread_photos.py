"""Photos of catalogs made before schema 5: known by the SHA-256 of their files until these are read again.

Their pictures become known one by one, as the next `index` run reads their files. Two of them, or one and a newer
one, that turn out to be one picture are merged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.connection import cursor_of
from birdsearch.indexer.catalog.merging import merge_photos, merged_ids
from birdsearch.indexer.catalog.outcomes import EmbeddedFile, KnownFile
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.vector_bytes import decode_vectors
from birdsearch.model.images.rereading import READING_VERSION

__all__ = ["UnreadPhotos", "has_unread_photos"]

# Two vectors of one picture that was decoded and embedded twice, by whatever runtime, are at least so alike.
_SAME_LOOK = 0.9999


class _Look(NamedTuple):
    """What a photo was when it was embedded."""

    size: tuple[int, int]
    phash: bytes | None
    vector: NDArray[np.float32] | None

    def is_of(self, other: _Look) -> bool:
        """Return whether two photos are one picture, as far as their pixels and vectors tell."""
        if self.size != other.size or self.phash is None or self.phash != other.phash:
            return False
        if self.vector is None or other.vector is None:
            return False
        one, two = self.vector.astype(np.float64), other.vector.astype(np.float64)
        length = float(np.sqrt((one @ one) * (two @ two)))
        return length > 0 and float(one @ two) > _SAME_LOOK * length


def has_unread_photos(store: CatalogStore) -> bool:
    """Return whether a catalog has photos whose picture is not known yet."""
    with store.reading() as connection:
        rows = cursor_of(connection).execute("SELECT 1 FROM photo WHERE reading = 0 LIMIT 1").fetchall()
    return bool(rows)


class UnreadPhotos:
    """The photos of one transaction whose picture is not known yet.

    Args:
        cursor: In a transaction that writes.
        model_id: Whose vectors tell whether two photos are one picture.
        run_id: The run.
    """

    def __init__(self, cursor: sqlite3.Cursor, model_id: int | None, run_id: int) -> None:
        self._cursor = cursor
        self._model_id = model_id
        self._run_id = run_id

    def known_by_sha256(self, items: Sequence[EmbeddedFile | KnownFile]) -> set[int]:
        """Return the photos that are known by the SHA-256 of one of these files."""
        return {found for item in items if (found := self._of_sha256(item)) is not None}

    def read(self, items: Sequence[EmbeddedFile | KnownFile], photo_ids: dict[bytes, int]) -> None:
        """Note the pictures of the photos that some files show, and merge those that are one.

        Args:
            items: Files that were read, in the order in which they are written.
            photo_ids: Photos by their picture's digest; brought up to date.
        """
        for item in items:
            picture = item.digests.picture
            unread = self._photo_of(item, photo_ids.get(picture))
            if unread is None:
                continue
            known = photo_ids.get(picture)
            if known is None:
                self._fill(unread, picture, item.rendering)
            elif known != unread:
                rendering = item.rendering or self._rendering(known)
                keep, gone = sorted((known, unread))
                self._remember(unread)
                merge_photos(self._cursor, keep, gone, self._run_id)
                if keep == unread:
                    self._fill(keep, picture, rendering)
                unread = keep
            photo_ids[picture] = unread

    def _photo_of(self, item: EmbeddedFile | KnownFile, known: int | None) -> int | None:
        """Return the photo without a known picture that a file shows, if any."""
        task = item.task
        before = task.photo_id
        if before is not None:
            before = merged_ids(self._cursor, {before}).get(before, before)
            row = self._rows("SELECT digest FROM photo WHERE id = ? AND reading = 0", before)
            if row and (
                task.is_same or item.digests.sha256 == row[0][0] or self._looks_like(before, item, known)
            ):
                return before
        return self._of_sha256(item)

    def _looks_like(self, before: int, item: EmbeddedFile | KnownFile, known: int | None) -> bool:
        """Return whether a file that has changed since still shows the photo that its path showed.

        An edit between the last run of an older birdsearch and the first of this one leaves no digest to compare.
        """
        if isinstance(item, EmbeddedFile):
            now = _Look((item.photo.width, item.photo.height), item.photo.phash, item.vector)
        elif known is not None:
            now = self._look(known)
        else:
            return False
        return self._look(before).is_of(now)

    def _look(self, photo_id: int) -> _Look:
        ((width, height, phash, size, vector, crc32),) = self._rows(
            "SELECT width, height, phash, embedding_size, vector, crc32 FROM photo "
            "JOIN model ON model.id = ? LEFT JOIN view ON view.photo_id = photo.id AND view.kind = 'whole' "
            "LEFT JOIN embedding ON embedding.view_id = view.id AND embedding.model_id = model.id "
            "WHERE photo.id = ?",
            self._model_id,
            photo_id,
        )
        (found,), (is_sound,) = decode_vectors([vector], [crc32], size)
        return _Look((width, height), phash, found if is_sound else None)

    def _of_sha256(self, item: EmbeddedFile | KnownFile) -> int | None:
        sha256 = item.digests.sha256
        if sha256 is None:
            return None
        row = self._rows("SELECT id FROM photo WHERE digest = ? AND reading = 0", sha256)
        return int(row[0][0]) if row else None

    def _rendering(self, photo_id: int) -> str | None:
        ((rendering,),) = self._rows("SELECT rendering FROM photo WHERE id = ?", photo_id)
        return None if rendering is None else str(rendering)

    def _remember(self, photo_id: int) -> None:
        self._cursor.execute(
            "INSERT OR IGNORE INTO former_digest (digest, photo_id) SELECT digest, id FROM photo WHERE id = ?",
            (photo_id,),
        )

    def _fill(self, photo_id: int, picture: bytes, rendering: str | None) -> None:
        self._remember(photo_id)
        self._cursor.execute(
            "UPDATE photo SET digest = ?, rendering = ?, reading = ? WHERE id = ?",
            (picture, rendering, READING_VERSION, photo_id),
        )

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._cursor.execute(statement, values).fetchall()
