"""Feathers drawn one by one: wings, tails and crests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from birdsearch.data.synthetic.plans import BodyPlan
from birdsearch.data.synthetic.plumage import COLOURS, Plumage
from birdsearch.data.synthetic.skeleton import Frame

__all__ = ["Painter", "paint_crest", "paint_folded_wing", "paint_spread_wing", "paint_tail"]

Floats = NDArray[np.floating[Any]]
Rgb = tuple[float, float, float]

# Half the outline of a feather: position along the shaft and half width there.
_ROUND = ((0, 0.3), (0.3, 0.85), (0.62, 1.0), (0.84, 0.88), (0.95, 0.55), (1.0, 0.0))
_POINTED = ((0, 0.35), (0.3, 0.9), (0.55, 1.0), (0.8, 0.7), (0.94, 0.3), (1.0, 0.0))
# Rim, fringe and vane lie on each other: their width, and how far they are drawn back to the base.
_LAYERS = np.array([(1.0, 0.0), (0.92, 0.015), (0.70, 0.055)])


def _closed(half: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places along and across of the whole outline, once for each of `_LAYERS`: (3, 2M) each."""
    along = np.array([a for a, _ in half] + [a for a, _ in reversed(half)])
    across = np.array([w for _, w in half] + [-w for _, w in reversed(half)])
    return along - _LAYERS[:, 1:], across * _LAYERS[:, :1]


_OUTLINES = {"round": _closed(_ROUND), "pointed": _closed(_POINTED)}


