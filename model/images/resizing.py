"""From a decoded photo to the network's input, bit for bit what the network was trained with.

Bicubic with antialiasing, aspect not kept, scaled to 0..1 and normalised. Only Pillow and numpy are
needed, so decoding processes stay small.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.model.images.photo import LoadedPhoto
from birdsearch.model.images.scaling import reduced_by, sharpened

__all__ = ["resize", "resize_loaded"]

_Edges = tuple[float, float, float, float]


def resize(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an upright RGB photo to the network's input size.

    Args:
        image: RGB image.
        size: (height, width) in pixels, each at least 1.

    Returns:
        (H, W, 3) uint8, C-contiguous.

    Raises:
        InvalidInputError: If the image is not RGB or the size is not positive.
    """
    return np.array(_bicubic(image, size), dtype=np.uint8, order="C")


def _bicubic(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if image.mode != "RGB":
        raise InvalidInputError(f"the image must be RGB, got {image.mode}; convert it first")
    if height < 1 or width < 1:
        raise InvalidInputError(f"the size must be at least 1 x 1, got {height} x {width}")
    return image.resize((width, height), Image.Resampling.BICUBIC)


def resize_loaded(
    loaded: LoadedPhoto,
    size: tuple[int, int],
    region: tuple[int, int, int, int] | None = None,
    *,
    exact: bool,
) -> Image.Image:
    """Resize a decoded photo, or a region of it, to the network's input size.

    Args:
        loaded: The photo, in full or reduced.
        size: (height, width) in pixels, each at least 1.
        region: Left, top, right and bottom of a region in pixels of the whole upright picture; all of it if None.
        exact: Resize all the pixels there are. Else a picture with many more than are needed is reduced by means
            first, which is faster and gives nearly the same.

    Returns:
        RGB, of the size. Of a picture that was not reduced, and is not here, exactly what `resize` gives.

    Raises:
        InvalidInputError: If the size is not positive.
    """
    image, edges = _cut(loaded, region)
    across, down = ((edges[2] - edges[0]) / size[1], (edges[3] - edges[1]) / size[0])
    factor = 1 if exact else reduced_by(min(across, down))
    if factor * loaded.scale == 1:
        return _bicubic(image, size)
    if factor > 1:
        image = image.reduce(factor)
        left, top, right, bottom = (edge / factor for edge in edges)
        edges = _within((left, top, right, bottom), image.size)
    small = image.resize(size[::-1], Image.Resampling.BICUBIC, box=edges)
    return sharpened(small, across / factor, down / factor)


def _cut(loaded: LoadedPhoto, region: tuple[int, int, int, int] | None) -> tuple[Image.Image, _Edges]:
    """Return the pixels of a region, and where in them it lies."""
    left, top, right, bottom = loaded.frame
    if region is None:
        return loaded.image, loaded.frame
    across, down = (right - left) / loaded.size[0], (bottom - top) / loaded.size[1]
    edges = (
        left + region[0] * across,
        top + region[1] * down,
        left + region[2] * across,
        top + region[3] * down,
    )
    # Whole pixels, so that the resizing looks at nothing further out.
    x, y = math.floor(edges[0]), math.floor(edges[1])
    part = loaded.image.crop((x, y, math.ceil(edges[2]), math.ceil(edges[3])))
    return part, _within((edges[0] - x, edges[1] - y, edges[2] - x, edges[3] - y), part.size)


def _within(edges: _Edges, size: tuple[int, int]) -> _Edges:
    # Pillow refuses edges that rounding put outside.
    return max(edges[0], 0.0), max(edges[1], 0.0), min(edges[2], size[0]), min(edges[3], size[1])
