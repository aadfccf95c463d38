"""Alignment of one small picture to another, and what then still differs.

All pictures are squashed to squares. A part (left, width, top, height) says where the second picture's square
lies in the unit square of the first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LUMA", "SIDE", "TURNS", "Placed", "Prepared", "judged", "quarters", "reducer", "search"]

TURNS = ("", "90", "180", "270", "mirror", "mirror-90", "mirror-180", "mirror-270")
"""How a picture may be turned: mirrored left to right first, then clockwise by so many degrees."""

Array = NDArray[np.float32]
Part = NDArray[np.float64]

SIDE = 96
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
BLUE, RED = np.float32(0.564), np.float32(0.713)

# The coarse search: 16 x 16 points of the first picture in 32 x 32 of the second.
_SEARCHED, _POINTS = 32, 16
_SCALES = np.array([0.7, 0.78, 0.86, 0.93, 1.0, 1.075, 1.16, 1.28, 1.43])
_SHIFTS = np.linspace(-0.2, 0.2, 9)
_LEAST_SHARED = 0.45
# Shapes (width to height) are rounded to steps of 3 %, so that the tables of the search are made once.
_SHAPE_STEP, _SHAPE_STEPS = 0.03, 15
_BLUR, _EDGE, _FINEST = 0.7, 2.25, 1.5
_BINS = 24
# Residuals are averaged over squares of so many pixels: 5 % of a side.
_WINDOW = 5
_LEAST_CONTRAST, _LEAST_NOISE = 4.0, 0.7
_CLIPPED, _BLACK = 215.0, 8.0
_WHOLE = 0.0, 1.0
_GREY = 2.5
_STRIP, _STRIP_MARGIN, _STRIP_FILLED, _STRIP_CHANGED, _STRIP_REST = 0.22, 4, 0.6, 0.25, 0.12
# How much residual sharpening, and clipped lights, excuse: see `judged`.
_SHARPENED, _BLOWN = 8.0, 4.0


class Prepared:
    """A small picture with what laying it upon others needs, made once for many comparisons."""

    def __init__(self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8], width: int, height: int) -> None:
        self.pixels = (luma, chroma)
        self.width, self.height = width, height
        self.luma: Array = luma.astype(np.float32)
        small = reducer(SIDE, _SEARCHED)
        self.coarse = _normalised(np.asarray(small @ self.luma @ small.T, np.float32))
        detail = _blurred(self.luma, 1.5) - _blurred(self.luma, 9.0)
        self.detail = float(np.sqrt(np.mean(detail**2)))
        self.order = (int(luma.sum(dtype=np.int64)), luma.tobytes(), chroma.tobytes(), width, height)
        self._templates: dict[int, tuple[Array, Array]] = {}
        self._turned: dict[str, Prepared] = {"": self}
        self._planes: dict[float, Array] = {}

    def templates(self, shape: int) -> tuple[Array, Array]:
        """Return the points of the picture at all horizontal shifts of the search, and their energy."""
        if shape not in self._templates:
            table = _search_table(shape)
            reduce = reducer(_SEARCHED, _POINTS)
            points = reduce @ self.coarse @ reduce.T
            # (S, T, 16, 32) -> (S, T, 512) -> (S, 512, T)
            flat = np.matmul(points, table.across).reshape(len(_SCALES), len(_SHIFTS), -1)
            energy = np.matmul(np.matmul(table.seen_down, points**2), table.seen_across.transpose(0, 2, 1))
            self._templates[shape] = (np.ascontiguousarray(flat.transpose(0, 2, 1)), energy)
        return self._templates[shape]

    def turned(self, name: str) -> Prepared:
        """Return the picture turned; see `TURNS`."""
        if name not in self._turned:
            luma, chroma = self.pixels
            if name.startswith("mirror"):
                luma, chroma = luma[:, ::-1], chroma[:, :, ::-1]
            count = quarters(name)
            luma, chroma = np.rot90(luma, -count), np.rot90(chroma, -count, axes=(1, 2))
            size = (self.height, self.width) if count % 2 else (self.width, self.height)
            self._turned[name] = Prepared(np.ascontiguousarray(luma), np.ascontiguousarray(chroma), *size)
        return self._turned[name]

    def planes(self, sigma: float) -> Array:
        """Return luma, red, green and blue, blurred: (4, 96, 96)."""
        if sigma not in self._planes:
            chroma = self.pixels[1]
            wider = _placing(SIDE, chroma.shape[1], 0.0, 1.0)[0]
            blue, red = (wider @ (each.astype(np.float32) - 128) @ wider.T for each in chroma)
            red, blue = self.luma + red / RED, self.luma + blue / BLUE
            green = (self.luma - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
            colours = np.clip(np.stack([red, green, blue]), 0, 255)
            self._planes = {sigma: _blurred(np.concatenate([self.luma[None], colours]), sigma)}
        return self._planes[sigma]

    @functools.cached_property
    def is_grey(self) -> bool:
        """Hardly any colour."""
        return float(np.abs(self.pixels[1].astype(np.float32) - 128).mean()) < _GREY


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The shifts of the coarse search, S scales and T shifts.

    Attributes:
        across, down: (S, T, 16, 32) and (S, T * 16, 32), what each point is interpolated from.
        seen_across, seen_down: (S, T, 16), which points lie within the second picture.
        weight_across, weight_down: (S, 32, T) and (S, T, 32), how much each of its pixels counts.
        shared: (S, T, T), the part of the first picture that is covered.
        widths, heights: (S,), sizes of the second picture in the first.
    """

    across: Array
    down: Array
    seen_across: Array
    seen_down: Array
    weight_across: Array
    weight_down: Array
    shared: Array
    widths: Part
    heights: Part


