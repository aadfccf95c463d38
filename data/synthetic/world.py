"""The world of invented birds: its orders, families, genera and species, all from one seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from birdsearch.data.synthetic.names import NameMaker
from birdsearch.data.synthetic.plans import ARCHETYPES, BodyPlan, vary
from birdsearch.data.synthetic.plumage import (
    Plumage,
    Wardrobe,
    difference,
    genus_plumage,
    species_plumage,
    wardrobe,
)
from birdsearch.errors import InvalidInputError

__all__ = ["Individual", "Species", "World"]

_MOST_SPECIES = 5000
_APART = 4.0


@dataclass(frozen=True, slots=True)
class Species:
    """One kind of bird.

    Attributes:
        index: Its number in the world: 0..n-1 for known species, n.. for unseen ones.
        name: Scientific name, two words, the first of them the genus.
        common_name: What people call it.
        genus, family, order: Its place in the taxonomy.
        known: Whether it is one of the species that a model of this world is trained on.
        plan: Its silhouette.
        plumage: Its colours and patterns.
    """

    index: int
    name: str
    common_name: str
    genus: str
    family: str
    order: str
    known: bool
    plan: BodyPlan
    plumage: Plumage


@dataclass(frozen=True, slots=True)
class Individual:
    """One living bird: its species and the seed of what is its own (tint, pattern, proportions).

    Attributes:
        species: What it is.
        seed: Number that its own looks come from.
    """

    species: Species
    seed: int

    @property
    def name(self) -> str:
        """An identifier, unique in a world."""
        return f"{self.species.name.replace(' ', '-').lower()}-{self.seed}"


@dataclass(frozen=True, slots=True)
class _Genus:
    name: str
    family: str
    order: str
    noun: str
    plan: BodyPlan
    colours: Wardrobe
    plumage: Plumage


class World:
    """All species, made from a seed: equal arguments give equal worlds.

    Relatives look alike: an order shares its archetype, a family its body plan, a genus its colours. The
    species of a genus wear the same colours in different places, so that colour alone does not tell them apart.

    Args:
        seed: What everything is made from.
        species: How many known species there are, 1..5000.
        unseen: How many more there are that no model is trained on. About half of them belong to
            genera of known species, the rest to genera of their own in known families.

    Raises:
        InvalidInputError: A number is out of range.
    """

    def __init__(self, seed: int = 0, species: int = 371, unseen: int = 20) -> None:
        if seed < 0:
            raise InvalidInputError(f"seed is {seed}: it has to be 0 or more")
        if not 1 <= species <= _MOST_SPECIES:
            raise InvalidInputError(f"species is {species}: a world has 1 to {_MOST_SPECIES} of them")
        if not 0 <= unseen <= _MOST_SPECIES:
            raise InvalidInputError(f"unseen is {unseen}: a world has 0 to {_MOST_SPECIES} unseen species")
        self.seed = seed
        rng = np.random.default_rng([seed, 1])
        names = NameMaker(rng)
        genera = _genera(rng, names, species)
        lone = _genera_of_relatives(rng, names, genera, math.ceil(unseen / 4)) if unseen else []
        homes = [
            *genera,
            *(genera[int(i)] for i in rng.integers(len(genera), size=max(0, species - len(genera)))),
        ]
        homes = sorted(homes[:species], key=genera.index)
        shared = unseen - unseen // 2
        homes += [genera[int(i)] for i in rng.integers(len(genera), size=shared)]
        homes += [lone[i % len(lone)] for i in range(unseen - shared)]
        self._species = _make_species(rng, names, homes, species)
        self.known: tuple[Species, ...] = tuple(self._species[:species])
        self.unseen: tuple[Species, ...] = tuple(self._species[species:])

    def __len__(self) -> int:
        return len(self._species)

    def __iter__(self) -> Iterator[Species]:
        return iter(self._species)

    @cached_property
    def _by_name(self) -> dict[str, Species]:
        return {each.name: each for each in self._species}

    @property
    def classes(self) -> list[str]:
        """Scientific names of the known species, in the order of their index."""
        return [each.name for each in self.known]

    def species(self, which: int | str) -> Species:
        """Return the species with an index or a scientific name.

        Raises:
            InvalidInputError: There is none.
        """
        if isinstance(which, str):
            if which not in self._by_name:
                raise InvalidInputError(f"no species of this world is named {which!r}")
            return self._by_name[which]
        if not 0 <= which < len(self._species):
            raise InvalidInputError(
                f"species {which} does not exist: indices are 0 to {len(self._species) - 1}"
            )
        return self._species[which]

    def individual(self, which: int | str | Species, number: int) -> Individual:
        """Return the bird of a species that has a number; equal numbers give the same bird.

        Raises:
            InvalidInputError: There is no such species, or the number is negative.
        """
        if number < 0:
            raise InvalidInputError(f"individual number is {number}: it has to be 0 or more")
        return Individual(which if isinstance(which, Species) else self.species(which), number)


def _genera(rng: np.random.Generator, names: NameMaker, species: int) -> list[_Genus]:
    """Genera for so many species: about four species a genus, three genera a family, and every order."""
    wanted = max(1, math.ceil(species / 4.1))
    archetypes = [(order, family) for order, plans in enumerate(ARCHETYPES) for family in range(len(plans))]
    # Small worlds still get several orders: take the first family of each order before the second ones.
    archetypes.sort(key=lambda pair: (pair[1], pair[0]))
    families = archetypes[: max(1, min(len(archetypes), wanted))]
    orders = {order: names.order() for order in sorted({order for order, _ in families})}
    made: list[_Genus] = []
    for at, (order, family) in enumerate(families):
        family_name, noun = names.family(), names.noun()
        plan = vary(ARCHETYPES[order][family], rng, 0.05)
        colours = wardrobe(rng)
        for _ in range(wanted // len(families) + (at < wanted % len(families))):
            own = wardrobe(rng, near=colours)
            made.append(
                _Genus(
                    names.genus(),
                    family_name,
                    orders[order],
                    noun,
                    vary(plan, rng, 0.09),
                    own,
                    genus_plumage(rng, own),
                )
            )
    return made


def _genera_of_relatives(
    rng: np.random.Generator, names: NameMaker, genera: Sequence[_Genus], count: int
) -> list[_Genus]:
    made = []
    for i in rng.integers(len(genera), size=count):
        near = genera[int(i)]
        own = wardrobe(rng, near=near.colours)
        made.append(
            replace(
                near,
                name=names.genus(),
                plan=vary(near.plan, rng, 0.09),
                colours=own,
                plumage=genus_plumage(rng, own),
            )
        )
    return made


def _make_species(
    rng: np.random.Generator, names: NameMaker, homes: Sequence[_Genus], known: int
) -> list[Species]:
    made: list[Species] = []
    worn: dict[str, list[Plumage]] = {}
    taken: set[str] = set()
    for index, home in enumerate(homes):
        relatives = worn.setdefault(home.family, [])
        plumage = _distinct_plumage(rng, home, relatives)
        relatives.append(plumage)
        common = _common_name(rng, names, plumage, home.noun, taken)
        made.append(
            Species(
                index=index,
                name=f"{home.name} {names.epithet()}",
                common_name=common,
                genus=home.name,
                family=home.family,
                order=home.order,
                known=index < known,
                plan=vary(home.plan, rng, 0.05),
                plumage=plumage,
            )
        )
    return made


def _distinct_plumage(rng: np.random.Generator, home: _Genus, relatives: Sequence[Plumage]) -> Plumage:
    """Draw a plumage unlike those of the family so far; the best of 40 tries if none is far enough."""
    best, best_gap = home.plumage, -1.0
    for _ in range(40):
        tried = species_plumage(rng, home.plumage, home.colours)
        gap = min((difference(tried, other) for other in relatives), default=math.inf)
        if gap >= _APART:
            return tried
        if gap > best_gap:
            best, best_gap = tried, gap
    return best


def _common_name(
    rng: np.random.Generator, names: NameMaker, plumage: Plumage, noun: str, taken: set[str]
) -> str:
    """Name a bird by its looks, or after a place where that name is taken."""
    looks = [
        (plumage.mask, "masked"), (plumage.breast_band, "banded"), (plumage.collar, "collared"),
        (plumage.brow, "browed"), (plumage.wing_bar, "winged"), (plumage.crown, "crowned"),
        (plumage.breast, "breasted"), (plumage.throat, "throated"), (plumage.rump, "rumped"),
        (plumage.back, "backed"), (plumage.bill, "billed"), (plumage.tail, "tailed"),
    ]  # fmt: skip
    for colour, part in looks:
        name = f"{colour.capitalize()}-{part} {noun}"
        if colour and name not in taken and rng.random() < 0.5:
            taken.add(name)
            return name
    name = f"{names.place()} {noun}"
    taken.add(name)
    return name
