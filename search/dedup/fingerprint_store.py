"""Fingerprints of the photos of a catalog: made when they are first needed, and kept if it can be written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from birdsearch.errors import CatalogError, CatalogLockedError, CatalogReadOnlyError
from birdsearch.indexer.catalog.copies import read_fingerprint, read_fingerprints, write_fingerprints
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.decode import DecodedPhoto
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.worker.pool import Decoded, DecodePool, DecodeTask, Failed, Verdict
from birdsearch.search.dedup.files import StoredFile
from birdsearch.search.dedup.fingerprint import FINGERPRINT_VERSION, Fingerprint, fingerprint

__all__ = ["FingerprintStore"]

_INPUT_SIZE = (256, 256)
# Fingerprints that are written together, and that are held at a time where the catalog keeps them.
_BATCH, _HELD = 256, 2048
_CHANGED = "its content changed since it was indexed"


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
        """Return the fingerprint of a photo that `make` named no problem for."""
        found = self._held.get(photo_id)
        if found is None:
            content = self._own.get(photo_id)
            if content is None:
                content = read_fingerprint(self._store, photo_id)
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
        """Make the fingerprints of the photos that have none, by decoding them.

        A photo is read from the first of its files whose content still is what was indexed.

        Args:
            files: Present files by photo id, in the order in which they are tried.
            workers: Decoder processes.
            limits: What one photo may cost.
            progress: Called with how many photos are done, and of how many.

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
        """Return the digests of the photos that have no whole fingerprint of this version, by photo id."""
        unknown = [photo_id for photo_id in photo_ids if photo_id not in self._own]
        return {
            photo_id: stored.digest
            for photo_id, stored in read_fingerprints(self._store, unknown)
            if not _is_whole(stored.version, stored.content)
        }

    @staticmethod
    def _decoded(
        left: dict[int, list[StoredFile]], digests: dict[int, bytes], workers: int, limits: PhotoLimits
    ) -> Iterator[tuple[int, DecodedPhoto | None, str]]:
        """Yield photo ids, each with the photo or why there is none: from its first file, then the next."""
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
        try:
            write_fingerprints(self._store, FINGERPRINT_VERSION, ready)
        except (CatalogReadOnlyError, CatalogLockedError):
            self._own |= ready
        ready.clear()


def _is_whole(version: int | None, content: bytes | None) -> bool:
    if version != FINGERPRINT_VERSION or content is None:
        return False
    try:
        Fingerprint.from_bytes(content)
    except CatalogError:
        return False
    return True
