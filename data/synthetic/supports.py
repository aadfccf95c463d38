"""What a bird sits or stands on, its shadow and its reflection, and leaves in front of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from birdsearch.data.synthetic.coat import noise

__all__ = ["SUPPORTS", "add_foreground", "add_reflection", "add_shadow", "draw_support"]

Floats = NDArray[np.floating[Any]]

SUPPORTS = ("none", "branch", "stem", "rock", "post", "ground", "shallows", "water", "trunk")

_BARK = ((0.40, 0.33, 0.27), (0.52, 0.48, 0.44), (0.33, 0.27, 0.21), (0.46, 0.40, 0.30), (0.36, 0.36, 0.34))
_STEM = ((0.66, 0.60, 0.38), (0.50, 0.56, 0.28), (0.58, 0.50, 0.34))
_ROCK = ((0.52, 0.50, 0.47), (0.40, 0.40, 0.41), (0.56, 0.49, 0.42), (0.62, 0.61, 0.59))


def draw_support(
    image: Image.Image, kind: str, at: tuple[float, float], unit: float, seed: int, side: float
) -> None:
    """Draw what is under the feet, onto an RGB picture.

    Args:
        image: The picture.
        kind: One of `SUPPORTS`.
        at: Pixel that the feet are on.
        unit: Pixels a torso.
        seed: Where its shape comes from.
        side: Where light comes from, -1..1.
    """
    rng = np.random.default_rng([seed, 41])
    if kind in ("branch", "stem"):
        _bar(image, rng, at, unit, side, upright=kind == "stem")
    elif kind == "post":
        _post(image, rng, at, unit, side)
    elif kind == "rock":
        _rock(image, rng, at, unit, side)


def _tone(rng: np.random.Generator, choices: tuple[tuple[float, float, float], ...]) -> Floats:
    base = np.asarray(choices[int(rng.integers(len(choices)))], np.float32)
    return np.asarray(base * np.exp(0.15 * rng.standard_normal() + 0.03 * rng.standard_normal(3)), np.float32)


def _put(image: Image.Image, left: int, top: int, rgb: Floats, cover: Floats) -> None:
    picture = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    image.paste(picture, (left, top), Image.fromarray((np.clip(cover, 0, 1) * 255).astype(np.uint8)))


def _bar(
    image: Image.Image,
    rng: np.random.Generator,
    at: tuple[float, float],
    unit: float,
    side: float,
    upright: bool,
) -> None:
    """Draw a round bar through a point, all across the picture: a branch, or a reed's stem if upright."""
    width, height = image.size
    # First of all: how much of the generator the texture uses depends on its size, which changes in a burst.
    tone = _tone(rng, _STEM if upright else _BARK)
    half = unit * (rng.uniform(0.02, 0.04) if upright else rng.uniform(0.045, 0.13))
    slope = rng.uniform(-0.12, 0.12) if upright else rng.uniform(-0.28, 0.28)
    bend = rng.uniform(-1, 1) * 0.12 / max(unit, 1)
    long, short = (height, width) if upright else (width, height)
    centre, middle = (at[1], at[0]) if upright else (at[0], at[1] + half * 0.75)
    along = np.arange(long, dtype=np.float32) - centre
    knots = (noise(rng, (2, long), (2, max(4, 5 * long / unit / 4)))[0] - 0.5) * np.clip(
        np.abs(along) / unit, 0, 1
    )
    line = middle + slope * along + bend * along * along + knots * half * 1.4
    thick = half * (1 + 0.35 * knots + 0.10 * np.sign(slope + 1e-6) * along / unit)
    thick = np.clip(thick, 0.35 * half, 2.2 * half)
    low, high = max(0, int((line - thick).min()) - 2), min(short, int((line + thick).max()) + 3)
    if high - low < 2:
        return
    across = np.arange(low, high, dtype=np.float32)[:, None] - line[None, :]
    v = across / thick
    cover = np.clip((thick - np.abs(across)) + 0.5, 0, 1)
    # Bark is made along the straightened bar, then looked up by the position across it.
    rows = max(4, int(2 * thick.max()))
    bark = (0.25 if upright else 0.6) * (noise(rng, (rows, long), (3, 14 * long / unit)) - 0.5)
    bark += 0.55 * (noise(rng, (rows, long), (6, 40 * long / unit)) - 0.5)
    if unit > 110:
        bark += 0.35 * (noise(rng, (rows, long), (rows / 3, long / 7)) - 0.5)
    index = np.clip((v + 1) * (0.5 * rows), 0, rows - 1).astype(np.int32)
    index *= long
    index += np.arange(long, dtype=np.int32)
    texture = 1 + np.take(bark.ravel(), index)
    facing = v * (np.sign(side) if upright else -1.0)
    shade = 0.30 + 0.75 * np.clip(np.sqrt(np.clip(1 - v * v, 0, 1)) * 0.75 + 0.45 * facing, 0, 1.2)
    rgb = tone * (shade * texture)[..., None]
    if upright:
        rgb, cover = rgb.transpose(1, 0, 2), cover.T
        _put(image, low, 0, np.ascontiguousarray(rgb), np.ascontiguousarray(cover))
    else:
        _put(image, 0, low, rgb, cover)


