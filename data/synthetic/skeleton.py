"""From a body plan and a pose to where everything is: spine, head, bill, wing, tail and legs.

Coordinates are in torsos, x to the right (the bird faces right), y down, the base of the tail at the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.data.synthetic.plans import BodyPlan

__all__ = ["ACTIONS", "Frame", "Pose", "Skeleton", "build_skeleton"]

Floats = NDArray[np.floating[Any]]

ACTIONS = ("perch", "stand", "swim", "cling", "fly")

_SAMPLES = 36
# Torso: position along it (0 tail, 1 breast) and radius as a part of half its depth.
_TORSO = ((0.0, 0.24), (0.12, 0.50), (0.30, 0.84), (0.50, 1.0), (0.70, 0.99), (0.88, 0.80))


@dataclass(frozen=True, slots=True)
class Pose:
    """How a bird holds itself. Angles are degrees added to those of its plan.

    Attributes:
        action: One of `ACTIONS`.
        tilt, neck, pitch, tail: Changes of the angles of torso, neck, head (down is positive) and tail.
        reach: Factor of the neck's length.
        stride: How far the feet are apart, -1..1.
        flap: Wing stroke of a flying bird: 1 up, -1 down.
    """

    action: str = "perch"
    tilt: float = 0.0
    neck: float = 0.0
    pitch: float = 0.0
    tail: float = 0.0
    reach: float = 1.0
    stride: float = 0.3
    flap: float = 0.7


@dataclass(frozen=True, slots=True)
class Frame:
    """A coordinate frame: points (u, v) in it lie at `origin + u * x + v * y`."""

    origin: Floats
    x: Floats
    y: Floats

    def __call__(self, points: Floats) -> Floats:
        """Map points (N, 2) from the frame to torsos (N, 2)."""
        return self.origin + points[:, :1] * self.x + points[:, 1:] * self.y


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Where the parts of a posed bird are.

    Attributes:
        spine: Centres of the circles that make up torso, neck and head, (N, 2), from tail to face.
        radii: Their radii, (N,).
        along: Place on the coat of each, (N,): 1 at the tail, 0.3 at the breast, 0 at the head.
        ventral: Unit vectors to the underside, (N, 2).
        head: Frame of the head: 1 is its radius, x to the bill, y to the throat.
        bill: Frame of the bill: x from base to tip, y down, 1 is its depth at the base.
        tail: Frame of the tail: x from base to tip, y across, 1 is its width.
        wing: Frame of the near wing: x from shoulder to tip, y from the back to the belly
            (folded) or from the leading edge to the trailing one (spread).
        far_wing: The same for the other wing if it is spread.
        legs: For each leg that is seen, far one first: hip, heel and foot, (3, 2).
        support: Point that the bird rests on, (2,).
        waterline: y of the water if it swims.
        box: Left, top, right and bottom of everything.
    """

    spine: Floats
    radii: Floats
    along: Floats
    ventral: Floats
    head: Frame
    bill: Frame
    tail: Frame
    wing: Frame
    far_wing: Frame | None
    legs: tuple[Floats, ...]
    support: Floats
    waterline: float | None
    box: tuple[float, float, float, float]


