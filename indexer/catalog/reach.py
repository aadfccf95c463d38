"""Which files can be reached now: a root may be on a disk that is not mounted, or its archive may have moved."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["PlacedFile", "Reach", "is_there"]


def is_there(root: bytes) -> bool:
    """Say whether a root is a folder that holds anything; a mount point without its disk is empty.

    A folder that may not be listed is there.
    """
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except PermissionError:
        return True
    except OSError:
        return False


class PlacedFile(NamedTuple):
    """A file of a photo, as the catalog has it.

    Attributes:
        missing: The catalog knows that it is gone.
        root: Its root, absolute.
        path: Relative to that.
    """

    missing: bool
    root: bytes
    path: bytes

    @property
    def absolute(self) -> bytes:
        """Absolute path."""
        return os.path.join(self.root, self.path)  # noqa: PTH118 bytes


class Reach:
    """Puts the files of a photo in the order in which they are to be shown and opened; looks at each root once."""

    def __init__(self) -> None:
        self._roots: dict[bytes, bool] = {}

    def has_root(self, root: bytes) -> bool:
        """Say whether a root is there."""
        if root not in self._roots:
            self._roots[root] = is_there(root)
        return self._roots[root]

    def in_order(self, files: Iterable[PlacedFile]) -> list[PlacedFile]:
        """Order the files of one photo: those that can be reached now, those that cannot, those known to be gone.

        Equal ones go by path. Nothing is looked at where there is no choice.
        """
        known = sorted(files)
        there = [file for file in known if not file.missing]
        if len(there) < 2:
            return known
        gone = known[len(there) :]
        return sorted(there, key=lambda file: (not self._can_reach(file), file)) + gone

    def _can_reach(self, file: PlacedFile) -> bool:
        return self.has_root(file.root) and os.path.lexists(file.absolute)
