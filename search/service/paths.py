"""Paths of photos as the service shows them: relative to the root, with its name before it."""

from __future__ import annotations

import os
import threading

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["ShownPaths"]


class ShownPaths:
    """Paths as they are shown, and back.

    Args:
        store: The catalog.
        absolute: Show absolute paths.
    """

    def __init__(self, store: CatalogStore, *, absolute: bool = False) -> None:
        self._store = store
        self._absolute = absolute
        self._lock = threading.Lock()
        self._names: dict[bytes, str] = {}
        self._read()

    def _read(self) -> dict[bytes, str]:
        """Return root path -> name, which no other root has; roots are looked up anew."""
        names: dict[bytes, str] = {}
        for _, path in sorted(self._store.roots()):
            plain = display_path(os.path.basename(path.rstrip(b"/")) or b"root")  # noqa: PTH119 bytes
            name, number = plain, 1
            while name in names.values():
                number += 1
                name = f"{plain} ({number})"
            names[path] = name
        with self._lock:
            self._names = names
        return names

    def names(self) -> dict[bytes, str]:
        """Return what is shown for each root, by its absolute path."""
        return dict(self._read())

    def known(self) -> dict[str, str] | None:
        """Return absolute path -> shown path, for roots and the catalog; None if paths are shown as they are."""
        if self._absolute:
            return None
        with self._lock:
            names = self._names
        return {
            **{display_path(path): name for path, name in names.items()},
            str(self._store.path): self._store.path.name,
        }

    def shown(self, path: bytes) -> str:
        """Return a photo's absolute path as clients see it.

        Args:
            path: As the catalog has it; empty for a photo that has no file.

        Returns:
            Printable text, such as `archive/2024/a.jpg`.
        """
        if self._absolute or not path:
            return display_path(path)
        names = self._names
        root = self._root_of(path, names)
        if root is None:
            names = self._read()
            root = self._root_of(path, names)
        if root is None:
            return display_path(os.path.basename(path))  # noqa: PTH119 bytes
        inside = path[len(root.rstrip(b"/")) :].lstrip(b"/")
        name = names[root]
        return f"{name}/{display_path(inside)}" if inside else name

    def absolute(self, shown: str) -> bytes:
        """Return the absolute path of a folder or file that a client names.

        Args:
            shown: As `shown` gave it, or an absolute path.

        Returns:
            The path. What is under no root is taken as it is, and so matches no photo.
        """
        if shown.startswith("/"):
            return os.fsencode(shown)
        name, _, inside = shown.strip("/").partition("/")
        for path, known in self._read().items():
            if known == name:
                return os.path.join(path, os.fsencode(inside)) if inside else path  # noqa: PTH118 bytes
        return os.fsencode(f"/{shown}")

    @staticmethod
    def _root_of(path: bytes, roots: dict[bytes, str]) -> bytes | None:
        inside = [root for root in roots if path == root or path.startswith(root.rstrip(b"/") + b"/")]
        return max(inside, key=len, default=None)