@functools.lru_cache(maxsize=64)
def _search_table(shape: int) -> _Table:
    stretch = np.exp(0.5 * _SHAPE_STEP * shape)
    widths, heights = _SCALES * stretch, _SCALES / stretch
    (across, seen_across), (down, seen_down) = (_search_axis(sizes) for sizes in (widths, heights))
    shared = seen_down.sum(2)[:, :, None] * seen_across.sum(2)[:, None, :] / _POINTS**2
    return _Table(
        across,
        down.reshape(len(_SCALES), -1, _SEARCHED),
        seen_across,
        seen_down,
        np.ascontiguousarray(across.sum(2).transpose(0, 2, 1)),
        down.sum(2),
        shared,
        widths,
        heights,
    )


def _search_axis(sizes: Part) -> tuple[Array, Array]:
    points = (np.arange(_POINTS) + 0.5) / _POINTS
    at = (points - (0.5 + _SHIFTS[None, :, None])) / sizes[:, None, None] + 0.5
    seen = ((at >= 0) & (at <= 1)).astype(np.float32)
    distance = np.abs((np.clip(at * _SEARCHED - 0.5, 0, _SEARCHED - 1))[..., None] - np.arange(_SEARCHED))
    return (np.maximum(1 - distance, 0) * seen[..., None]).astype(np.float32), seen


