"""A bird drawn: silhouette, coat, feathers, light. The result is a cut-out to be put into a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageOps

from birdsearch.data.synthetic.bareparts import paint_bill, paint_eyes, paint_leg
from birdsearch.data.synthetic.coat import HEAD_SPAN, Coat, noise, paint_coat
from birdsearch.data.synthetic.feathers import (
    Painter,
    paint_crest,
    paint_folded_wing,
    paint_spread_wing,
    paint_tail,
)
from birdsearch.data.synthetic.plans import BodyPlan
from birdsearch.data.synthetic.plumage import COLOURS, Plumage
from birdsearch.data.synthetic.skeleton import Frame, Pose, Skeleton, build_skeleton
from birdsearch.data.synthetic.world import Individual

__all__ = ["CutOut", "Light", "bird_shape", "draw_bird"]

Floats = NDArray[np.floating[Any]]

_NOTHING_YET = [255] + [0] * 255


@dataclass(frozen=True, slots=True)
class Light:
    """Where light comes from and how warm it is.

    Attributes:
        side: -1 from the left, 1 from the right.
        height: 0 from the side, 1 from above.
        warmth: -1 blue shade, 0 neutral, 1 evening sun.
        contrast: 0 overcast, 1 hard sun.
    """

    side: float = -0.5
    height: float = 0.6
    warmth: float = 0.2
    contrast: float = 0.6


@dataclass(frozen=True, slots=True)
class CutOut:
    """A drawn bird.

    Attributes:
        image: RGBA picture.
        support: Pixel (x, y) of it that rests on something, or the middle of the belly of a flying bird.
        waterline: Row at which it enters the water, or None.
        unit: Pixels a torso.
    """

    image: Image.Image
    support: tuple[float, float]
    waterline: int | None
    unit: float


@lru_cache(maxsize=4)
def bird_shape(individual: Individual, pose: Pose) -> tuple[BodyPlan, Skeleton]:
    """Return the individual's own body plan, and its skeleton in a pose."""
    rng = np.random.default_rng([individual.seed, individual.species.index, 3])
    plan = individual.species.plan
    build = np.exp(0.025 * rng.standard_normal(4))
    own = BodyPlan(
        **{name: getattr(plan, name) for name in BodyPlan.__dataclass_fields__}
        | {
            "depth": plan.depth * float(build[0]),
            "bill": plan.bill * float(build[1]),
            "tail": plan.tail * float(build[2]),
            "neck": plan.neck * float(build[3]),
        }
    )
    return own, build_skeleton(own, pose)


def draw_bird(
    individual: Individual, pose: Pose, light: Light, unit: float, *, facing_left: bool = False
) -> CutOut:
    """Draw one bird.

    Args:
        individual: Who.
        pose: How it holds itself.
        light: Where light comes from.
        unit: Pixels a torso.
        facing_left: Mirror it; the light stays where it is.

    Returns:
        The cut-out, a few pixels larger than the bird.
    """
    plan, bones = bird_shape(individual, pose)
    left, top, right, bottom = bones.box
    margin = 4
    width, height = int((right - left) * unit) + 2 * margin, int((bottom - top) * unit) + 2 * margin
    to_pixels = Frame(
        np.array([margin - left * unit, margin - top * unit], np.float32),
        np.array([unit, 0], np.float32),
        np.array([0, unit], np.float32),
    )
    rng = np.random.default_rng([individual.seed, individual.species.index, 4])
    tint = tuple(
        float(v) for v in np.exp(0.035 * rng.standard_normal()) * np.exp(0.02 * rng.standard_normal(3))
    )
    sheet = 56 if unit < 110 else 112 if unit < 260 else 192
    coat = _coat(individual.species.plumage, individual.seed, sheet, tint, plan.frontal)
    side = -light.side if facing_left else light.side
    towards = Light(side, light.height, light.warmth, light.contrast)
    fields = _fields(bones, to_pixels, (width, height), unit, towards)
    picture, mask, bare = _assemble(individual, plan, bones, coat, fields, to_pixels, tint)
    image = _lit(picture, mask, bare, fields.light, unit)
    paint_eyes(image, plan, bones, individual.species.plumage, to_pixels, unit)
    support = to_pixels(bones.support[None])[0]
    waterline = None if bones.waterline is None else int(to_pixels.origin[1] + bones.waterline * unit)
    x = float(support[0])
    if facing_left:
        image = ImageOps.mirror(image)
        x = width - x
    return CutOut(image, (x, float(support[1])), waterline, unit)


