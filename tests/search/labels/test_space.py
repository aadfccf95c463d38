"""The labels that an estimate chooses among, and what their clades have together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from birdsearch.model.taxonomy import Taxon, Taxonomy
from birdsearch.search.labels.space import LabelSpace


def taxon(common: str, scientific: str, family: str, order: str, *others: str) -> Taxon:
    genus = scientific.split()[0] if scientific else ""
    return Taxon(common, scientific, genus, family, order, tuple(others), sensitive=False)


TAXONOMY = Taxonomy(
    [
        taxon(
            "Carrion crow", "Corvus corone", "Corvidae", "Passeriformes", "Black crow", "Corvus corone corone"
        ),
        taxon("Rook", "Corvus frugilegus", "Corvidae", "Passeriformes", "Bare-faced crow"),
        taxon("Magpie", "Pica pica", "Corvidae", "Passeriformes", "Eurasian magpie"),
        taxon("Grey heron", "Ardea cinerea", "Ardeidae", "Pelecaniformes", "Heron"),
        taxon("Purple heron", "Ardea purpurea", "Ardeidae", "Pelecaniformes", "Heron"),
        taxon("Unknown duck", "", "", "Anseriformes"),
    ]
)


def build(classes: list[str], others: list[str]) -> LabelSpace:
    return LabelSpace.build(classes, others, TAXONOMY)


def places(space: LabelSpace, *names: str) -> list[int]:
    return [int(place) for place in space.find(names, TAXONOMY)]


def test_classes_keep_their_order_and_other_labels_follow_by_name() -> None:
    space = build(["Rook", "Grey heron"], ["Magpie", "Carrion crow", "Rook"])
    assert space.names == ("Rook", "Grey heron", "Carrion crow", "Magpie")
    assert space.scientific_names == ("Corvus frugilegus", "Ardea cinerea", "Corvus corone", "Pica pica")
    assert space.classes == 2
    assert len(space) == 4
    assert places(space, "Rook", "Magpie", "Grey heron", "Carrion crow") == [0, 3, 1, 2]


def test_a_class_is_found_under_each_of_its_names_and_these_add_nothing() -> None:
    names = [
        "Corvus corone",
        "black crow",
        "CARRION-CROW",
        "Corvus corone corone",
        "gray heron",
        "Ardea cinerea",
    ]
    space = build(["Carrion crow", "grey_heron"], names)
    assert space.names == ("Carrion crow", "grey_heron")
    assert places(space, *names) == [0, 0, 0, 0, 1, 1]


def test_a_class_may_bear_any_name_of_its_taxon() -> None:
    space = build(
        ["Corvus frugilegus", "Eurasian Magpie"], ["Rook", "Bare-faced crow", "Pica pica", "Magpie"]
    )
    assert space.names == ("Corvus frugilegus", "Eurasian Magpie")
    assert space.scientific_names == ("Corvus frugilegus", "Pica pica")
    assert places(space, "Rook", "Bare-faced crow", "Magpie", "Pica pica") == [0, 0, 1, 1]


def test_of_two_classes_that_are_one_taxon_the_one_with_its_common_name_has_the_verified_labels() -> None:
    assert places(
        build(["Black crow", "Carrion crow"], ["Corvus corone"]), "Corvus corone", "Black crow"
    ) == [1, 1]
    assert places(build(["Carrion crow", "Black crow"], []), "Corvus corone", "Carrion crow") == [0, 0]
    # None bears it: the first.
    assert places(build(["Corvus corone", "Black crow"], ["Carrion crow"]), "Carrion crow", "black crow") == [
        0,
        0,
    ]


def test_a_name_that_two_taxa_share_is_none_of_them() -> None:
    space = build(["Grey heron", "Heron"], ["Purple heron", "heron"])
    assert space.names == ("Grey heron", "Heron", "Purple heron")
    assert places(space, "Heron", "Grey heron", "Purple heron") == [1, 0, 2]
    assert space.scientific_names[1] is None


def test_invented_names_are_labels_without_lineage_and_their_spelling_does_not_count() -> None:
    space = build(["Rook"], ["Ghost finch", "ghost-finch", "Moss owl", "GHOST FINCH"])
    assert space.names == ("Rook", "GHOST FINCH", "Moss owl")
    assert space.scientific_names[1:] == (None, None)
    assert places(space, "ghost_finch", "Ghost finch", "moss owl", "Snow goose") == [1, 1, 2, -1]
    assert [clades[1:].tolist() for clades in space.clades] == [[-1, -1]] * 3


def test_the_labels_do_not_depend_on_the_order_or_number_of_what_is_verified() -> None:
    names = ["Magpie", "Ghost finch", "ghost-finch", "Pica pica", "Purple heron", "Moss owl"]
    expected = build(["Rook"], names)
    for some in itertools.islice(itertools.permutations(names), 0, 720, 7):
        space = build(["Rook"], [*some, *some[:2]])
        assert space.names == expected.names
        assert space.scientific_names == expected.scientific_names
        assert [clades.tolist() for clades in space.clades] == [clades.tolist() for clades in expected.clades]
        assert places(space, *names) == places(expected, *names)


def test_the_probability_of_a_clade_is_the_sum_over_its_labels() -> None:
    space = build(
        ["Rook", "Grey heron", "Unknown duck"], ["Magpie", "Purple heron", "Carrion crow", "Ghost finch"]
    )
    p = np.random.default_rng(1).dirichlet(np.ones(len(space)), 20)
    expected = {
        "genus": {
            "Ardea": ["Grey heron", "Purple heron"],
            "Corvus": ["Rook", "Carrion crow"],
            "Pica": ["Magpie"],
        },
        "family": {
            "Ardeidae": ["Grey heron", "Purple heron"],
            "Corvidae": ["Rook", "Magpie", "Carrion crow"],
        },
        "order": {
            "Anseriformes": ["Unknown duck"],
            "Passeriformes": ["Rook", "Magpie", "Carrion crow"],
            "Pelecaniformes": ["Grey heron", "Purple heron"],
        },
    }
    for number, (rank, clades) in enumerate(expected.items()):
        assert space.clade_names[number] == tuple(clades)
        sums = [
            p[:, [space.names.index(name) for name in members]].sum(axis=1) for members in clades.values()
        ]
        found = space.clade_probabilities(p, rank)
        assert found == pytest.approx(np.stack(sums, axis=1))
        # A photo's sums do not depend on the batch it came in.
        assert all(
            space.clade_probabilities(p[row : row + 1], rank)[0].tolist() == found[row].tolist()
            for row in range(20)
        )


def test_without_lineages_there_are_no_clades_and_without_labels_nothing() -> None:
    space = build([], ["Ghost finch", "Moss owl"])
    assert space.clade_names == ((), (), ())
    assert space.clade_probabilities(np.full((3, 2), 0.5), "genus").shape == (3, 0)
    empty = build([], [])
    assert (len(empty), empty.classes) == (0, 0)
    assert places(empty, "Rook") == [-1]
    assert empty.find([], TAXONOMY).shape == (0,)


def test_the_packaged_taxonomy_places_the_classes_of_published_models() -> None:
    taxonomy = Taxonomy.load()
    space = LabelSpace.build(["African crake", "African darter"], ["Anhinga rufa", "Crex egregia"], taxonomy)
    assert space.names == ("African crake", "African darter")
    assert space.find(["Crecopsis egregia", "Anhinga melanogaster rufa"], taxonomy).tolist() == [0, 1]
    assert space.clade_names == (
        ("Anhinga", "Crecopsis"),
        ("Anhingidae", "Rallidae"),
        ("Gruiformes", "Suliformes"),
    )