def search(first: Prepared, second: Prepared, count: int = 2) -> list[tuple[float, Part]]:
    """Return where the second picture may lie in the first, with their correlation there (-1..1), best first.

    The pictures' shapes give the ratio of the horizontal to the vertical scale, as edits rarely squash; that of
    equal scales is tried besides.

    NOTE: the energy of the interpolated second picture is taken from its squares, interpolated alike, which is
    at least as great; so a position between pixels scores a little lower than it should.
    """
    ratio = np.log(second.width * first.height) - np.log(second.height * first.width)
    step = round(float(ratio) / _SHAPE_STEP)
    found: list[tuple[float, Part]] = []
    for shape in {0, step} if abs(step) <= _SHAPE_STEPS else {0}:
        table = _search_table(shape)
        placed, energy = first.templates(shape)
        scales, shifts = len(_SCALES), len(_SHIFTS)
        # (S, T * 16, 32) -> (S, T, 512)
        rows = np.matmul(table.down, second.coarse).reshape(scales, shifts, -1)
        other = np.matmul(np.matmul(table.weight_down, second.coarse**2), table.weight_across)
        scores = np.matmul(rows, placed) / np.sqrt(energy * other + 1e-6)
        scores[table.shared < _LEAST_SHARED] = -1
        for _ in range(count):
            scale, down, across = (int(each) for each in np.unravel_index(np.argmax(scores), scores.shape))
            width, height = table.widths[scale], table.heights[scale]
            part = np.array(
                [0.5 + _SHIFTS[across] - width / 2, width, 0.5 + _SHIFTS[down] - height / 2, height]
            )
            found.append((float(scores[scale, down, across]), part))
            around = (slice(max(0, index - 1), index + 2) for index in (scale, down, across))
            scores[tuple(around)] = -1
    found.sort(key=lambda each: (-each[0], each[1].tolist()))
    return found[: 2 * count]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """What is left after the second picture was laid upon the first.

    Attributes:
        part: Where the second lies.
        residual: The greatest difference that is not explained, as a part of the contrast.
        plain: The same without the allowance for sharpening and clipping (see `judged`).
        strip: The edge at which a strip was left out, or nothing.
        changed: The part of the picture where more than a third of the greatest difference is.
        brightness: How many grey levels the second is brighter.
    """

    part: Part
    residual: float
    plain: float
    strip: str
    changed: float
    brightness: float


def judged(first: Prepared, second: Prepared, part: Part) -> Placed | None:
    """Place the second picture exactly, and measure what no edit explains.

    Each channel of the second is predicted from that of the first by a monotone curve (medians of 24 parts of
    equal size), then by least squares on sharpening (differences of two widths), and on colour where one is
    grey. What is left, without what the second has clipped, is averaged over the channels and over squares of
    5 pixels; the greatest counts. A strip across the picture at its upper or lower edge is left out.

    Returns:
        None if the pictures share too little.
    """
    smallest = min(first.width, first.height, second.width, second.height)
    sigma = round(float(np.clip(_BLUR * _FINEST * SIDE / smallest, _BLUR, 3 * _BLUR)), 1)
    left, right = first.planes(sigma), second.planes(sigma)
    placed = _refined(first.coarse, second.coarse, part, 6, has_curve=False)
    placed = None if placed is None else _refined(left[0], right[0], placed, 4, has_curve=True)
    window = None if placed is None else _window(placed)
    if placed is None or window is None:
        return None
    rest = _left(first, second, left, right, window)
    strip, kept = _without_strip(rest.means)
    if strip:
        # Once more without it: what fills a tenth of the picture bends the tone curve and the position of the rest.
        rows, cut = window[3], len(rest.means) - len(kept)
        low, high = (rows.start, rows.stop - cut) if strip == "bottom" else (rows.start + cut, rows.stop)
        limits = low / SIDE, high / SIDE
        again = _refined(left[0], right[0], placed, 4, has_curve=True, limits=limits)
        window = None if again is None else _window(again, limits=limits)
        if again is None or window is None:
            return None
        placed, rest = again, _left(first, second, left, right, window)
    plain = float(rest.means.max())
    allowance = 1 + _SHARPENED * min(rest.sharpened, 0.25) + _BLOWN * min(rest.blown, 0.25)
    changed = float((rest.means > plain / 3).mean())
    return Placed(placed, plain / allowance, plain, strip, changed, rest.brightness)


@dataclass(frozen=True, slots=True, eq=False)
class _Left:
    """What is left of the second picture when the first, with other tones, is taken off.

    Attributes:
        means: Differences averaged over squares, as parts of the contrast.
        sharpened: How much sharpening explained, as a part of the contrast.
        blown: The part of the picture whose lights were clipped.
        brightness: How many grey levels the second is brighter.
    """

    means: NDArray[np.float64]
    sharpened: float
    blown: float
    brightness: float


