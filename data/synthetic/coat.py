"""The coat: plumage painted on two flat sheets, one for torso and neck, one for the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.data.synthetic.plumage import COLOURS, Plumage

__all__ = ["HEAD_SPAN", "Coat", "noise", "paint_coat"]

Floats = NDArray[np.floating[Any]]

HEAD_SPAN = 1.45
_T_SPAN = 1.1


@dataclass(frozen=True, slots=True)
class Coat:
    """Painted plumage of one individual.

    Attributes:
        body: uint8 (H, W, 4), the last channel unused; column = along the body from head (0) to tail (1),
            row = from the back (-1.1) to the belly (1.1).
        head: uint8 (N, N, 3); the head from -1.45 to 1.45 radii, bill to the right.
    """

    body: NDArray[np.uint8]
    head: NDArray[np.uint8]

    def at(self, s: Floats, t: Floats) -> NDArray[np.uint8]:
        """Colours (H, W, 4) at positions along the body (0..1) and from back to belly (-1..1), (H, W) each."""
        h, w = self.body.shape[:2]
        row = np.clip((t + _T_SPAN) * (h / (2 * _T_SPAN)), 0, h - 1).astype(np.int32)
        row *= w
        row += np.clip(s * w, 0, w - 1).astype(np.int32)
        # Four bytes at once: a look-up of whole pixels is several times as fast as one of channels.
        pixels: NDArray[np.uint8] = np.take(self.body.view(np.uint32).ravel(), row).view(np.uint8)
        return pixels.reshape(*s.shape, 4)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]) -> Floats:
    """Smooth value noise in 0..1: `cells` random values down and across, spread over `shape` (H, W)."""
    rows, columns = max(2, round(cells[0])), max(2, round(cells[1]))
    coarse = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def paint_coat(
    plumage: Plumage,
    seed: int,
    height: int,
    tint: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    frontal: bool = False,
) -> Coat:
    """Paint the plumage of one individual.

    Args:
        plumage: What it wears.
        seed: Where its own marks come from.
        height: Rows of the body's sheet; the head's sheet is as high. The finer, the slower.
        tint: Factors of red, green and blue.
        frontal: Whether the face has discs around two eyes, as an owl's.

    Returns:
        The painted sheets.
    """
    rng = np.random.default_rng([seed, 11])
    sheet = _Sheet(rng, height, int(height * 2.2), tint)
    _paint_body(sheet, plumage)
    body = np.dstack([sheet.finish(), np.full((sheet.h, sheet.w, 1), 255, np.uint8)])
    head = _Sheet(rng, height, height, tint)
    _paint_head(head, plumage, frontal)
    return Coat(np.ascontiguousarray(body), head.finish())


class _Sheet:
    """An RGB sheet that parts are blended onto."""

    def __init__(self, rng: np.random.Generator, h: int, w: int, tint: Sequence[float]) -> None:
        self.rng, self.h, self.w = rng, h, w
        self._tint = np.asarray(tint, np.float32)
        self.rgb = np.zeros((h, w, 3), np.float32)
        self.wobble = noise(rng, (h, w), (7, 14)) + 0.6 * noise(rng, (h, w), (18, 44)) - 0.8
        self.fine = noise(rng, (h, w), (h / 2.5, w / 9)) - 0.5

    def colour(self, name: str) -> Floats:
        """Return the colour of a name, tinted."""
        return np.asarray(COLOURS[name], np.float32) * self._tint

    def put(self, name: str, weight: Floats) -> None:
        """Blend a colour on by a weight (H, W) in 0..1; "" puts nothing."""
        if name:
            self.rgb += weight[..., None] * (self.colour(name) - self.rgb)

    def finish(self) -> NDArray[np.uint8]:
        return (np.clip(self.rgb, 0.02, 1.0) * 255).astype(np.uint8)


def _paint_body(sheet: _Sheet, wears: Plumage) -> None:
    h, w = sheet.h, sheet.w
    s = np.linspace(0, 1, w, dtype=np.float32)[None, :] + 0.045 * sheet.wobble
    t = np.linspace(-_T_SPAN, _T_SPAN, h, dtype=np.float32)[:, None] + 0.16 * sheet.wobble + 0.06 * sheet.fine
    sheet.rgb[:] = sheet.colour(wears.back)
    back = _above(-t, -wears.side_line, 0.10)
    under = 1 - back
    sheet.put(wears.rump, _band(s, 0.84, 1.1, 0.03) * _above(-t, -0.1, 0.1))
    sheet.put(wears.belly, under)
    breast = under * _above(-s, -wears.breast_reach, 0.03)
    sheet.put(wears.breast, breast)
    sheet.put(
        wears.flank,
        _band(t, wears.side_line - 0.05, wears.side_line + 0.38, 0.07) * _band(s, 0.5, 0.86, 0.05),
    )
    sheet.put(wears.vent, under * _above(s, 0.86, 0.03))
    neck = _above(-s, -0.235, 0.03)
    sheet.put(wears.nape, neck * _above(-t, 0.0, 0.12))
    sheet.put(wears.throat, neck * _above(t, 0.0, 0.12) * _above(-s, -0.19, 0.025))
    pattern_zone = under * _band(s, 0.16, 0.84, 0.04)
    if wears.breast_pattern in ("spots", "streaks"):
        pattern_zone = pattern_zone * (1 - 0.75 * _above(s, wears.breast_reach + 0.1, 0.08))
    if wears.breast_pattern != "plain":
        sheet.put(wears.breast_ink, pattern_zone * _pattern(sheet, wears.breast_pattern, s, t, wears.grain))
    mantle = back * _band(s, 0.2, 0.86, 0.04)
    if wears.back_pattern != "plain":
        sheet.put(wears.back_ink, 0.8 * mantle * _pattern(sheet, wears.back_pattern, s, t, wears.grain))
    if wears.breast_band:
        sheet.put(wears.breast_band, _band(s + 0.07 * t * t, 0.345, 0.43, 0.015) * _above(t, -0.25, 0.1))
    if wears.collar:
        sheet.put(wears.collar, _band(s, 0.205, 0.255, 0.012) * _above(-t, -0.55, 0.1))
    _feather_texture(sheet, s, t)


def _paint_head(sheet: _Sheet, wears: Plumage, frontal: bool) -> None:
    n = sheet.h
    x = np.linspace(-HEAD_SPAN, HEAD_SPAN, n, dtype=np.float32)[None, :] + 0.09 * sheet.wobble
    y = (
        np.linspace(-HEAD_SPAN, HEAD_SPAN, n, dtype=np.float32)[:, None]
        + 0.09 * sheet.wobble
        + 0.03 * sheet.fine
    )
    sheet.rgb[:] = sheet.colour(wears.face)
    sheet.put(wears.throat, _above(y - 0.1 * x, 0.42, 0.06) * _above(x, -0.75, 0.1))
    sheet.put(wears.nape, _above(-x + 0.25 * y, 0.52, 0.08))
    if frontal:
        _paint_discs(sheet, wears, x, y)
        return
    if wears.ear:
        sheet.put(wears.ear, _disc(x, y, -0.22, 0.2, 0.36, 0.27))
    sheet.put(wears.crown, _above(-y + 0.10 * x, -wears.cap_line, 0.05) * _above(x, -0.98, 0.08))
    eye = -0.14
    if wears.mask:
        sheet.put(wears.mask, _disc(x, y, 0.3, eye + 0.04, 0.72, 0.27))
    sheet.put(
        wears.brow,
        _band(y + 0.14 * (x - 0.2) ** 2, eye - 0.36, eye - 0.2, 0.03) * _band(x, -0.75, 0.95, 0.08),
    )
    if wears.eye_line:
        line = _band(y - 0.08 * x * x, eye - 0.07, eye + 0.08, 0.025)
        sheet.put(wears.eye_line, line * _band(x, -0.8, 1.2, 0.08))
    if wears.moustache:
        sheet.put(wears.moustache, _band(y + 0.42 * x, 0.53, 0.68, 0.03) * _band(x, -0.4, 0.85, 0.06))
    if wears.eye_ring:
        sheet.put(wears.eye_ring, _disc(x, y, 0.28, eye, 0.31, 0.31) * (1 - _disc(x, y, 0.28, eye, 0.2, 0.2)))
    texture = 1 + 0.16 * sheet.fine + 0.10 * (noise(sheet.rng, (n, n), (n / 5, n / 3)) - 0.5)
    sheet.rgb *= texture[..., None]


def _paint_discs(sheet: _Sheet, wears: Plumage, x: Floats, y: Floats) -> None:
    """Paint the front of a face: crown, two discs with a dark rim, rays around the eyes, brows that meet."""
    sheet.put(wears.crown, _above(-y + 0.04 * x * x, 0.42, 0.08))
    sheet.put(wears.back_ink, 0.5 * _above(-y, 0.5, 0.1) * _above(sheet.fine, 0.12, 0.1))
    inner = wears.mask or wears.ear or wears.throat
    for cx in (-0.12, 0.62):
        sheet.put(wears.moustache or "umber", 0.8 * _disc(x, y, cx, -0.06, 0.56, 0.6))
        sheet.put(inner, _disc(x, y, cx, -0.06, 0.49, 0.53))
        away = np.hypot(x - cx, y + 0.12)
        rays = np.sin(np.arctan2(y + 0.12, x - cx) * 26 + 5 * sheet.wobble)
        sheet.rgb *= (1 - 0.09 * _above(-away, -0.5, 0.04) * (rays + 0.8))[..., None]
        sheet.put(wears.eye_ring or "umber", 0.7 * _disc(x, y, cx, -0.13, 0.31, 0.31))
    lift = np.abs(x - 0.25)
    sheet.put(
        wears.brow or "cream", _band(y + 0.45 * lift, -0.36, -0.2, 0.05) * _band(lift, 0.06, 0.75, 0.08)
    )
    sheet.rgb *= (1 + 0.16 * sheet.fine)[..., None]


def _feather_texture(sheet: _Sheet, s: Floats, t: Floats) -> None:
    """Small overlapping feathers and barbs, as lightness."""
    rows = 30.0
    a, b = -s * rows, t * 6.5
    b = b + 0.5 * (np.floor(a) % 2)
    across = b - np.floor(b) - 0.5
    edge = a - np.floor(a) - 2.6 * across * across
    scallop = np.exp(-((edge - 0.12) ** 2) * 26)
    light = 1 - 0.13 * scallop + 0.26 * sheet.fine + 0.12 * sheet.wobble
    sheet.rgb *= light[..., None]


def _pattern(sheet: _Sheet, kind: str, s: Floats, t: Floats, grain: float) -> Floats:
    """Ink of a pattern, (H, W) in 0..1."""
    h, w = sheet.h, sheet.w
    if kind == "plain":
        return np.zeros((h, w), np.float32)
    if kind == "bars":
        return _above(np.sin(s * 88 / grain + 3 * sheet.wobble + 2 * t * t), 0.1, 0.3)
    if kind == "scallops":
        a, b = s * 19 / grain, t * 4.6 / grain
        b = b + 0.5 * (np.floor(a) % 2)
        across = b - np.floor(b) - 0.5
        edge = a - np.floor(a) + 2.4 * across * across
        return np.asarray(np.exp(-((edge - 0.86) ** 2) * 45), np.float32)
    long = kind == "streaks"
    rows, columns = (9.5, 13.0) if long else (7.5, 20.0)
    a, b = s * columns / grain, t * rows / (2 * grain)
    cell_b = np.floor(b)
    a = a + 0.37 * (cell_b % 3)
    cell_a = np.floor(a)
    jitter = sheet.rng.random((97, 3), dtype=np.float32)
    index = ((cell_a * 31 + cell_b * 17) % 97).astype(np.int32)
    da = a - cell_a - 0.35 - 0.3 * jitter[index, 0]
    db = b - cell_b - 0.4 - 0.2 * jitter[index, 1]
    size = 0.75 + 0.5 * jitter[index, 2]
    along, across = (0.42, 0.17) if long else (0.3, 0.27)
    d = np.sqrt((da / along) ** 2 + (db / across) ** 2) / size
    return _above(-d, -0.85, 0.12)


def _above(value: Floats, edge: float, soft: float) -> Floats:
    """Return 1 where a value is well above an edge, 0 below, a smooth ramp of width 2 `soft` between."""
    ramp = np.clip((value - (edge - soft)) / (2 * soft), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def _band(value: Floats, low: float, high: float, soft: float) -> Floats:
    return _above(value, low, soft) * _above(-value, -high, soft)


def _disc(x: Floats, y: Floats, cx: float, cy: float, rx: float, ry: float) -> Floats:
    return _above(-np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2), -1.0, 0.1)