def _post(
    image: Image.Image, rng: np.random.Generator, at: tuple[float, float], unit: float, side: float
) -> None:
    width, height = image.size
    tone = _tone(rng, _BARK)
    half = unit * rng.uniform(0.16, 0.3)
    left, right = max(0, int(at[0] - half) - 2), min(width, int(at[0] + half) + 3)
    top = max(0, int(at[1] - 0.10 * half) - 2)
    if right - left < 3 or height - top < 3:
        return
    x = (np.arange(left, right, dtype=np.float32)[None, :] - at[0]) / half
    y = (np.arange(top, height, dtype=np.float32)[:, None] - at[1]) / half
    shape = (height - top, right - left)
    rim = 0.16 * (1 - np.clip(x * x, 0, 1)) - 0.1
    cover = np.clip((1 - np.abs(x)) * half + 0.5, 0, 1) * np.clip((y + rim + 0.1) * half + 0.5, 0, 1)
    grain = noise(rng, shape, (max(3, 2 * shape[0] / half), 16)) - 0.5
    fine = noise(rng, shape, (max(3, 6 * shape[0] / half), 40)) - 0.5
    lit = 0.45 + 0.6 * np.clip(np.sqrt(np.clip(1 - x * x, 0, 1)) * 0.8 + 0.4 * x * side, 0, 1.2)
    top_face = np.clip((0.30 - (y + 0.12)) * 6, 0, 1) * (y < 0.14)
    rgb = tone[None, None, :] * (lit * (1 + 0.7 * grain + 0.5 * fine) * (1 + 0.35 * top_face))[..., None]
    _put(image, left, top, np.asarray(rgb, np.float32), cover)


def _rock(
    image: Image.Image, rng: np.random.Generator, at: tuple[float, float], unit: float, side: float
) -> None:
    """Draw the top of a boulder that goes on below the picture."""
    width, height = image.size
    tone = _tone(rng, _ROCK)
    wide, steep = unit * rng.uniform(0.55, 1.0), unit * rng.uniform(0.35, 0.6)
    shift, top = rng.uniform(-0.15, 0.15) * wide, max(0, int(at[1] - 0.05 * unit))
    reach = wide * (((height - top) / unit + 0.4) * unit / steep) ** (1 / 2.4)
    left, right = max(0, int(at[0] + shift - reach)), min(width, int(at[0] + shift + reach))
    if height - top < 4 or right - left < 4:
        return
    shape = (height - top, right - left)
    x = (np.arange(left, right, dtype=np.float32)[None, :] - at[0] - shift) / wide
    y = (np.arange(top, height, dtype=np.float32)[:, None] - at[1]) / unit
    lumps = noise(rng, shape, (1 + 3 * shape[0] / unit, 1 + 4 * shape[1] / unit)) - 0.5
    fine = noise(rng, shape, (1 + 14 * shape[0] / unit, 1 + 16 * shape[1] / unit)) - 0.5
    speck = noise(rng, shape, (max(8, shape[0] / 2.6), max(8, shape[1] / 2.6))) - 0.5
    out = np.abs(x)
    # Flat under the feet, then ever steeper; lumps and grain break the outline.
    edge = (steep / unit) * out**2.4 + (0.22 * lumps + 0.05 * fine) * np.clip(2 * out - 0.4, 0, 1)
    depth = y + 0.02 - edge
    cover = np.clip(depth * unit + 0.5, 0, 1)
    crevice = np.clip(1 - 9 * np.abs(lumps + 0.4 * fine + 0.12), 0, 1)
    turn = np.clip(out / 1.6, 0, 1) * np.sign(x)
    slope = np.clip(
        1.12 - 0.42 * np.clip(depth, 0, 1.2) + 0.32 * side * turn - 0.25 * np.abs(turn), 0.22, 1.3
    )
    texture = 1 + 0.35 * lumps + 0.45 * fine + 0.5 * speck - 0.35 * crevice
    rgb = tone[None, None, :] * (slope * texture)[..., None]
    _put(image, left, top, np.asarray(rgb, np.float32), cover)