def _left(
    first: Prepared,
    second: Prepared,
    left: Array,
    right: Array,
    window: tuple[Array, Array, slice, slice],
) -> _Left:
    across, down, columns, rows = window
    total: Array = np.zeros((), np.float32)
    blown, explained, contrast = 0.0, 0.0, 0.0
    channels = range(1) if first.is_grey or second.is_grey else range(1, 4)
    for channel in channels:
        target, source = down @ right[channel] @ across.T, left[channel][rows, columns]
        toned = _toned(source, target)
        terms = [_laplacian(toned), toned - _blurred(toned, 3.0), toned, np.ones_like(toned)]
        if second.is_grey and not first.is_grey:
            terms += [left[1][rows, columns] - source, left[3][rows, columns] - source]
        weights, rest = _solved(terms, target - toned, (6.0, 4.0, 2.0, 1.5))
        guess = target - rest
        is_clipped = ((target > _CLIPPED) & (guess > _CLIPPED - 15)) | ((target < _BLACK) & (guess < _BLACK))
        is_clipped = _widened(is_clipped)
        total = np.asarray(total + np.where(is_clipped, 0, np.abs(rest)) / len(channels), np.float32)
        blown += float(((target > _CLIPPED) & (source < target - 8)).mean()) / len(channels)
        sharpened = weights[0] * terms[0] + weights[1] * terms[1]
        contrast += float(target.std()) / len(channels)
        explained += float(np.sqrt(np.mean(sharpened**2))) / len(channels)
    contrast = max(contrast, _LEAST_CONTRAST)
    return _Left(
        means=_averaged(np.asarray(total, np.float64)) / contrast,
        sharpened=explained / contrast,
        blown=blown,
        brightness=float(np.mean(down @ right[0] @ across.T) - np.mean(left[0][rows, columns])),
    )


def _refined(
    first: Array,
    second: Array,
    part: Part,
    rounds: int,
    *,
    has_curve: bool,
    limits: tuple[float, float] = _WHOLE,
) -> Part | None:
    """Improve a position by least squares on brightness, horizontally and vertically for itself.

    Source: B. D. Lucas, T. Kanade, "An Iterative Image Registration Technique with an Application to Stereo
    Vision", IJCAI 1981; here with scale, gain, offset and sharpness as further unknowns, and robust weights.
    """
    side = len(first)
    middle = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    for _ in range(rounds):
        window = _window(part, side, limits)
        if window is None:
            return None
        across, down, columns, rows = window
        target = np.asarray(down @ second @ across.T, np.float32)
        source = first[rows, columns]
        toned = _toned(source, target) if has_curve else source
        slopes = _slopes(toned, side)
        moves = [slopes[0], slopes[0] * middle[columns], slopes[1], slopes[1] * middle[rows, None]]
        terms = [*moves, toned, *([_laplacian(toned), np.ones_like(toned)] if has_curve else [])]
        noise = _LEAST_NOISE if has_curve else 0.1
        change = _solved(terms, target - toned, (3.0, 1.5), noise)[0][:4].astype(np.float64)
        limited = np.clip(change, -0.1, 0.1)
        stretch = 1 + limited[[1, 3]]
        part = np.array(
            [
                stretch[0] * part[0] + limited[0] - 0.5 * limited[1],
                part[1] * stretch[0],
                stretch[1] * part[2] + limited[2] - 0.5 * limited[3],
                part[3] * stretch[1],
            ]
        )
        if np.abs(change).max() < 0.05 / side:
            break
    return part


