"""The catalog of a service, opened to be written by its requests and its job."""

from __future__ import annotations

from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["CatalogWriters"]


class CatalogWriters:
    """Opens the catalog that is served for writing, and no other, should its place be taken.

    Requests write one after the other, and beside long work of this process or another: its transactions are short,
    so that a label can be given while an archive is indexed.

    Args:
        read: The catalog as requests read it.
    """

    def __init__(self, read: CatalogStore) -> None:
        self._read = read

    def for_request(self, purpose: str) -> CatalogStore:
        """Open the catalog to change what a person asked to change, in moments.

        Args:
            purpose: What is written, shown to other processes that find the catalog taken.

        Raises:
            CatalogLockedError: Another edit takes too long.
            CatalogGoneError: The catalog was deleted or replaced.
        """
        # Before anything is opened, too: to open an older catalog for writing is to bring it up to date.
        self._read.check_is(self._read)
        return self._checked(
            CatalogStore.open(self._read.path, "edit", purpose=f"birdsearch serve: {purpose}")
        )

    def for_job(self, purpose: str) -> CatalogStore:
        """Open the catalog for long work.

        Args:
            purpose: As `for_request`.

        Raises:
            CatalogLockedError: Another process does long work on it.
            CatalogGoneError: The catalog was deleted or replaced.
        """
        self._read.check_is(self._read)
        return self._checked(
            CatalogStore.open(self._read.path, "write", purpose=f"birdsearch serve: {purpose}")
        )

    def _checked(self, store: CatalogStore) -> CatalogStore:
        try:
            self._read.check_is(store)
        except BaseException:
            store.close()
            raise
        return store
