"""Looking birds up by name."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from birdsearch.cli import cli
from birdsearch.errors import InvalidInputError
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats
from birdsearch.model.taxonomy import Lineage, Taxon, Taxonomy, name_key
from birdsearch.model.xcit import XCiT

HEADER = "common_name,scientific_name,genus,family,order,alternative_names,sensitive,note\n"


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.load()


def _found(taxonomy: Taxonomy, name: str) -> str | None:
    taxon = taxonomy.find(name)
    return None if taxon is None else taxon.common_name


def _taxon(common: str, scientific: str, *alternatives: str) -> Taxon:
    return Taxon(common, scientific, scientific.split()[0], "Testidae", "Testiformes", alternatives, False)


def test_the_taxonomy_is_read_once() -> None:
    assert Taxonomy.load() is Taxonomy.load()


def test_importing_reads_no_file_and_loads_no_torch() -> None:
    program = (
        "import sys, birdsearch.model.taxonomy as species\n"
        "assert species._packaged.cache_info().currsize == 0\n"
        "taxon = species.Taxonomy.load().find('white stork')\n"
        "assert taxon is not None and taxon.genus == 'Ciconia'\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_taxon_is_found_by_each_of_its_names(taxonomy: Taxonomy) -> None:
    ambiguous = {name_key(name) for name in taxonomy.ambiguous}
    for taxon in taxonomy:
        assert taxon.common_name == taxon.names[0]
        for name in taxon.names:
            shouted = f"  {name.upper().replace(' ', '  ').replace('-', ' ')}\t"
            for spelling in (name, shouted, name.replace(" ", "_").lower(), name.replace("ey", "ay")):
                if name_key(name) in ambiguous:
                    assert taxonomy.find(spelling) is None
                elif spelling != name.replace("ey", "ay") or name.startswith("Grey"):
                    assert taxonomy.find(spelling) is taxon, spelling


def test_no_common_or_scientific_name_is_ambiguous(taxonomy: Taxonomy) -> None:
    for name, owners in taxonomy.ambiguous.items():
        assert len(owners) > 1
        for taxon in owners:
            assert name_key(name) not in {name_key(taxon.common_name), name_key(taxon.scientific_name)}


@pytest.mark.parametrize(
    ("name", "common"),
    [
        ("HOOPOE", "Eurasian hoopoe"),
        ("upupa  epops", "Eurasian hoopoe"),
        ("Gray Heron", "Grey heron"),
        ("GRAY-HEADED GULL", "Grey-headed gull"),
        ("cream coloured courser", "Cream-colored courser"),
        ("Rose-coloured Starling", "Rosy starling"),
        ("Bonelli's Eagle", "Bonellis eagle"),
        ("bonelli’s eagle", "Bonellis eagle"),
        ("Bonelli´s Eagle", "Bonellis eagle"),
        ("Bonelli`s-eagle", "Bonellis eagle"),
        ("bonellis_eagle", "Bonellis eagle"),
        ("Sykes’ Warbler", "Sykess warbler"),
        ("Sykes's Warbler", "Sykess warbler"),
        ("Ménétries’s Warbler", "Menetriess warbler"),
        ("MÉNÉTRIES' WARBLER", "Menetriess warbler"),
        ("Rüppell's Vulture", "Ruppells vulture"),
        ("Ru\u0308ppell's Vulture", "Ruppells vulture"),
        ("Rueppell’s Vulture", "Ruppells vulture"),
        ("Eurasian Thick‐knee", "Eurasian stone-curlew"),
        ("stone curlew", "Eurasian stone-curlew"),
        ("Stonecurlew", "Eurasian stone-curlew"),
        ("woodpigeon", "Common wood pigeon"),
        ("Black-crowned Night-Heron", "Black-crowned night heron"),
        ("paddyfield warbler", "Paddyfield Warbler"),
        ("dead sea sparrow", "Dead Sea sparrow"),
        ("Ｗｈｉｔｅ　ｓｔｏｒｋ", "White stork"),
        ("white\u00a0stork", "White stork"),
        ("Lammergeier", "Bearded vulture"),
        ("Accipiter gentilis", "Northern goshawk"),
        ("Sylvia communis", "Common whitethroat"),
        ("Black-bellied Plover", "Grey plover"),
        ("Hume's owl", "Desert owl"),
        ("Feral Pigeon", "Feral pigeon"),
        ("Rock Dove", "Rock pigeon"),
        ("unknown", "Unknown"),
    ],
)
def test_other_spellings_are_found(name: str, common: str, taxonomy: Taxonomy) -> None:
    assert _found(taxonomy, name) == common


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sykes’ warbler", "sykess-warbler"),
        ("Sykes'_warbler", "Sykes's warbler"),
        ("Rüppell", "ruppell"),
        ("RU\u0308PPELL", "ruppell"),
        ("Bjørn’s Łark", "bjorns lark"),
        ("Gray bird", "GREY-BIRD"),
        ("rose-coloured", "Rose colored"),
    ],
)
def test_names_that_differ_in_spelling_alone_have_one_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


def test_names_that_differ_in_letters_have_two_keys() -> None:
    names = ["Common gull", "Common tern", "Little gull", "Little gulls", "Little gull 2", "Сommon gull"]
    assert len({name_key(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name", ["", " ", "'", "---", "stork", "Ciconia", "חסידה", "White stork (juvenile)", "x" * 100_000, "\0"]
)
def test_what_is_not_a_name_is_not_found(name: str, taxonomy: Taxonomy) -> None:
    assert taxonomy.find(name) is None


def test_a_name_that_two_taxa_share_is_not_decided(taxonomy: Taxonomy) -> None:
    owners = taxonomy.ambiguous["Lesser Short-toed Lark"]
    names = [taxon.common_name for taxon in owners]
    assert names == ["Mediterranean short-toed lark", "Turkestan short-toed lark"]
    assert taxonomy.find("lesser short-toed lark") is None
    assert taxonomy.suggest("lesser short-toed lark", 2) == tuple(names)
    assert taxonomy.resolve(["Lesser Short-toed Lark"]).unresolved == ("Lesser Short-toed Lark",)


def test_an_alternative_that_is_anothers_common_name_is_ambiguous_whatever_its_spelling() -> None:
    taxonomy = Taxonomy([_taxon("Grey bird", "Avis grisea"), _taxon("Dark bird", "Avis atra", "gray-bird")])
    assert taxonomy.find("Grey bird") is None
    assert {name: len(owners) for name, owners in taxonomy.ambiguous.items()} == {"Grey bird": 2}
    assert _found(taxonomy, "avis atra") == "Dark bird"


def test_a_taxon_that_spells_one_name_in_two_ways_is_not_ambiguous() -> None:
    taxonomy = Taxonomy([_taxon("Toms bird", "Avis tomi", "Tom's Bird", "Toms-Bird")])
    assert taxonomy.ambiguous == {}
    assert _found(taxonomy, "TOM’S BIRD") == "Toms bird"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Whit stork", "White stork"),
        ("Upupa epos", "Eurasian hoopoe"),
        ("Eurasain hoopoe", "Eurasian hoopoe"),
        ("Grifon vultur", "Griffon vulture"),
        ("eagle, golden", "Golden eagle"),
        ("owl barn", "Barn owl"),
        ("Lamergeier", "Bearded vulture"),
    ],
)
def test_the_nearest_name_is_suggested_first(name: str, first: str, taxonomy: Taxonomy) -> None:
    assert taxonomy.find(name) is None
    suggestions = taxonomy.suggest(name)
    assert suggestions[0] == first
    assert len(suggestions) == len(set(suggestions)) <= 3
    assert suggestions == taxonomy.suggest(name)
    for common in suggestions:
        assert _found(taxonomy, common) == common


def test_a_word_suggests_the_names_that_have_it(taxonomy: Taxonomy) -> None:
    assert taxonomy.suggest("bulbul") == ("White-spectacled bulbul",)
    assert set(taxonomy.suggest("stork", 4)) >= {"Black stork", "White stork", "Marabou stork"}
    owls = taxonomy.suggest("OWL", 50)
    assert {"Barn owl", "Desert owl", "Long-eared owl", "Eurasian scops owl"} <= set(owls)
    assert taxonomy.suggest("Ciconia")[:2] == ("Black stork", "White stork")


def test_suggestions_are_as_many_as_asked_for_or_none(taxonomy: Taxonomy) -> None:
    assert len(taxonomy.suggest("Common warbler", 7)) == 7
    assert taxonomy.suggest("Common warbler", 7)[:2] == taxonomy.suggest("Common warbler", 2)
    for name in ("", "zzzzzzzz", "חסידה", "stork " * 10_000):
        assert taxonomy.suggest(name) == ()
    with pytest.raises(InvalidInputError, match="k is 0"):
        taxonomy.suggest("stork", 0)


def test_classes_are_resolved_in_their_order_and_as_they_were_given(taxonomy: Taxonomy) -> None:
    resolution = taxonomy.resolve(["white_stork", "Dodo", "Mallard", "Great auk", "Dodo"])
    assert list(resolution.resolved) == ["white_stork", "Mallard"]
    assert resolution.resolved["white_stork"].scientific_name == "Ciconia ciconia"
    assert resolution.unresolved == ("Dodo", "Great auk")
    everything = taxonomy.resolve(taxon.common_name for taxon in taxonomy)
    assert (len(everything.resolved), everything.unresolved) == (len(taxonomy), ())


def test_ancestors_lead_from_the_species_to_the_order(taxonomy: Taxonomy) -> None:
    def lineage(name: str) -> Lineage:
        taxon = taxonomy.find(name)
        assert taxon is not None
        return taxonomy.ancestors(taxon)

    assert lineage("hoopoe") == ("Upupa epops", "Upupa", "Upupidae", "Bucerotiformes")
    assert lineage("Feral pigeon") == lineage("Rock pigeon")
    assert lineage("Feral pigeon").species == "Columba livia"
    assert lineage("Unknown") == ("", "", "", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common_name,scientific_name\nA,B\n", "lacks the column 'genus'"),
        ("", "lacks the column 'common_name'"),
        (HEADER + "A,B c,B,Fidae,Fiformes,,yes,\n", "mine.csv, line 2: sensitive is 'yes'"),
        (HEADER + "A,B c,B,Fidae\n", "mine.csv, line 2 has not the header's number of values"),
        (HEADER + "A,B c,B,Fidae,Fiformes,,0,,more\n", "mine.csv, line 2 has not the header's number"),
        (HEADER + "A,B c,B,Fidae,Fiformes,,0,\na,D e,D,Fidae,Fiformes,,0,\n", "'a' is used twice"),
        (HEADER + "-,B c,B,Fidae,Fiformes,,0,\n", "'-' is without a letter"),
        ('"common_name"x\n', "mine.csv is not CSV after line 0"),
        (HEADER + '"A"x,B c,B,Fidae,Fiformes,,0,\n', "mine.csv is not CSV after line 1"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Taxonomy.from_csv(text, "mine.csv")


def _info(path: Path, fmt: str) -> str:
    result = CliRunner().invoke(cli, ["model", "info", str(path), "--format", fmt])
    assert result.exit_code == 0, result.output
    return result.output


def test_info_says_which_classes_the_taxonomy_does_not_have(
    tmp_path: Path, make_network: Callable[..., XCiT], stats: RgbStats
) -> None:
    path = tmp_path / "some.pt"
    classes = [
        "White stork",
        *(f"Bird {letter}" for letter in "ABCDEFG"),
        "Bonellis eagle",
        "Common stonechat",
    ]
    save_checkpoint(path, make_network(classes=len(classes)), classes, (64, 64), stats)
    unresolved = [*(f"Bird {letter}" for letter in "ABCDEFG"), "Common stonechat"]
    few = "8: Bird A, Bird B, Bird C, Bird D, Bird E, and 3 more"
    (facts,) = json.loads(_info(path, "json"))
    assert (facts["classes"], facts["classes_in_the_taxonomy"]) == (10, 2)
    assert facts["classes_not_in_the_taxonomy"] == unresolved
    (row,) = csv.DictReader(io.StringIO(_info(path, "csv")))
    assert (row["classes_in_the_taxonomy"], row["classes_not_in_the_taxonomy"]) == ("2", few)
    lines = [" ".join(line.split()) for line in _info(path, "table").splitlines()]
    assert "classes in the taxonomy 2" in lines
    assert f"classes not in the taxonomy {few}" in lines


def test_info_of_classes_that_are_all_known_lists_none(
    tmp_path: Path, make_network: Callable[..., XCiT], stats: RgbStats
) -> None:
    path = tmp_path / "known.pt"
    save_checkpoint(path, make_network(classes=2), ["Hoopoe", "Mallard"], (64, 64), stats)
    assert "not in the taxonomy" not in _info(path, "table")
    assert "not_in_the_taxonomy" not in _info(path, "csv")
    (facts,) = json.loads(_info(path, "json"))
    assert (facts["classes_in_the_taxonomy"], facts["classes_not_in_the_taxonomy"]) == (2, [])