def _window(
    part: Part, side: int = SIDE, limits: tuple[float, float] = _WHOLE
) -> tuple[Array, Array, slice, slice] | None:
    """Return what maps the second picture's pixels to the first's, and the columns and rows that both show.

    `limits` are the first and the last height that count, as parts of the first picture.
    """
    edge = _EDGE * side / SIDE
    (across, columns), (down, rows) = (
        _placing(side, side, float(part[index]), float(part[index + 1]), edge) for index in (0, 2)
    )
    rows = rows[(rows >= limits[0] * side) & (rows < limits[1] * side)]
    if len(columns) < 0.4 * side or len(rows) < 0.4 * side:
        return None
    seen = slice(int(columns[0]), int(columns[-1]) + 1), slice(int(rows[0]), int(rows[-1]) + 1)
    return across[seen[0]], down[seen[1]], *seen


def _placing(
    side: int, other: int, low: float, size: float, edge: float = 0.0
) -> tuple[Array, NDArray[np.int64]]:
    """Interpolate `other` pixels at `side` positions by Catmull-Rom; also return the positions well inside both."""
    centres = (np.arange(side) + 0.5) / side
    at = (centres - low) / size
    margin = edge / side
    inside = (at >= margin) & (at <= 1 - margin) & (centres > margin) & (centres < 1 - margin)
    exact = np.clip(at * other - 0.5, 0, other - 1)
    whole = np.floor(exact).astype(np.int64)
    f = (exact - whole)[:, None]
    cubic = np.concatenate(
        [
            -0.5 * f + f**2 - 0.5 * f**3,
            1 - 2.5 * f**2 + 1.5 * f**3,
            0.5 * f + 2 * f**2 - 1.5 * f**3,
            -0.5 * f**2 + 0.5 * f**3,
        ],
        axis=1,
    )
    table = np.zeros((side, other + 4), dtype=np.float32)
    table[np.arange(side)[:, None], whole[:, None] + np.arange(1, 5)] = cubic
    # What lies outside is the outermost pixel.
    table[:, 2] += table[:, 1]
    table[:, other + 1] += table[:, other + 2] + table[:, other + 3]
    return table[:, 2 : other + 2], np.flatnonzero(inside)


def _toned(source: Array, target: Array) -> Array:
    """Return the source with the tones of the target, by a rising curve through medians."""
    flat, aim = source.ravel(), target.ravel()
    order = np.argsort(flat, kind="stable")
    size = len(flat) // _BINS
    # (N,) -> (24, N // 24), parts of equal size from dark to bright
    x = np.median(flat[order][: size * _BINS].reshape(_BINS, size), axis=1).astype(np.float64)
    y = np.median(aim[order][: size * _BINS].reshape(_BINS, size), axis=1).astype(np.float64)
    y = (np.maximum.accumulate(y) + np.minimum.accumulate(y[::-1])[::-1]) / 2
    low = (y[4] - y[0]) / max(x[4] - x[0], 1.0)
    high = (y[-1] - y[-5]) / max(x[-1] - x[-5], 1.0)
    x = np.concatenate([[x[0] - 100], x, [x[-1] + 100]])
    y = np.concatenate([[y[0] - 100 * low], y, [y[-1] + 100 * high]])
    toned = np.clip(np.interp(flat, x, y), aim.min(), aim.max())
    return toned.astype(np.float32).reshape(source.shape)


