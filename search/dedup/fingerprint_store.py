"""Fingerprints of the photos of a catalog: made when they are first needed, and kept if it can be written."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from birdsearch.errors import CatalogError, CatalogLockedError, CatalogReadOnlyError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore, chunks
from birdsearch.model.images.decode import DecodedPhoto
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.worker.pool import Decoded, DecodePool, DecodeTask, Failed, Verdict
from birdsearch.search.dedup.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint

__all__ = ["FingerprintStore", "StoredFile"]

_INPUT_SIZE = (256, 256)
# Fingerprints that are written together, and that are held at a time where the catalog keeps them.
_BATCH, _HELD = 256, 2048
_CHANGED = "its content changed since it was indexed"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that the catalog holds as present.

    Attributes:
        photo_id: Its photo.
        path: Absolute path.
        size: Bytes, when it was indexed.
        mtime_ns: Time of the last change of its content, when it was indexed.
        is_new: It was indexed, or found changed, by the newest `index` run.
        digest: Digest of the file, or its SHA-256.
        capture: What it says about its photo, where that is another than the photo's row says; see
            `birdsearch.indexer.catalog.file_metadata`.
    """

    photo_id: int
    path: bytes
    size: int
    mtime_ns: int
    is_new: bool = False
    digest: bytes = b""
    capture: str | None = None


class FingerprintStore:
    """Fingerprints by photo id.

    Args:
        store: An open catalog, in which fingerprints are kept, batch by batch, even if it is open for reading.
            Where it cannot be written they are kept in memory, for as long as this object lives.
    """

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._own: dict[int, bytes] = {}
        self._held: OrderedDict[int, Fingerprint] = OrderedDict()

    def get(self, photo_id: int) -> Fingerprint:
        """The fingerprint of a photo that `make` did not name a problem for."""
        found = self._held.get(photo_id)
        if found is None:
            content = self._own.get(photo_id)
            if content is None:
                table = schema.fingerprint.c
                with self._store.reading() as connection:
                    content = connection.execute(
                        sa.select(table.content).where(table.photo_id == photo_id)
                    ).scalar_one()
            found = self._held[photo_id] = Fingerprint.from_bytes(content)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(photo_id)
        return found

    def make(
        self,
        files: dict[int, list[StoredFile]],
        workers: int,
        limits: PhotoLimits,
        progress: Callable[[int, int], None],
    ) -> dict[int, str]:
        """See to it that photos have fingerprints, decoding those that have none.

        A photo is read from the first of its files whose content still is what was indexed.

        Args:
            files: Present files by photo id, in the order in which they are tried.
            workers: Decoder processes.
            limits: What one photo may cost.
            progress: Told how many photos are done, and of how many.

        Returns:
            Why a photo has no fingerprint, by photo id.
        """
        digests = self._without(list(files))
        problems: dict[int, str] = {}
        ready: dict[int, bytes] = {}
        left = {photo_id: list(files[photo_id]) for photo_id in digests}
        done, total = 0, len(left)
        for photo_id, photo, reason in self._decoded(left, digests, workers, limits) if left else ():
            if photo is None:
                problems[photo_id] = reason
                done += not left[photo_id]
            else:
                ready[photo_id] = fingerprint(photo.pixels, photo.width, photo.height).to_bytes()
                problems.pop(photo_id, None)
                done += 1
            if len(ready) >= _BATCH:
                self._keep(ready)
            progress(done, total)
        self._keep(ready)
        return problems | {photo_id: "no file of it is there" for photo_id in digests if not files[photo_id]}

    def _without(self, photo_ids: Sequence[int]) -> dict[int, bytes]:
        """Digests of the photos that have no whole fingerprint of this version, by photo id."""
        photo, table = schema.photo.c, schema.fingerprint.c
        found: dict[int, bytes] = {}
        with self._store.reading() as connection:
            for some in chunks([each for each in photo_ids if each not in self._own]):
                rows = connection.execute(
                    sa.select(photo.id, photo.digest, table.version, table.content)
                    .outerjoin(schema.fingerprint, table.photo_id == photo.id)
                    .where(photo.id.in_(some))
                    .order_by(photo.digest)
                )
                found.update((row.id, row.digest) for row in rows if not _is_whole(row.version, row.content))
        return found

    @staticmethod
    def _decoded(
        left: dict[int, list[StoredFile]], digests: dict[int, bytes], workers: int, limits: PhotoLimits
    ) -> Iterator[tuple[int, DecodedPhoto | None, str]]:
        """Photo id and the photo, or why there is none: from the first files, then the next where those failed."""
        wanted: set[bytes | None] = set(digests.values())
        pool = DecodePool(
            workers=workers,
            input_size=_INPUT_SIZE,
            limits=limits,
            # Another picture than any that is asked for: the file changed, and need not be decoded.
            judge=lambda _, found: Verdict() if wanted & {found.picture, found.sha256} else Verdict.skip(),
        )
        with pool:
            undone = list(left)
            while undone := [photo_id for photo_id in undone if left[photo_id]]:
                tasks = [left[photo_id].pop(0) for photo_id in undone]
                failed = []
                for result in pool.run(
                    DecodeTask(file.photo_id, file.path, file.size, file.mtime_ns, sha256=True)
                    for file in tasks
                ):
                    photo_id: int = result.task.key
                    if isinstance(result, Decoded) and digests[photo_id] in (
                        result.digests.picture,
                        result.digests.sha256,
                    ):
                        yield photo_id, result.photo, ""
                        continue
                    failed.append(photo_id)
                    yield photo_id, None, result.error.reason if isinstance(result, Failed) else _CHANGED
                undone = failed

    def _keep(self, ready: dict[int, bytes]) -> None:
        rows = [
            {"photo_id": photo_id, "version": FINGERPRINT_VERSION, "content": content}
            for photo_id, content in sorted(ready.items())
        ]
        try:
            if rows:
                self._write(rows)
        except (CatalogReadOnlyError, CatalogLockedError):
            self._own |= ready
        ready.clear()

    def _write(self, rows: list[dict[str, object]]) -> None:
        with contextlib.ExitStack() as opened:
            store = self._store
            if not store.writable:
                # For this moment only: whoever only looks for copies is in nobody's way.
                store = opened.enter_context(CatalogStore.open(store.path, "edit", purpose="fingerprints"))
                store.check_is(self._store)
            with store.writing() as connection:
                connection.execute(sa.insert(schema.fingerprint).prefix_with("OR REPLACE"), rows)


def _is_whole(version: int | None, content: bytes | None) -> bool:
    if version != FINGERPRINT_VERSION or content is None:
        return False
    try:
        Fingerprint.from_bytes(content)
    except CatalogError:
        return False
    return True
