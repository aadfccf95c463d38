"""A compact set of row ids."""

from __future__ import annotations

__all__ = ["IdSet"]


class IdSet:
    """A set of row ids in one byte an id."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, row_id: int) -> None:
        """Add an id."""
        if row_id >= len(self._bytes):
            self._bytes.extend(bytes(row_id + 1024 - len(self._bytes)))
        self._bytes[row_id] = 1

    def __contains__(self, row_id: int) -> bool:
        return row_id < len(self._bytes) and self._bytes[row_id] == 1
