"""From whatever a file holds to 8-bit RGB, the one form the network takes.

Colour profiles are left to `birdsearch.model.images.color`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["to_rgb"]

_BLOCK_PIXELS = 1 << 22
_WHITE = (255, 255, 255)


def to_rgb(image: Image.Image, bits: int | None = None) -> Image.Image:
    """Convert a loaded picture of any mode to RGB, 8 bits a channel.

    - Transparency is put on white; a picture whose alpha is opaque everywhere gives exactly what
      `convert("RGB")` gives.
    - 16-bit grey is scaled by 255 / (2^bits - 1), rounded. Pillow's own conversion clips it at 255.
    - 32-bit integer grey is taken as it is if all its values fit 8 bits, scaled from 16 bits if all fit
      16 bits, and otherwise stretched from its least to its greatest value.
    - Floating-point grey within 0..1 is scaled by 255; within 0..255 it is taken as it is; otherwise it is
      stretched from its least to its greatest finite value. What is not finite becomes 0.

    Args:
        image: A loaded image.
        bits: Bits of a sample, where the file says so and it is not the mode's own (12-bit TIFF); 32 for integer
            grey without a sign, which the mode has.

    Returns:
        An image of mode `RGB` and of the same size. It may be `image` itself.

    Raises:
        ValueError: There is no conversion from this mode.
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16"):
        return _grey(image, _from_bits(bits if bits is not None and 8 < bits <= 16 else 16))
    if mode in ("I", "F"):
        return _grey(image, _measured(image, is_unsigned=bits == 32), is_unsigned=bits == 32)
    if mode == "LAB":
        return _lab(image)
    if mode in ("PA", "La", "RGBa", "LA", "RGBA") or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    # "La" has only one conversion, to "LA".
    if image.mode == "La":
        image = image.convert("LA")
    layered = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    alpha = layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGB", layered.size, _WHITE)
    white.paste(layered.convert("RGB"), mask=alpha)
    return white


def _lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    if converted is None:
        raise ValueError("no conversion from LAB to RGB")
    return converted


_Scale = Callable[[NDArray[Any]], NDArray[Any]]


def _rows(image: Image.Image) -> int:
    return max(1, _BLOCK_PIXELS // image.width)


def _block(image: Image.Image, top: int, *, is_unsigned: bool = False) -> NDArray[Any]:
    block = np.asarray(image.crop((0, top, image.width, min(top + _rows(image), image.height))))
    return block.view(np.uint32) if is_unsigned and block.dtype == np.int32 else block


def _grey(image: Image.Image, scale: _Scale, *, is_unsigned: bool = False) -> Image.Image:
    # Block by block: a whole picture as float64 would be many times its own size.
    grey = Image.new("L", image.size)
    for top in range(0, image.height, _rows(image)):
        grey.paste(
            Image.fromarray(scale(_block(image, top, is_unsigned=is_unsigned)).astype(np.uint8)), (0, top)
        )
    return grey.convert("RGB")


def _from_bits(bits: int) -> _Scale:
    top = (1 << bits) - 1

    def scale(block: NDArray[Any]) -> NDArray[Any]:
        values = np.minimum(block.astype(np.uint32), top)
        return (values * 255 + top // 2) // top

    return scale


def _measured(image: Image.Image, *, is_unsigned: bool) -> _Scale:
    """Choose the scale of a picture that does not say which value is white."""
    low, high = np.inf, -np.inf
    for top in range(0, image.height, _rows(image)):
        block = _block(image, top, is_unsigned=is_unsigned)
        finite = block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    unit = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and image.mode == "F" and high <= unit:
        start, span = 0.0, unit
    elif low >= 0 and high <= 255:
        start, span = 0.0, 255.0
    elif low >= 0 and image.mode == "I" and high <= unit:
        start, span = 0.0, unit
    elif high > low:
        start, span = low, high - low
    else:
        start, span = 0.0, np.inf

    def scale(block: NDArray[Any]) -> NDArray[Any]:
        values = (block.astype(np.float64) - start) / span
        values = np.where(np.isfinite(values), values, 0.0)
        return np.rint(np.clip(values, 0.0, 1.0) * 255)

    return scale
