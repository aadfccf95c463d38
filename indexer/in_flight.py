"""Pictures in flight: those that a run has taken on, so that equal ones are decoded and embedded once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog.records import FileTask
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.decode import FileDigests
from birdsearch.model.images.rereading import is_current
from birdsearch.model.images.worker.pool import Decoded, DecodeResult, Failed, Known, Verdict

__all__ = ["InFlight"]

_EMBEDDED = """
    SELECT photo.id, photo.reading, photo.rendering FROM photo
    JOIN view ON view.photo_id = photo.id JOIN embedding ON embedding.view_id = view.id
    WHERE view.kind = 'whole' AND embedding.model_id = ? AND photo.{}
"""
_BY_PICTURE = _EMBEDDED.format("digest = ? AND photo.reading > 0")
_UNREAD_BY_SHA256 = _EMBEDDED.format("digest = ? AND photo.reading = 0")
_UNREAD_BY_ID = _EMBEDDED.format("id = ? AND photo.reading = 0")
_SAME_FILE = "SELECT reading FROM file WHERE photo_id = ? AND digest = ? ORDER BY reading DESC LIMIT 1"
_UNREAD_SIZES = "SELECT DISTINCT size FROM photo WHERE reading = 0"

_ORIGINAL_CHANGED = PhotoError(
    "decode",
    "copy-failed",
    "another file with the same content changed while it was decoded; the next run takes it up again",
    transient=True,
)


class InFlight:
    """Pictures by digest: in the catalog, embedded and waiting to be committed, or being decoded.

    Use it as a context manager, which ends its connection to the catalog. `judge`, `wants_sha256` and `in_order`
    belong to the thread that runs the decoders; `committed` and `release` may be called from any other.

    Args:
        store: An open catalog.
        model_id: A picture without an embedding of this model is not known. None, before the catalog has a model,
            knows no picture; it has to be set before the first one is committed.
    """

    def __init__(self, store: CatalogStore, model_id: int | None) -> None:
        self._resources = contextlib.ExitStack()
        self._lookup = self._resources.enter_context(store.lookups())
        self.model_id = model_id
        self._lock = threading.Lock()
        # The digest of the file that is decoded for each picture.
        self._picked: dict[bytes, bytes] = {}
        self._decoding: set[bytes] = set()
        self._waiting: dict[bytes, list[Known]] = {}
        # Sizes of the photos whose picture is not known yet: a file of another size is none of them.
        self._unread = frozenset(row[0] for row in self._rows(_UNREAD_SIZES))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to the catalog."""
        self._resources.close()

    def wants_sha256(self, task: FileTask) -> bool:
        """Return whether a file may be one that the catalog knows by its SHA-256 alone."""
        return not task.is_same and task.found.size in self._unread

    def judge(self, task: FileTask, digests: FileDigests) -> Verdict:
        """Say what has to be done with a file; if it is to be decoded, the caller has that to do from now on."""
        with self._lock:
            picked = self._picked.get(digests.picture)
        if picked is not None:
            return Verdict.skip() if picked == digests.file else Verdict.see()
        known = self._rows(_BY_PICTURE, self.model_id, digests.picture)
        if known:
            ((photo_id, reading, rendering),) = known
            same_file = self._rows(_SAME_FILE, photo_id, digests.file)
            is_asked = task.reading is not None and not is_current(task.reading)
            if same_file and is_current(same_file[0][0]) and not is_asked:
                return Verdict.skip()
            return Verdict.see(reading, rendering)
        if self._is_unread(task, digests):
            return Verdict.see(0)
        with self._lock:
            self._picked[digests.picture] = digests.file
        self._decoding.add(digests.picture)
        return Verdict()

    def _is_unread(self, task: FileTask, digests: FileDigests) -> bool:
        if (
            task.is_same
            and task.photo_id is not None
            and self._rows(_UNREAD_BY_ID, self.model_id, task.photo_id)
        ):
            return True
        sha256 = digests.sha256
        return sha256 is not None and bool(self._rows(_UNREAD_BY_SHA256, self.model_id, sha256))

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        # To its end: a statement that is left halfway holds on to the state of the catalog that it saw.
        return self._lookup.execute(statement, values).fetchall()

    def in_order(self, result: DecodeResult) -> Iterator[DecodeResult]:
        """Hold back a file until the one with the same picture that is being decoded is done.

        Args:
            result: The next result of the decoders.

        Yields:
            Results that may be written in this order: a `Known` after what makes it known. What equals a
            failed file has failed for the same reason.
        """
        digests = result.digests
        if digests is None:
            yield result
            return
        picture = digests.picture
        if isinstance(result, Known) and picture in self._decoding:
            self._waiting.setdefault(picture, []).append(result)
            return
        yield result
        if isinstance(result, Known):
            return
        self._decoding.discard(picture)
        if isinstance(result, Failed):
            self.release(digests)
        for held in self._waiting.pop(picture, ()):
            yield held if isinstance(result, Decoded) else Failed(held.task, held.digests, result.error)

    def left(self) -> Iterator[Failed]:
        """Yield a failure for each file that waits for an equal one when there is nothing more to decode.

        The equal one was changed after it was first read, and a later run is to look at all of them again.
        """
        for waiting in self._waiting.values():
            for held in waiting:
                yield Failed(held.task, held.digests, _ORIGINAL_CHANGED)
        self._waiting.clear()

    def release(self, digests: FileDigests) -> None:
        """Drop a picture that could not be embedded, so that an equal file is tried for itself."""
        with self._lock:
            if self._picked.get(digests.picture) == digests.file:
                del self._picked[digests.picture]

    def committed(self, digests: Iterable[FileDigests]) -> None:
        """Drop pictures that the catalog holds now, where `judge` finds them from here on."""
        with self._lock:
            for one in digests:
                self._picked.pop(one.picture, None)