@lru_cache(maxsize=32)
def _coat(plumage: Plumage, seed: int, height: int, tint: tuple[float, ...], frontal: bool) -> Coat:
    # Frames of a burst show one individual: its coat is painted once.
    return paint_coat(plumage, seed, height, tint, frontal=frontal)


@dataclass(frozen=True, slots=True)
class _Fields:
    """What a cut-out is made from, for each of its pixels.

    Attributes:
        distance: Pixels from the outline, inside below 0, (H, W).
        s: Place along the coat, 0 head to 1 tail, (H, W).
        t: Place from back (-1) to belly (1), (H, W).
        light: RGB picture of the light that falls there; 128 leaves a colour as it is.
    """

    distance: Floats
    s: Floats
    t: Floats
    light: Image.Image


def _fields(bones: Skeleton, to_pixels: Frame, size: tuple[int, int], unit: float, light: Light) -> _Fields:
    """Soft coordinates of the body, worked out on a coarse grid and enlarged: they are smooth."""
    width, height = size
    step = max(2.4, unit / 44)
    columns, rows = max(4, round(width / step)), max(4, round(height / step))
    xs = (((np.arange(columns, dtype=np.float32) + 0.5) * (width / columns)) - to_pixels.origin[0]) / unit
    ys = (((np.arange(rows, dtype=np.float32) + 0.5) * (height / rows)) - to_pixels.origin[1]) / unit
    r = bones.radii[:, None, None]
    dx = xs[None, None, :] - bones.spine[:, 0, None, None]  # (N, 1, W)
    dy = ys[None, :, None] - bones.spine[:, 1, None, None]  # (N, H, 1)
    d = np.sqrt(dx * dx + dy * dy)  # (N, H, W)
    nearest = (d - r).min(axis=0)
    near = d / r
    weight = np.exp(-6 * (near - near.min(axis=0)))
    weight /= weight.sum(axis=0)
    over = weight / r
    # (N, H, W) -> (H, W): means over the circles of the spine, nearest ones first.
    nx, ny = (over * dx).sum(axis=0), (over * dy).sum(axis=0)
    t = (over * (dx * bones.ventral[:, 0, None, None] + dy * bones.ventral[:, 1, None, None])).sum(axis=0)
    s = np.tensordot(bones.along, weight, axes=1)
    shade = Image.fromarray(_shade(nx, ny, nearest, light))
    smooth, quick = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
    distance, s, t = (
        np.asarray(Image.fromarray(np.ascontiguousarray(field, np.float32)).resize(size, way))
        for field, way in ((nearest * unit, smooth), (s, quick), (t, quick))
    )
    return _Fields(distance, s, t, shade.resize(size, quick))


def _shade(nx: Floats, ny: Floats, distance: Floats, light: Light) -> NDArray[np.uint8]:
    """Light on a surface by its normals: sun, sky from above, light off the ground, a rim; 128 is 1."""
    length = np.sqrt(nx * nx + ny * ny)
    outside = np.clip(distance * 6, 0, 1)
    scale = np.minimum(1.0, 0.94 / np.maximum(length, 1e-3)) * (1 - 0.75 * outside)
    nx, ny = nx * scale, ny * scale - 0.2 * outside
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.02))
    far = math.sqrt(light.side**2 + light.height**2 + 0.75**2)
    aim_x, aim_y, aim_z = light.side / far, -light.height / far, 0.75 / far
    flat = nx * aim_x + ny * aim_y
    sun = np.clip((flat + nz * aim_z + 0.22) / 1.22, 0, 1)
    sky = 0.5 - 0.5 * ny
    hard, warm = light.contrast, light.warmth
    rim = 1.6 * hard * np.clip(length - 0.78, 0, 0.25) * np.clip(flat, 0, 1) * (1 - outside)
    fill = 0.62 - 0.24 * hard
    channels = []
    for channel in range(3):
        lean = (1 - channel) * warm  # red up, blue down in warm light
        gain = (0.5 + 0.75 * hard) * (1 + 0.16 * lean) * sun + rim
        gain = (
            gain
            + fill * (1 - 0.10 * lean) * (0.42 + 0.62 * sky)
            + 0.16 * (1 + 0.2 * (1 - channel)) * (1 - sky)
        )
        # Colours are held as square roots of the light: so is what multiplies them.
        channels.append(np.sqrt(gain))
    shade: NDArray[np.uint8] = np.clip(np.stack(channels, axis=-1) * 128, 0, 255).astype(np.uint8)
    return shade


