"""Which contents a run has taken on, so that equal files are decoded and embedded once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from birdsearch.errors import PhotoError
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.indexer.decoders import Decoded, DecodeResult, Failed, Known

__all__ = ["Claims"]

_HAS_EMBEDDING = """
    SELECT 1 FROM photo JOIN view ON view.photo_id = photo.id JOIN embedding ON embedding.view_id = view.id
    WHERE photo.digest = ? AND view.kind = 'whole' AND embedding.model_id = ?
"""


_ORIGINAL_CHANGED = PhotoError(
    "decode",
    "copy-failed",
    "another file with the same content changed while it was decoded; the next run takes it up again",
    transient=True,
)


class Claims:
    """Contents by hash: in the catalog, embedded and waiting to be committed, or being decoded.

    Use it as a context manager, which ends its connection to the catalog. `is_known` and `in_order` belong to
    the thread that runs the decoders; `committed` and `release` may be called from any other.

    Args:
        store: An open catalog.
        model_id: A content without an embedding of this model is not known. None, before the catalog has a model,
            knows no content; it has to be set before the first one is committed.
    """

    def __init__(self, store: CatalogStore, model_id: int | None) -> None:
        self._resources = contextlib.ExitStack()
        self._lookup = self._resources.enter_context(store.lookups())
        self.model_id = model_id
        self._lock = threading.Lock()
        self._claimed: set[bytes] = set()
        self._decoding: set[bytes] = set()
        self._waiting: dict[bytes, list[Known]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to the catalog."""
        self._resources.close()

    def is_known(self, digest: bytes) -> bool:
        """Say whether a content needs no decoding; if it does, the caller has it to decode from now on."""
        with self._lock:
            if digest in self._claimed:
                return True
        if self._in_catalog(digest):
            return True
        with self._lock:
            self._claimed.add(digest)
        self._decoding.add(digest)
        return False

    def _in_catalog(self, digest: bytes) -> bool:
        # To its end: a statement that is left halfway holds on to the state of the catalog that it saw.
        return bool(self._lookup.execute(_HAS_EMBEDDING, (digest, self.model_id)).fetchall())

    def in_order(self, result: DecodeResult) -> Iterator[DecodeResult]:
        """Hold back a file until the equal one that is being decoded is done.

        Args:
            result: The next result of the decoders.

        Yields:
            Results that may be written in this order: a `Known` after what makes it known. What equals a
            failed file has failed for the same reason.
        """
        digest = result.digest
        if isinstance(result, Known) and digest in self._decoding:
            self._waiting.setdefault(result.digest, []).append(result)
            return
        yield result
        if digest is None or isinstance(result, Known):
            return
        self._decoding.discard(digest)
        if isinstance(result, Failed):
            self.release(digest)
        for held in self._waiting.pop(digest, ()):
            yield held if isinstance(result, Decoded) else Failed(held.task, digest, result.error)

    def left(self) -> Iterator[Failed]:
        """Files that still wait for an equal one when there is nothing more to decode: they failed with it.

        That one was changed after it was first read, and a later run is to look at all of them again.
        """
        for waiting in self._waiting.values():
            for held in waiting:
                yield Failed(held.task, held.digest, _ORIGINAL_CHANGED)
        self._waiting.clear()

    def release(self, digest: bytes) -> None:
        """A content could not be embedded after all: an equal file is tried for itself."""
        with self._lock:
            self._claimed.discard(digest)

    def committed(self, digests: Iterable[bytes]) -> None:
        """Contents are in the catalog now, which answers for them from here on."""
        with self._lock:
            self._claimed.difference_update(digests)
