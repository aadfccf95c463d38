"""The table of species: that it agrees with itself, and with facts that anyone can look up."""

from __future__ import annotations

import csv
import re
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from birdsearch.model.taxonomy import name_key

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "data" / "species.csv"
HEADER = "common_name,scientific_name,genus,family,order,alternative_names,sensitive,note"


def _rows() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


ROWS = _rows()
BY_NAME = {row["common_name"]: row for row in ROWS}
TAXA = [row for row in ROWS if row["scientific_name"]]


def _alternatives(row: dict[str, str]) -> list[str]:
    return row["alternative_names"].split(";") if row["alternative_names"] else []


def test_the_file_is_plain_csv_in_the_order_of_its_names() -> None:
    raw = FILE.read_bytes()
    assert raw.decode("utf-8").splitlines()[0] == HEADER
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    names = [row["common_name"] for row in ROWS]
    assert names == sorted(names)
    assert len(BY_NAME) == len(ROWS) == 552


def test_no_value_is_missing_or_padded() -> None:
    for row in ROWS:
        assert None not in row
        for value in (*row.values(), *_alternatives(row)):
            assert isinstance(value, str), row
            assert value == " ".join(value.split()), row
        assert all(_alternatives(row)), row
        assert row["sensitive"] in ("0", "1"), row


def test_common_names_are_spelt_without_apostrophes_as_models_spell_them() -> None:
    for row in ROWS:
        assert re.fullmatch(r"[A-Z][A-Za-z]*([ -][A-Za-z]+)*", row["common_name"]), row


def test_scientific_names_are_binomials_and_the_genus_is_their_first_word() -> None:
    for row in TAXA:
        assert re.fullmatch(r"[A-Z][a-z]+( [a-z]+){1,2}", row["scientific_name"]), row
        assert row["scientific_name"].split()[0] == row["genus"], row
        assert re.fullmatch(r"[A-Z][a-z]+idae", row["family"]), row
        assert re.fullmatch(r"[A-Z][a-z]+iformes", row["order"]), row


def test_one_family_a_genus_and_one_order_a_family() -> None:
    families, orders = defaultdict(set), defaultdict(set)
    for row in TAXA:
        families[row["genus"]].add(row["family"])
        orders[row["family"]].add(row["order"])
    assert {genus: found for genus, found in families.items() if len(found) > 1} == {}
    assert {family: found for family, found in orders.items() if len(found) > 1} == {}
    ranks = [{row[rank] for row in TAXA} for rank in ("genus", "family", "order")]
    assert not ranks[0] & ranks[1]
    assert not ranks[1] & ranks[2]


def test_no_scientific_name_comes_twice() -> None:
    counts = Counter(row["scientific_name"] for row in TAXA)
    assert [name for name, count in counts.items() if count > 1] == []


def test_what_is_not_a_species_of_its_own_says_so() -> None:
    assert [row["common_name"] for row in ROWS if not row["scientific_name"]] == ["Unknown"]
    unknown = BY_NAME["Unknown"]
    assert (unknown["genus"], unknown["family"], unknown["order"]) == ("", "", "")
    assert unknown["note"]
    forms = [row["common_name"] for row in TAXA if len(row["scientific_name"].split()) == 3]
    assert forms == ["Feral pigeon"]
    assert BY_NAME["Feral pigeon"]["note"]
    species = Counter(" ".join(row["scientific_name"].split()[:2]) for row in TAXA)
    assert {name for name, count in species.items() if count > 1} == {"Columba livia"}


def test_a_row_names_nothing_twice() -> None:
    for row in ROWS:
        names = [row["common_name"], row["scientific_name"], *_alternatives(row)]
        assert len(names) == len(set(names)), row


def test_a_name_of_one_row_is_never_an_alternative_of_another() -> None:
    first = {name_key(row[column]): row for row in TAXA for column in ("common_name", "scientific_name")}
    assert len(first) == 2 * len(TAXA)
    for row in ROWS:
        for name in _alternatives(row):
            assert first.get(name_key(name), row) is row, (name, row["common_name"])


def test_alternative_scientific_names_look_like_names() -> None:
    for row in TAXA:
        epithets = {row["scientific_name"].split()[-1]}
        for name in _alternatives(row):
            if re.fullmatch(r"[A-Z][a-z]+ [a-z]+( [a-z]+)?", name):
                epithets.add(name.split()[-1])
            else:
                assert re.fullmatch(r"[A-Z][\w'-]*( [(A-Z][\w'-]*\)?)*", name), name
        assert len(epithets) <= 5, row


