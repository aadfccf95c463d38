"""How far a photo may be reduced while it is decoded, and how that is made up for.

A network looks at 256 x 256 pixels; a camera's photo has a hundred times as many. libjpeg can leave most of the
inverse cosine transform out and give each block of 8 x 8 pixels as 4 x 4, 2 x 2 or one, the mean. What is left is
then resized as the whole picture would have been. Two things keep the result next to that of the whole picture:

- The reduced picture ends within its last pixel where the width is no multiple of the scale. The edges are given
  to the resizing as fractions, so that nothing shifts.
- A mean over squares takes a little off the finest detail that the network sees: for a square of 1/r pixels of
  the network's input, 1 - (pi f / r)^2 / 6 is left at f cycles a pixel. A three-tap sharpening along each axis
  with the weight 1 / (24 r^2) puts that back, in the brightness: colour is stored more coarsely in most JPEGs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from birdsearch.errors import InvalidInputError

__all__ = ["DECODE_MODES", "Need", "check_mode", "jpeg_scale", "reduced_by", "sharpened"]

DECODE_MODES = ("scaled", "full", "preview")
"""How a photo is decoded: reduced as far as the network allows, in full, or from the camera's own preview."""

# Pixels that must be left for each of the network's, by the scale of the JPEG decoder. At 1/8 the decoder gives
# exact means; at 1/2 and 1/4 it folds fine patterns back a little.
_LEFT = {8: 1.45, 4: 1.75, 2: 1.75}
_LEFT_BY_MEANS = 1.75
# NOTE: 1 would be exact for the lowest frequencies. A little more suits the whole band better.
_STRENGTH = 1.2
_SHIFT = 9


@dataclass(frozen=True, slots=True)
class Need:
    """The input size, decode mode and region that a photo is decoded for.

    Attributes:
        size: (height, width) of the network's input.
        mode: One of `DECODE_MODES`.
        region: (width, height) of the part of the upright frame that is looked at, each in 0..1.
    """

    size: tuple[int, int]
    mode: str = "scaled"
    region: tuple[float, float] = (1.0, 1.0)

    @property
    def is_whole(self) -> bool:
        """The whole frame is looked at."""
        return min(self.region) >= 1.0

    def left(self, width: float, height: float) -> float:
        """Return the pixels for each of the network's, along the axis that has fewer.

        Args:
            width: Width of the whole upright frame in pixels.
            height: Its height.
        """
        return min(width * self.region[0] / self.size[1], height * self.region[1] / self.size[0])


def check_mode(mode: str) -> str:
    """Return a decode mode.

    Raises:
        InvalidInputError: It is none of `DECODE_MODES`.
    """
    if mode not in DECODE_MODES:
        raise InvalidInputError(f"decode mode {mode!r} is none of {', '.join(DECODE_MODES)}")
    return mode


def jpeg_scale(need: Need, width: int, height: int) -> int:
    """Return the greatest of 8, 4, 2 and 1 by which a JPEG may be reduced while it is decoded.

    Args:
        need: What for.
        width: Width of the upright frame in pixels.
        height: Its height.
    """
    left = need.left(width, height)
    return next((scale for scale, least in _LEFT.items() if left / scale >= least), 1)


def reduced_by(left: float) -> int:
    """Return by which whole number a decoded picture may be reduced by means before it is resized.

    Args:
        left: Pixels for each of the network's, along the axis that has fewer.
    """
    return max(1, int(left / _LEFT_BY_MEANS))


def sharpened(image: Image.Image, across: float, down: float) -> Image.Image:
    """Put back what means over squares have taken off, in the brightness.

    Args:
        image: RGB, of the network's input size.
        across: Squares for each of its pixels horizontally, at least 1.
        down: And vertically.

    Returns:
        RGB, of the same size.
    """
    values = np.asarray(image.convert("L"), np.int16)
    # Weights of at most 26 / 512, so that 2 * 2 * 255 * 26 fits 16 bits.
    weights = [round((1 << _SHIFT) * _STRENGTH / (24 * ratio**2)) for ratio in (down, across)]
    total = np.full_like(values, 1 << (_SHIFT - 1))
    for axis, weight in enumerate(weights):
        moved = values.swapaxes(0, axis)
        detail = 2 * moved
        detail[1:] -= moved[:-1]
        detail[:-1] -= moved[1:]
        # The picture goes on beyond its edge as it ends.
        detail[0] -= moved[0]
        detail[-1] -= moved[-1]
        detail *= weight
        total += detail.swapaxes(0, axis)
    total >>= _SHIFT
    # (H, W, 3) + (H, W, 1)
    pixels = np.asarray(image) + total[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
