"""The one writer of a catalog, shared by the requests and the job of a service."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from birdsearch.errors import CatalogLockedError
from birdsearch.indexer.catalog import CatalogStore

__all__ = ["SharedWriter"]

# How long a request waits for another one that writes; more than any edit takes.
_WAIT_S = 5.0


class SharedWriter:
    """Holds the catalog's writer lock while anybody in this process writes.

    Requests write one after the other. The job that runs writes beside them: its transactions are short and SQLite
    lets one in at a time, so that a label can be given while an archive is indexed.

    Args:
        read: The catalog as requests read it; no other is written to, should its place be taken.
    """

    def __init__(self, read: CatalogStore) -> None:
        self._read = read
        self._requests = threading.Lock()
        self._lock = threading.Lock()
        self._store: CatalogStore | None = None
        self._users = 0

    @contextlib.contextmanager
    def for_request(self, purpose: str) -> Iterator[CatalogStore]:
        """The catalog, for writing by one request.

        Args:
            purpose: What is written, shown to other processes that find the catalog taken.

        Raises:
            CatalogLockedError: Another process writes to it, or another request for too long.
        """
        if not self._requests.acquire(timeout=_WAIT_S):
            raise CatalogLockedError("another request to this service is writing; try again")
        try:
            with self.for_job(purpose) as store:
                yield store
        finally:
            self._requests.release()

    @contextlib.contextmanager
    def for_job(self, purpose: str) -> Iterator[CatalogStore]:
        """The catalog, for writing by the job that runs, while requests write too.

        Args:
            purpose: As `for_request`.

        Raises:
            CatalogLockedError: Another process writes to it.
            CatalogGoneError: It was deleted or replaced.
        """
        with self._lock:
            if self._store is None:
                self._store = self._opened(purpose)
            self._users += 1
            store = self._store
        try:
            yield store
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._store = None
                    store.close()

    def _opened(self, purpose: str) -> CatalogStore:
        # Before anything is opened, too: to open an older catalog for writing is to bring it up to date.
        self._read.check_is(self._read)
        store = CatalogStore.open(self._read.path, "write", purpose=f"birdsearch serve: {purpose}")
        try:
            self._read.check_is(store)
        except BaseException:
            store.close()
            raise
        return store
