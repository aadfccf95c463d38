"""Plumage: which colour and which pattern each part of an invented bird wears."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

__all__ = [
    "COLOURS",
    "PATTERNS",
    "Plumage",
    "Wardrobe",
    "difference",
    "genus_plumage",
    "species_plumage",
    "wardrobe",
]

Colour = tuple[float, float, float]

# sRGB, 0..1. The natural pigments come often (melanins, carotenoids); structural blues and greens seldom.
COLOURS: dict[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "charcoal": (0.23, 0.23, 0.25),
    "slate": (0.37, 0.42, 0.48),
    "grey": (0.57, 0.58, 0.58),
    "silver": (0.76, 0.77, 0.77),
    "white": (0.94, 0.93, 0.91),
    "cream": (0.91, 0.85, 0.71),
    "buff": (0.82, 0.69, 0.48),
    "ochre": (0.73, 0.53, 0.24),
    "rufous": (0.66, 0.33, 0.15),
    "chestnut": (0.44, 0.19, 0.11),
    "umber": (0.31, 0.22, 0.15),
    "brown": (0.48, 0.37, 0.27),
    "olive": (0.45, 0.44, 0.22),
    "moss": (0.31, 0.39, 0.18),
    "green": (0.20, 0.50, 0.24),
    "lime": (0.60, 0.70, 0.25),
    "yellow": (0.94, 0.81, 0.20),
    "orange": (0.92, 0.52, 0.13),
    "red": (0.79, 0.15, 0.11),
    "crimson": (0.55, 0.07, 0.13),
    "pink": (0.88, 0.58, 0.57),
    "violet": (0.37, 0.24, 0.50),
    "cobalt": (0.14, 0.27, 0.61),
    "azure": (0.38, 0.62, 0.82),
    "teal": (0.08, 0.45, 0.46),
}

PATTERNS = ("plain", "streaks", "spots", "bars", "scallops")

# A name that stands twice comes twice as often.
_DARK = (
    "black", "black", "charcoal", "charcoal", "slate", "slate", "umber", "umber", "umber", "chestnut", "brown",
    "brown", "moss", "olive", "cobalt", "violet", "teal",
)  # fmt: skip
_LIGHT = ("white", "white", "white", "cream", "cream", "buff", "silver", "grey")
_MIDDLE = (
    "grey", "grey", "brown", "brown", "rufous", "ochre", "olive", "olive", "slate", "buff", "chestnut", "lime",
    "azure", "green",
)  # fmt: skip
_ACCENT = (
    "red", "yellow", "orange", "crimson", "azure", "rufous", "rufous", "white", "white", "black", "black", "pink",
    "ochre", "lime", "teal", "cobalt", "chestnut", "buff",
)  # fmt: skip
_SOFT = (
    "black",
    "charcoal",
    "umber",
    "slate",
    "grey",
    "ochre",
    "orange",
    "yellow",
    "red",
    "pink",
    "green",
    "cream",
)
_IRIS = ("umber", "black", "umber", "yellow", "red", "orange", "cream", "chestnut")


@dataclass(frozen=True, slots=True)
class Plumage:
    """Colour names (keys of `COLOURS`) and patterns of one bird; "" means that a mark is absent.

    Attributes named `*_pattern` are one of `PATTERNS`, drawn in the matching `*_ink`; `grain` scales them.
    """

    back: str
    belly: str
    breast: str
    throat: str
    face: str
    crown: str
    nape: str
    rump: str
    vent: str
    coverts: str
    flight: str
    fringe: str
    tail: str
    bill: str
    bill_tip: str
    leg: str
    iris: str
    brow: str = ""
    eye_line: str = ""
    mask: str = ""
    ear: str = ""
    moustache: str = ""
    eye_ring: str = ""
    collar: str = ""
    breast_band: str = ""
    flank: str = ""
    wing_bar: str = ""
    second_bar: str = ""
    speculum: str = ""
    tail_tip: str = ""
    tail_bands: str = ""
    tail_edge: str = ""
    primary_bars: str = ""
    breast_pattern: str = "plain"
    breast_ink: str = "umber"
    back_pattern: str = "plain"
    back_ink: str = "umber"
    side_line: float = 0.12
    breast_reach: float = 0.55
    cap_line: float = -0.3
    grain: float = 1.0


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """The colours that the birds of one genus share."""

    dark: str
    middle: str
    light: str
    accent: str
    second: str

    @property
    def all(self) -> tuple[str, ...]:
        """The five colours, the dark one first."""
        return (self.dark, self.middle, self.light, self.accent, self.second)


# How much a changed part is seen: its area and contrast on a bird in profile.
_WEIGHTS = {
    "back": 2.0, "belly": 2.0, "breast": 2.0, "throat": 1.0, "face": 1.3, "crown": 1.5, "nape": 0.7, "rump": 0.4,
    "vent": 0.5, "coverts": 1.5, "flight": 1.3, "fringe": 0.4, "tail": 1.0, "bill": 0.9, "leg": 0.4, "iris": 0.2,
    "brow": 0.8, "eye_line": 0.8, "mask": 1.3, "ear": 0.6, "moustache": 0.7, "eye_ring": 0.4, "collar": 1.1,
    "breast_band": 1.4, "flank": 1.0, "wing_bar": 1.2, "second_bar": 0.4, "speculum": 0.8, "tail_tip": 0.4,
    "tail_bands": 0.5, "tail_edge": 0.3, "primary_bars": 0.5, "breast_pattern": 1.5, "back_pattern": 1.3,
}  # fmt: skip


def difference(one: Plumage, other: Plumage) -> float:
    """Measure how differently two plumages look: the summed weight of the parts that differ; 0 for equals."""
    total = 0.0
    for name, weight in _WEIGHTS.items():
        a, b = getattr(one, name), getattr(other, name)
        if a == b:
            continue
        if a in COLOURS and b in COLOURS:
            contrast = sum(abs(x - y) for x, y in zip(COLOURS[a], COLOURS[b], strict=True))
            weight *= min(1.0, contrast / 0.6)
        total += weight
    return total


def wardrobe(rng: np.random.Generator, near: Wardrobe | None = None) -> Wardrobe:
    """Five colours, or those of a relative with two of them changed."""
    fresh = Wardrobe(
        *(_pick(rng, pool) for pool in (_DARK, _MIDDLE, _LIGHT, _ACCENT, _ACCENT)),
    )
    if near is None:
        return fresh
    changed = rng.choice(5, size=2, replace=False)
    names = [field.name for field in fields(Wardrobe)]
    return replace(near, **{names[int(i)]: getattr(fresh, names[int(i)]) for i in changed})


def genus_plumage(rng: np.random.Generator, colours: Wardrobe) -> Plumage:
    """Draw the plumage that the species of a genus start from: a back, an underside, a wing, few marks."""
    back = _pick(rng, (colours.dark, colours.middle, colours.middle))
    belly = _pick(rng, (colours.light, colours.light, colours.middle, colours.accent))
    head = _pick(rng, (back, back, colours.dark, colours.light))
    return Plumage(
        back=back,
        belly=belly,
        breast=_pick(rng, (belly, belly, colours.accent, colours.light)),
        throat=_pick(rng, (belly, head, colours.light)),
        face=head,
        crown=_pick(rng, (head, back, colours.dark)),
        nape=_pick(rng, (head, back)),
        rump=_pick(rng, (back, colours.light, colours.middle)),
        vent=_pick(rng, (belly, colours.light, colours.accent)),
        coverts=_pick(rng, (back, back, colours.middle, colours.dark)),
        flight=_pick(rng, (colours.dark, colours.dark, back, "charcoal")),
        fringe=_pick(rng, (colours.middle, colours.light, back)),
        tail=_pick(rng, (colours.dark, back, colours.middle)),
        bill=_pick(rng, _SOFT),
        bill_tip=_pick(rng, ("black", "", "", "yellow")),
        leg=_pick(rng, _SOFT),
        iris=_pick(rng, _IRIS),
        breast_pattern=_pick(rng, ("plain", "plain", *PATTERNS)),
        breast_ink=colours.dark,
        back_pattern=_pick(rng, ("plain", "plain", *PATTERNS)),
        back_ink=_pick(rng, (colours.dark, "black", "cream")),
        side_line=float(rng.uniform(-0.05, 0.35)),
        breast_reach=float(rng.uniform(0.45, 0.68)),
        cap_line=float(rng.uniform(-0.42, -0.12)),
        grain=float(rng.uniform(0.75, 1.35)),
    )


_PARTS = (
    "back", "belly", "breast", "throat", "face", "crown", "nape", "rump", "vent", "coverts", "flight", "tail",
)  # fmt: skip
_MARKS = (
    "brow", "eye_line", "mask", "ear", "moustache", "eye_ring", "collar", "breast_band", "flank", "wing_bar",
    "second_bar", "speculum", "tail_tip", "tail_bands", "tail_edge", "primary_bars",
)  # fmt: skip


def species_plumage(rng: np.random.Generator, start: Plumage, colours: Wardrobe) -> Plumage:
    """Draw the plumage of a species: the colours of its genus put elsewhere, with marks and patterns of its own."""
    changes: dict[str, object] = {}
    for name in rng.permutation(_PARTS)[: int(rng.integers(2, 5))]:
        changes[str(name)] = _pick(rng, colours.all)
    for name in rng.permutation(_MARKS)[: int(rng.integers(2, 6))]:
        changes[str(name)] = _pick(rng, (*colours.all, "black", "white"))
    if rng.random() < 0.5:
        changes["breast_pattern"] = _pick(rng, PATTERNS)
    if rng.random() < 0.4:
        changes["back_pattern"] = _pick(rng, PATTERNS)
    if rng.random() < 0.45:
        changes["bill"] = _pick(rng, (*_SOFT, colours.accent))
    if rng.random() < 0.35:
        changes["leg"] = _pick(rng, (*_SOFT, colours.accent))
    if rng.random() < 0.3:
        changes["iris"] = _pick(rng, _IRIS)
    changes["grain"] = float(np.clip(start.grain * np.exp(0.2 * rng.standard_normal()), 0.6, 1.7))
    changes["cap_line"] = float(np.clip(start.cap_line + 0.08 * rng.standard_normal(), -0.5, 0.05))
    changes["side_line"] = float(np.clip(start.side_line + 0.1 * rng.standard_normal(), -0.2, 0.5))
    changes["breast_reach"] = float(np.clip(start.breast_reach + 0.06 * rng.standard_normal(), 0.4, 0.75))
    made = replace(start, **changes)  # type: ignore[arg-type]
    return _visible(made)


def _visible(plumage: Plumage) -> Plumage:
    """Return the same plumage with every mark set off from what it lies on, or left out."""
    under = {
        "brow": plumage.crown, "eye_line": plumage.face, "mask": plumage.face, "ear": plumage.face,
        "moustache": plumage.throat, "collar": plumage.nape, "breast_band": plumage.breast, "flank": plumage.belly,
        "wing_bar": plumage.coverts, "second_bar": plumage.coverts, "speculum": plumage.flight,
        "tail_tip": plumage.tail, "tail_bands": plumage.tail, "tail_edge": plumage.tail,
        "primary_bars": plumage.flight,
    }  # fmt: skip
    gone = {mark: "" for mark, ground in under.items() if getattr(plumage, mark) == ground}
    ink = plumage.breast_ink
    if ink in (plumage.breast, plumage.belly):
        dark = sum(COLOURS[plumage.breast]) < 1.2
        gone["breast_ink"] = "cream" if dark else "umber"
    if plumage.back_ink == plumage.back:
        gone["back_ink"] = "cream" if sum(COLOURS[plumage.back]) < 0.9 else "charcoal"
    return replace(plumage, **gone)  # type: ignore[arg-type]


def _pick(rng: np.random.Generator, pool: tuple[str, ...]) -> str:
    return pool[int(rng.integers(len(pool)))]
