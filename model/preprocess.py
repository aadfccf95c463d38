"""Normalise resized pixels as the network was trained with them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.model.config import RgbStats

__all__ = ["normalise", "preprocessing_id"]


def normalise(pixels: NDArray[np.uint8], stats: RgbStats) -> NDArray[np.float32]:
    """Scale to 0..1 and normalise each colour channel: `(x / 255 - mean) / std`.

    Args:
        pixels: (B, H, W, 3) uint8.
        stats: Mean and standard deviation of each channel.

    Returns:
        (B, 3, H, W) float32, C-contiguous.

    Raises:
        InvalidInputError: If the pixels have another shape or type.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise InvalidInputError(f"pixels must be (B, H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    # (3,) -> (3, 1, 1), one value a channel plane
    mean = np.array(stats.mean, dtype=np.float32)[:, None, None]
    std = np.array(stats.std, dtype=np.float32)[:, None, None]
    # (B, H, W, 3) -> (B, 3, H, W)
    out = pixels.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    # The order of these float32 operations decides the last bit; a multiply-add would give another.
    out *= np.float32(1.0 / 255.0)
    out -= mean
    out /= std
    return out


def preprocessing_id(size: tuple[int, int], stats: RgbStats) -> str:
    """Return a short stable name of the preprocessing; models of one name see the same pixels."""
    mean = ",".join(f"{value:.9g}" for value in stats.mean)
    std = ",".join(f"{value:.9g}" for value in stats.std)
    return f"rgb-bicubic-{size[0]}x{size[1]}/mean={mean}/std={std}"
