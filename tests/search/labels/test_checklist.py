"""Location and season lists: how they are read, what they say against labels, and that they change none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.taxa import RANKS
from birdsearch.model.images.box import Box
from birdsearch.model.taxonomy import Taxon, Taxonomy
from birdsearch.search.labels.checklist import (
    FLAGS,
    Checklist,
    Listing,
    flag_predictions,
    flag_result,
    open_checklist,
    parse_months,
)
from birdsearch.search.query.hits import Hit, LabelEstimate, LabelEvidence, QueryPhoto, QueryResult

ALPS, SYDNEY, FIJI_EAST, FIJI_WEST = (46.5, 8.0), (-33.9, 151.2), (-17.0, -179.5), (-17.0, 179.5)
ALL_YEAR = frozenset(range(1, 13))


def taxon(common: str, scientific: str, family: str = "", order: str = "", *others: str) -> Taxon:
    genus = scientific.split()[0] if scientific else ""
    return Taxon(common, scientific, genus, family, order, others, sensitive=False)


TAXONOMY = Taxonomy(
    [
        taxon("Eurasian wren", "Troglodytes troglodytes", "Troglodytidae", "Passeriformes", "Wren"),
        taxon("Winter wren", "Troglodytes hiemalis", "Troglodytidae", "Passeriformes"),
        taxon("Rook", "Corvus frugilegus", "Corvidae", "Passeriformes"),
        taxon("Carrion crow", "Corvus corone", "Corvidae", "Passeriformes", "Crow"),
        taxon("House crow", "Corvus splendens", "Corvidae", "Passeriformes", "Crow"),
        taxon("Rock pigeon", "Columba livia", "Columbidae", "Columbiformes"),
        taxon("Feral pigeon", "Columba livia domestica", "Columbidae", "Columbiformes"),
        taxon("Moss owl", "", "", ""),
        *(one for one in Taxonomy.load() if one.common_name == "Unknown"),
    ]
)


def made(*lines: str, labels: tuple[str, ...] = ()) -> Checklist:
    return Checklist.parse("\n".join(lines) + "\n", TAXONOMY, labels, "list.csv")


# -- months and boxes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "months"),
    [
        ("1-3,10-12", {1, 2, 3, 10, 11, 12}),
        ("3;4;5", {3, 4, 5}),
        ("11-2", {11, 12, 1, 2}),
        ("Nov – Feb", {11, 12, 1, 2}),
        ("may", {5}),
        ("Sept. december", {9, 12}),
        ("5-5", {5}),
        ("06", {6}),
        ("4, 4-6 ,", {4, 5, 6}),
        ("12-11", ALL_YEAR),
        (" ALL ", ALL_YEAR),
        ("", ALL_YEAR),
    ],
)
def test_months_are_read(text: str, months: set[int]) -> None:
    assert parse_months(text) == months


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "'0' no month"),
        ("13", "'13' no month"),
        ("1-13", "'1-13' no month"),
        ("1-3-5", "'1-3-5' no month"),
        ("-3", "'-3' no month"),
        ("3-", "'3-' no month"),
        ("ju", "'ju' no month"),
        ("spring", "'spring' no month"),
        ("٣", "no month"),
        ("1.5", "'1.5' no month"),
        ("2023-05-01", "'2023-05-01' no month"),
        (",;", "names none"),
        ("3-Jan", "a spreadsheet made a date of it"),
        ("Jan-03", "write both as numbers or both as names"),
        ("9" * 500, "999..."),
    ],
)
def test_what_is_no_month_is_an_error(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match="months is ") as caught:
        parse_months(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_box_holds_its_borders_and_goes_over_the_meridian() -> None:
    plain = Listing(ALL_YEAR, (46.0, 6.0, 48.0, 10.5))
    assert all(plain.holds(*place) for place in ((46, 6), (48, 10.5), ALPS))
    assert not any(plain.holds(*place) for place in ((45.9, 8), (48.1, 8), (47, 5.9), (47, 10.6), (-47, 8)))
    wide = Listing(ALL_YEAR, (-20.0, 177.0, -15.0, -178.0))
    assert all(wide.holds(-17, lon) for lon in (177, 179.5, 180, -180, -179.5, -178))
    assert not any(wide.holds(-17, lon) for lon in (176.9, 0, -177.9))
    # 180 and -180 are one meridian, whichever side a box or a camera writes.
    for box in ((-20.0, 170.0, -15.0, 180.0), (-20.0, -180.0, -15.0, -170.0)):
        assert Listing(ALL_YEAR, box).holds(-17, 180)
        assert Listing(ALL_YEAR, box).holds(-17, -180)
    assert not Listing(ALL_YEAR, (-20.0, 0.0, -15.0, 179.0)).holds(-17, -180)
    assert Listing(ALL_YEAR).holds(*SYDNEY)


# -- what is said of a label -------------------------------------------------------------------------------

LONG = (
    "species,months,region,south,west,north,east,status",
    "wren,4-9,Alps,46,6,48,10.5,resident",
    "Troglodytes troglodytes,11-2,Alps,46,6,48,10.5,Rare winter guest",
    "Eurasian Wren,11-2,Australia,-45,110,-10,155,",
    "rook,all,Fiji,-20,177,-15,-178,vagrant",
)


@pytest.mark.parametrize(
    ("name", "month", "place", "flag"),
    [
        ("Eurasian wren", 5, ALPS, ""),
        ("EURASIAN-WREN", 5, ALPS, ""),
        ("Eurasian wren", 3, ALPS, "out-of-season"),
        ("Eurasian wren", 12, ALPS, "rare"),
        ("Eurasian wren", 1, ALPS, "rare"),
        ("Eurasian wren", 5, FIJI_EAST, "out-of-range"),
        # The seasons of the south are its own rows.
        ("Eurasian wren", 12, SYDNEY, ""),
        ("Eurasian wren", 5, SYDNEY, "out-of-season"),
        ("Eurasian wren", None, SYDNEY, ""),
        ("Eurasian wren", 12, None, ""),
        ("Eurasian wren", 3, None, "out-of-season"),
        ("Eurasian wren", None, FIJI_EAST, "out-of-range"),
        ("Eurasian wren", None, None, ""),
        ("Rook", 7, FIJI_EAST, "rare"),
        ("Rook", 7, FIJI_WEST, "rare"),
        ("Rook", None, None, "rare"),
        ("Rook", 7, ALPS, "out-of-range"),
        ("Winter wren", 5, ALPS, "not-on-list"),
        ("Winter wren", None, None, "not-on-list"),
        ("Moss owl", 5, ALPS, "not-on-list"),
        ("nobody's bird", 5, ALPS, "not-on-list"),
        ("Unknown", 5, ALPS, ""),
    ],
)
def test_a_species_is_judged_by_what_is_known_of_its_photo(
    name: str, month: int | None, place: tuple[float, float] | None, flag: str
) -> None:
    assert made(*LONG).flag(name, "species", month, place) == flag


@pytest.mark.parametrize(
    ("name", "rank", "month", "place", "flag"),
    [
        ("Troglodytes", "genus", 5, ALPS, ""),
        ("Troglodytes", "genus", 3, ALPS, "out-of-season"),
        ("Troglodytidae", "family", 12, ALPS, "rare"),
        ("Corvidae", "family", 5, ALPS, "out-of-range"),
        ("Passeriformes", "order", 5, ALPS, ""),
        ("Passeriformes", "order", 5, FIJI_WEST, "rare"),
        ("Columbiformes", "order", 5, ALPS, "not-on-list"),
        ("Larus", "genus", None, None, "not-on-list"),
        ("bird", "bird", 3, FIJI_WEST, ""),
    ],
)
def test_a_clade_is_flagged_only_if_none_of_its_species_fits(
    name: str, rank: str, month: int | None, place: tuple[float, float] | None, flag: str
) -> None:
    assert made(*LONG).flag(name, rank, month, place) == flag


def test_a_wide_table_says_the_same_as_a_long_one() -> None:
    wide = made(
        "Species;Jan;Feb;Mar;Apr;May;June;Jul;Aug;Sept;Oct;Nov;Dec;Status",
        "Rook;1;0;0;0,25;12%;x;;-;.5;1e-3;0.0;1;",
        "Wren;0;0;0;0;0;0;0;0;0;0;0;0;",
        "Columba livia;1;1;1;1;1;1;1;1;1;1;1;1;vagrant",
    )
    assert [month for month in range(1, 13) if wide.flag("Rook", month=month) == ""] == [
        *(1, 4, 5, 6, 9, 10, 12)
    ]
    assert {wide.flag("Rook", month=month) for month in (2, 3, 7, 8, 11)} == {"out-of-season"}
    # Never recorded is not listed.
    assert wide.flag("Eurasian wren") == "not-on-list"
    assert wide.flag("Rock pigeon", month=3) == "rare"
    shuffled = made("dec,nov,oct,sep,aug,jul,jun,may,apr,mar,feb,jan,species", "1,0,0,0,0,0,0,0,0,0,0,0,Rook")
    assert shuffled.flag("Rook", month=12) == ""
    assert shuffled.flag("Rook", month=1) == "out-of-season"


def test_a_list_of_names_alone_holds_everywhere_and_always() -> None:
    found = made("\ufeffCommon name", "rook", "", "  ", "wren")
    assert found.flag("Rook", "species", 2, FIJI_EAST) == ""
    assert found.flag("Carrion crow", "species", 2, FIJI_EAST) == "not-on-list"
    assert found.warnings == ()


def test_forms_count_as_their_species_on_either_side() -> None:
    for listed in (
        "Columba livia",
        "Rock pigeon",
        "Feral Pigeon",
        "Columba livia targia",
        "Rock Pigeon (Red bar)",
    ):
        found = made("species", listed)
        assert (found.flag("Feral pigeon"), found.flag("Rock pigeon")) == ("", ""), listed
        assert found.warnings == ()
    found = made("species", "Pied bowerbird", labels=("Pied Bowerbird (B12)",))
    assert (found.flag("Pied bowerbird (B12)"), found.flag("Rook (young)"), found.warnings) == (
        *("", "not-on-list"),
        (),
    )
    assert made("species", "rook").flag("Rook (young)") == ""


def test_a_name_that_several_taxa_share_counts_as_each_and_is_told() -> None:
    found = made("species,months", "Crow,5", "crow,6", "rook,1")
    assert [found.flag(name, month=6) for name in ("Carrion crow", "House crow", "Crow")] == ["", "", ""]
    (told,) = found.warnings
    assert told.startswith("list.csv, line 2: 'Crow' may be Carrion crow or House crow")
    assert told.endswith("it counts as each of them")
    both = made("species,scientific_name", "Crow,Corvus corone")
    assert (both.flag("Carrion crow"), both.flag("House crow"), both.warnings) == ("", "not-on-list", ())


def test_names_that_are_not_known_are_told_and_still_stand_for_labels_and_genera() -> None:
    found = made(
        "species",
        *("Rok", "Corvus ossifragus", "Zzz", "Qqq", "Www", "Vvv", "Zzz", "Troglodytes sp.", "crow/raven"),
        *("Corvus corone x cornix", "species a", "Moss-Owl"),
        labels=("Species A",),
    )
    assert len(found.warnings) == 6
    assert found.warnings[0].startswith("list.csv, line 2: 'Rok' is not the name of a taxon that is known")
    assert "did you mean Rook" in found.warnings[0]
    assert found.warnings[-1] == "list.csv: 1 more names are not known"
    assert found.flag("Corvus", "genus") == ""
    assert found.flag("Corvidae", "family") == ""
    assert found.flag("Rook") == "not-on-list"
    assert found.flag("species a") == found.flag("Moss owl") == found.flag("zzz") == ""


def test_a_clades_flag_is_the_least_grave_of_its_species() -> None:
    seed = 5
    print("seed", seed)
    rng = random.Random(seed)
    species = [one for one in Taxonomy.load() if one.scientific_name][:60]
    boxes = ["", "-40,0,10,60", "0,170,60,-170", "10,-60,70,20"]
    rows = ["species,months,south,west,north,east,status"]
    for one in rng.choices(species, k=80):
        months = rng.choice(["all", "1-3", "11-2", "5;7", "12"])
        box = rng.choice(boxes) or ",,,"
        rows.append(f'"{one.common_name}",{months},{box},{rng.choice(["", "rare", "resident"])}')
    found = Checklist.parse("\n".join(rows), Taxonomy.load())
    graveness = ["", *FLAGS[::-1]]
    seen = set()
    for _ in range(400):
        month = rng.choice([None, *range(1, 13)])
        place = rng.choice([None, (rng.uniform(-60, 80), rng.uniform(-180, 180))])
        one = rng.choice(species)
        for rank in RANKS[1:]:
            clade = getattr(one, rank)
            members = [other for other in Taxonomy.load() if getattr(other, rank) == clade]
            each = [found.flag(other.common_name, "species", month, place) for other in members]
            expected = min(each, key=graveness.index)
            assert found.flag(clade, rank, month, place) == expected
            seen.add(expected)
    assert seen == set(graveness)


def test_a_rank_or_a_month_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="rank is 'kingdom'"):
        made(*LONG).flag("Rook", "kingdom")
    for month in (0, 13):
        with pytest.raises(InvalidInputError, match=f"month is {month}; it is 1 to 12"):
            made(*LONG).flag("Rook", "species", month)


# -- hostile tables ----------------------------------------------------------------------------------------

TWELVE = "jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "list.csv has no column that names species: species, taxon, common_name, scientific_name."),
        (["bird,months", "rook,1"], "It was read with commas between values; its columns: bird, months"),
        (["\x1b[2Jbird", "rook"], r"its columns: '\x1b[2Jbird'"),
        (["species,Species", "rook,rook"], "two columns 'species'"),
        (["species,jan,January", "rook,1,1"], "two columns 'january'"),
        (["species,jan,feb", "rook,1,1"], "a column 'january' and none 'march'"),
        ([f"species,months,{TWELVE}"], "a column 'months' and one 'january'"),
        (["species,south,west,north", "rook,1,1,2"], "a column 'south' and none 'east'"),
        (["species"], "names no species that is known (it lists none)"),
        (["species", "x1", "x2"], "names no species that is known (the first is 'x1' in line 2)"),
        (["species,months", "rook,1", "rook,13"], "list.csv, line 3: months is '13'"),
        (["species,months", '"rook",1', '"', 'wren",soon'], "list.csv, line 3: months is 'soon'"),
        (["species,months", ",5"], "line 2: species is ''; write a name"),
        (["species,months", "?!,5"], "line 2: species is '?!'; write a name"),
        (["species", "a" * 300], "has 300 characters; 200 is the limit"),
        (["species,months", "rook,1,2,3"], "line 2: it has 4 values and the header 2"),
        (['species\n"rook'], "is not CSV after line 1"),
        ([f"species,{TWELVE}", "rook,1,1,1,-1,1,1,1,1,1,1,1,1"], "line 2: april is '-1'; it is 0, 1 or a"),
        ([f"species,{TWELVE}", "rook,nan,1,1,1,1,1,1,1,1,1,1,1"], "january is 'nan'"),
        (["species,south,west,north,east", "rook,1,2,3,"], "line 2: east is empty; a box needs all of"),
        (["species,south,west,north,east", "rook,1,2,3,e"], "line 2: bbox '1,2,3,e' must be 4 numbers"),
        (["species,south,west,north,east", "rook,48,6,46,10"], "the south 48 is above the north 46"),
        (["species,south,west,north,east", "rook,-91,6,46,10"], "-91 is not within -90 to 90"),
        (["species,south,west,north,east", "rook,1,6,46,190"], "190 is not within -180 to 180"),
        (["species,south,west,north,east", "rook,nan,6,46,10"], "nan is not within"),
        (["species,south,west,north,east", f"rook,{'1' * 400},6,46,10"], "is no number of degrees"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_value(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        made(*lines)
    assert str(caught.value).startswith("list.csv")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("species;south;west;north;east\r\nrook;46,5;6;48;10,5\r\n".encode(encoding))
        found = Checklist.read(path, TAXONOMY)
        assert [found.flag("rook", place=place) for place in (ALPS, (46.4, 8.0))] == ["", "out-of-range"]
        assert found.source == str(path)
    path.write_text("species\tmonths\nRook\t5\n")
    assert Checklist.read(path, TAXONOMY).flag("rook", month=4) == "out-of-season"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.csv"
    with pytest.raises(InvalidInputError, match=r"list\.csv cannot be read: No such file"):
        Checklist.read(path, TAXONOMY)
    path.mkdir()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Checklist.read(path, TAXONOMY)
    path.rmdir()
    path.write_bytes(b"species\nrook\nbl\xe4uling\n")
    (warning, _) = Checklist.read(path, TAXONOMY).warnings
    assert "is not UTF-8 in line 3 and was read as Windows-1252 (Western European): 'bläuling'" in warning
    monkeypatch.setattr("birdsearch.search.labels.checklist._MAX_BYTES", 10)
    with pytest.raises(InvalidInputError, match="has 22 bytes and the limit is 10"):
        Checklist.read(path, TAXONOMY)


# -- flags of answers --------------------------------------------------------------------------------------

CROWS = "species,months,south,west,north,east\ncrow,4-9,46,6,48,10.5\nwren,,,,,\n"


@pytest.fixture
def crows(tmp_path: Path) -> Path:
    path = tmp_path / "crows.csv"
    path.write_text(CROWS)
    return path


def test_a_catalogs_list_knows_the_models_classes(make_catalog: Callable[..., Any], crows: Path) -> None:
    found = open_checklist(make_catalog().store, crows)
    assert found.warnings == ()
    assert [found.flag(name, month=1) for name in ("crow", "wren", "rook")] == [
        *("out-of-season", "", "not-on-list")
    ]


def test_predictions_are_flagged_by_their_own_photos(make_catalog: Callable[..., Any], crows: Path) -> None:
    catalog = make_catalog()
    facts: list[dict[str, object]] = [
        {"captured_at": "2023-05-01T06:00:00", "latitude": 46.5, "longitude": 8.0},
        {"captured_at": "2023-01-01T06:00:00", "latitude": 46.5, "longitude": 8.0},
        {"captured_at": "2023-05-01T06:00:00", "latitude": -33.9, "longitude": 151.2},
        {"captured_at": "2023-01-01T06:00:00.5"},
        {"latitude": -33.9, "longitude": 151.2},
        {},
    ]
    views = [catalog.photo([np.ones(8, np.float32)], **fact)[1][0] for fact in facts]
    one = Prediction(0, "crow", "species", 0.9, "crow", 0.9, 0.8, 0.9, None, 0.0, 0.1)
    asked = [replace(one, view_id=view) for view in views]
    asked += [
        replace(one, view_id=views[1], name="rook"),
        replace(one, view_id=views[1], name="bird", rank="bird"),
    ]
    found = flag_predictions(catalog.store, open_checklist(catalog.store, crows), asked)
    assert [one.flags for one in found] == [
        *("", "out-of-season", "out-of-range", "out-of-season", "out-of-range", "", "not-on-list", "")
    ]
    assert [replace(one, flags="") for one in found] == asked
    assert flag_predictions(catalog.store, open_checklist(catalog.store, crows), []) == []


def answer(query: QueryPhoto) -> QueryResult:
    labels = tuple(LabelEstimate(name, None, "species", 0.5, 0.5) for name in ("crow", "rook"))
    hits = [("crow", "2023-05-01T06:00:00"), ("crow", "2023-01-01T06:00:00"), (None, None)]
    return QueryResult(
        query,
        tuple(
            Hit(1, 0.9, "x", 1, 1, "whole", Box(), label, 0.5, at, 46.5, 8.0, None, b"x")
            for label, at in hits
        ),
        labels,
        0.1,
        ("told",),
        LabelEvidence("crow", "species", 0.9, 0.0, False),
    )


def flagged(result: QueryResult) -> list[str | None]:
    assert result.evidence is not None
    return [result.evidence.flag, *(label.flag for label in result.labels)]


def test_an_answer_is_flagged_by_the_query_and_each_hit_by_itself(
    make_catalog: Callable[..., Any], crows: Path, tmp_path: Path, make_photo: Callable[..., Path]
) -> None:
    catalog = make_catalog()
    photo = catalog.photo([np.ones(8, np.float32)], captured_at="2023-01-05T06:00:00")[0]
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2023:05:05 06:30:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 52.0, 0.0), "E", (151.0, 12.0, 0.0)
    far = make_photo(tmp_path / "far.jpg", 1, exif=exif)
    bare = make_photo(tmp_path / "bare.jpg", 2)
    listed = open_checklist(catalog.store, crows)

    def asked(query: QueryPhoto) -> QueryResult:
        plain = answer(query)
        found = flag_result(catalog.store, listed, plain)
        assert [hit.flag for hit in found.hits] == ["", "out-of-season", ""]
        assert [label.probability for label in found.labels] == [label.probability for label in plain.labels]
        # All else stays; without a list there is no word of flags.
        assert "flag" not in str(plain.to_dict())
        assert str(found.to_dict()).count("'flag': ") == 6
        return found

    late = asked(QueryPhoto("x", photo))
    assert flagged(late) == ["out-of-season", "out-of-season", "not-on-list"]
    assert late.to_dict()["evidence"] == {**answer(late.query).evidence.to_dict(), "flag": "out-of-season"}  # type: ignore[union-attr]
    assert flagged(asked(QueryPhoto("x", None, None, bytes(far)))) == [
        *("out-of-range", "out-of-range", "not-on-list")
    ]
    for query in (
        QueryPhoto("x", None, None, bytes(bare)),
        QueryPhoto("x", None, None, bytes(tmp_path / "gone.jpg")),
        QueryPhoto("image"),
    ):
        assert flagged(asked(query)) == ["", "", "not-on-list"]


def test_an_answer_without_evidence_and_hits_is_flagged_too(
    make_catalog: Callable[..., Any], crows: Path
) -> None:
    store = make_catalog().store
    plain = replace(answer(QueryPhoto("image")), evidence=None, hits=())
    found = flag_result(store, open_checklist(store, crows), plain)
    assert [label.flag for label in found.labels] == ["", "not-on-list"]
    assert (found.evidence, found.hits) == (None, ())
