"""Places to photograph birds in: backdrops out of focus, and what a bird sits on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from birdsearch.data.synthetic.coat import noise

__all__ = ["BACKGROUNDS", "Scenery", "add_grain", "paint_backdrop"]

Floats = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]

BACKGROUNDS = ("sky", "water", "reeds", "foliage", "bark", "sand", "grass")


@dataclass(frozen=True, slots=True)
class Scenery:
    """What is behind and under a bird.

    Attributes:
        kind: One of `BACKGROUNDS`.
        seed: Where its details come from.
        horizon: Row, as a part of the height, where ground or water ends.
        blur: How far out of focus the backdrop is, 0..1.
    """

    kind: str
    seed: int
    horizon: float = 0.35
    blur: float = 0.5


def paint_backdrop(scenery: Scenery, size: tuple[int, int]) -> Image.Image:
    """Paint the backdrop, RGB, of a size (width, height)."""
    width, height = size
    rng = np.random.default_rng([scenery.seed, 21])
    coarse = max(2, round(max(size) / 400))
    w, h = max(8, width // coarse), max(8, height // coarse)
    picture = _PAINTERS[scenery.kind](rng, w, h, scenery)
    sheet = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    # What is drawn here has hard edges: even the sharpest backdrop is softened a little.
    radius = max(0.5, scenery.blur * 0.012 * max(w, h))
    sheet = sheet.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius * 0.8))
    # Once it is blurred, the cheaper way of enlarging it looks the same.
    return sheet.resize(size, Image.Resampling.BICUBIC if radius < 1.2 else Image.Resampling.BILINEAR)


def _pick(rng: np.random.Generator, *choices: Colour) -> Floats:
    base = np.asarray(choices[int(rng.integers(len(choices)))], np.float32)
    return np.asarray(
        base * np.exp(0.12 * rng.standard_normal() + 0.045 * rng.standard_normal(3)), np.float32
    )


def _fractal(
    rng: np.random.Generator, h: int, w: int, cells: float, stretch: float = 1.0, octaves: int = 4
) -> Floats:
    """Fractal noise about 0, (h, w); `stretch` above 1 makes it longer from left to right."""
    total = np.zeros((h, w), np.float32)
    for octave in range(octaves):
        n = cells * 2**octave
        total += 0.55**octave * (noise(rng, (h, w), (n, n * w / h / stretch)) - 0.5)
    return total


def _blend(one: Floats, other: Floats, weight: Floats) -> Floats:
    return np.asarray(one + weight[..., None] * (other - one), np.float32)


def _ramp(h: int, w: int) -> Floats:
    return np.broadcast_to(np.linspace(0, 1, h, dtype=np.float32)[:, None], (h, w))


def _sky(rng: np.random.Generator, w: int, h: int, _scenery: Scenery) -> Floats:
    top = _pick(rng, (0.30, 0.50, 0.78), (0.55, 0.66, 0.76), (0.70, 0.73, 0.76), (0.42, 0.50, 0.66))
    low = _pick(rng, (0.72, 0.83, 0.92), (0.84, 0.86, 0.87), (0.93, 0.82, 0.72), (0.80, 0.84, 0.90))
    picture = _blend(top, low, _ramp(h, w) ** 0.8)
    clouds = _fractal(rng, h, w, 3, 2.0) * 2.2 + rng.uniform(-0.5, 0.35)
    return _blend(picture, np.array([0.95, 0.95, 0.96], np.float32), np.clip(clouds, 0, 0.85))


def _far(rng: np.random.Generator, w: int, h: int) -> Floats:
    """Something far off and blurred: a bank, a tree line, haze."""
    one = _pick(
        rng,
        (0.40, 0.46, 0.34),
        (0.52, 0.56, 0.58),
        (0.55, 0.50, 0.40),
        (0.30, 0.37, 0.30),
        (0.70, 0.74, 0.78),
    )
    other = np.asarray(one * rng.uniform(0.6, 1.3), np.float32)
    return _blend(one, other, np.clip(0.5 + 1.3 * _fractal(rng, h, w, 4, 2.5), 0, 1))


def _below(h: int, w: int, horizon: float, soft: float = 0.012) -> Floats:
    return np.asarray(np.clip((_ramp(h, w) - horizon) / soft + 0.5, 0, 1))


def _water(rng: np.random.Generator, w: int, h: int, scenery: Scenery) -> Floats:
    near = _pick(
        rng,
        (0.24, 0.36, 0.44),
        (0.34, 0.40, 0.38),
        (0.45, 0.52, 0.57),
        (0.30, 0.32, 0.24),
        (0.20, 0.33, 0.50),
    )
    far = np.clip(near * rng.uniform(1.2, 1.7) + 0.08, 0, 0.95)
    depth = np.clip((_ramp(h, w) - scenery.horizon) / (1 - scenery.horizon + 1e-3), 0, 1)
    surface = _blend(far, near, depth)
    waves = np.zeros((h, w), np.float32)
    for rows, columns, part in ((26, 5, 0.6), (60, 14, 0.35), (14, 3, 0.6)):
        layer = noise(rng, (2 * h, w), (rows * 2, columns * w / h)) - 0.5
        # Rows crowd together towards the horizon.
        pick = (2 * h - 1) * np.sqrt(np.linspace(0, 1, h))
        waves += part * layer[pick.astype(np.int32)]
    light = np.clip(waves * 2.2 - 0.35, 0, 1) * rng.uniform(0.3, 0.9)
    surface = surface * (1 + 0.55 * waves[..., None]) + light[..., None] * np.array(
        [0.5, 0.52, 0.54], np.float32
    )
    return _blend(_far(rng, w, h), np.asarray(surface, np.float32), _below(h, w, scenery.horizon))


def _ground(
    rng: np.random.Generator, w: int, h: int, scenery: Scenery, colour: Floats, rough: float
) -> Floats:
    depth = np.clip((_ramp(h, w) - scenery.horizon) / (1 - scenery.horizon + 1e-3), 0, 1)
    patches = _fractal(rng, h, w, 5, 2.6)
    specks = noise(rng, (h, w), (h / 2.2, w / 3.4)) - 0.5
    light = 0.92 + 0.12 * depth + 0.38 * patches + rough * specks * (0.3 + depth)
    ground = colour * light[..., None]
    other = _pick(rng, (0.42, 0.42, 0.28), (0.40, 0.34, 0.26), (0.60, 0.56, 0.46))
    ground = _blend(
        np.asarray(ground, np.float32), other, np.clip(1.6 * _fractal(rng, h, w, 3, 3.0) - 0.15, 0, 0.7)
    )
    return _blend(_far(rng, w, h), ground, _below(h, w, scenery.horizon, 0.03))


def _sand(rng: np.random.Generator, w: int, h: int, scenery: Scenery) -> Floats:
    colour = _pick(
        rng,
        (0.76, 0.66, 0.50),
        (0.62, 0.57, 0.50),
        (0.50, 0.43, 0.35),
        (0.80, 0.76, 0.68),
        (0.60, 0.60, 0.58),
    )
    picture = _ground(rng, w, h, scenery, colour, 0.35)
    sheet = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(10, 60))):
        y = scenery.horizon + (1 - scenery.horizon) * rng.random() ** 0.7
        r = (0.002 + 0.011 * rng.random()) * (y - scenery.horizon + 0.12) * h * 1.6
        x, tone = rng.random() * w, colour * rng.uniform(0.55, 1.15)
        dark, lit = (tuple(int(c) for c in np.clip(tone * 255 * k, 0, 255)) for k in (0.62, 1.05))
        draw.ellipse((x - r * 1.6, y * h - r, x + r * 1.6, y * h + r), fill=dark)
        draw.ellipse((x - r * 1.5, y * h - r, x + r * 1.3, y * h + r * 0.6), fill=lit)
    return np.asarray(sheet, np.float32) / 255


def _grass(rng: np.random.Generator, w: int, h: int, scenery: Scenery) -> Floats:
    colour = _pick(rng, (0.40, 0.50, 0.22), (0.56, 0.54, 0.30), (0.32, 0.42, 0.20), (0.66, 0.60, 0.40))
    picture = _ground(rng, w, h, scenery, colour, 0.55)
    return _blades(rng, picture, colour, int(rng.integers(120, 240)), 0.13, (scenery.horizon, 1.1))


def _reeds(rng: np.random.Generator, w: int, h: int, _scenery: Scenery) -> Floats:
    colour = _pick(rng, (0.66, 0.58, 0.38), (0.52, 0.55, 0.30), (0.56, 0.48, 0.34), (0.44, 0.52, 0.28))
    dim = np.asarray(colour * rng.uniform(0.45, 0.75), np.float32)
    picture = _blend(
        np.asarray(colour * 1.1, np.float32), dim, np.clip(_ramp(h, w) + _fractal(rng, h, w, 4, 0.5), 0, 1)
    )
    picture = _blades(rng, picture, dim, 60, 1.1, (0.5, 1.5))
    return _blades(rng, picture, colour, 70, 1.2, (0.7, 1.6))


def _blades(
    rng: np.random.Generator,
    picture: Floats,
    colour: Floats,
    count: int,
    length: float,
    feet: tuple[float, float],
) -> Floats:
    """Draw blades of grass or reed, the far ones first."""
    h, w = picture.shape[:2]
    sheet = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    feet_at = np.sort(rng.uniform(*feet, size=count))
    scales = 0.35 + 0.9 * (feet_at - feet[0]) / (feet[1] - feet[0])
    roots = rng.random(count) * w
    reaches = length * h * scales * rng.uniform(0.6, 1.2, count)
    leans = rng.normal(0, 0.09, count) * reaches
    halves = np.maximum(0.5, 0.005 * h * scales * rng.uniform(0.6, 1.5, count) * (1.6 if length > 0.5 else 1))
    tones = np.clip(colour * rng.uniform(0.6, 1.4, (count, 1)) * 255, 0, 255).astype(int).tolist()
    rows = zip(
        (feet_at * h).tolist(), roots.tolist(), reaches.tolist(), leans.tolist(), halves.tolist(), strict=True
    )
    for (foot, x, reach, lean, half), tone in zip(rows, tones, strict=True):
        middle, up = x + 0.35 * lean, foot - 0.5 * reach
        points = (
            x - half,
            foot,
            middle - half,
            up,
            x + lean,
            foot - reach,
            middle + half,
            up,
            x + half,
            foot,
        )
        draw.polygon(points, fill=tuple(tone))
    return np.asarray(sheet, np.float32) / 255


def _foliage(rng: np.random.Generator, w: int, h: int, _scenery: Scenery) -> Floats:
    dark = _pick(rng, (0.13, 0.22, 0.10), (0.20, 0.24, 0.14), (0.28, 0.22, 0.13), (0.10, 0.17, 0.14))
    light = _pick(rng, (0.45, 0.58, 0.25), (0.62, 0.64, 0.34), (0.70, 0.55, 0.28), (0.38, 0.52, 0.34))
    picture = _blend(dark, light, np.clip(0.45 + 1.4 * _fractal(rng, h, w, 4), 0, 1))
    sheet = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    for _ in range(int(rng.integers(50, 130))):
        x, y, r = rng.random() * w, rng.random() * h, h * rng.uniform(0.012, 0.06)
        tone = np.clip((dark + (light - dark) * rng.uniform(0, 1.3)) * 255, 0, 255)
        angle = rng.random() * np.pi
        along, across = (
            np.array([np.cos(angle), np.sin(angle)]) * r,
            np.array([-np.sin(angle), np.cos(angle)]) * r * 0.42,
        )
        corners = [
            along,
            0.3 * along + across,
            -0.5 * along + 0.8 * across,
            -along,
            -0.5 * along - 0.8 * across,
            0.3 * along - across,
        ]
        draw.polygon([(x + float(c[0]), y + float(c[1])) for c in corners], fill=tuple(int(v) for v in tone))
    if rng.random() < 0.6:
        bright = Image.new("RGB", sheet.size, tuple(int(v) for v in np.clip(light * 255 + 70, 0, 255)))
        spots = Image.new("L", sheet.size, 0)
        on_spots = ImageDraw.Draw(spots)
        for _ in range(int(rng.integers(6, 28))):
            x, y, r = rng.random() * w, rng.random() * h * 0.8, h * rng.uniform(0.02, 0.055)
            on_spots.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(40, 130)))
        sheet.paste(bright, (0, 0), spots)
    return np.asarray(sheet, np.float32) / 255


def _bark(rng: np.random.Generator, w: int, h: int, _scenery: Scenery) -> Floats:
    behind = _far(rng, w, h)
    tone = _pick(
        rng,
        (0.36, 0.29, 0.23),
        (0.50, 0.46, 0.42),
        (0.30, 0.27, 0.24),
        (0.48, 0.36, 0.26),
        (0.66, 0.63, 0.58),
    )
    left = rng.uniform(-0.25, 0.25)
    right = left + rng.uniform(0.75, 1.1)
    x = np.linspace(0, 1, w, dtype=np.float32)[None, :] + 0.02 * _fractal(rng, h, w, 4, 0.4)
    round_ = np.clip((x - left) / (right - left), 0, 1)
    ridges = noise(rng, (h, w), (12, 44 * w / h)) - 0.5 + 0.6 * (noise(rng, (h, w), (26, 80 * w / h)) - 0.5)
    cracks = np.clip(1 - 7 * np.abs(ridges), 0, 1)
    shade = (0.55 + 0.75 * np.sqrt(np.clip(4 * round_ * (1 - round_), 0, 1))) * (
        1 + 0.5 * ridges - 0.45 * cracks
    )
    moss = np.clip(2.0 * _fractal(rng, h, w, 3, 0.7) - 0.3, 0, 0.7) * (rng.random() < 0.5)
    trunk = _blend(
        np.asarray(tone * shade[..., None], np.float32), np.array([0.36, 0.42, 0.24], np.float32), moss
    )
    inside = np.clip((x - left) * 60 + 0.5, 0, 1) * np.clip((right - x) * 60 + 0.5, 0, 1)
    return _blend(behind, trunk, inside)


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int, Scenery], Floats]] = {
    "sky": _sky, "water": _water, "reeds": _reeds, "foliage": _foliage, "bark": _bark, "sand": _sand,
    "grass": _grass,
}  # fmt: skip


@lru_cache(maxsize=2)
def _grain_tile(coarse: bool) -> Image.Image:
    shape = (1024, 1024, 1 if coarse else 3)
    values = np.random.default_rng(77).standard_normal(shape, dtype=np.float32)
    grain = np.clip(128 + 32 * values, 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(grain, (1024, 1024, 3))))


def add_grain(image: Image.Image, seed: int, levels: float, coarse: bool = False) -> Image.Image:
    """Add noise with a standard deviation of so many 8-bit levels to an RGB picture.

    Args:
        image: The picture.
        seed: Which noise.
        levels: Standard deviation, 0..40.
        coarse: The same noise in all three channels (texture) instead of one each (a sensor's).

    Returns:
        A new picture.
    """
    if levels < 0.3:
        return image
    rng = np.random.default_rng([seed, 31])
    width, height = image.size
    scale = [round(128 + (v - 128) * levels / 32) for v in range(256)]
    sheet = Image.new("RGB", (width, height))
    dx, dy = (int(v) for v in rng.integers(0, 1024, 2))
    for top in range(-dy, height, 1024):
        for left in range(-dx, width, 1024):
            sheet.paste(_grain_tile(coarse), (left, top))
    return ImageChops.add(image, sheet.point(scale * 3), 1, -128)