class Painter:
    """Draws polygons in torsos onto a small supersampled sheet, to be put on a larger picture.

    Args:
        to_pixels: Frame that maps torsos to pixels of the picture.
        points: What has to fit on the sheet, in torsos (N, 2).
        ground: Colour that the sheet starts with; it shows at soft edges.
        tint: Factors of red, green and blue for all colours.
        finer: How many times finer than the picture the sheet is.
    """

    def __init__(
        self, to_pixels: Frame, points: Floats, ground: Rgb, tint: Sequence[float] = (1, 1, 1), finer: int = 2
    ) -> None:
        pixels = to_pixels(points)
        low = np.floor(pixels.min(axis=0)).astype(int) - 2
        high = np.ceil(pixels.max(axis=0)).astype(int) + 2
        self.left, self.top = int(low[0]), int(low[1])
        self._finer = finer
        self._map = to_pixels
        self._tint = tint
        size = (max(1, int(high[0] - low[0])) * finer, max(1, int(high[1] - low[1])) * finer)
        self._image = Image.new("RGB", size, self.ink(ground))
        self._mask = Image.new("L", size, 0)
        self._on_image, self._on_mask = ImageDraw.Draw(self._image), ImageDraw.Draw(self._mask)
        self.fine = float(to_pixels.x[0]) > 90
        self._frames: dict[int, tuple[complex, complex, complex]] = {}

    def ink(self, colour: Rgb, light: float = 1.0) -> tuple[int, int, int]:
        """Return the 8-bit colour of a colour in 0..1, tinted and lightened."""
        (r, g, b), (tr, tg, tb), k = colour, self._tint, 255 * light
        return (
            max(4, min(255, int(k * r * tr))),
            max(4, min(255, int(k * g * tg))),
            max(4, min(255, int(k * b * tb))),
        )

    def to_pixels(self, points: Floats) -> list[float]:
        """Points (N, 2) in torsos as x, y, x, y.. on the sheet."""
        pixels = (self._map(points) - (self.left, self.top)) * self._finer
        flat: list[float] = pixels.ravel().tolist()
        return flat

    def polygon(self, points: Floats, colour: Rgb, light: float = 1.0) -> None:
        """Fill a polygon (N, 2)."""
        flat = self.to_pixels(points)
        self._on_image.polygon(flat, fill=self.ink(colour, light))
        self._on_mask.polygon(flat, fill=255)

    def stroke(self, points: Floats, width: float, colour: Rgb, light: float = 1.0) -> None:
        """Draw a line of a width in torsos through points (N, 2), with round joints."""
        flat = self.to_pixels(points)
        unit = float(np.hypot(*self._map.x)) * self._finer
        px = max(1, round(width * unit))
        for draw, fill in ((self._on_image, self.ink(colour, light)), (self._on_mask, 255)):
            draw.line(flat, fill=fill, width=px, joint="curve")

    def feather(
        self, base: Sequence[float], tip: Sequence[float], width: float, frame: Frame, shades: Sequence[Rgb],
        outline: str = "round", light: float = 1.0, tip_part: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw one feather.

        Args:
            base: Where the shaft starts, in `frame`.
            tip: Where it ends.
            width: Full width, in the y unit of `frame`.
            frame: Where the numbers are.
            shades: Colours of vane, fringe and tip.
            outline: Shape of its end, `round` or `pointed`.
            light: Factor of lightness.
            tip_part: Part of the feather that has the tip's colour.
        """
        # Points are complex numbers here: turning by 90 degrees is a factor of 1j.
        origin, ex, ey = self._on_sheet(frame)
        start = origin + base[0] * ex + base[1] * ey
        axis = origin + tip[0] * ex + tip[1] * ey - start
        side = 0.5 * width * abs(ey) * 1j * axis / (abs(axis) or 1e-6)
        along, across = _OUTLINES[outline]
        rings = start + axis * along + side * across
        rim, middle, core = rings.view(np.float64).tolist()
        vane, fringe, end = shades
        self._on_mask.polygon(rim, fill=255)
        self._on_image.polygon(rim, fill=self.ink(fringe, light * 0.72))
        if self.fine:
            self._on_image.polygon(middle, fill=self.ink(fringe, light))
        self._on_image.polygon(core, fill=self.ink(vane, light))
        if tip_part > 0:
            n = along.shape[1] // 2
            first = next(i for i in range(n) if along[0, i] > 1 - tip_part)
            cut = (1 - tip_part) * axis + start
            wide = 0.95 * side * abs(across[0, first - 1])
            points = [
                cut + wide,
                *(start + axis * along[0, first:-first] + 0.95 * side * across[0, first:-first]),
                cut - wide,
            ]
            self._on_image.polygon([(z.real, z.imag) for z in points], fill=self.ink(end, light))
        if self.fine:
            a, b = start + 0.1 * axis, start + 0.93 * axis
            self._on_image.line((a.real, a.imag, b.real, b.imag), fill=self.ink(vane, light * 0.8), width=1)

    def _on_sheet(self, frame: Frame) -> tuple[complex, complex, complex]:
        """Origin and axes of a frame in pixels of the sheet, as complex numbers."""
        known = self._frames.get(id(frame))
        if known is None:
            flat = self.to_pixels(frame(np.array([[0, 0], [1, 0], [0, 1]], np.float32)))
            o, x, y = complex(*flat[:2]), complex(*flat[2:4]), complex(*flat[4:])
            known = self._frames[id(frame)] = (o, x - o, y - o)
        return known

    def layer(self, soft: bool = False) -> tuple[Image.Image, Image.Image]:
        """Return the RGB picture and the L mask at the picture's own resolution; they belong at (left, top).

        Args:
            soft: Take the edge off what was drawn with a ruler, as feathers have none.
        """
        mask = self._mask.reduce(self._finer)
        if soft:
            return self._image.resize(mask.size, Image.Resampling.BILINEAR), mask
        return self._image.reduce(self._finer), mask


def paint_folded_wing(painter: Painter, frame: Frame, wears: Plumage, rng: np.random.Generator) -> None:
    """Draw a closed wing, from the primaries up to the shoulder.

    Args:
        painter: What to draw on.
        frame: The wing's frame: x from shoulder to tip, y from back to belly.
        wears: Its colours.
        rng: Lightness of the single feathers comes from here.
    """
    few = 0 if painter.fine else 2
    flight, fringe = COLOURS[wears.flight], COLOURS[wears.fringe]
    bars = COLOURS[wears.primary_bars] if wears.primary_bars else None
    coverts = COLOURS[wears.coverts]
    bar = COLOURS[wears.wing_bar] if wears.wing_bar else coverts
    second = COLOURS[wears.second_bar] if wears.second_bar else coverts

    def shade() -> float:
        return 1.0 + 0.09 * float(rng.uniform(-1, 1))

    for f in np.linspace(0, 1, 7 - few):
        tip = (1.0 - 0.26 * f, 0.52 + 0.10 * f)
        _barred(
            painter, (0.3, 0.62), tip, 0.15, frame, (flight, fringe, flight), bars, "pointed", shade() * 0.94
        )
    inner = COLOURS[wears.speculum] if wears.speculum else flight
    for f in np.linspace(0, 1, 7 - few):
        base, tip = (0.2, 0.86 - 0.3 * f), (0.62 + 0.06 * f, 0.86 - 0.34 * f)
        _barred(painter, base, tip, 0.17, frame, (inner, fringe, inner), bars, "round", shade())
    for f in (0.0, 0.5, 1.0):
        painter.feather(
            (0.2, 0.40 - 0.2 * f),
            (0.72 - 0.16 * f, 0.44 - 0.2 * f),
            0.24,
            frame,
            (flight, fringe, fringe),
            light=shade(),
        )
    rows = (
        (0.46, 0.18, bar, 0.24 if wears.wing_bar else 0.0),
        (0.31, 0.17, second, 0.34 if wears.second_bar else 0.0),
    )
    for reach, width, end, part in rows:
        for f in np.linspace(0, 1, 8 - few):
            y = 0.93 - 0.66 * f
            painter.feather(
                (reach - 0.24, 0.5 + 0.8 * (y - 0.5)), (reach + 0.05 * np.sin(np.pi * f), y), width, frame,
                (coverts, _mix(coverts, fringe, 0.45), end), light=shade(), tip_part=part,
            )  # fmt: skip
    for reach in (0.22, 0.15, 0.08):
        count = 6 - few
        for f in np.linspace(0, 1, count):
            y = 0.80 - 0.56 * f + (0.05 if reach == 0.15 else 0.0)
            painter.feather(
                (reach - 0.14, 0.5 + 0.7 * (y - 0.5)), (reach, y), 0.2, frame,
                (coverts, _mix(coverts, fringe, 0.2), coverts), light=shade(),
            )  # fmt: skip
    back = COLOURS[wears.back]
    for f in np.linspace(1, 0, 5 - few):
        painter.feather(
            (0.0, 0.16), (0.20 + 0.32 * f, 0.20 + 0.06 * f), 0.2, frame, (back, _mix(back, fringe, 0.35), back),
            light=shade(),
        )  # fmt: skip


def paint_spread_wing(painter: Painter, frame: Frame, wears: Plumage, rng: np.random.Generator) -> None:
    """Draw an open wing: x from the shoulder to the tip, y from the leading edge to the trailing one."""
    few = 0 if painter.fine else 2
    flight, fringe, coverts = COLOURS[wears.flight], COLOURS[wears.fringe], COLOURS[wears.coverts]
    bars = COLOURS[wears.primary_bars] if wears.primary_bars else None
    inner = COLOURS[wears.speculum] if wears.speculum else flight
    bar = COLOURS[wears.wing_bar] if wears.wing_bar else coverts
    wrist = np.array([0.46, 0.12])

    def shade() -> float:
        return 1.0 + 0.07 * float(rng.uniform(-1, 1))

    for f in np.linspace(1, 0, 10 - few):
        x = 0.44 - 0.44 * (1 - f)
        _barred(
            painter,
            (x, 0.2),
            (x - 0.04, 0.80 + 0.06 * f),
            0.16,
            frame,
            (inner, fringe, inner),
            bars,
            "round",
            shade(),
        )
    for f in np.linspace(0, 1, 9 - few):
        angle = np.radians(92 - 86 * f)
        reach = 0.56 + 0.02 * np.sin(np.pi * f)
        tip = wrist + reach * np.array([np.cos(angle) * 0.98, np.sin(angle) * 1.25])
        base = wrist + 0.12 * np.array([np.cos(angle), np.sin(angle)])
        _barred(
            painter,
            base.tolist(),
            tip.tolist(),
            0.13,
            frame,
            (flight, fringe, flight),
            bars,
            "pointed",
            shade(),
        )
    for depth, width, end, part in (
        (0.46, 0.15, bar, 0.25 if wears.wing_bar else 0),
        (0.3, 0.15, coverts, 0),
        (0.18, 0.14, coverts, 0),
    ):
        for f in np.linspace(0, 1, 10 - few):
            x = 0.64 * f
            lead = 0.22 - 0.14 * min(1.0, x / 0.46)
            painter.feather(
                (x, lead), (x - 0.02 + 0.12 * max(0.0, x - 0.4), lead + depth * (1 - 0.45 * f)), width, frame,
                (coverts, _mix(coverts, fringe, 0.3), end), light=shade(), tip_part=part,
            )  # fmt: skip
    lead_line = np.array([[0.0, 0.2], [0.3, 0.11], [0.47, 0.08], [0.7, 0.10], [0.98, 0.16]], np.float32)
    painter.stroke(frame(lead_line), 0.035, coverts, 0.95)


def paint_tail(
    painter: Painter, frame: Frame, plan: BodyPlan, wears: Plumage, rng: np.random.Generator
) -> None:
    """Draw the tail: x from base to tip, y across, from -0.5 to 0.5 at the tip."""
    main, edge = COLOURS[wears.tail], COLOURS[wears.tail_edge or wears.tail]
    bands = COLOURS[wears.tail_bands] if wears.tail_bands else None
    end = COLOURS[wears.tail_tip or wears.tail]
    for k in (1.0, -1.0, 0.7, -0.7, 0.4, -0.4, 0.12):
        out = abs(k)
        length = (
            1.0 - plan.tail_fork * 0.62 * (1 - out)
            if plan.tail_fork > 0
            else 1.0 + plan.tail_fork * 0.62 * out
        )
        colour = edge if out == 1.0 else main
        shades = (colour, _mix(colour, (1, 1, 1), 0.10), end if wears.tail_tip else colour)
        light = 1.0 + 0.08 * float(rng.uniform(-1, 1)) - 0.12 * (k < 0)
        _barred(
            painter, (0, 0.12 * k), (length, 0.36 * k), 0.34, frame, shades, bands, "round", light,
            tip_part=0.1 if wears.tail_tip else 0.0,
        )  # fmt: skip


def paint_crest(painter: Painter, frame: Frame, length: float, wears: Plumage) -> None:
    """Draw a crest on a head's frame; `length` is in radii of the head."""
    colour = COLOURS[wears.crown]
    shades = (colour, _mix(colour, (1, 1, 1), 0.06), colour)
    for lift in (0.0, 0.25, 0.5, 0.75, 1.0):
        base = (0.25 - 0.85 * (1 - lift), -0.82 + 0.18 * (1 - lift) - 0.05)
        reach = length * (0.75 + 0.25 * lift)
        tip = (base[0] - reach * (0.98 - 0.3 * lift), base[1] - reach * (0.05 + 0.62 * lift))
        painter.feather(base, tip, 0.3, frame, shades, outline="pointed", light=0.9 + 0.14 * lift)


def _barred(
    painter: Painter, base: Sequence[float], tip: Sequence[float], width: float, frame: Frame,
    shades: Sequence[Rgb], bars: Rgb | None, outline: str, light: float, tip_part: float = 0.0,
) -> None:  # fmt: skip
    """Return a feather with four bars across it, if there is a colour for them."""
    painter.feather(base, tip, width, frame, shades, outline, light, tip_part)
    if bars is None:
        return
    (x0, y0), (x1, y1), half = base, tip, 0.36 * width
    for at in (0.36, 0.52, 0.68, 0.84):
        ax, ay = x0 + at * (x1 - x0), y0 + at * (y1 - y0)
        bx, by = ax + 0.07 * (x1 - x0), ay + 0.07 * (y1 - y0)
        corners = np.array([[ax, ay - half], [bx, by - half], [bx, by + half], [ax, ay + half]], np.float32)
        painter.polygon(frame(corners), bars, light)


def _mix(one: Rgb, other: Rgb, part: float) -> Rgb:
    r, g, b = (x + part * (y - x) for x, y in zip(one, other, strict=True))
    return r, g, b
