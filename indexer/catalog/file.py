"""The catalog's SQLite file on disk: whether it is still the one that was opened, and who may write beside it."""

from __future__ import annotations

import os
from pathlib import Path

from birdsearch.errors import CatalogError, CatalogGoneError

__all__ = ["CatalogFile", "Contents", "contents_of"]

Identity = tuple[int, int]
Contents = tuple[int, int, int, int]


class CatalogFile:
    """The file at a path, as it was when this was made.

    Args:
        path: The SQLite file, which exists.

    Raises:
        CatalogError: There is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.identity = _identity(path.stat())
        except OSError as error:
            raise CatalogError(f"{path}: the catalog cannot be opened ({error.strerror})") from error

    def check(self) -> os.stat_result:
        """Refuse a path that leads to another file than the one that was opened.

        Returns:
            What the system says of the file now.

        Raises:
            CatalogGoneError: The file was deleted, moved or replaced.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise CatalogGoneError(
                f"{self.path.parent}: the catalog is gone ({error.strerror}): it was deleted or moved, or "
                "its disk is not there; nothing was written. Bring it back, or start `birdsearch serve` anew"
            ) from error
        if _identity(status) != self.identity:
            raise self.replaced()
        return status

    def replaced(self) -> CatalogGoneError:
        """Return the error for a path that leads to another catalog now."""
        return CatalogGoneError(
            f"{self.path.parent}: the catalog was replaced by another one while it was open; nothing was written. "
            "Open it again (start `birdsearch serve` anew): what was shown before need not be in it"
        )

    @property
    def is_in_writable_folder(self) -> bool:
        """Whether the files that SQLite needs beside this one can be made."""
        return os.access(self.path.parent, os.W_OK)

    @property
    def is_alone(self) -> bool:
        """Whether no process has it open for writing and its write-ahead log is empty."""
        try:
            if self._beside("-wal").stat().st_size:
                return False
        except FileNotFoundError:
            pass
        return not self._beside("-shm").exists()

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def contents_of(status: os.stat_result) -> Contents:
    """Return the parts of a file's status that change when it is written to."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino)