def _assemble(
    individual: Individual, plan: BodyPlan, bones: Skeleton, coat: Coat, fields: _Fields, to_pixels: Frame,
    tint: tuple[float, ...],
) -> tuple[Image.Image, Image.Image, Image.Image]:  # fmt: skip
    """Return the unlit bird (RGB), its shape (L) and its parts without feathers (L)."""
    wears = individual.species.plumage
    height, width = fields.distance.shape
    unit = float(to_pixels.x[0])
    rng = np.random.default_rng([individual.seed, individual.species.index, 5])
    edge = 0.5 - fields.distance
    if unit > 110:
        # Ends of feathers make the outline uneven, by a pixel or two.
        edge = edge + (_barbs((width, height)).astype(np.float32) - 128) * (0.1 * min(1.6, unit / 250))
    cover = np.clip(edge, 0, 1)
    body = Image.fromarray(coat.at(fields.s, fields.t)).convert("RGB")
    rgb = body.copy()
    mask, bare = Image.new("L", (width, height), 0), Image.new("L", (width, height), 0)
    body_mask = Image.fromarray((cover * 255).astype(np.uint8))

    def put(painter: Painter, shadow: float = 0.0, naked: int = 0) -> None:
        picture, shape = painter.layer(soft=not naked and unit > 90)
        if shadow:
            soft = shape.filter(ImageFilter.BoxBlur(0.04 * unit))
            dark = ImageChops.multiply(
                soft.point([int(v * shadow) for v in range(256)]), _window(mask, painter, shape.size)
            )
            rgb.paste((18, 15, 14), (painter.left, painter.top + max(1, round(0.02 * unit))), dark)
        # Its own colour also under its soft edge, where nothing has been drawn yet.
        free = _window(mask, painter, shape.size).point(_NOTHING_YET)
        rgb.paste(picture, (painter.left, painter.top), free)
        rgb.paste(picture, (painter.left, painter.top), shape)
        mask.paste(255, (painter.left, painter.top), shape)
        bare.paste(naked, (painter.left, painter.top), shape)

    if bones.far_wing is not None:
        painter = Painter(
            to_pixels,
            _corners(bones.far_wing, -0.1, 1.05, 1.1),
            COLOURS[wears.flight],
            [v * 0.72 for v in tint],
        )
        paint_spread_wing(painter, bones.far_wing, wears, rng)
        put(painter)
    if len(bones.legs) == 2:
        put(paint_leg(bones.legs[0], plan, wears, to_pixels, 0.7), naked=255)
    painter = Painter(to_pixels, _corners(bones.tail, -0.6, 0.6), COLOURS[wears.tail], tint)
    paint_tail(painter, bones.tail, plan, wears, rng)
    put(painter)
    if len(bones.legs) == 2:
        put(paint_leg(bones.legs[1], plan, wears, to_pixels, 1.0), naked=255)
    rgb.paste(body, (0, 0), body_mask)
    mask.paste(255, (0, 0), body_mask)
    bare.paste(0, (0, 0), body_mask)
    _put_head(rgb, coat, bones, to_pixels)
    if plan.crest > 0:
        head = bones.head
        length = plan.crest / (plan.head / 2)
        reach = head(np.array([[-1 - 1.2 * length, -1.2 - length], [1, 0]], np.float32))
        painter = Painter(to_pixels, reach, COLOURS[wears.crown], tint)
        paint_crest(painter, head, length, wears)
        put(painter)
    put(paint_bill(bones, plan, wears, to_pixels), shadow=0.35, naked=255)
    spread = bones.far_wing is not None
    painter = Painter(
        to_pixels, _corners(bones.wing, 0.0, 1.08, 1.1 if spread else 1.04), COLOURS[wears.coverts], tint
    )
    (paint_spread_wing if spread else paint_folded_wing)(painter, bones.wing, wears, rng)
    put(painter, shadow=0.6)
    return rgb, mask, bare


