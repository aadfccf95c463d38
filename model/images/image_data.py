"""Where in a file its picture is: the byte ranges of the image data, and what else says how they are decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["MOST_RANGES", "ImageData", "MalformedError", "checked_ranges"]

MOST_RANGES = 1 << 20
"""Strips, tiles, chunks and extents of one file that are looked at; a file with more is taken as it is."""
# Ranges may overlap; bytes that are hashed, for each byte of the file, however they do.
_MOST_TIMES = 2


class MalformedError(Exception):
    """A container does not keep to its own rules, so that it is unknown where its picture is."""


@dataclass(frozen=True, slots=True)
class ImageData:
    """The image data of a file.

    Attributes:
        kind: The container.
        ranges: Start and end of each piece, in the order in which they make the picture. Joined, they and the
            facts say where each piece ends: metadata between pieces must make no difference.
        facts: What else decides how they are decoded to pixels, in a form of its own for each container.
        turn: How the container, not its EXIF, says that the picture is turned; empty if it is not.
    """

    kind: str
    ranges: tuple[tuple[int, int], ...]
    facts: bytes = b""
    turn: str = ""


def checked_ranges(ranges: Iterable[tuple[int, int]], size: int) -> tuple[tuple[int, int], ...]:
    """Join ranges that follow each other, and check that they lie in the file.

    Args:
        ranges: Start and end of each; empty ones are left out.
        size: Bytes of the file.

    Raises:
        MalformedError: There are none, one reaches out of the file, or they are too many or overlap too much.
    """
    joined: list[tuple[int, int]] = []
    total = 0
    for count, (start, end) in enumerate(ranges):
        if not 0 <= start <= end <= size or count >= MOST_RANGES:
            raise MalformedError
        total += end - start
        if total > _MOST_TIMES * size:
            raise MalformedError
        if start == end:
            continue
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    if not joined:
        raise MalformedError
    return tuple(joined)
