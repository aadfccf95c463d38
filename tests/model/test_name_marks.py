"""Marks of doubt and negation in names: none is dropped, and no name of the taxonomy is taken for one."""

from __future__ import annotations

import pytest

from birdsearch.model.name_marks import read_name
from birdsearch.model.taxonomy import Taxonomy

TAXONOMY = Taxonomy.load()
DOUBTS = [
    *("Mallard?", "Mallard (?)", "?Mallard", "? Mallard", "~Mallard", "Mallard*", "Mallard ??", "¿Mallard?"),
    *("Mallard？", "Mallard ❓", "≈ Mallard", "Mallard [?]", "Mal?lard"),
    *("cf. Mallard", "cf Mallard", "cf.Mallard", "Mallard cf.", "Mallard (cf.)", "aff. Mallard"),
    *("prob. Mallard", "probably Mallard", "Probable Mallard", "possible Mallard", "Mallard (probably)"),
    *("Mallard, prob.", "Mallard - possibly", "maybe Mallard", "not sure Mallard", "Mallard (not sure)"),
    *(
        "vermutlich Mallard",
        "evtl. Mallard",
        "Mallard (wahrscheinlich)",
        "peut-être Mallard",
        "posible Mallard",
    ),
    *("waarschijnlijk Mallard", "forse Mallard", "trolig Mallard"),
]
SCIENTIFIC_DOUBTS = [
    "Anas ?platyrhynchos",
    "Anas cf. platyrhynchos",
    "Anas aff. platyrhynchos",
    "Anas platyrhynchos?",
]
NEGATIONS = [
    *(
        "not Mallard",
        "Not a Mallard",
        "no Mallard",
        "≠ Mallard",
        "≠Mallard",
        "!Mallard",
        "! Mallard",
        "!= Mallard",
    ),
    *(
        "<> Mallard",
        "¬Mallard",
        "❌ Mallard",
        "kein Mallard",
        "nicht Mallard",
        "pas de Mallard",
        "geen Mallard",
    ),
]
REFUSALS = [
    *(
        "-Mallard",
        "- Mallard",
        "−Mallard",
        "Mallard -",
        "(Mallard)",
        "[Mallard]",
        "Mallard!",
        "Mallard=",
        "=Mallard",
    ),
    *("Mallard+", "Mallard%", "Mallard/", "^Mallard", "Mallard†", "Mallard ≠", "!!Mallard"),
    *("Mallard sp.", "Mallard spp", "Anas sp.", "Anas sp", "duck sp.", "Anas sp. 2", "unidentified duck"),
    *("Mallard/Gadwall", "Mallard / Gadwall", "Mallard or Gadwall", "Mallard, Gadwall", "Mallard + Gadwall"),
    *("Mallard & Gadwall", "Mallard oder Gadwall", "Mallard;Gadwall", "Mallard|Gadwall"),
    *("Mallard x Gadwall", "Mallard × Gadwall", "Mallard X Gadwall", "Mallard×Gadwall", "Mallard hybrid"),
    *("Anas platyrhynchos x A. acuta", "≠ Mallard?", "maybe not Mallard", "not Mallard (?)"),
]
PLAIN = [
    *(
        "Mallard",
        "mallard",
        "MALLARD",
        "Mallard ♂",
        "'Mallard'",
        "Mallard.",
        "Mallard,",
        " Mallard ",
        "_Mallard_",
    ),
    *("Anas platyrhynchos", "Mallard\u200b", "Mallard ✓", "#Mallard"),
]


@pytest.mark.parametrize("text", [*DOUBTS, *SCIENTIFIC_DOUBTS])
def test_a_mark_of_doubt_makes_a_name_uncertain(text: str) -> None:
    reading = read_name(text, TAXONOMY.spellings)
    assert (reading.verdict, reading.refusal) == ("uncertain", "")
    taxon = TAXONOMY.find(reading.name)
    assert taxon is not None
    assert taxon.common_name == "Mallard"


@pytest.mark.parametrize("text", NEGATIONS)
def test_a_mark_of_negation_makes_a_name_negative(text: str) -> None:
    reading = read_name(text, TAXONOMY.spellings)
    assert (reading.name, reading.verdict, reading.refusal) == ("Mallard", "negative", "")


@pytest.mark.parametrize("text", REFUSALS)
def test_what_names_no_one_species_is_refused_with_the_reason(text: str) -> None:
    reading = read_name(text, TAXONOMY.spellings)
    assert reading.refusal
    assert reading.verdict == "positive"
    assert ";" in reading.refusal  # What is wrong; what to do.


@pytest.mark.parametrize("text", PLAIN)
def test_spelling_is_no_mark(text: str) -> None:
    reading = read_name(text, TAXONOMY.spellings)
    assert (reading.name, reading.verdict, reading.refusal, reading.is_bare) == (text, "positive", "", True)


def test_every_name_of_the_taxonomy_is_read_as_itself() -> None:
    count = 0
    for taxon in TAXONOMY:
        for name in taxon.names:
            for text in (name, name.upper(), name.replace(" ", "_")):
                reading = read_name(text, TAXONOMY.spellings)
                assert (reading.name, reading.verdict, reading.refusal) == (text, "positive", "")
            if taxon.scientific_name:
                # Nor is a name like these one, if no taxonomy has it.
                reading = read_name(name, lambda _text: ())
                assert (reading.name, reading.verdict, reading.refusal) == (name, "positive", "")
            count += 1
    assert count > 1000


@pytest.mark.parametrize("sign", "?~*≠!¬=+%^/|\\<>{}§$@°±†")
def test_no_sign_beside_a_name_is_dropped_without_a_word(sign: str) -> None:
    for text in (
        f"{sign}Mallard",
        f"{sign} Mallard",
        f"Mallard{sign}",
        f"Mallard ({sign})",
        f"Mal{sign}lard",
    ):
        reading = read_name(text, TAXONOMY.spellings)
        assert reading.verdict != "positive" or reading.refusal, text


def test_a_name_that_is_known_with_its_signs_is_read_as_that() -> None:
    assert read_name("Blob* owl", lambda _text: ["Blob* owl"]).name == "Blob* owl"
    assert read_name("Blob* owl", lambda _text: ["Blob* owl"]).verdict == "positive"
    assert read_name("Blob owl", lambda _text: ["Blob* owl"]).name == "Blob owl"


def test_a_word_counts_only_as_long_as_the_rest_is_known() -> None:
    reading = read_name("No Name Key warbler", TAXONOMY.spellings)
    assert not reading.is_bare
    assert read_name("No Name Key warbler", lambda _text: ["No Name Key warbler"]).verdict == "positive"
