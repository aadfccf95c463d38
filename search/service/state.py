"""What a running service holds: the catalog, and what is shared between requests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from birdsearch.errors import CatalogLockedError, CatalogReadOnlyError
from birdsearch.indexer.catalog import CatalogStore
from birdsearch.search.engine import Catalog
from birdsearch.search.service.metrics import Metrics
from birdsearch.search.service.options import ServeOptions
from birdsearch.search.service.paths import ShownPaths

__all__ = ["Service", "ServiceDep", "service_of"]

# How long a request waits for another one that writes; more than any label takes, less than an index run.
_WAIT_TO_WRITE_S = 5.0


class Service:
    """A catalog that is being served. Several threads may use it at once.

    Args:
        options: What it was started with.

    Attributes:
        options: What it was started with.
        catalog: The catalog, opened for reading.
        metrics: What is counted.
        paths: How paths are shown.
        stopping: Set when the service is asked to stop; what streams or waits ends then.

    Raises:
        CatalogError: There is no catalog, or it cannot be used.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.stopping = threading.Event()
        self._writing = threading.Lock()
        self._writes = ""
        with contextlib.ExitStack() as closing:
            self.catalog = closing.enter_context(Catalog.open(options.catalog, "read"))
            self.metrics = Metrics()
            self.paths = ShownPaths(self.store, absolute=options.show_paths)
            self._closing = closing.pop_all()

    @property
    def store(self) -> CatalogStore:
        """The catalog's tables, for reading."""
        return self.catalog.store

    @contextlib.contextmanager
    def writing(self, purpose: str) -> Iterator[CatalogStore]:
        """The catalog opened for writing for as long as the block runs, by one at a time.

        Args:
            purpose: What is written, shown to those who find the catalog taken.

        Raises:
            CatalogReadOnlyError: The service changes nothing.
            CatalogLockedError: Another process, or a job of this one, writes to it.
        """
        if self.options.read_only:
            raise CatalogReadOnlyError("this service is read-only: it was started with --read-only")
        if not self._writing.acquire(timeout=_WAIT_TO_WRITE_S):
            raise CatalogLockedError(f"{self._writes or purpose} of this service is writing; try again later")
        try:
            self._writes = purpose
            with CatalogStore.open(
                self.options.catalog, "write", purpose=f"birdsearch serve: {purpose}"
            ) as store:
                yield store
        finally:
            self._writes = ""
            self._writing.release()

    def path_of(self, path: bytes) -> str:
        """A photo's absolute path as clients see it."""
        return self.paths.shown(path)

    def stop(self) -> None:
        """Ask what streams or waits to end."""
        self.stopping.set()

    def close(self) -> None:
        """Close everything; the service cannot be used afterwards."""
        self.stop()
        self._closing.close()


def service_of(request: Request) -> Service:
    """The service that answers a request."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(service_of)]