def build_skeleton(plan: BodyPlan, pose: Pose) -> Skeleton:
    """Place every part of a bird of a plan in a pose."""
    flying = pose.action == "fly"
    tilt = plan.tilt + pose.tilt
    if pose.action == "swim":
        tilt = min(tilt, 8.0) + 0.3 * pose.tilt
    elif pose.action == "cling":
        tilt = 68.0 + pose.tilt
    elif flying:
        tilt = 6.0 + pose.tilt
    elif pose.action == "stand":
        # On level ground the tail does not go below the feet.
        steepest = (0.44 * plan.depth + plan.leg) / (plan.tail + 0.4)
        tilt = min(tilt, max(8.0, math.degrees(math.asin(min(1.0, steepest)))))
    forward, down = _turn(tilt), _turn(tilt - 90)
    half = plan.depth / 2
    torso = np.array(
        [position * forward - 0.42 * half * (1 - part) * down for position, part in _TORSO], np.float32
    )
    torso_radii = np.array([half * part for _, part in _TORSO], np.float32)

    hr = plan.head / 2
    neck_angle = plan.neck_angle + pose.neck
    if pose.action in ("cling", "stand", "perch"):
        neck_angle += 0.25 * (tilt - plan.tilt)
    if flying:
        neck_angle = 4.0 + 0.2 * pose.neck if plan.neck < 0.6 or plan.bill_curve > 0.1 else 24.0
    length = plan.neck * pose.reach + 0.85 * hr + 0.06
    up = _turn(neck_angle)
    side = _turn(neck_angle - 90)
    start = torso[-1] - 0.02 * down
    head_at = start + length * up
    slim = max(plan.depth * plan.neck_width / 2, 0.3 * hr)
    bend = 0.0 if flying else plan.neck_curve * length
    middle = [
        start + length * 0.36 * up + 0.62 * bend * side,
        start + length * 0.68 * up - 0.55 * bend * side,
    ]
    middle_radii = [0.45 * torso_radii[-1] + 0.55 * slim, 0.75 * slim + 0.25 * min(hr, slim * 1.2)]
    facing = _turn(-(6.0 + pose.pitch))
    chin = _turn(-(6.0 + pose.pitch) - 90)
    face = head_at + 0.34 * hr * facing + 0.04 * hr * chin
    controls = np.stack([*torso, *middle, head_at, face]).astype(np.float32)
    radii = np.array([*torso_radii, *middle_radii, hr, 0.74 * hr], np.float32)
    along = np.array([*(1 - 0.75 * position for position, _ in _TORSO), 0.24, 0.14, 0.05, 0.0], np.float32)
    spine = _smooth(np.column_stack([controls, radii, along]))
    ventral = _ventral(spine[:, :2])

    bill_axis = facing if not plan.frontal else chin
    bill_from = head_at + (0.93 * hr * facing if not plan.frontal else 0.26 * hr * facing - 0.02 * hr * chin)
    bill = Frame(
        bill_from,
        plan.bill * bill_axis,
        plan.bill_depth * plan.head * (chin if not plan.frontal else -facing),
    )
    tail_way = _turn(tilt + 180 + (pose.tail + plan.tail_angle) * (0.3 if flying else 1.0))
    tail_side = np.array([-tail_way[1], tail_way[0]], np.float32)
    tail = Frame(
        torso[1] * 0.4 + torso[0] * 0.6, (plan.tail + 0.09) * tail_way, plan.tail_width * 1.25 * tail_side
    )
    wing, far = _wings(plan, pose, forward, down, tilt)
    legs, support = _legs(plan, pose, torso, down, half)
    waterline = float(torso[3][1] + 0.42 * half) if pose.action == "swim" else None

    extremes = [spine[:, :2] - spine[:, 2:3] * 1.04, spine[:, :2] + spine[:, 2:3] * 1.04]
    corners = np.array(
        [[0, -0.6], [1, -0.6], [1, 0.6], [0, 0.6], [1, 0.6 + max(plan.bill_curve, 0)]], np.float32
    )
    extremes += [bill(corners), tail(np.array([[0, 0], [1.04, -0.5], [1.04, 0.5]], np.float32))]
    edges = (
        [[0, 0], [1.02, 0.4], [1.02, 0.6]]
        if not flying
        else [[0, 0], [1, 0], [1.02, 0.3], [0.8, 0.8], [0.0, 1.0]]
    )
    extremes.append(wing(np.array(edges, np.float32)))
    if far is not None:
        extremes.append(far(np.array(edges, np.float32)))
    if plan.crest > 0:
        back = -0.8 * facing - 0.6 * chin
        extremes.append((head_at + (hr + plan.crest) * back * 1.05)[None])
        extremes.append((head_at - chin * (hr + 0.7 * plan.crest))[None])
    for leg in legs:
        extremes += [leg, leg[2:] + np.array([[0.18, 0.06], [-0.09, 0.06]], np.float32)]
    points = np.concatenate(extremes)
    low, high = points.min(axis=0), points.max(axis=0)
    bottom = float(high[1]) if waterline is None else waterline
    return Skeleton(
        spine=spine[:, :2].copy(), radii=spine[:, 2].copy(), along=spine[:, 3].copy(), ventral=ventral,
        head=Frame(head_at, hr * facing, hr * chin), bill=bill, tail=tail, wing=wing, far_wing=far, legs=legs,
        support=support, waterline=waterline, box=(float(low[0]), float(low[1]), float(high[0]), bottom),
    )  # fmt: skip


