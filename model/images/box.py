"""A region of a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Box"]


@dataclass(frozen=True, slots=True)
class Box:
    """A region of a photo, relative to its upright frame: 0..1, origin at the top left."""

    x: float = 0.0
    y: float = 0.0
    w: float = 1.0
    h: float = 1.0

    @property
    def is_whole(self) -> bool:
        """True if the box is the whole frame."""
        return (self.x, self.y, self.w, self.h) == (0.0, 0.0, 1.0, 1.0)

    def corners(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom in whole pixels.

        Each edge goes to the nearest border between pixels, a half upwards; the region keeps at least one pixel.

        Args:
            size: Width and height of the frame in pixels.
        """
        left, right = _edges(self.x, self.w, size[0])
        top, bottom = _edges(self.y, self.h, size[1])
        return left, top, right, bottom


def _edges(start: float, length: float, pixels: int) -> tuple[int, int]:
    low = min(math.floor(start * pixels + 0.5), pixels - 1)
    high = math.floor((start + length) * pixels + 0.5)
    return low, min(max(high, low + 1), pixels)
