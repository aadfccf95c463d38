"""A picture of what the network sees: its feature maps next to the photo.

Two rows for four stages. Above, the first three principal components of a stage's channels as red, green
and blue: positions of like colour look alike to the network. Below, how strongly each position is marked, as the
length of its feature vector after the mean over all positions is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from birdsearch.errors import InvalidInputError

__all__ = ["feature_picture"]

_TILE = 288
_GAP = 12
# Room for a title over the tile of a tall photo.
_MIN_CELL = 224
_MARGIN = 20
_TITLE = 26
_BACKGROUND = (250, 250, 248)
_INK = (40, 44, 52)
_FAINT = (120, 124, 132)
# Dark to bright with even steps of lightness, so that it reads in grey and to colour-blind eyes.
_HEAT = np.array(
    [[13, 8, 72], [84, 16, 130], [158, 42, 122], [218, 83, 85], [247, 150, 48], [250, 230, 120]],
    dtype=np.float64,
)


def feature_picture(image: Image.Image, maps: Mapping[str, NDArray[np.float32]]) -> Image.Image:
    """Draw a photo and its feature maps.

    Args:
        image: The upright photo; it is shown in its own aspect, and the maps are stretched to it, since the
            network's input does not keep the aspect.
        maps: Name of a stage -> (C, h, w) or (1, C, h, w), C at least 3, finite.

    Returns:
        An RGB picture: the photo, then for each stage its principal components and its strength.

    Raises:
        InvalidInputError: If there are no maps, or one has another shape or values that are not finite.
    """
    if not maps:
        raise InvalidInputError("there are no feature maps to draw")
    features = {name: _single(name, values) for name, values in maps.items()}
    tile = _fit(image.size)
    cell = max(tile[0], _MIN_CELL)
    columns = len(features) + 1
    width = 2 * _MARGIN + columns * cell + (columns - 1) * _GAP
    height = 2 * _MARGIN + 2 * (_TITLE + tile[1]) + _GAP
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    rows = (_MARGIN, _MARGIN + _TITLE + tile[1] + _GAP)

    def place(column: int, row: int, title: str, picture: Image.Image) -> None:
        left, top = _MARGIN + column * (cell + _GAP), rows[row]
        draw.text((left, top), title, fill=_INK, font=ImageFont.load_default(16))
        canvas.paste(picture.resize(tile, Image.Resampling.BICUBIC), (left, top + _TITLE))

    place(0, 0, "photo", image.convert("RGB"))
    last, values = list(features.items())[-1]
    place(0, 1, f"{last} over photo", _overlay(image, values, tile))
    for column, (name, values) in enumerate(features.items(), start=1):
        grid = f"{values.shape[2]} x {values.shape[1]}"
        place(column, 0, f"{name}: components", _components(values))
        place(column, 1, f"{name}: strength", _heat(_strength(values)))
        right = _MARGIN + column * (cell + _GAP) + cell
        draw.text((right, rows[0] + 2), grid, fill=_FAINT, font=ImageFont.load_default(13), anchor="ra")
    return canvas


def _single(name: str, values: NDArray[np.float32]) -> NDArray[np.float64]:
    # (1, C, h, w) -> (C, h, w)
    single = values[0] if values.ndim == 4 and len(values) == 1 else values
    if single.ndim != 3 or single.shape[0] < 3 or 0 in single.shape:
        raise InvalidInputError(
            f"{name} must be (C, h, w) of one photo with C at least 3, got {values.shape}"
        )
    if not np.isfinite(single).all():
        raise InvalidInputError(f"{name} holds values that are not finite")
    return single.astype(np.float64)


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a tile of the photo's aspect, not so narrow that nothing is seen."""
    scale = _TILE / max(size)
    return max(round(size[0] * scale), _TILE // 4), max(round(size[1] * scale), _TILE // 4)


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # (C, h, w) -> (C, h*w) -> (h*w, C)
    positions = values.reshape(values.shape[0], -1).T
    out: NDArray[np.float64] = positions - positions.mean(axis=0)
    return out


def _components(values: NDArray[np.float64]) -> Image.Image:
    """Return the first three principal components over positions as an RGB picture of h x w pixels."""
    positions = _centred(values)
    _, axes = np.linalg.eigh(positions.T @ positions)
    axes = axes[:, :-4:-1]
    # An eigenvector's sign is arbitrary: its largest entry is made positive.
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(3)])
    # (h*w, 3) -> (h, w, 3)
    return _picture(_stretched(positions @ axes).reshape(*values.shape[1:], 3))


def _strength(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length of each position's centred feature vector, stretched to 0..1: (h, w)."""
    # (h*w,) -> (h, w)
    return _stretched(np.linalg.norm(_centred(values), axis=1)[:, None]).reshape(values.shape[1:])


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns stretched to 0..1 between their 2nd and 98th percentile, so one outlier hides nothing."""
    low, high = np.percentile(values, [2, 98], axis=0)
    out: NDArray[np.float64] = np.clip((values - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    return out


def _heat(strength: NDArray[np.float64]) -> Image.Image:
    steps = np.linspace(0.0, 1.0, len(_HEAT))
    # 3 x (h, w) -> (h, w, 3)
    return _picture(
        np.stack([np.interp(strength, steps, _HEAT[:, channel]) for channel in range(3)], axis=2) / 255.0
    )


def _overlay(image: Image.Image, values: NDArray[np.float64], tile: tuple[int, int]) -> Image.Image:
    """Return the photo, darkened where the last stage marks little."""
    mask = Image.fromarray((np.round(255.0 * (0.2 + 0.8 * _strength(values)))).astype(np.uint8))
    photo = image.convert("RGB").resize(tile, Image.Resampling.BICUBIC)
    black = Image.new("RGB", tile, (0, 0, 0))
    return Image.composite(photo, black, mask.resize(tile, Image.Resampling.BICUBIC))


def _picture(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.round(255.0 * values).astype(np.uint8))
