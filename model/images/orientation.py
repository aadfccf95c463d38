"""EXIF orientations: how a stored picture is turned upright, and where its frame lies then."""

from __future__ import annotations

from PIL import Image

__all__ = ["QUARTER_TURNS", "orientation", "orientation_number", "turned_frame"]

_TAG_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = frozenset(_TURNS[number] for number in (5, 6, 7, 8))
"""Turns that swap width and height."""
# Those that bring the right edge to the left, and the lower edge to the top.
_FROM_RIGHT = frozenset(_TURNS[number] for number in (2, 3, 6, 7))
_FROM_BELOW = frozenset(_TURNS[number] for number in (3, 4, 7, 8))


def orientation(exif: Image.Exif | None) -> Image.Transpose | None:
    """Return the turn that makes a picture upright, or None if none does or the EXIF is broken."""
    return _TURNS.get(orientation_number(exif))


def orientation_number(exif: Image.Exif | None) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where it is missing, invalid or the EXIF is broken."""
    if exif is None:
        return 1
    try:
        value = exif.get(_TAG_ORIENTATION)
        return value if isinstance(value, int) and value in _TURNS else 1
    except Exception:
        return 1


def turned_frame(
    end: tuple[float, float], size: tuple[int, int], turn: Image.Transpose | None
) -> tuple[float, float, float, float]:
    """Return where a picture lies in its turned image, if it began at 0, 0 and ended at `end` before.

    Args:
        end: Width and height of the picture before the turn, in pixels and parts of them.
        size: (width, height) of the image after it.
        turn: The turn.

    Returns:
        Left, top, right and bottom in pixels of the turned image.
    """
    width, height = end[::-1] if turn in QUARTER_TURNS else end
    left = size[0] - width if turn in _FROM_RIGHT else 0.0
    top = size[1] - height if turn in _FROM_BELOW else 0.0
    return left, top, left + width, top + height
