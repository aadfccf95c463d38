"""Body plans: the silhouettes that orders and families of invented birds share.

Lengths are in torsos: 1 is the distance from the base of the tail to the breast. Angles are in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

__all__ = ["ARCHETYPES", "BodyPlan", "vary"]


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """The shape of a bird.

    Attributes:
        depth: Greatest height of the torso.
        tilt: How steeply the torso is held; 0 is level.
        neck: Length of the neck.
        neck_width: Width of the neck, as a part of `depth`.
        neck_angle: Direction of the neck; 90 is upright.
        neck_curve: How far the neck bends to an S.
        head: Diameter of the head.
        eye: Radius of the eye, as a part of the head's radius.
        bill: Length of the bill.
        bill_depth: Depth of the bill at its base, as a part of the head's diameter.
        bill_curve: How far the bill bends; above 0 down, below 0 up.
        hook: How far the tip of the upper bill bends over the lower.
        bill_flat: 1 for a broad, blunt bill, 0 for a pointed one.
        tail: Length of the tail.
        tail_width: Width of the tail at its end.
        tail_fork: Above 0 the outer feathers are longer (forked), below 0 the inner ones (wedge).
        tail_angle: Direction of the tail against that of the torso.
        wing: Length of the folded wing.
        wing_depth: Depth of the folded wing, as a part of `depth`.
        leg: Length of the leg.
        leg_width: Width of the leg.
        crest: Length of the crest; 0 for none.
        size: Length of the living bird in centimetres.
        frontal: Whether the face looks at the camera, as an owl's does.
        swims: Whether it may be seen swimming.
        clings: Whether it holds on to trunks.
    """

    depth: float = 0.46
    tilt: float = 32.0
    neck: float = 0.12
    neck_width: float = 0.62
    neck_angle: float = 55.0
    neck_curve: float = 0.0
    head: float = 0.35
    eye: float = 0.21
    bill: float = 0.17
    bill_depth: float = 0.32
    bill_curve: float = 0.0
    hook: float = 0.0
    bill_flat: float = 0.0
    tail: float = 0.5
    tail_width: float = 0.17
    tail_fork: float = 0.0
    tail_angle: float = 0.0
    wing: float = 0.85
    wing_depth: float = 0.62
    leg: float = 0.24
    leg_width: float = 0.032
    crest: float = 0.0
    size: float = 16.0
    frontal: bool = False
    swims: bool = False
    clings: bool = False


# One row an order: its families' plans. Families within an order are alike and differ in bill, tail, neck and legs.
ARCHETYPES: tuple[tuple[BodyPlan, ...], ...] = (
    (  # songbirds
        BodyPlan(bill=0.14, bill_depth=0.5, depth=0.50),
        BodyPlan(bill=0.15, bill_depth=0.22, depth=0.42, tail=0.45, size=12),
        BodyPlan(bill=0.20, bill_depth=0.28, depth=0.47, leg=0.34, tail=0.48, size=24),
        BodyPlan(bill=0.28, bill_depth=0.42, depth=0.46, head=0.36, tail=0.62, leg=0.32, size=42, hook=0.1),
        BodyPlan(
            bill=0.08, bill_depth=0.22, depth=0.36, wing=1.15, tail=0.55, tail_fork=0.55, leg=0.10,
            tilt=38,
        ),
        BodyPlan(bill=0.16, bill_depth=0.3, depth=0.46, tail=0.34, tail_angle=-38, crest=0.22, size=13),
        BodyPlan(
            bill=0.17, bill_depth=0.3, depth=0.40, tail=0.95, tail_fork=-0.3, leg=0.3, tilt=24, size=22,
        ),
    ),
    (  # waterfowl
        BodyPlan(
            depth=0.46, tilt=4, neck=0.30, neck_width=0.34, neck_angle=70, head=0.27, bill=0.27,
            bill_depth=0.36, bill_flat=1, tail=0.22, tail_width=0.22, wing=0.80, leg=0.16, leg_width=0.05,
            eye=0.15, size=50, swims=True,
        ),
        BodyPlan(
            depth=0.46, tilt=6, neck=0.72, neck_width=0.26, neck_angle=78, neck_curve=0.14, head=0.22,
            bill=0.24, bill_depth=0.42, bill_flat=0.8, tail=0.18, tail_width=0.2, wing=0.82, leg=0.24,
            leg_width=0.055, eye=0.14, size=85, swims=True,
        ),
        BodyPlan(
            depth=0.40, tilt=2, neck=0.34, neck_width=0.30, neck_angle=74, head=0.25, bill=0.28,
            bill_depth=0.2, hook=0.2, tail=0.3, tail_fork=-0.4, wing=0.75, leg=0.14, leg_width=0.05,
            crest=0.16, eye=0.15, size=58, swims=True,
        ),
    ),
    (  # long-legged waders
        BodyPlan(
            depth=0.36, tilt=26, neck=0.92, neck_width=0.26, neck_angle=70, neck_curve=0.34, head=0.20,
            bill=0.46, bill_depth=0.4, tail=0.22, wing=0.85, wing_depth=0.75, leg=0.82, leg_width=0.04,
            crest=0.22, eye=0.17, size=90,
        ),
        BodyPlan(
            depth=0.38, tilt=22, neck=0.72, neck_width=0.28, neck_angle=75, neck_curve=0.22, head=0.21,
            bill=0.52, bill_depth=0.36, bill_curve=0.32, tail=0.2, wing=0.82, leg=0.72, leg_width=0.045,
            eye=0.15, size=70,
        ),
    ),
    (  # gulls and terns
        BodyPlan(
            depth=0.40, tilt=12, neck=0.18, neck_width=0.5, neck_angle=58, head=0.29, bill=0.23,
            bill_depth=0.34, hook=0.3, tail=0.3, wing=1.16, wing_depth=0.52, leg=0.26, leg_width=0.036,
            eye=0.15, size=48, swims=True,
        ),
        BodyPlan(
            depth=0.33, tilt=10, neck=0.14, neck_width=0.52, neck_angle=48, head=0.26, bill=0.29,
            bill_depth=0.24, tail=0.52, tail_fork=0.6, wing=1.22, wing_depth=0.5, leg=0.13, eye=0.15,
            size=36,
        ),
    ),
    (  # shorebirds
        BodyPlan(
            depth=0.42, tilt=16, neck=0.14, neck_width=0.48, neck_angle=60, head=0.30, bill=0.16,
            bill_depth=0.26, tail=0.25, wing=0.9, leg=0.42, leg_width=0.028, eye=0.24, size=18,
        ),
        BodyPlan(
            depth=0.40, tilt=18, neck=0.26, neck_width=0.4, neck_angle=62, head=0.25, bill=0.46,
            bill_depth=0.22, tail=0.24, wing=0.9, leg=0.56, leg_width=0.028, eye=0.18, size=28,
        ),
        BodyPlan(
            depth=0.40, tilt=18, neck=0.34, neck_width=0.36, neck_angle=66, head=0.22, bill=0.66,
            bill_depth=0.2, bill_curve=0.4, tail=0.24, wing=0.9, leg=0.58, leg_width=0.032, eye=0.17,
            size=50,
        ),
    ),
    (  # birds of prey
        BodyPlan(
            depth=0.50, tilt=58, neck=0.10, neck_width=0.7, neck_angle=72, head=0.36, bill=0.15,
            bill_depth=0.44, hook=1, tail=0.55, tail_width=0.24, wing=0.98, leg=0.24, leg_width=0.05,
            eye=0.2, size=50,
        ),
        BodyPlan(
            depth=0.44, tilt=54, neck=0.10, neck_width=0.7, neck_angle=70, head=0.35, bill=0.12,
            bill_depth=0.42, hook=1, tail=0.55, wing=1.2, wing_depth=0.52, leg=0.2, leg_width=0.042,
            eye=0.26, size=34,
        ),
        BodyPlan(
            depth=0.54, tilt=48, neck=0.22, neck_width=0.42, neck_angle=66, head=0.27, bill=0.22,
            bill_depth=0.5, hook=1, tail=0.4, tail_width=0.28, wing=1.02, wing_depth=0.7, leg=0.26,
            leg_width=0.055, eye=0.16, size=80,
        ),
    ),
    (  # woodpeckers
        BodyPlan(
            depth=0.40, tilt=64, neck=0.12, neck_width=0.6, neck_angle=70, head=0.34, bill=0.28,
            bill_depth=0.3, tail=0.42, tail_fork=-0.5, wing=0.8, leg=0.12, crest=0.0, eye=0.18, size=22,
            clings=True,
        ),
        BodyPlan(
            depth=0.36, tilt=60, neck=0.24, neck_width=0.42, neck_angle=74, head=0.28, bill=0.38,
            bill_depth=0.3, tail=0.5, tail_fork=-0.5, wing=0.8, leg=0.13, crest=0.26, eye=0.17, size=42,
            clings=True,
        ),
    ),
    (  # owls
        BodyPlan(
            depth=0.60, tilt=74, neck=0.02, neck_width=0.9, neck_angle=86, head=0.60, bill=0.10,
            bill_depth=0.2, hook=1, tail=0.3, tail_width=0.24, wing=0.92, leg=0.12, leg_width=0.06,
            eye=0.22, size=38, frontal=True,
        ),
        BodyPlan(
            depth=0.54, tilt=72, neck=0.02, neck_width=0.9, neck_angle=86, head=0.50, bill=0.09,
            bill_depth=0.2, hook=1, tail=0.36, tail_width=0.22, wing=0.95, leg=0.2, leg_width=0.055,
            eye=0.24, crest=0.26, size=30, frontal=True,
        ),
    ),
    (  # pigeons
        BodyPlan(
            depth=0.48, tilt=24, neck=0.18, neck_width=0.48, neck_angle=66, head=0.24, bill=0.12,
            bill_depth=0.26, hook=0.25, tail=0.46, tail_width=0.2, wing=0.92, leg=0.15, leg_width=0.038,
            eye=0.2, size=33,
        ),
        BodyPlan(
            depth=0.44, tilt=28, neck=0.2, neck_width=0.44, neck_angle=66, head=0.23, bill=0.11,
            bill_depth=0.22, tail=0.75, tail_fork=-0.5, wing=0.86, leg=0.14, leg_width=0.034, eye=0.22,
            size=28,
        ),
    ),
    (  # game birds
        BodyPlan(
            depth=0.62, tilt=18, neck=0.18, neck_width=0.4, neck_angle=66, head=0.25, bill=0.12,
            bill_depth=0.4, hook=0.4, tail=0.22, tail_width=0.26, tail_angle=-10, wing=0.66, leg=0.3,
            leg_width=0.048, eye=0.17, size=32,
        ),
        BodyPlan(
            depth=0.50, tilt=22, neck=0.36, neck_width=0.32, neck_angle=72, head=0.22, bill=0.13,
            bill_depth=0.42, hook=0.4, tail=1.15, tail_width=0.14, tail_fork=-0.7, tail_angle=12,
            wing=0.66, leg=0.36, leg_width=0.048, crest=0.14, eye=0.17, size=75,
        ),
    ),
    (  # big-billed hole nesters
        BodyPlan(
            depth=0.46, tilt=50, neck=0.06, neck_width=0.74, neck_angle=60, head=0.42, bill=0.46,
            bill_depth=0.34, tail=0.26, wing=0.76, leg=0.08, crest=0.16, eye=0.19, size=24,
        ),
        BodyPlan(
            depth=0.42, tilt=46, neck=0.14, neck_width=0.6, neck_angle=62, head=0.36, bill=0.62,
            bill_depth=0.66, bill_curve=0.24, tail=0.55, tail_fork=-0.2, wing=0.78, leg=0.13, eye=0.17,
            size=50,
        ),
    ),
    (  # parrots
        BodyPlan(
            depth=0.46, tilt=56, neck=0.08, neck_width=0.74, neck_angle=68, head=0.40, bill=0.14,
            bill_depth=0.55, hook=1, bill_curve=0.2, tail=0.42, wing=0.92, leg=0.1, leg_width=0.045,
            eye=0.17, size=28,
        ),
        BodyPlan(
            depth=0.40, tilt=54, neck=0.08, neck_width=0.72, neck_angle=66, head=0.36, bill=0.15,
            bill_depth=0.58, hook=1, bill_curve=0.2, tail=1.05, tail_width=0.12, tail_fork=-0.75,
            wing=0.95, leg=0.1, leg_width=0.045, crest=0.2, eye=0.17, size=45,
        ),
    ),
)  # fmt: skip

_ANGLES = ("tilt", "neck_angle", "tail_angle")
_SIGNED = ("bill_curve", "tail_fork")


def vary(plan: BodyPlan, rng: np.random.Generator, spread: float) -> BodyPlan:
    """Return a plan near another.

    Args:
        plan: Where to start.
        rng: Where the changes come from; it is advanced.
        spread: Standard deviation of the change: a factor for lengths, times 20 degrees for angles.

    Returns:
        A plan of the same kind (frontal, swims, clings).
    """
    changes: dict[str, float] = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, bool):
            continue
        step = float(np.clip(rng.standard_normal(), -2, 2)) * spread
        if field.name in _ANGLES:
            changes[field.name] = value + 20 * step
        elif field.name in _SIGNED:
            changes[field.name] = value + 0.6 * step
        elif field.name in ("depth", "head"):
            changes[field.name] = value * float(np.exp(0.5 * step))
        else:
            changes[field.name] = value * float(np.exp(step))
    return replace(plan, **changes)  # type: ignore[arg-type]