def _solved(
    terms: Sequence[Array], target: Array, widths: Sequence[float], noise: float = _LEAST_NOISE
) -> tuple[Array, Array]:
    """Solve by least squares (Cauchy weights, ever narrower); return the weights of the terms, and the rest."""
    matrix = np.stack(terms).reshape(len(terms), -1)
    aim = target.ravel()
    rest, solution = aim, np.zeros(len(terms), dtype=np.float32)
    for width in widths:
        scale = max(width * float(np.median(np.abs(rest))), noise)
        weighted = matrix / (1 + (rest / scale) ** 2)
        square = weighted @ matrix.T
        square[np.diag_indices(len(terms))] *= 1.0001
        square[np.diag_indices(len(terms))] += 1e-3
        solution = np.linalg.solve(square, weighted @ aim)
        rest = aim - solution @ matrix
    return solution, rest.reshape(target.shape)


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with its neighbours up to two pixels away: a small pixel is the mean of many."""
    wide = np.pad(mask, 2)
    high, across = mask.shape
    rows = np.logical_or.reduce([wide[index : index + high] for index in range(5)])
    return np.asarray(np.logical_or.reduce([rows[:, index : index + across] for index in range(5)]))


def _slopes(values: Array, side: int) -> tuple[Array, Array]:
    """Return the horizontal and vertical change for each whole side."""
    down, across = np.gradient(values)
    return np.asarray(across * side, np.float32), np.asarray(down * side, np.float32)


def _laplacian(values: Array) -> Array:
    out = np.zeros_like(values)
    out[1:-1, 1:-1] = values[2:, 1:-1] + values[:-2, 1:-1] + values[1:-1, 2:] + values[1:-1, :-2]
    out[1:-1, 1:-1] -= 4 * values[1:-1, 1:-1]
    return out


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over whole squares of `_WINDOW` pixels, (H - 4, W - 4)."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(0).cumsum(1)
    k = _WINDOW
    return np.asarray((sums[k:, k:] - sums[:-k, k:] - sums[k:, :-k] + sums[:-k, :-k]) / k**2)


def _without_strip(means: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
    """Leave out a strip at the upper or lower edge that differs along most of its length, if there is one.

    A caption differs nearly everywhere along the picture and ends at a straight line; a bird does neither.
    """
    filled = (means > _STRIP_CHANGED).mean(axis=1)
    longest = int(_STRIP * len(means))
    changed = means > _STRIP_CHANGED
    for name, rows in (("bottom", filled[::-1]), ("top", filled)):
        full = np.flatnonzero(rows[:longest] >= _STRIP_FILLED)
        if not len(full) or full[0] > _STRIP_MARGIN:
            continue
        end = int(full[-1]) + 1 + _STRIP_MARGIN
        if end > longest + _STRIP_MARGIN or np.median(rows[full[0] : full[-1] + 1]) < _STRIP_FILLED:
            continue
        return name, means[:-end] if name == "bottom" else means[end:]
    # Letters on a dark strip over a dark edge differ here and there along the edge, and nowhere else.
    for name, part, kept in (
        ("bottom", changed[-longest:], means[:-longest]),
        ("top", changed[:longest], means[longest:]),
    ):
        columns = np.flatnonzero(part.any(axis=0))
        if len(columns) and columns[-1] - columns[0] >= part.shape[1] / 2 and kept.max() <= _STRIP_REST:
            return name, kept
    return "", means


def quarters(turn: str) -> int:
    """Return how many quarters of a whole turn, clockwise, a name in `TURNS` stands for."""
    degrees = turn.rpartition("-")[2]
    return int(degrees) // 90 if degrees.isdigit() else 0


@functools.lru_cache(maxsize=64)
def reducer(side: int, smaller: int) -> Array:
    """Return the matrix that takes means over `smaller` equal parts of `side` pixels, (smaller, side) float32."""
    edges = np.arange(smaller + 1) * side / smaller
    pixels = np.arange(side)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(shared, 0) * (smaller / side), np.float32)


@functools.lru_cache(maxsize=1024)
def _gaussian(side: int, sigma: float) -> Array:
    pixels = np.arange(side)
    table = np.exp(-0.5 * ((pixels[:, None] - pixels) / sigma) ** 2)
    return np.asarray(table / table.sum(axis=1, keepdims=True), np.float32)


def _blurred(values: Array, sigma: float) -> Array:
    return np.asarray(_gaussian(values.shape[-2], sigma) @ values @ _gaussian(values.shape[-1], sigma).T)


def _normalised(values: Array, wide: float = 4.0) -> Array:
    """Return the detail, divided by how much of it there is around."""
    detail = _blurred(values, 1.0) - _blurred(values, wide)
    return np.asarray(detail / (np.sqrt(_blurred(detail**2, wide)) + 2))
