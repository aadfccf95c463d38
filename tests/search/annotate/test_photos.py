"""Labels from tables, folders, keywords, photos and hits: what can be recorded, and why the rest cannot."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import struct
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo

from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.taxa import catalog_taxonomy, extended, new_taxon
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.annotate.keywords import keyword_labels
from birdsearch.search.annotate.label_table import TableColumns
from birdsearch.search.annotate.photos import (
    Matched,
    NameMatcher,
    Proposals,
    Unmatched,
    find_stored,
    from_folders,
    from_hits,
    from_keywords,
    from_photos,
    from_table,
    match_name,
)
from birdsearch.search.annotate.proposals import UnusableError
from birdsearch.search.annotate.sources import (
    KeywordError,
    file_keywords,
    folder_name,
    matches_glob,
    sidecar_keywords,
    xmp_keywords,
)

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]
MakeCatalog = Callable[..., Any]
ONE = np.ones(8)

# -- names ---------------------------------------------------------------------------------------------------


def test_a_name_leads_to_its_taxon_whatever_its_spelling() -> None:
    for name in ("eurasian_HOOPOE", "Upupa epops", "Hoopoe"):
        match = match_name(Taxonomy.load(), name)
        assert isinstance(match, Matched)
        assert (match.name, match.taxon.common_name, match.is_new) == (name, "Eurasian hoopoe", False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "Grifon vultur",
            "'Grifon vultur' is not the name of a taxon that is known; did you mean Griffon vulture, ",
        ),
        (
            "Desert Warbler",
            "may be African desert warbler or Asian desert warbler; write the one that is meant",
        ),
        ("unknown", "'unknown' is no taxon but stands for birds that were not named; leave it out"),
        ("", "'' is not the name of a taxon that is known"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name: str, reason: str) -> None:
    match = match_name(Taxonomy.load(), name)
    assert isinstance(match, Unmatched)
    assert reason in match.reason


def test_a_matcher_makes_each_new_taxon_once() -> None:
    matcher = NameMatcher(Taxonomy.load(), new_taxon)
    first, again = matcher.match("Kaupi zogbird", "Zogornis kaupi"), matcher.match("KAUPI-ZOGBIRD")
    assert isinstance(first, Matched)
    assert isinstance(again, Matched)
    assert first.taxon is again.taxon
    assert (first.is_new, again.is_new, first.taxon.genus) == (True, True, "Zogornis")
    assert matcher.new == (first.taxon,)
    for name in ("Desert Warbler", "Unknown"):
        assert isinstance(matcher.match(name), Unmatched)
    with pytest.raises(InvalidInputError, match="'Upupa epops' is the scientific name of Eurasian hoopoe"):
        matcher.match("Zog", "Upupa epops")
    assert matcher.new == (first.taxon,)
    assert isinstance(NameMatcher(Taxonomy.load(), new_taxon).look("Kaupi zogbird"), Unmatched)


def test_names_are_suggested_for_the_first_fifty_only() -> None:
    matcher = NameMatcher(extended(Taxonomy.load(), []))
    matches = [matcher.match(f"Grifon vultur {number:02d}") for number in range(55)]
    suggested = [bool(match.suggestions) for match in matches if isinstance(match, Unmatched)]
    assert suggested == [True] * 50 + [False] * 5
    again = matcher.match("Grifon vultur 00")
    assert isinstance(again, Unmatched)
    assert again.suggestions


def test_marks_in_a_name_make_its_verdict_and_a_contradiction_is_refused() -> None:
    matcher = NameMatcher(Taxonomy.load(), new_taxon)
    for name, verdict in (("hoopoe?", "uncertain"), ("not hoopoe", "negative"), ("Hoopoe", "positive")):
        match = matcher.match(name)
        assert isinstance(match, Matched)
        assert (match.taxon.common_name, match.verdict) == ("Eurasian hoopoe", verdict)
        assert match.verdict_with("positive") == verdict
    doubt, denial, plain = (matcher.match(name) for name in ("hoopoe?", "not hoopoe", "hoopoe"))
    assert isinstance(doubt, Matched)
    assert isinstance(denial, Matched)
    assert isinstance(plain, Matched)
    assert doubt.verdict_with("uncertain") == plain.verdict_with("uncertain") == "uncertain"
    assert plain.verdict_with("negative") == "negative"
    for match, given in ((doubt, "negative"), (denial, "negative"), (denial, "uncertain")):
        with pytest.raises(InvalidInputError, match="by its own marks and the verdict beside it is"):
            match.verdict_with(given)
    # Nothing is made of what is no species, or of what only a word makes doubtful.
    for name in ("Mallard/Gadwall", "gull sp.", "Mallard x Gadwall", "not identified", "Mallard!"):
        assert isinstance(matcher.match(name), Unmatched)
    fresh = matcher.match("Moss owl?")
    assert isinstance(fresh, Matched)
    assert (fresh.taxon.common_name, fresh.verdict, fresh.is_new) == ("Moss owl", "uncertain", True)
    again = matcher.look("Moss owl")
    assert isinstance(again, Matched)
    assert (again.taxon, again.verdict) == (fresh.taxon, "positive")


# -- tables --------------------------------------------------------------------------------------------------


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def read(catalog: Any, path: Path, create: Any = None) -> Proposals:
    return from_table(catalog.store, path, NameMatcher(catalog_taxonomy(catalog.store), create))


def said(proposals: Proposals) -> list[tuple[int, str, str]]:
    return [(label.photo_id, label.taxon.common_name, label.verdict) for label in proposals.labels]


def reasons(proposals: Proposals) -> list[tuple[str, str]]:
    return [(problem.where, problem.reason) for problem in proposals.problems]


@pytest.fixture
def archive(tmp_path: Path, make_catalog: MakeCatalog) -> Any:
    """A catalog of photos 1..4: a/1.jpg, a/2.jpg, b/3.jpg, b/deep/4.jpg under `archive`."""
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path / "archive"))
    for name in (b"a/1.jpg", b"a/2.jpg", b"b/3.jpg", b"b/deep/4.jpg"):
        catalog.photo([ONE], [(root, name, "present")])
    return catalog


def test_a_photo_is_named_by_path_id_or_hash(archive: Any, tmp_path: Path) -> None:
    top = tmp_path / "archive"
    digest = archive.store.photos([4])[4].digest.upper()
    text = (
        "path,photo_id,sha256,taxon\n"
        f"{top}/a/1.jpg,,,hoopoe\n"
        f",#2,,White stork\n"
        f'"{top}/b/3.jpg",3,,Griffon vulture\n'
        f"moved/away.jpg,,{digest},Upupa epops\n"
    )
    proposals = read(archive, table(tmp_path / "t.csv", text))
    assert proposals.problems == ()
    assert said(proposals) == [
        (1, "Eurasian hoopoe", "positive"),
        (2, "White stork", "positive"),
        (3, "Griffon vulture", "positive"),
        (4, "Eurasian hoopoe", "positive"),
    ]
    assert [label.where for label in proposals.labels] == ["line 2", "line 3", "line 4", "line 5"]
    assert [label.view_id for label in proposals.labels] == [
        archive.store.whole_views([photo_id])[photo_id] for photo_id in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_encodings_of_spreadsheets_are_told_apart(
    archive: Any, tmp_path: Path, delimiter: str, encoding: str
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n")
    writer.writerows(
        [
            ["Path", " SPECIES ", "Verdict", "Note, or what; else"],
            ["a/1.jpg", "Rüppell's vulture", "", "x"],
            ["a/2.jpg", "White stork", "Negative", "y"],
        ]
    )
    known = Taxonomy.load().find("Rüppell's vulture")
    assert known is not None
    proposals = read(archive, table(tmp_path / "t.csv", buffer.getvalue(), encoding))
    assert reasons(proposals) == []
    assert said(proposals) == [(1, known.common_name, "positive"), (2, "White stork", "negative")]


@pytest.mark.parametrize(
    "title", ["taxon", "Species", "common_name", "Common name", "scientific-name", "LABEL"]
)
def test_every_usual_title_names_the_taxon(archive: Any, tmp_path: Path, title: str) -> None:
    assert said(read(archive, table(tmp_path / "t.csv", f"path,{title}\na/1.jpg,Upupa epops\n"))) == [
        (1, "Eurasian hoopoe", "positive")
    ]


def test_the_networks_guess_beside_a_name_does_not_count(archive: Any, tmp_path: Path) -> None:
    text = "path,label,taxon\na/1.jpg,White stork,hoopoe\na/2.jpg,White stork,\n"
    proposals = read(archive, table(tmp_path / "t.csv", text))
    assert said(proposals) == [(1, "Eurasian hoopoe", "positive")]
    assert reasons(proposals) == [("line 3", "it names no taxon")]


def test_common_and_scientific_name_must_agree(archive: Any, tmp_path: Path) -> None:
    text = (
        "path,common_name,scientific_name\n"
        "a/1.jpg,hoopoe,Upupa epops\n"
        "a/2.jpg,Bird of mine,Upupa epops\n"
        "b/3.jpg,White stork,Upupa epops\n"
        "b/deep/4.jpg,Kaupi zogbird,Zogornis kaupi\n"
    )
    proposals = read(archive, table(tmp_path / "t.csv", text), new_taxon)
    assert [(photo_id, name) for photo_id, name, _ in said(proposals)] == [
        (1, "Eurasian hoopoe"),
        (2, "Eurasian hoopoe"),
        (4, "Kaupi zogbird"),
    ]
    assert [taxon.scientific_name for taxon in proposals.new_taxa] == ["Zogornis kaupi"]
    assert reasons(proposals) == [
        (
            "line 4",
            "common_name says White stork and scientific_name says Eurasian hoopoe; correct one of them",
        )
    ]


def test_relative_paths_start_at_the_table_then_at_the_indexed_folders(
    tmp_path: Path, make_catalog: MakeCatalog
) -> None:
    catalog = make_catalog()
    one, two = (os.fsencode(os.path.realpath(tmp_path / name)) for name in ("one", "two"))
    catalog.photo([ONE], [(one, b"x/1.jpg", "present")])
    catalog.photo([ONE], [(two, b"x/1.jpg", "present"), (two, b"x/2.jpg", "missing")])
    text = "path,taxon\nx/1.jpg,hoopoe\n"
    assert said(read(catalog, table(tmp_path / "one" / "t.csv", text)))[0][0] == 1
    assert said(read(catalog, table(tmp_path / "two" / "t.csv", text)))[0][0] == 2
    assert (
        said(read(catalog, table(tmp_path / "two" / "x" / "t.csv", "path,taxon\n./1.jpg,hoopoe\n")))[0][0]
        == 2
    )
    assert said(read(catalog, table(tmp_path / "t.csv", "path,taxon\nx/2.jpg,hoopoe\n")))[0][0] == 2
    assert "in more than one indexed folder; write the absolute path" in str(
        reasons(read(catalog, table(tmp_path / "t.csv", text)))
    )
    (tmp_path / "short").symlink_to(tmp_path / "one")
    linked = table(tmp_path / "t.csv", f"path,taxon\n{tmp_path}/short/x/1.jpg,hoopoe\nshort/x/*.jpg,hoopoe\n")
    assert [label.photo_id for label in read(catalog, linked).labels] == [1]
    assert reasons(read(catalog, linked)) == []


def test_a_pattern_labels_every_photo_that_matches(archive: Any, tmp_path: Path) -> None:
    top = tmp_path / "archive"

    def photos(pattern: str) -> list[int]:
        return [
            photo_id
            for photo_id, _, _ in said(
                read(archive, table(tmp_path / "t.csv", f"path,taxon\n{pattern},hoopoe\n"))
            )
        ]

    assert photos("archive/**") == [1, 2, 3, 4]
    assert photos("a/*.jpg") == [1, 2]
    assert photos("b/*") == [3]
    assert photos("b/**") == [3, 4]
    assert photos("**/[34].jpg") == [3, 4]
    assert photos(f"{top}/?/*.jpg") == [1, 2, 3]
    assert photos(f"{top}/c/*") == []


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(
    tmp_path: Path, make_catalog: MakeCatalog
) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    for name in (b"[1].jpg", b"1.jpg", b"what?.jpg"):
        catalog.photo([ONE], [(root, name, "present")])
    text = "path,taxon\n[1].jpg,hoopoe\nwhat?.jpg,White stork\n"
    assert said(read(catalog, table(tmp_path / "t.csv", text))) == [
        (1, "Eurasian hoopoe", "positive"),
        (3, "White stork", "positive"),
    ]


def test_patterns_match_as_the_standard_librarys_do_on_a_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    parts = ["a", "b", "ab", "a.b", "[a]", ".h"]
    files = set()
    for _ in range(60):
        folders = [parts[rng.integers(len(parts))] + "d" for _ in range(rng.integers(0, 4))]
        path = "/".join([*folders, f"{parts[rng.integers(len(parts))]}.jpg"])
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        files.add(path)
    pieces = ["*", "**", "?", "*d", "a*", "[ab]*", "[!a]*", "*.jpg", "abd", "a.bd", "[[]a]d", "*b*"]
    kept = []
    for _ in range(300):
        pattern = "/".join(pieces[rng.integers(len(pieces))] for _ in range(rng.integers(1, 4)))
        expected = {
            path
            for path in glob.glob(pattern, root_dir=tmp_path, recursive=True, include_hidden=True)
            if path in files
        }
        got = {path for path in files if matches_glob(path, pattern)}
        assert got == expected, pattern
        kept.append(len(got))
    assert min(kept) == 0
    assert max(kept) == len(files)
    assert sum(0 < number < len(files) for number in kept) > 100


def test_a_pattern_of_many_stars_is_answered_at_once() -> None:
    assert not matches_glob("/".join("a" * 30), "/".join(["**", "a"] * 14) + "/b")
    assert not matches_glob("a" * 200, "*a" * 30 + "b")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a/9.jpg,,,hoopoe,,", "'a/9.jpg' is not in the catalog; there is no such file either"),
        ("new.jpg,,,hoopoe,,", "'new.jpg' is not in the catalog; `birdsearch index {tmp}` adds it"),
        ("archive,,,hoopoe,,", "it is a folder: {tmp}/archive/** means everything in it"),
        ("z/*,,,hoopoe,,", "no photo of the catalog matches 'z/*'"),
        ("bad.jpg,,,hoopoe,,", "'bad.jpg' could not be indexed: it is damaged"),
        (",77,,hoopoe,,", "the catalog has no photo of the id '77'"),
        (",0x1,,hoopoe,,", "no photo of the id '0x1'"),
        (",,abc,hoopoe,,", "sha256 'abc' is not 64 hexadecimal digits"),
        (",," + "0" * 64 + ",hoopoe,,", "no photo of the catalog has the sha256 000"),
        ("a/1.jpg,2,,hoopoe,,", "its photo_id and its path name different photos"),
        (",,,hoopoe,,", "it names no photo: path, photo_id and sha256 are empty"),
        ("a/1.jpg,,,,,", "it names no taxon"),
        ("a/1.jpg,,,Grifon vultur,,", "did you mean Griffon vulture"),
        ("a/1.jpg,,,Desert Warbler,,", "'Desert Warbler' may be African desert warbler or Asian"),
        ("a/1.jpg,,,Unknown,,", "'Unknown' is no taxon"),
        ("a/1.jpg,,,hoopoe,perhaps,", "the verdict 'perhaps' is none; it is positive, negative, uncertain"),
        ("a/1.jpg,,,hoopoe,,A\x07da", "has characters that do not print"),
        ("a/1.jpg,,,hoopoe,,Ada,more", "it has 7 values and the header 6; check its separators and quotes"),
        ("a/\x00.jpg,,,hoopoe,,", "its path has a NUL in it"),
    ],
)
def test_a_row_that_cannot_be_used_says_where_and_why(
    archive: Any, tmp_path: Path, row: str, reason: str
) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "new.jpg").touch()
    root = os.fsencode(os.path.realpath(tmp_path / "archive"))
    archive.photo([ONE], [(root, b"bad.jpg", "present")])
    import sqlalchemy as sa

    from birdsearch.indexer.catalog import schema

    with archive.store.writing() as connection:
        connection.execute(
            sa.update(schema.file)
            .where(schema.file.c.path == b"bad.jpg")
            .values(state="error", photo_id=None, reason="it is damaged")
        )
    text = f"path,photo_id,sha256,taxon,verdict,who\na/1.jpg,,,hoopoe,,\n\n{row}\n"
    proposals = read(archive, table(tmp_path / "t.csv", text))
    assert said(proposals) == [(1, "Eurasian hoopoe", "positive")]
    ((where, why),) = reasons(proposals)
    assert where == "line 4"
    assert reason.format(tmp=tmp_path) in why


def test_lines_are_counted_as_an_editor_counts_them(archive: Any, tmp_path: Path) -> None:
    text = 'path,taxon,note\na/1.jpg,hoopoe,"two\nlines"\n,,\n,hoopoe,"a\nb\nc"\na/2.jpg,Zog,\n'
    assert [where for where, _ in reasons(read(archive, table(tmp_path / "t.csv", text)))] == [
        "line 5",
        "line 8",
    ]


def test_rows_that_contradict_each_other_are_not_recorded(archive: Any, tmp_path: Path) -> None:
    text = (
        "path,taxon,verdict\n"
        "a/1.jpg,hoopoe,\na/1.jpg,White stork,\n"
        "a/2.jpg,hoopoe,negative\na/2.jpg,Upupa epops,positive\n"
        "b/3.jpg,hoopoe,\nb/3.jpg,HOOPOE,positive\nb/3.jpg,White stork,negative\n"
    )
    proposals = read(archive, table(tmp_path / "t.csv", text))
    assert said(proposals) == [(3, "Eurasian hoopoe", "positive"), (3, "White stork", "negative")]
    assert [where for where, _ in reasons(proposals)] == ["line 3", "line 5"]
    first, second = (why for _, why in reasons(proposals))
    assert first == (
        "photo #1 is White stork here and Eurasian hoopoe in line 2; such a contradiction is not recorded"
    )
    assert second.startswith("photo #2 is Eurasian hoopoe here and negative for Eurasian hoopoe in line 4;")


def test_who_may_stand_in_the_table(archive: Any, tmp_path: Path) -> None:
    proposals = read(
        archive, table(tmp_path / "t.csv", "path,taxon,who\na/1.jpg,hoopoe,Ada\na/2.jpg,hoopoe,\n")
    )
    assert [label.item().who for label in proposals.labels] == ["Ada", ""]


def test_names_that_are_not_plain_text_are_found(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    names = [
        os.fsencode(unicodedata.normalize("NFD", "grüße.jpg")),
        os.fsencode("=cmd()|' \n\u202e.jpg"),
        b"\xff\xfe.jpg",
        b"dir/sub/x.jpg",
    ]
    for name in names:
        catalog.photo([ONE], [(root, name, "present")])
    text = (
        "path,taxon\n"
        + unicodedata.normalize("NFC", "grüße.jpg")
        + ',hoopoe\n"=cmd()|\' \n\u202e.jpg",hoopoe\n?\\?.jpg,hoopoe\n??.jpg,hoopoe\ndir\\sub\\x.jpg,hoopoe\n'
    )
    proposals = read(catalog, table(tmp_path / "t.csv", text))
    assert sorted(label.photo_id for label in proposals.labels) == [1, 2, 3, 4]
    assert [where for where, _ in reasons(proposals)] == ["line 5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column that names photos: path, photo_id or sha256.* its columns: none; --path-column"),
        (b"bird_id,taxon\n", "its columns: bird_id, taxon"),
        (b"path,bird\n", "has no column that names taxa: taxon, species"),
        (b"path,Path,taxon\n", "has two columns 'path'"),
        (b'path,taxon\na,b\n"a,b\n', "is not CSV after line 2: .*; check its quotes"),
        (b"\xff\xfep\x00a", "is UTF-16-LE by its first bytes and broken at byte 4"),
        (b"PK\x03\x04...", "is a spreadsheet or an archive and no CSV; save it as CSV UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_table_that_cannot_be_read_is_an_error(
    archive: Any, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        read(archive, path)
    with pytest.raises(InvalidInputError, match="cannot be read: Is a directory"):
        read(archive, tmp_path)


def test_a_table_without_rows_says_nothing(archive: Any, tmp_path: Path) -> None:
    assert read(archive, table(tmp_path / "t.csv", "path,taxon\n\n,,\n")) == Proposals(())


def test_a_parquet_table_is_read_like_csv(archive: Any, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    digest = bytes.fromhex(archive.store.photos([4])[4].digest)
    columns = {
        "Path": pyarrow.array([None, "a/2.jpg", "b/3.jpg", None, None]),
        "photo_id": pyarrow.array([1.0, None, 77.0, None, 2.5]),
        "sha256": pyarrow.array([None, None, None, digest, None]),
        "species": pyarrow.array(["hoopoe", "White stork", "hoopoe", "hoopoe", "hoopoe"]).dictionary_encode(),
        "other": pyarrow.array([[1], [2], [3], [4], [5]]),
    }
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    proposals = read(archive, path)
    assert said(proposals) == [
        (1, "Eurasian hoopoe", "positive"),
        (2, "White stork", "positive"),
        (4, "Eurasian hoopoe", "positive"),
    ]
    assert reasons(proposals) == [
        ("row 3", "the catalog has no photo of the id '77'"),
        ("row 5", "the catalog has no photo of the id '2.5'"),
    ]
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidInputError, match="is no Parquet file that can be read"):
        read(archive, path)


def test_parquet_without_pyarrow_names_the_extra(
    archive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidInputError, match=r'pip install "birdsearch\[parquet\]"'):
        read(archive, tmp_path / "t.parquet")


# -- folders -------------------------------------------------------------------------------------------------


def by_folders(catalog: Any, *folders: Any, level: int = 0, create: Any = None) -> Proposals:
    matcher = NameMatcher(catalog_taxonomy(catalog.store), create)
    return from_folders(catalog.store, matcher, folders, level)


def test_folders_are_named_after_species(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    for name in (
        b"Eurasian hoopoe/1.jpg",
        b"001.White_stork/2.jpg",
        b"12 - upupa epops/3.jpg",
        b"Grifon vultur/4.jpg",
        b"Grifon vultur/5.jpg",
        b"White stork/2019/6.jpg",
        b"7.jpg",
        b"Unknown/8.jpg",
    ):
        catalog.photo([ONE], [(root, name, "present")])
    catalog.photo([ONE], [(root, b"White stork/9.jpg", "missing")])
    proposals = by_folders(catalog)
    assert sorted(said(proposals)) == [
        (1, "Eurasian hoopoe", "positive"),
        (2, "White stork", "positive"),
        (3, "Eurasian hoopoe", "positive"),
    ]
    told = dict(reasons(proposals))
    assert list(told) == sorted(told)
    assert "did you mean Griffon vulture" in told[f"{tmp_path}/Grifon vultur"]
    assert told[f"{tmp_path}/Grifon vultur"].endswith("(2 photos)")
    assert told[f"{tmp_path}/White stork/2019"].endswith("(1 photo)")
    assert "stands for birds that were not named" in told[f"{tmp_path}/Unknown"]
    assert [problem.is_unknown_name for problem in proposals.problems].count(True) == 3
    # One level up, the year's folder gives way to the bird's.
    above = by_folders(catalog, level=1)
    assert said(above) == [(6, "White stork", "positive")]
    assert by_folders(catalog, level=2).notes == ("7 files not so deep in the indexed folder: level 2",)
    with pytest.raises(InvalidInputError, match="level is -1"):
        by_folders(catalog, level=-1)


def test_the_indexed_folder_itself_may_be_named_after_a_species(
    tmp_path: Path, make_catalog: MakeCatalog
) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path / "White stork" / "Eurasian hoopoe"))
    catalog.photo([ONE], [(root, b"1.jpg", "present")])
    assert said(by_folders(catalog)) == [(1, "Eurasian hoopoe", "positive")]
    assert said(by_folders(catalog, level=1)) == []


def test_only_photos_under_the_given_folders_are_labelled(
    tmp_path: Path, make_catalog: MakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    for name in (b"x/hoopoe/1.jpg", b"x/hoopoe2/2.jpg", b"y/hoopoe/3.jpg", b"x-/hoopoe/4.jpg"):
        catalog.photo([ONE], [(root, name, "present")])
    monkeypatch.chdir(tmp_path)
    assert [label.photo_id for label in by_folders(catalog, "x").labels] == [1]
    assert [label.photo_id for label in by_folders(catalog, Path("y"), tmp_path / "x" / "hoopoe").labels] == [
        1,
        3,
    ]
    nowhere = by_folders(catalog, "z")
    assert nowhere.labels == ()
    assert reasons(nowhere) == [
        ("z", "no photo of the catalog is in it; `birdsearch index z` adds its photos")
    ]


def test_copies_in_folders_of_two_species_are_not_labelled(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    catalog.photo([ONE], [(root, b"Hoopoe/1.jpg", "present"), (root, b"White stork/1.jpg", "present")])
    catalog.photo([ONE], [(root, b"Hoopoe/2.jpg", "present"), (root, b"misc/2.jpg", "present")])
    proposals = by_folders(catalog)
    assert said(proposals) == [(2, "Eurasian hoopoe", "positive")]
    assert "photo #1 is White stork here and Eurasian hoopoe in" in str(reasons(proposals))


def test_folders_may_name_new_taxa(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    catalog.photo([ONE], [(root, b"007.Kaupi_zogbird/1.jpg", "present")])
    catalog.photo([ONE], [(root, b"kaupi zogbird/2.jpg", "present")])
    proposals = by_folders(catalog, create=new_taxon)
    assert said(proposals) == [(1, "Kaupi zogbird", "positive"), (2, "Kaupi zogbird", "positive")]
    assert proposals.new_taxa == (new_taxon("Kaupi zogbird"),)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("12 - hoopoe", "hoopoe"),
        ("3_hoopoe", "hoopoe"),
        ("2019", "2019"),
        ("2019-05", "2019-05"),
        ("hoopoe.2", "hoopoe.2"),
        ("_", "_"),
    ],
)
def test_numbers_before_a_folders_name_are_left_out(folder: str, name: str) -> None:
    assert folder_name(folder) == name


def test_marks_in_a_table_are_verdicts_and_what_is_no_species_is_a_problem(
    archive: Any, tmp_path: Path
) -> None:
    text = (
        "path,species,scientific_name,verdict\n"
        "archive/a/1.jpg,Mallard (?),Anas platyrhynchos,\n"
        "archive/a/2.jpg,not Mallard,,\n"
        "archive/b/3.jpg,Mallard/Gadwall,Anas platyrhynchos,\n"
        "archive/b/deep/4.jpg,Mallard?,,negative\n"
        "archive/b/deep/4.jpg,not Mallard,Anas platyrhynchos,\n"
    )
    proposals = read(archive, table(tmp_path / "t.csv", text))
    assert said(proposals) == [(1, "Mallard", "uncertain"), (2, "Mallard", "negative")]
    (third, fourth, fifth) = (reason for _, reason in reasons(proposals))
    assert third.startswith("'Mallard/Gadwall' names more than one species")
    assert "is uncertain by its own marks and the verdict beside it is negative" in fourth
    assert fifth == "'not Mallard' and 'Anas platyrhynchos' contradict each other"


@pytest.mark.parametrize(
    "text",
    [
        # Timelapse, Camtrap DP, exiftool, digiKam's tables, Lightroom, iNaturalist with a path added.
        "RootFolder,File,RelativePath,DateTime,DeleteFlag,Species\nx,1.jpg,archive\\a,,false,Mallard\n",
        "mediaID,filePath,scientificName,classificationMethod\nm1,archive/a/1.jpg,Anas platyrhynchos,human\n",
        "SourceFile,Directory,FileName,Species\narchive/a/1.jpg,archive/a,1.jpg,Mallard\n",
        "relativePath;name;species\n~/archive/a;1.jpg;Mallard\n",
        "Folder\tFile Name\tCommon Name\narchive/a/\t1.jpg\tMallard\n",
        "id,image_url,species_guess,scientific_name,path\n5,http,duck,Anas platyrhynchos,archive/a/1.jpg\n",
        "sep=;\npath;taxon\narchive\\a\\1.jpg;Mallard\n",
    ],
)
def test_the_columns_of_other_programs_are_known(archive: Any, tmp_path: Path, text: str) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        proposals = read(archive, table(tmp_path / "t.csv", text.replace("~", str(tmp_path)), encoding))
        assert reasons(proposals) == []
        assert said(proposals) == [(1, "Mallard", "positive")]


def test_observations_of_a_camtrap_dp_find_their_photos_in_its_media(archive: Any, tmp_path: Path) -> None:
    table(tmp_path / "dp" / "media.csv", "mediaID,filePath,fileName\nm1,a/1.jpg,1.jpg\nm2,a/2.jpg,2.jpg\n")
    text = (
        "observationID,mediaID,observationType,scientificName,classificationMethod\n"
        "o1,m1,animal,Anas platyrhynchos,human\n"
        "o2,m2,blank,,human\n"
        "o3,m9,animal,Upupa epops,human\n"
        "o4,m2,animal,Upupa epops,machine\n"
    )
    proposals = read(archive, table(tmp_path / "dp" / "observations.csv", text))
    assert said(proposals) == [(1, "Mallard", "positive")]
    assert proposals.notes == ("1 observation of no animal passed over",)
    assert [where for where, _ in reasons(proposals)] == ["line 4", "line 5"]


def test_columns_may_be_named_and_what_a_machine_said_is_no_label(archive: Any, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", "Foto;Art;taxon\narchive/a/1.jpg;Mallard;Gadwall\n", "utf-16")
    matcher = NameMatcher(catalog_taxonomy(archive.store))
    with pytest.raises(InvalidInputError, match=r"UTF-16 with semicolons.*columns: Foto, Art, taxon; --path"):
        from_table(archive.store, path, matcher)
    chosen = from_table(archive.store, path, matcher, TableColumns("foto", "Art"))
    assert said(chosen) == [(1, "Mallard", "positive")]
    with pytest.raises(InvalidInputError, match="has no column 'Photo'"):
        from_table(archive.store, path, matcher, TableColumns("Photo"))
    path = table(
        path, "filePath,scientificName,classificationMethod\narchive/a/1.jpg,Anas platyrhynchos,machine\n"
    )
    ((_, reason),) = reasons(from_table(archive.store, path, matcher))
    assert "a machine classified it" in reason


def test_folders_with_marks_are_no_positive_labels(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    folders = (
        "Mallard?",
        "Mallard_(?)",
        "cf._Mallard",
        "not_Mallard",
        "001.Mallard?",
        "Mallard",
        "Mallard sp.",
    )
    for folder in (*folders, "Mallard x Gadwall"):
        catalog.photo([ONE], [(b"/archive", f"{folder}/1.jpg".encode(), "present")])
    matcher = NameMatcher(catalog_taxonomy(catalog.store), new_taxon)
    proposals = from_folders(catalog.store, matcher)
    assert sorted(said(proposals)) == [
        (number, "Mallard", verdict)
        for number, verdict in enumerate(
            ("uncertain", "uncertain", "uncertain", "negative", "uncertain", "positive"), start=1
        )
    ]
    assert len(reasons(proposals)) == 2
    assert proposals.new_taxa == ()


# -- keywords ------------------------------------------------------------------------------------------------

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:other="urn:other">'
    "<dc:title><rdf:Alt><rdf:li>White stork</rdf:li></rdf:Alt></dc:title>"
    "<dc:subject><rdf:Bag>{subjects}</rdf:Bag></dc:subject>"
    "<lr:hierarchicalSubject><rdf:Bag>{levels}</rdf:Bag></lr:hierarchicalSubject>"
    "<other:subject><rdf:Bag><rdf:li>White stork</rdf:li></rdf:Bag></other:subject>"
    "</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)


def xmp(*subjects: str, levels: tuple[str, ...] = ()) -> bytes:
    def items(words: tuple[str, ...]) -> str:
        return "".join(f"<rdf:li>{word}</rdf:li>" for word in words)

    return XMP.format(subjects=items(subjects), levels=items(levels)).encode()


def with_iptc(path: Path, *keywords: bytes, cut: int = 0) -> None:
    """Put an IPTC block with keywords into a JPEG file, as Photoshop does."""
    fields = b"".join(b"\x1c\x02\x19" + struct.pack(">H", len(word)) + word for word in keywords)
    fields = fields[: len(fields) - cut]
    block = (
        b"Photoshop 3.0\x008BIM\x04\x04\x00\x00"
        + struct.pack(">I", len(fields))
        + fields
        + b"\x00" * (len(fields) % 2)
    )
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + content[2:])


def photos_in(catalog: Any, folder: Path) -> None:
    """Catalog the files of a folder that are not sidecars, in order of their names, as they are."""
    root = os.fsencode(os.path.realpath(folder))
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() != ".xmp":
            digest = hashlib.sha256(path.read_bytes()).digest()
            name = os.path.relpath(os.fsencode(path.resolve()), root)
            catalog.photo([ONE], [(root, name, "present")], digest=digest)


def by_keywords(catalog: Any, *folders: Any) -> Proposals:
    return from_keywords(catalog.store, catalog_taxonomy(catalog.store), folders)


def test_xmp_keywords_are_read_from_every_format(
    tmp_path: Path, make_catalog: MakeCatalog, make_photo: MakePhoto
) -> None:
    packet = xmp("birds", "Eurasian hoopoe", "2019")
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    make_photo(tmp_path / "p" / "1.jpg", 1, xmp=packet)
    make_photo(tmp_path / "p" / "2.png", 2, pnginfo=info)
    make_photo(tmp_path / "p" / "3.webp", 3, xmp=packet)
    make_photo(tmp_path / "p" / "4.tif", 4, tiffinfo={700: packet})
    make_photo(tmp_path / "p" / "5.jpg", 5)
    make_photo(tmp_path / "p" / "6.jpg", 6, xmp=xmp("birds"))
    make_photo(tmp_path / "p" / "7.gif", 7)
    catalog = make_catalog()
    photos_in(catalog, tmp_path / "p")
    proposals = by_keywords(catalog)
    assert reasons(proposals) == []
    assert said(proposals) == [(number, "Eurasian hoopoe", "positive") for number in (1, 2, 3, 4)]
    assert proposals.labels[0].where == str(tmp_path / "p" / "1.jpg")
    assert proposals.notes == (
        "2 photos without keywords",
        "1 photo with keywords of which none is the name of a taxon",
    )


def test_iptc_keywords_are_read(tmp_path: Path, make_catalog: MakeCatalog, make_photo: MakePhoto) -> None:
    for number, words in enumerate(
        [
            (b"birds", b"White stork"),
            (b"hoopoe",),
            ("Rüppell's vulture".encode(),),
            ("Rüppell's vulture".encode("latin-1"),),
        ],
        start=1,
    ):
        with_iptc(make_photo(tmp_path / "p" / f"{number}.jpg", number), *words)
    catalog = make_catalog()
    photos_in(catalog, tmp_path / "p")
    proposals = by_keywords(catalog)
    assert reasons(proposals) == []
    vulture = Taxonomy.load().find("Rüppell's vulture")
    assert vulture is not None
    assert [name for _, name, _ in said(proposals)] == [
        "White stork",
        "Eurasian hoopoe",
        vulture.common_name,
        vulture.common_name,
    ]


def test_files_beside_a_photo_are_read_under_both_names(
    tmp_path: Path, make_catalog: MakeCatalog, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "p"
    make_photo(folder / "1.jpg", 1)
    make_photo(folder / "2.JPG", 2, format="JPEG")
    make_photo(folder / "3.jpg", 3)
    make_photo(folder / "4.heic", 4, format="PNG")
    (folder / "1.xmp").write_bytes(xmp("hoopoe"))
    (folder / "2.jpg.XMP").write_bytes(xmp("White stork").decode().encode("utf-16"))
    (folder / "4.heic.xmp").write_bytes(xmp("Griffon vulture"))
    (folder / "unrelated.xmp").write_bytes(b"broken")
    catalog = make_catalog()
    photos_in(catalog, folder)
    proposals = by_keywords(catalog)
    assert reasons(proposals) == []
    assert said(proposals) == [
        (1, "Eurasian hoopoe", "positive"),
        (2, "White stork", "positive"),
        (4, "Griffon vulture", "positive"),
    ]


@pytest.mark.parametrize(
    ("subjects", "levels", "expected"),
    [
        ((), ("Birds|Upupidae|Eurasian hoopoe",), "Eurasian hoopoe"),
        ((), ("Birds|White stork|juvenile",), "White stork"),
        (("hoopoe", "Upupa epops", "Eurasian Hoopoe"), (), "Eurasian hoopoe"),
        # A form goes before its species, whichever way both are said.
        (("Rock pigeon", "Feral pigeon"), (), "Feral pigeon"),
        ((), ("Rock pigeon|Feral pigeon",), "Feral pigeon"),
        (("Desert Warbler", "Asian desert warbler"), (), "Asian desert warbler"),
        (("  White \n stork ",), (), "White stork"),
        (("White &amp; stork",), (), "White stork"),
        (("Unknown",), (), None),
        (("Upupidae",), (), None),
        ((), (), None),
    ],
)
def test_keywords_that_name_one_taxon_label_the_photo(
    tmp_path: Path,
    make_catalog: MakeCatalog,
    make_photo: MakePhoto,
    subjects: tuple[str, ...],
    levels: tuple[str, ...],
    expected: str | None,
) -> None:
    make_photo(tmp_path / "p" / "1.jpg", 1, xmp=xmp(*subjects, levels=levels))
    catalog = make_catalog()
    photos_in(catalog, tmp_path / "p")
    proposals = by_keywords(catalog)
    assert [name for _, name, _ in said(proposals)] == ([] if expected is None else [expected])
    assert reasons(proposals) == []


@pytest.mark.parametrize(
    ("subjects", "reason"),
    [
        (
            ("hoopoe", "White stork"),
            "its keywords name Eurasian hoopoe and White stork; a photo has one label",
        ),
        (("Desert Warbler",), "its keyword 'Desert Warbler' may be African desert warbler or Asian"),
        (("Desert Warbler", "hoopoe"), "its keyword 'Desert Warbler' may be"),
    ],
)
def test_keywords_that_name_several_taxa_are_told_and_not_recorded(
    tmp_path: Path, make_catalog: MakeCatalog, make_photo: MakePhoto, subjects: tuple[str, ...], reason: str
) -> None:
    make_photo(tmp_path / "p" / "1.jpg", 1, xmp=xmp(*subjects))
    catalog = make_catalog()
    photos_in(catalog, tmp_path / "p")
    proposals = by_keywords(catalog)
    assert proposals.labels == ()
    ((where, why),) = reasons(proposals)
    assert where == str(tmp_path / "p" / "1.jpg")
    assert reason in why


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (["Birds/Ducks/Mallard"], [("Mallard", "positive")]),
        (["Birds|Ducks|Mallard"], [("Mallard", "positive")]),
        (["Birds > Ducks > Mallard"], [("Mallard", "positive")]),
        (["Ducks", "Birds/Ducks/Mallard?"], [("Mallard", "uncertain")]),
        (["taxonomy:binomial=Anas platyrhynchos"], [("Mallard", "positive")]),
        (['taxonomy:species="Anas platyrhynchos"'], [("Mallard", "positive")]),
        (
            ["taxonomy:genus=Anas", "taxonomy:species=platyrhynchos", "taxonomy:order=x"],
            [("Mallard", "positive")],
        ),
        (["taxonomy:common=Mallard", "geo:lat=4"], [("Mallard", "positive")]),
        (["not Gadwall", "Mallard"], [("Gadwall", "negative"), ("Mallard", "positive")]),
        (["Spring/Summer", "wow!", "50%", "Who?"], []),
        (["Mallard sp."], []),
    ],
)
def test_paths_machine_tags_and_marks_in_keywords_are_read(
    keywords: list[str], expected: list[tuple[str, str]]
) -> None:
    found = keyword_labels(NameMatcher(Taxonomy.load()), keywords)
    assert [(label.taxon.common_name, label.verdict) for label in found] == expected


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        (["Mallard/Gadwall"], "its keyword 'Mallard/Gadwall' names more than one species"),
        (
            ["Mallard", "Birds|Mallard?"],
            "its keywords 'Mallard' .positive. and 'Mallard.' .uncertain. contradict",
        ),
        (["Mallard!"], "its keyword 'Mallard!' has '!', which has no meaning here"),
    ],
)
def test_keywords_that_are_no_one_species_are_told(keywords: list[str], reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        keyword_labels(NameMatcher(Taxonomy.load()), keywords)


def test_the_tags_of_digikam_and_others_are_read() -> None:
    packet = (
        xmp("a")
        .replace(b"<other:subject>", b"<digiKam:TagsList>")
        .replace(b"</other:subject>", b"</digiKam:TagsList>")
        .replace(b'xmlns:other="urn:other"', b'xmlns:digiKam="http://www.digikam.org/ns/1.0/"')
    )
    assert xmp_keywords(packet) == ["a", "White stork"]


def test_broken_metadata_are_told_and_the_other_photos_are_labelled(
    tmp_path: Path, make_catalog: MakeCatalog, make_photo: MakePhoto
) -> None:
    folder = tmp_path / "p"
    make_photo(folder / "1.jpg", 1, xmp=xmp("hoopoe")[:-40])
    with_iptc(make_photo(folder / "2.jpg", 2, xmp=xmp("hoopoe")), b"White stork", cut=0)
    with_iptc(make_photo(folder / "3.jpg", 3, xmp=xmp("White stork")), b"\x00" * 9)
    broken = make_photo(folder / "4.jpg", 4, xmp=xmp("White stork"))
    with_iptc(broken, b"birds", b"more")
    broken.write_bytes(broken.read_bytes().replace(b"\x1c\x02\x19\x00\x04more", b"\x00\x02\x19\x00\x04more"))
    make_photo(folder / "5.jpg", 5)
    make_photo(folder / "6.jpg", 6, xmp=xmp("hoopoe"))
    (folder / "5.xmp").write_bytes(b"<xmp>")
    os.mkfifo(folder / "6.xmp")
    catalog = make_catalog()
    photos_in(catalog, folder)
    (folder / "5.jpg").unlink()
    proposals = by_keywords(catalog)
    assert said(proposals) == [
        (3, "White stork", "positive"),
        (4, "White stork", "positive"),
        (6, "Eurasian hoopoe", "positive"),
    ]
    told = {(Path(where).name, why) for where, why in reasons(proposals)}
    starts = {
        ("1.jpg", "its XMP is broken: "),
        ("2.jpg", "its keywords name Eurasian hoopoe and White stork"),
        ("4.jpg", "its IPTC is broken: "),
        ("5.jpg", "the file cannot be read: No such file or directory"),
        ("5.xmp", "its XMP is broken: "),
        ("6.xmp", "it cannot be read: it is not a regular file"),
    }
    assert len(told) == len(starts)
    for name, start in starts:
        assert any(name == where and why.startswith(start) for where, why in told), name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_a_document_type_is_refused_in_any_encoding(encoding: str) -> None:
    entity = '<!DOCTYPE x [<!ENTITY bird "hoopoe">]>' + xmp("&bird;").decode().replace("\ufeff", "")
    packet = ("\ufeff" + entity if encoding == "utf-16-le" else entity).encode(encoding)
    with pytest.raises(KeywordError, match="document type, which is refused"):
        xmp_keywords(packet)
    laughs = "".join(f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};">' for n in range(1, 60))
    with pytest.raises(KeywordError, match="document type"):
        xmp_keywords(f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x>&l59;</x>'.encode())


@pytest.mark.parametrize(
    "packet",
    [
        b"<x>&undefined;</x>",
        b"<x><y></x>",
        b"\x89PNG",
        b'<?xml version="1.0" encoding="klingon"?><x/>',
        b"<x>\xff</x>",
        b"<x xmlns:a='b' b:c='d'/>",
        b"\xff\xfe<\x00\x00\xd8x\x00",
    ],
)
def test_what_is_no_well_formed_xml_is_refused(packet: bytes) -> None:
    with pytest.raises(KeywordError, match="its XMP is broken"):
        xmp_keywords(packet)


def test_xmp_is_read_up_to_a_limit(tmp_path: Path) -> None:
    limit = 1 << 20
    packet = xmp("hoopoe")
    assert xmp_keywords(packet + b" " * (2 * limit)) == ["hoopoe"]
    filler = packet.replace(b"<dc:title>", b"<!--" + b"x" * limit + b"--><dc:title>")
    with pytest.raises(KeywordError, match="its XMP has more than 1048576 bytes"):
        xmp_keywords(filler)
    (tmp_path / "1.xmp").write_bytes(filler)
    with pytest.raises(KeywordError, match="it has more than 1048576 bytes"):
        sidecar_keywords(os.fsencode(tmp_path / "1.xmp"))
    deep = b"<a>" * 100_000 + b"</a>" * 100_000
    assert xmp_keywords(deep) == []
    assert xmp_keywords(b"") == xmp_keywords(b"\x00\x00") == []


def test_damaged_files_never_crash_the_reading_of_keywords(tmp_path: Path, make_photo: MakePhoto) -> None:
    path = make_photo(tmp_path / "1.jpg", 1, xmp=xmp("hoopoe", levels=("a|b",)))
    with_iptc(path, b"White stork", b"birds")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    readable = 0
    for _ in range(250):
        content = bytearray(whole[: len(whole) if rng.random() < 0.7 else int(rng.integers(len(whole)))])
        for place in (
            rng.integers(0, min(len(content), 2000), size=int(rng.integers(1, 12))) if content else ()
        ):
            content[place] = int(rng.integers(256))
        path.write_bytes(content)
        try:
            keywords, problems = file_keywords(os.fsencode(path))
        except KeywordError:
            continue
        readable += bool(keywords or problems)
    assert readable > 20


# -- photos and hits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed(
    tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto, tiny_model: Model
) -> tuple[Path, Path]:
    """An indexed folder of eight photos, and its catalog."""
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("annotate")
    for seed in range(8):
        make_photo(folder / "archive" / f"{seed}.png", seed)
    with Catalog.open(folder / "catalog") as catalog:
        catalog.index([folder / "archive"], model=tiny_model, workers=1)
    return folder / "archive", folder / "catalog"


HOOPOE = match_name(Taxonomy.load(), "hoopoe")


def test_photos_are_named_by_content_or_id(indexed: tuple[Path, Path], tmp_path: Path) -> None:
    from birdsearch import Catalog

    archive, folder = indexed
    copy = tmp_path / "elsewhere.png"
    copy.write_bytes((archive / "3.png").read_bytes())
    (tmp_path / "new.png").write_bytes(b"not indexed")
    with Catalog.open(folder, "read") as catalog:
        store = catalog.store
        third = store.photo_at(os.fsencode(archive / "3.png"))
        assert find_stored(store, copy) == find_stored(store, f"#{third}") == third
        assert isinstance(HOOPOE, Matched)
        photos: list[str | int] = [
            str(copy),
            "#1",
            str(tmp_path / "new.png"),
            "#99",
            str(tmp_path / "none.png"),
            1,
        ]
        proposals = from_photos(store, photos, HOOPOE, "uncertain")
        assert sorted(said(proposals)) == sorted(
            {(1, "Eurasian hoopoe", "uncertain"), (third, "Eurasian hoopoe", "uncertain")}
        )
        assert [(Path(where).name, why.split(";")[0]) for where, why in reasons(proposals)] == [
            ("new.png", "the catalog does not have this photo"),
            ("#99", "the catalog has no photo of this id"),
            ("none.png", "there is no such file"),
        ]
        with pytest.raises(PhotoError, match="`birdsearch index` on its folder adds it"):
            find_stored(store, tmp_path / "new.png")


def test_a_photo_that_is_gone_is_found_by_the_path_it_had(tmp_path: Path, make_catalog: MakeCatalog) -> None:
    catalog = make_catalog()
    root = os.fsencode(os.path.realpath(tmp_path))
    photo_id, _ = catalog.photo([ONE], [(root, b"1.jpg", "missing")])
    assert find_stored(catalog.store, tmp_path / "1.jpg") == photo_id


def test_hits_are_those_of_a_query_and_the_photo_itself(indexed: tuple[Path, Path]) -> None:
    from birdsearch import Catalog

    archive, folder = indexed
    assert isinstance(HOOPOE, Matched)
    with Catalog.open(folder, "read") as catalog:
        photo = find_stored(catalog.store, archive / "5.png")
        hits = catalog.query(photo, k=8).hits
        for k in (0, 1, 3, 50):
            proposals = from_hits(catalog.store, photo, catalog.query(photo, k), HOOPOE)
            assert [label.photo_id for label in proposals.labels] == [
                photo,
                *(hit.photo_id for hit in hits[:k]),
            ]
            assert [label.view_id for label in proposals.labels[1:]] == [hit.view_id for hit in hits[:k]]
        least = hits[2].similarity
        proposals = from_hits(catalog.store, photo, catalog.query(photo, 7), HOOPOE, least)
        assert len(proposals.labels) == 4
        assert proposals.labels[1].where == f"hit 1, similarity {hits[0].similarity:.4f}"
        assert proposals.notes == (f"4 hits below the similarity {least:g}",)
        with pytest.raises(InvalidInputError, match="the similarity 2 is not within -1 to 1"):
            from_hits(catalog.store, photo, catalog.query(photo, 3), HOOPOE, 2.0)
        with pytest.raises(PhotoError, match="no photo of this id"):
            find_stored(catalog.store, 99)


def test_the_view_that_matched_is_labelled(make_catalog: MakeCatalog) -> None:
    from birdsearch import Catalog

    made = make_catalog(4)
    east, north = np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])
    made.photo([east])
    _, views = made.photo([north, east], boxes=[(0.0, 0.0, 0.5, 0.5)])
    assert isinstance(HOOPOE, Matched)
    found = Catalog(made.store.path, made.store, read_only=True).query(1, 5)
    proposals = from_hits(made.store, 1, found, HOOPOE)
    assert [(label.photo_id, label.view_id) for label in proposals.labels] == [(1, 1), (2, views[1])]
