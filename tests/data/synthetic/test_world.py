"""The taxonomy of invented birds."""

from __future__ import annotations

from collections import defaultdict

import pytest

from birdsearch.data.synthetic import World
from birdsearch.data.synthetic.plumage import COLOURS, difference
from birdsearch.errors import InvalidInputError


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_the_default_world_has_371_known_species_and_others_that_are_held_out(world: World) -> None:
    assert len(world.known) == len(world.classes) == 371
    assert len(world.unseen) == 20
    assert len(world) == 391
    assert all(species.known for species in world.known)
    assert not any(species.known for species in world.unseen)
    assert [species.index for species in world] == list(range(391))


def test_names_are_unique_and_the_genus_is_the_first_word(world: World) -> None:
    assert len({species.name for species in world}) == len(world)
    assert len({species.common_name for species in world}) == len(world)
    for species in world:
        genus, epithet = species.name.split(" ")
        assert genus == species.genus
        assert genus.istitle()
        assert epithet.islower()
        assert species.name.isascii()


def test_a_genus_has_one_family_and_a_family_one_order(world: World) -> None:
    family_of: dict[str, set[str]] = defaultdict(set)
    order_of: dict[str, set[str]] = defaultdict(set)
    for species in world:
        family_of[species.genus].add(species.family)
        order_of[species.family].add(species.order)
    assert all(len(families) == 1 for families in family_of.values())
    assert all(len(orders) == 1 for orders in order_of.values())
    names = [set(family_of), set(order_of), {species.order for species in world}]
    assert len(names[0] | names[1] | names[2]) == sum(map(len, names))
    assert (len(names[2]), len(names[1])) == (12, 32)
    assert 80 <= len(names[0]) <= 110


def test_some_held_out_species_have_known_genera_and_others_only_known_families(world: World) -> None:
    genera = {species.genus for species in world.known}
    families = {species.family for species in world.known}
    assert {species.genus in genera for species in world.unseen} == {True, False}
    assert all(species.family in families for species in world.unseen)


def test_equal_seeds_make_equal_worlds_and_others_do_not() -> None:
    assert list(World(5, 40, 4)) == list(World(5, 40, 4))
    assert list(World(5, 40, 4)) != list(World(6, 40, 4))


def test_species_of_a_family_never_look_the_same(world: World) -> None:
    by_family = defaultdict(list)
    for species in world:
        by_family[species.family].append(species.plumage)
    for plumages in by_family.values():
        for i, one in enumerate(plumages):
            assert all(difference(one, other) > 1.5 for other in plumages[:i])


def test_colour_alone_does_not_tell_the_species_of_a_genus_apart(world: World) -> None:
    """Congeners share most of their colours, and some share all that cover much of them."""
    body = ("back", "belly", "breast", "throat", "face", "crown", "coverts", "flight", "tail")
    worn = {
        species.name: frozenset(getattr(species.plumage, part) for part in body) for species in world.known
    }
    twins = sum(
        worn[one.name] == worn[other.name]
        for one in world.known
        for other in world.known[: one.index]
        if one.genus == other.genus
    )
    assert twins >= 20


def test_a_plumage_is_as_different_from_itself_as_nothing(world: World) -> None:
    plumage = world.species(0).plumage
    assert difference(plumage, plumage) == 0
    assert plumage.back in COLOURS


def test_relatives_share_a_body_plan_more_than_strangers_do(world: World) -> None:
    def apart(a: int, b: int) -> float:
        one, other = world.species(a).plan, world.species(b).plan
        return abs(one.bill - other.bill) + abs(one.leg - other.leg) + abs(one.neck - other.neck)

    related: list[float] = []
    strange: list[float] = []
    for a in range(0, 371, 3):
        for b in range(a + 1, 371, 7):
            same = world.species(a).family == world.species(b).family
            (related if same else strange).append(apart(a, b))
    assert sum(related) / len(related) < 0.4 * sum(strange) / len(strange)


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_a_small_world_is_complete(count: int) -> None:
    world = World(seed=2, species=count, unseen=3)
    assert len(world.known) == count
    assert len(world.unseen) == 3
    assert len({species.name for species in world}) == count + 3


def test_a_species_is_found_by_index_and_by_name(world: World) -> None:
    species = world.species(17)
    assert world.species(species.name) is species
    assert world.individual(17, 3) == world.individual(species.name, 3) == world.individual(species, 3)
    assert world.individual(17, 3).name != world.individual(17, 4).name


def test_arguments_out_of_range_are_refused_with_the_value_and_the_limit(world: World) -> None:
    with pytest.raises(InvalidInputError, match="species is 0: a world has 1 to 5000"):
        World(species=0)
    with pytest.raises(InvalidInputError, match="unseen is -1"):
        World(unseen=-1)
    with pytest.raises(InvalidInputError, match="seed is -3"):
        World(seed=-3)
    with pytest.raises(InvalidInputError, match="species 391 does not exist: indices are 0 to 390"):
        world.species(391)
    with pytest.raises(InvalidInputError, match="no species of this world is named 'Corvus corax'"):
        world.species("Corvus corax")
    with pytest.raises(InvalidInputError, match="individual number is -1"):
        world.individual(0, -1)
