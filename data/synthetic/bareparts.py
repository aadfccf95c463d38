"""Bill, legs and eyes: what no feathers cover."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from birdsearch.data.synthetic.feathers import Painter
from birdsearch.data.synthetic.plans import BodyPlan
from birdsearch.data.synthetic.plumage import COLOURS, Plumage
from birdsearch.data.synthetic.skeleton import Frame, Skeleton

__all__ = ["paint_bill", "paint_eyes", "paint_leg"]

Floats = NDArray[np.floating[Any]]


def paint_bill(bones: Skeleton, plan: BodyPlan, wears: Plumage, to_pixels: Frame) -> Painter:
    """Draw the bill: two halves, rounded by bands of light, with the gape and a nostril."""
    frame = bones.bill
    ground, tip = COLOURS[wears.bill], COLOURS[wears.bill_tip or wears.bill]
    bend = plan.bill_curve * plan.bill / max(plan.bill_depth * plan.head, 1e-3)
    reach = np.array(
        [
            [-0.3, -0.7],
            [1.1, -0.7],
            [1.1, 1 + max(bend, 0)],
            [-0.3, 1 + max(bend, 0)],
            [1.1, -1 + min(bend, 0)],
        ]
    )
    painter = Painter(to_pixels, frame(reach.astype(np.float32)), ground, finer=3)
    x = np.linspace(0, 1, 12, dtype=np.float32)
    taper = (
        (1 - x**2.2) ** 0.9 * (1 - 0.35 * x)
        if not plan.bill_flat
        else 1 - 0.45 * np.sin(np.pi * 0.5 * x) ** 0.8
    )
    if plan.bill_flat:
        taper = taper * (1 - plan.bill_flat * np.clip((x - 0.9) / 0.1, 0, 1) ** 2 * 0.85)
    mid = bend * x * x + 0.06 * x
    hook = min(plan.hook, 1.0)
    droop = 0.28 * hook * x**3
    upper = mid - 0.5 * taper ** (1 - 0.35 * hook) + droop
    lower = mid + 0.40 * taper * (1 - 0.3 * hook)
    gape = mid + 0.08 + hook * 0.29 * np.clip((x - 0.5) / 0.5, 0, 1) ** 1.5
    gape[-1] = max(gape[-1], upper[-1])
    stop = 12 if hook < 0.15 else 9
    # A rounded surface, as bands from the ridge down: lit above, dark towards the gape and below.
    middle = upper + 0.5 * (gape - upper)
    bands = [(gape[:stop], lower[:stop], 0.66), (upper, gape, 0.86)]
    if painter.fine:
        bands += [
            (gape[:stop], gape[:stop] + 0.6 * (lower - gape)[:stop], 0.78),
            (upper, middle + 0.25 * (gape - upper), 0.95),
            (upper, middle, 1.04),
            (upper + 0.12 * (gape - upper), middle - 0.12 * (gape - upper), 1.14),
        ]
    for top, low, light in bands:
        xs = x[: len(top)]
        outline = np.concatenate([np.column_stack([xs, top]), np.column_stack([xs, low])[::-1]])
        root = np.array([[-0.25, float(low[0]) * 0.8], [-0.25, float(top[0]) * 0.8]], np.float32)
        painter.polygon(frame(np.concatenate([outline, root]).astype(np.float32)), ground, light)
        if wears.bill_tip:
            part = xs > (0.62 if hook < 0.15 else 0.74)
            end = np.concatenate([np.column_stack([xs, top])[part], np.column_stack([xs, low])[part][::-1]])
            if len(end) > 3:  # the lower half of a hooked bill ends before its tip's colour begins
                painter.polygon(frame(end.astype(np.float32)), tip, light)
    line = np.column_stack([x[:10], gape[:10]]).astype(np.float32)
    painter.stroke(frame(line), 0.004, ground, 0.35)
    nostril = np.array([[0.14, float(middle[1])], [0.22, float(middle[2]) + 0.02]], np.float32)
    painter.stroke(frame(nostril), 0.01, ground, 0.4)
    return painter


def paint_leg(leg: Floats, plan: BodyPlan, wears: Plumage, to_pixels: Frame, light: float) -> Painter:
    """Draw one leg (hip, heel, foot: (3, 2)) with its toes; `light` is below 1 for the far one."""
    colour = COLOURS[wears.leg]
    spread = np.array([[-0.12, -0.06], [0.2, 0.06]], np.float32)
    ground = (0.6 * light * colour[0], 0.6 * light * colour[1], 0.6 * light * colour[2])
    painter = Painter(to_pixels, np.concatenate([leg, leg[2] + spread]), ground, finer=3)
    wide = plan.leg_width
    layers = (
        ((1.0, 0.0, 0.62), (0.72, -0.10, 1.0), (0.26, -0.2, 1.2)) if painter.fine else ((1.0, 0.0, 0.95),)
    )
    toe = min(0.14, 0.08 + 0.05 * plan.leg)
    for part, shift, shade in layers:
        moved = leg + np.array([shift * wide, 0], np.float32)
        painter.stroke(moved, wide * part * 0.9, colour, light * shade)
        for x, y in ((toe, 0.002), (0.8 * toe, 0.026), (-0.45 * toe, 0.012)):
            end = leg[2] + np.array([x, y], np.float32)
            bent = (leg[2] + end) / 2 + np.array([0, -0.010], np.float32)
            up = np.array([0, shift * 0.4 * wide], np.float32)
            painter.stroke(np.stack([leg[2], bent, end]) + up, wide * part * 0.55, colour, light * shade)
            if part == 1.0 and painter.fine:
                claw = np.stack([end, end + np.array([0.016 * np.sign(x), 0.016], np.float32)])
                painter.stroke(claw, wide * 0.3, (0.1, 0.09, 0.09))
    return painter


def paint_eyes(
    image: Image.Image, plan: BodyPlan, bones: Skeleton, wears: Plumage, to_pixels: Frame, unit: float
) -> None:
    """Paint the eyes after the light: they are glossy."""
    radius = plan.eye * plan.head / 2 * unit
    points = [(0.28, -0.14)] if not plan.frontal else [(0.62, -0.12), (-0.1, -0.14)]
    iris = COLOURS[wears.iris]
    finer = 4
    for point in points:
        x, y = to_pixels(bones.head(np.array([point], np.float32)))[0]
        n = int(radius * 1.5) + 2
        left, top = int(x) - n, int(y) - n
        box = (2 * n * finer, 2 * n * finer)
        colour, shape = Image.new("RGB", box, (14, 12, 12)), Image.new("L", box, 0)
        cx, cy = (x - left) * finer, (y - top) * finer
        on_colour, on_shape = ImageDraw.Draw(colour), ImageDraw.Draw(shape)
        rim, inner = radius * 1.14 * finer, radius * finer
        on_shape.ellipse((cx - rim, cy - rim, cx + rim, cy + rim), fill=255)
        on_colour.ellipse(
            (cx - inner, cy - inner, cx + inner, cy + inner), fill=tuple(int(225 * c) for c in iris)
        )
        pupil = inner * 0.62
        on_colour.ellipse((cx - pupil, cy - pupil, cx + pupil, cy + pupil), fill=(8, 8, 9))
        glint = inner * 0.24
        gx, gy = cx + inner * 0.24, cy - inner * 0.36
        on_colour.ellipse((gx - glint, gy - glint, gx + glint, gy + glint), fill=(246, 246, 250))
        image.paste(colour.reduce(finer), (left, top), shape.reduce(finer))