def _window(mask: Image.Image, painter: Painter, size: tuple[int, int]) -> Image.Image:
    return mask.crop((painter.left, painter.top, painter.left + size[0], painter.top + size[1]))


def _corners(frame: Frame, top: float, bottom: float, reach: float = 1.06) -> Floats:
    """Corners of the part of a frame that something is drawn in, with a margin, (4, 2)."""
    box = [[-0.14, top], [reach, top], [reach, bottom], [-0.14, bottom]]
    return frame(np.array(box, np.float32))


def _put_head(rgb: Image.Image, coat: Coat, bones: Skeleton, to_pixels: Frame) -> None:
    """Lay the head's sheet over the end of the body, fading into the neck."""
    frame = bones.head
    reach = frame(np.array([[-1.3, -1.3], [1.3, -1.3], [1.3, 1.3], [-1.3, 1.3]], np.float32))
    pixels = to_pixels(reach)
    left, top = (int(v) for v in np.floor(pixels.min(axis=0)))
    right, bottom = (int(v) + 1 for v in np.ceil(pixels.max(axis=0)))
    size = (max(1, right - left), max(1, bottom - top))
    unit = float(to_pixels.x[0])
    n = coat.head.shape[0]
    centre = to_pixels(frame.origin[None])[0] - (left, top)
    # Output pixel -> sheet pixel: undo the head's rotation and scale.
    ax, ay = frame.x / float(frame.x @ frame.x) / unit, frame.y / float(frame.y @ frame.y) / unit
    k = n / (2 * HEAD_SPAN)
    a, b = float(ax[0] * k), float(ax[1] * k)
    d, e = float(ay[0] * k), float(ay[1] * k)
    c, f = (
        n / 2 - a * float(centre[0]) - b * float(centre[1]),
        n / 2 - d * float(centre[0]) - e * float(centre[1]),
    )
    sheet = Image.fromarray(coat.head)
    sheet.putalpha(_head_fade(n))
    head = sheet.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
    rgb.paste(head.convert("RGB"), (left, top), head.getchannel("A"))


@lru_cache(maxsize=8)
def _head_fade(n: int) -> Image.Image:
    y, x = np.mgrid[-HEAD_SPAN : HEAD_SPAN : n * 1j, -HEAD_SPAN : HEAD_SPAN : n * 1j]
    away = np.sqrt(x * x + y * y) + np.where(x < 0, -0.3 * x, 0) * (y > -0.2)
    return Image.fromarray((np.clip((1.22 - away) / 0.26, 0, 1) * 255).astype(np.uint8))


def _lit(
    picture: Image.Image, mask: Image.Image, bare: Image.Image, light: Image.Image, unit: float
) -> Image.Image:
    """Multiply the unlit picture by the light, cut out by the mask, with barbs where it is not bare: RGBA."""
    shade = np.asarray(light).astype(np.uint16)
    if unit > 110:
        barbs = Image.fromarray(_barbs(picture.size))
        barbs.paste(128, (0, 0), bare)
        shade *= np.asarray(barbs)[..., None]
        shade >>= 7
    shade *= np.asarray(picture)
    shade >>= 7
    image = Image.fromarray(np.minimum(shade, 255).astype(np.uint8))
    image.putalpha(mask)
    return image


def _barbs(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Hair-fine streaks that run back and down, (H, W); 128 leaves the light as it is."""
    width, height = size
    tile = _barb_tile()
    return np.tile(tile, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[:height, :width]


@lru_cache(maxsize=1)
def _barb_tile() -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    n = 1448
    streaks = noise(rng, (n, n), (n / 2.2, n / 16)) + 0.7 * noise(rng, (n, n), (n / 6, n / 40)) - 0.85
    sheet = Image.fromarray(np.clip(128 + 20 * streaks, 0, 255).astype(np.uint8))
    turned = sheet.rotate(28, Image.Resampling.BILINEAR)
    # The middle of a turned square has no empty corners.
    return np.asarray(turned)[324:1124, 324:1124].copy()