def _turn(degrees: float) -> Floats:
    """Unit vector of an angle, counted counter-clockwise from the right as it is seen (y is down)."""
    return np.array([math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))], np.float32)


def _smooth(controls: Floats) -> Floats:
    """Catmull-Rom curve through control points (M, K), as (N, K): the thinner it is, the closer the samples."""
    m = len(controls)
    t = np.linspace(0, m - 1 - 1e-4, 160, dtype=np.float32)
    i = t.astype(np.int64)
    f = (t - i)[:, None]
    p0, p1 = controls[np.maximum(i - 1, 0)], controls[i]
    p2, p3 = controls[i + 1], controls[np.minimum(i + 2, m - 1)]
    curve = p1 + 0.5 * f * (p2 - p0 + f * (2 * p0 - 5 * p1 + 4 * p2 - p3 + f * (3 * (p1 - p2) + p3 - p0)))
    curve[:, 2] = np.maximum(curve[:, 2], 0.01)
    steps = np.hypot(*np.diff(curve[:, :2], axis=0).T) / curve[1:, 2]
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    even = np.interp(np.linspace(0, travelled[-1], _SAMPLES), travelled, np.arange(len(curve)))
    return np.ascontiguousarray(curve[np.rint(even).astype(np.int64)], np.float32)


def _ventral(centres: Floats) -> Floats:
    step = np.gradient(centres, axis=0)
    normal = np.column_stack([-step[:, 1], step[:, 0]])
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6), np.float32)


def _wings(
    plan: BodyPlan, pose: Pose, forward: Floats, down: Floats, tilt: float
) -> tuple[Frame, Frame | None]:
    half = plan.depth / 2
    if pose.action != "fly":
        shoulder = 0.84 * forward - 0.62 * half * down
        back = _turn(tilt + 180 - 2.0)
        across = np.array([-back[1], back[0]], np.float32)
        if across @ down < 0:
            across = -across
        return Frame(shoulder, plan.wing * back, plan.wing_depth * plan.depth * 1.22 * across), None
    shoulder = 0.74 * forward - 0.5 * half * down
    span = 0.95 * plan.wing + 0.35
    angle = tilt + 90 + 22 + 14 * pose.flap if pose.flap > 0 else tilt - 90 - 24 + 14 * pose.flap
    chord = 0.62 * span * (0.72 + 0.28 * plan.wing_depth / 0.62)
    near_way, far_way = _turn(angle), _turn(angle - 34 if pose.flap > 0 else angle + 30)
    trailing = -forward * (0.85 if pose.flap > 0 else 0.9) + 0.18 * down
    near = Frame(shoulder, span * (0.6 + 0.4 * abs(pose.flap)) * near_way, chord * trailing)
    far = Frame(shoulder + 0.08 * forward - 0.1 * half * down, span * 0.86 * far_way, chord * 0.86 * trailing)
    return near, far


def _legs(
    plan: BodyPlan, pose: Pose, torso: Floats, down: Floats, half: float
) -> tuple[tuple[Floats, ...], Floats]:
    hip = torso[2] * 0.45 + torso[3] * 0.55 + 0.74 * half * down
    if pose.action == "cling":
        legs = []
        for shift in (0.17, 0.0):
            top = hip + shift * _turn(68.0)
            foot = top + np.array([plan.leg * 0.9 + 0.06, -0.03], np.float32)
            legs.append(np.stack([top, (top + foot) / 2 + np.array([0.0, 0.03], np.float32), foot]))
        return tuple(legs), legs[1][2]
    if pose.action in ("swim", "fly"):
        return (), hip
    legs = []
    span = min(0.1 + 0.3 * plan.leg, 0.3) * pose.stride
    shank = plan.leg + 0.26 * half
    for shift in (span / 2 + 0.05, -span / 2 - 0.02):
        top = hip + np.array([0.4 * shift, 0.0], np.float32)
        foot = hip + np.array([shift + 0.03, shank], np.float32)
        heel = (top + foot) / 2 + np.array([-0.10 * shank - 0.01, -0.02 * shank], np.float32)
        legs.append(np.stack([top, heel, foot]).astype(np.float32))
    return tuple(legs), hip + np.array([0.03, shank], np.float32)