def add_shadow(
    image: Image.Image, at: tuple[float, float], unit: float, side: float, strength: float
) -> None:
    """Darken the ground under a standing bird, away from the light."""
    wide, tall = int(unit * 0.62), max(2, int(unit * 0.11))
    sheet = Image.new("L", (wide * 2 + 8, tall * 4 + 8), 0)
    cx, cy = sheet.width / 2, sheet.height / 2
    ImageDraw.Draw(sheet).ellipse(
        (cx - wide * 0.8, cy - tall, cx + wide * 0.8, cy + tall), fill=int(np.clip(strength, 0, 1) * 255)
    )
    sheet = sheet.filter(ImageFilter.BoxBlur(max(1, tall * 0.55)))
    corner = (int(at[0] - cx - 0.25 * side * unit - 0.1 * unit), int(at[1] - cy + 0.04 * unit))
    image.paste((16, 15, 16), corner, sheet)


def add_reflection(
    image: Image.Image, bird: Image.Image, left: int, row: int, seed: int, unit: float
) -> None:
    """Draw the part of a cut-out above a row mirrored below it, broken up by ripples.

    Args:
        image: RGB picture to draw on.
        bird: RGBA cut-out.
        left: Where its left edge is on the picture.
        row: Row of the picture that the water starts at; the cut-out's lower edge is on it.
        seed: Where the ripples come from.
        unit: Pixels a torso.
    """
    rng = np.random.default_rng([seed, 51])
    height = min(bird.height, max(0, image.height - row))
    if height < 3:
        return
    mirrored = np.asarray(ImageOps.flip(bird))[:height]
    rows = np.arange(height, dtype=np.float32)
    waves = noise(rng, (height, 2), (max(3, 16 * height / unit), 2))[:, 0] - 0.5
    shift = (waves * (0.03 + 0.10 * rows / unit) * unit).astype(np.int64)
    columns = np.clip(np.arange(bird.width)[None, :] + shift[:, None], 0, bird.width - 1)
    broken = mirrored[np.arange(height)[:, None], columns]
    fade = (0.62 * np.exp(-rows / (0.9 * unit)) * (0.75 + 0.5 * waves))[:, None]
    alpha = Image.fromarray(np.clip(broken[..., 3] * fade, 0, 255).astype(np.uint8))
    dim = Image.fromarray((broken[..., :3] * np.float32(0.8)).astype(np.uint8))
    image.paste(dim.filter(ImageFilter.BoxBlur(max(1, unit * 0.012))), (left, row), alpha)


def add_foreground(image: Image.Image, background: str, amount: float, seed: int) -> Image.Image:
    """Put leaves or blades out of focus before the bird.

    Args:
        image: RGB picture.
        background: Which backdrop it has; it says what grows there.
        amount: 0 none to 1 much.
        seed: Where they are.

    Returns:
        A new picture.
    """
    if amount <= 0:
        return image
    rng = np.random.default_rng([seed, 61])
    width, height = image.size
    coarse = max(1, round(max(width, height) / 320))
    w, h = width // coarse, height // coarse
    tone = _tone(rng, ((0.34, 0.44, 0.18), (0.55, 0.52, 0.30), (0.26, 0.36, 0.20), (0.45, 0.40, 0.28)))
    sheet = Image.new("RGB", (w, h), tuple(int(255 * c) for c in np.clip(tone, 0, 1)))
    mask = Image.new("L", (w, h), 0)
    on_sheet, on_mask = ImageDraw.Draw(sheet), ImageDraw.Draw(mask)
    leafy = background in ("foliage", "bark", "sky")
    for _ in range(1 + int(amount * (9 if leafy else 16))):
        light = tuple(int(c) for c in np.clip(tone * rng.uniform(0.7, 1.35) * 255, 0, 255))
        if leafy:
            x = w * (rng.random() ** 2 if rng.random() < 0.5 else 1 - rng.random() ** 2)
            y, r, angle = h * rng.random(), h * rng.uniform(0.05, 0.13), rng.random() * np.pi
            a, b = np.cos(angle) * r, np.sin(angle) * r
            points = [(x + a, y + b), (x - 0.4 * b, y + 0.4 * a), (x - a, y - b), (x + 0.4 * b, y - 0.4 * a)]
        else:
            x, lean, reach = w * rng.random(), rng.normal(0, 0.25), h * rng.uniform(0.2, 0.35 + 0.4 * amount)
            half = h * rng.uniform(0.004, 0.012)
            points = [(x - half, float(h)), (x + lean * reach, h - reach), (x + half, float(h))]
        on_sheet.polygon(points, fill=light)
        on_mask.polygon(points, fill=235)
    radius = rng.uniform(0.004, 0.014) * max(w, h)
    sheet, mask = sheet.filter(ImageFilter.BoxBlur(radius)), mask.filter(ImageFilter.GaussianBlur(radius))
    size = (width, height)
    large = (sheet.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.BILINEAR))
    return Image.composite(large[0], image, large[1])