@pytest.mark.parametrize(
    ("common", "scientific", "family", "order"),
    [
        ("Common ostrich", "Struthio camelus", "Struthionidae", "Struthioniformes"),
        ("Mallard", "Anas platyrhynchos", "Anatidae", "Anseriformes"),
        ("Mute swan", "Cygnus olor", "Anatidae", "Anseriformes"),
        ("Chukar partridge", "Alectoris chukar", "Phasianidae", "Galliformes"),
        ("Great crested grebe", "Podiceps cristatus", "Podicipedidae", "Podicipediformes"),
        ("Greater flamingo", "Phoenicopterus roseus", "Phoenicopteridae", "Phoenicopteriformes"),
        ("Rock pigeon", "Columba livia", "Columbidae", "Columbiformes"),
        ("Pin-tailed sandgrouse", "Pterocles alchata", "Pteroclidae", "Pterocliformes"),
        ("Great bustard", "Otis tarda", "Otididae", "Otidiformes"),
        ("Common cuckoo", "Cuculus canorus", "Cuculidae", "Cuculiformes"),
        ("European nightjar", "Caprimulgus europaeus", "Caprimulgidae", "Caprimulgiformes"),
        ("Common swift", "Apus apus", "Apodidae", "Apodiformes"),
        ("Eurasian coot", "Fulica atra", "Rallidae", "Gruiformes"),
        ("Common crane", "Grus grus", "Gruidae", "Gruiformes"),
        ("Spur-winged lapwing", "Vanellus spinosus", "Charadriidae", "Charadriiformes"),
        ("Pied avocet", "Recurvirostra avosetta", "Recurvirostridae", "Charadriiformes"),
        ("Crab-plover", "Dromas ardeola", "Dromadidae", "Charadriiformes"),
        ("Ruff", "Calidris pugnax", "Scolopacidae", "Charadriiformes"),
        ("Great skua", "Stercorarius skua", "Stercorariidae", "Charadriiformes"),
        ("Caspian tern", "Hydroprogne caspia", "Laridae", "Charadriiformes"),
        ("Red-throated loon", "Gavia stellata", "Gaviidae", "Gaviiformes"),
        ("Wilsons storm petrel", "Oceanites oceanicus", "Oceanitidae", "Procellariiformes"),
        ("Shy albatross", "Thalassarche cauta", "Diomedeidae", "Procellariiformes"),
        ("Red-billed tropicbird", "Phaethon aethereus", "Phaethontidae", "Phaethontiformes"),
        ("White stork", "Ciconia ciconia", "Ciconiidae", "Ciconiiformes"),
        ("Northern gannet", "Morus bassanus", "Sulidae", "Suliformes"),
        ("Great cormorant", "Phalacrocorax carbo", "Phalacrocoracidae", "Suliformes"),
        ("Glossy ibis", "Plegadis falcinellus", "Threskiornithidae", "Pelecaniformes"),
        ("Grey heron", "Ardea cinerea", "Ardeidae", "Pelecaniformes"),
        ("Great white pelican", "Pelecanus onocrotalus", "Pelecanidae", "Pelecaniformes"),
        ("Osprey", "Pandion haliaetus", "Pandionidae", "Accipitriformes"),
        ("Griffon vulture", "Gyps fulvus", "Accipitridae", "Accipitriformes"),
        ("Barn owl", "Tyto alba", "Tytonidae", "Strigiformes"),
        ("Tawny owl", "Strix aluco", "Strigidae", "Strigiformes"),
        ("Eurasian hoopoe", "Upupa epops", "Upupidae", "Bucerotiformes"),
        ("European bee-eater", "Merops apiaster", "Meropidae", "Coraciiformes"),
        ("White-throated kingfisher", "Halcyon smyrnensis", "Alcedinidae", "Coraciiformes"),
        ("Syrian woodpecker", "Dendrocopos syriacus", "Picidae", "Piciformes"),
        ("Peregrine falcon", "Falco peregrinus", "Falconidae", "Falconiformes"),
        ("Monk parakeet", "Myiopsitta monachus", "Psittacidae", "Psittaciformes"),
        ("Rose-ringed parakeet", "Psittacula krameri", "Psittaculidae", "Psittaciformes"),
        ("Palestine sunbird", "Cinnyris osea", "Nectariniidae", "Passeriformes"),
        ("White-spectacled bulbul", "Pycnonotus xanthopygos", "Pycnonotidae", "Passeriformes"),
        ("Hooded crow", "Corvus cornix", "Corvidae", "Passeriformes"),
        ("Great tit", "Parus major", "Paridae", "Passeriformes"),
        ("Grey hypocolius", "Hypocolius ampelinus", "Hypocoliidae", "Passeriformes"),
        ("Arabian babbler", "Argya squamiceps", "Leiothrichidae", "Passeriformes"),
        ("Blackstart", "Oenanthe melanura", "Muscicapidae", "Passeriformes"),
        ("European robin", "Erithacus rubecula", "Muscicapidae", "Passeriformes"),
        ("Common blackbird", "Turdus merula", "Turdidae", "Passeriformes"),
        ("Tristrams starling", "Onychognathus tristramii", "Sturnidae", "Passeriformes"),
        ("House sparrow", "Passer domesticus", "Passeridae", "Passeriformes"),
        ("Snow bunting", "Plectrophenax nivalis", "Calcariidae", "Passeriformes"),
        ("Corn bunting", "Emberiza calandra", "Emberizidae", "Passeriformes"),
    ],
)
def test_well_known_facts(common: str, scientific: str, family: str, order: str) -> None:
    row = BY_NAME[common]
    assert (row["scientific_name"], row["family"], row["order"]) == (scientific, family, order)


def test_persecuted_and_protected_birds_are_sensitive_and_common_ones_are_not() -> None:
    sensitive = {row["common_name"] for row in ROWS if row["sensitive"] == "1"}
    for name in (
        "Bonellis eagle",
        "Bearded vulture",
        "Egyptian vulture",
        "Griffon vulture",
        "Lesser kestrel",
        "Lanner falcon",
        "Desert owl",
        "Brown fish owl",
        "MacQueens bustard",
        "Northern bald ibis",
    ):
        assert name in sensitive
    for name in ("House sparrow", "Mallard", "Common kestrel", "Great tit", "Rock pigeon", "Unknown"):
        assert name not in sensitive
    for row in ROWS:
        words = {"vulture", "eagle", "bustard"} & set(row["common_name"].split())
        assert not words or row["sensitive"] == "1", row["common_name"]


def test_the_table_is_part_of_what_is_built() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "*.csv" in project["tool"]["setuptools"]["package-data"]["birdsearch.data"]
