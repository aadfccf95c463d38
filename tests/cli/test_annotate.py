"""`birdsearch annotate`, as it is typed."""

from __future__ import annotations

import csv
import getpass
import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from birdsearch.cli.annotate import annotate
from birdsearch.errors import CatalogError, CatalogLockedError, InvalidInputError, PhotoError
from birdsearch.indexer.catalog.store import CatalogStore

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    folder = tmp_path_factory.mktemp("annotate") / "archive"
    for seed, name in enumerate(["Eurasian_hoopoe", "001.White stork", "=misc", "Grifon vultur"] * 2):
        make_photo(folder / name / f"{seed}.png", seed)
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("annotate") / "catalog"
    with Catalog.open(folder) as opened:
        opened.index([archive], model=tiny_model, workers=1)
    return folder


@pytest.fixture
def catalog(tmp_path: Path, indexed: Path) -> Path:
    """A catalog of eight photos without labels, of its own for each test."""
    return Path(shutil.copytree(indexed, tmp_path / "catalog"))


def run(catalog: Path, command: str, *arguments: object) -> Result:
    return CliRunner().invoke(annotate, [command, "--catalog", str(catalog), *map(str, arguments)])


def done(catalog: Path, command: str, *arguments: object) -> Any:
    result = run(catalog, command, *arguments, "--format", "json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def labels(catalog: Path) -> list[tuple[str, str, str]]:
    return sorted((Path(row["path"]).name, row["taxon"], row["verdict"]) for row in done(catalog, "list"))


def refused(result: Result, message: str, kind: type[Exception] = InvalidInputError) -> None:
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert message in str(result.exception)


def rows(catalog: Path) -> list[int]:
    connection = sqlite3.connect(catalog / "birdsearch.sqlite")
    try:
        return [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("annotation", "taxon", "run")
        ]
    finally:
        connection.close()


def test_a_mark_of_doubt_is_an_uncertain_label_and_a_name_of_two_is_refused(catalog: Path) -> None:
    assert done(catalog, "set", "#1", "--as", "Mallard?")["labels"][0]["verdict"] == "uncertain"
    assert done(catalog, "set", "#2", "--as", "not Mallard")["labels"][0]["verdict"] == "negative"
    assert [row[1:] for row in labels(catalog)] == [("Mallard", "uncertain"), ("Mallard", "negative")]
    for name in ("Mallard/Gadwall", "Mallard sp.", "Mallard x Gadwall", "Mallard!"):
        refused(run(catalog, "set", "#1", "--as", name, "--allow-new"), repr(name))
    refused(run(catalog, "set", "#1", "--as", "Mallard?", "--verdict", "negative"), "by its own marks")


def test_a_table_of_any_spreadsheet_is_read_and_its_columns_may_be_named(
    catalog: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("sep=;\r\nNummer;Art\r\n#1;Mallard\r\n".encode("utf-16"))
    refused(
        run(catalog, "import", path),
        "It was read as UTF-16 with semicolons between values; its columns: Nummer, Art",
    )
    path.write_bytes("photo_id;Art\n#1;R\xfcppell's vulture\n".encode("latin-1"))
    result = run(catalog, "import", path, "--taxon-column", "Art")
    assert result.exit_code == 0, result.exception
    assert "was read as Windows-1252 (Western European)" in result.stderr
    assert [row[1] for row in labels(catalog)] == ["Ruppells vulture"]


def test_photos_are_labelled_listed_and_the_labels_taken_back(catalog: Path, archive: Path) -> None:
    photo = archive / "=misc" / "2.png"
    result = run(catalog, "set", photo, "#1", "--as", "hoopoe", "--who", "Ada")
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["Taxon", "Verdict", "Photos"]
    assert lines[1].split() == ["Eurasian", "hoopoe", "positive", "2"]
    assert lines[3] == "2 labels recorded as run 2; `birdsearch annotate undo 2` takes them back"
    assert result.stderr == ""

    again = run(catalog, "set", "#1", "--as", "White stork", "--who", "Ada")
    assert again.stdout.splitlines()[-1] == (
        "1 label recorded as run 3; 1 earlier ended by them; `birdsearch annotate undo 3` takes them back"
    )
    assert run(catalog, "set", "#1", "--as", "White stork").stdout.splitlines()[-1] == (
        "0 labels recorded as run 4; 1 in force already"
    )

    shown = run(catalog, "list").stdout.splitlines()
    assert shown[0].split() == [
        "Id",
        "Photo",
        "Taxon",
        "Scientific",
        "name",
        "Verdict",
        "Who",
        "When",
        "From",
    ]
    assert ["Ciconia ciconia" in line for line in shown[1:]].count(True) == 1
    assert len(shown) == 3

    undone = run(catalog, "undo", "--dry-run").stdout
    assert undone.startswith("run 3 (set, 20")
    assert undone.endswith(
        "would be undone: 1 label taken back, 1 earlier in force again; nothing was written\n"
    )
    undone = run(catalog, "undo").stdout
    assert undone.endswith("undone by run 5: 1 label taken back, 1 earlier in force again\n")
    assert {(taxon, verdict) for _, taxon, verdict in labels(catalog)} == {("Eurasian hoopoe", "positive")}
    refused(run(catalog, "undo", 3), "run 3 was undone already, by run 5")
    one = done(catalog, "undo", 2)
    assert (one["run"], one["undone_run"], one["undone"], one["restored"]) == (6, 2, 2, 0)
    refused(run(catalog, "undo"), "there is nothing to undo")
    assert run(catalog, "list").stdout == "no labels; `birdsearch annotate --help` shows how to record some\n"


def test_the_history_shows_what_became_of_each_label(catalog: Path) -> None:
    run(catalog, "set", "#1", "#2", "--as", "hoopoe")
    run(catalog, "set", "#1", "--as", "White stork", "--verdict", "negative")
    run(catalog, "set", "#1", "--as", "White stork")
    run(catalog, "undo")
    history = done(catalog, "list", "#1", "--history")
    assert [
        (row["taxon"], row["verdict"], row["run"], row["in_force"], row["undone_by"]) for row in history
    ] == [
        ("Eurasian hoopoe", "positive", 2, True, None),
        ("White stork", "negative", 3, True, None),
        ("White stork", "positive", 4, False, 5),
    ]
    assert history[2]["replaces"] == history[0]["annotation_id"]
    assert [row["verdict"] for row in done(catalog, "list", "--verdict", "negative")] == ["negative"]
    table = run(catalog, "list", "--history").stdout.splitlines()
    assert table[0].split()[-5:] == ["Run", "In", "force", "Undone", "by"]
    assert len(table) == 5
    listed = csv.DictReader(io.StringIO(run(catalog, "list", "--history", "--format", "csv").stdout))
    assert [row["in_force"] for row in listed] == ["true", "true", "false", "true"]


def test_a_name_that_is_not_known_is_refused_with_what_to_do(catalog: Path) -> None:
    result = run(catalog, "set", "#1", "--as", "Grifon vultur")
    refused(result, "did you mean Griffon vulture, ")
    refused(result, "; --allow-new records it as a new taxon")
    refused(run(catalog, "set", "#1", "--as", "Desert warbler"), "may be African desert warbler or Asian")
    assert rows(catalog) == [0, 0, 1]


def test_a_new_taxon_is_known_afterwards(catalog: Path) -> None:
    details = ["--scientific-name", "Zogornis kaupi", "--family", "Zogidae", "--order", "Zogiformes"]
    result = done(catalog, "set", "#1", "--as", "Kaupi zogbird", "--allow-new", *details)
    assert result["new_taxa"] == ["Kaupi zogbird"]
    second = done(catalog, "set", "#2", "--as", "zogornis KAUPI")
    assert second["new_taxa"] == []
    assert {row["order"] for row in done(catalog, "list")} == {"Zogiformes"}
    assert done(catalog, "taxa") == [
        {
            "common_name": "Kaupi zogbird",
            "scientific_name": "Zogornis kaupi",
            "genus": "Zogornis",
            "family": "Zogidae",
            "order": "Zogiformes",
            "photos": 2,
        }
    ]
    refused(run(catalog, "set", "#3", "--as", "Kaupi zogbird", "--allow-new", *details), "is known already")
    usage = run(catalog, "set", "#3", "--as", "Kaupi zogbird", "--family", "Zogidae")
    assert usage.exit_code == 2
    assert "--family is for a new taxon; give --allow-new too" in usage.output
    stolen = run(catalog, "set", "#3", "--as", "Zog", "--allow-new", "--scientific-name", "Upupa epops")
    refused(stolen, "'Upupa epops' is the scientific name of Eurasian hoopoe")


def test_a_photo_that_is_not_there_keeps_the_others_from_being_recorded(catalog: Path, archive: Path) -> None:
    result = run(catalog, "set", "#1", "none.png", "#99", "--as", "hoopoe")
    refused(
        result,
        "nothing was recorded, since 2 cannot be; correct them, or give --skip-bad to record the other 1",
    )
    assert result.stderr.splitlines() == [
        "Cannot be recorded:",
        "  none.png: there is no such file",
        "  #99: the catalog has no photo of this id; `birdsearch query --format json` shows ids",
    ]
    assert result.stdout == ""
    assert labels(catalog) == []
    assert run(catalog, "set", "#1", "none.png", "--as", "hoopoe", "--skip-bad").exit_code == 0
    assert len(labels(catalog)) == 1


def test_a_table_is_recorded_whole_or_not_at_all(catalog: Path, archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufeffpath;species;who\n"
        "=misc/*;Kaupi zogbird;Cleo\n"
        "Eurasian_hoopoe/0.png;Upupa epops;\n"
        "none.png;hoopoe;\n"
    )
    result = run(catalog, "import", table, "--format", "json")
    refused(
        result,
        "nothing was recorded, since 2 cannot be; correct them, or give --skip-bad to record the other 1",
    )
    answer = json.loads(result.stdout)
    assert (answer["run"], answer["added"], answer["labels"]) == (None, 0, [])
    assert [problem["where"] for problem in answer["problems"]] == ["line 2", "line 4"]
    assert "--allow-new records names that are not known" in result.stderr
    assert rows(catalog) == [0, 0, 1]

    dry = run(catalog, "import", table, "--allow-new", "--skip-bad", "--dry-run")
    assert dry.exit_code == 0
    assert dry.stdout.splitlines()[-1] == (
        "3 labels would be recorded; new taxa: Kaupi zogbird; nothing was written"
    )
    assert len(dry.stdout.splitlines()) == 6
    assert rows(catalog) == [0, 0, 1]

    answer = done(catalog, "import", table, "--allow-new", "--skip-bad", "--who", "Ada")
    assert (answer["run"], answer["added"], answer["new_taxa"]) == (2, 3, ["Kaupi zogbird"])
    assert {(row["taxon"], row["who"], row["source"]) for row in done(catalog, "list")} == {
        ("Kaupi zogbird", "Cleo", f"table {table}"),
        ("Eurasian hoopoe", "Ada", f"table {table}"),
    }
    # The first spelling that undo takes back is not known any more.
    run(catalog, "undo")
    refused(run(catalog, "set", "#1", "--as", "Kaupi zogbird"), "is not the name of a taxon")


def test_a_taxonomy_comes_before_the_labels_that_use_it(catalog: Path, archive: Path, tmp_path: Path) -> None:
    taxa, table = tmp_path / "taxa.csv", tmp_path / "labels.csv"
    taxa.write_text(
        "common_name,scientific_name,family,order,alternative_names,sensitive\n"
        "Kaupi zogbird,Zogornis kaupi,Zogidae,Zogiformes,Kaup's zog,1\n"
    )
    table.write_text(f"path,taxon\n{archive}/**/[23].png,kaups zog\nnone,hoopoe\n")
    refused(run(catalog, "import", table, "--taxonomy", taxa), "nothing was recorded, since 1 cannot be")
    assert rows(catalog) == [0, 0, 1]
    assert run(catalog, "import", table, "--taxonomy", taxa, "--skip-bad", "--dry-run").exit_code == 0
    assert rows(catalog) == [0, 0, 1]
    result = run(catalog, "import", table, "--taxonomy", taxa, "--skip-bad")
    assert result.exit_code == 0, result.exception
    assert "Warning: that a taxon is sensitive is not kept" in result.stderr
    assert labels(catalog) == [("2.png", "Kaupi zogbird", "positive"), ("3.png", "Kaupi zogbird", "positive")]
    run(catalog, "undo")
    # What was added as such stays, and is there for the next table.
    assert done(catalog, "set", "#1", "--as", "Kaup's zog")["labels"][0]["taxon"] == "Kaupi zogbird"
    for content, message in (
        ("common_name\n", "has no column 'scientific_name'"),
        ("\xff", "has no column 'common_name'"),
        (None, "cannot be read"),
    ):
        taxa.unlink(missing_ok=True)
        if content is not None:
            taxa.write_bytes(content.encode("latin-1"))
        refused(run(catalog, "import", table, "--taxonomy", taxa, "--skip-bad"), message)
        refused(run(catalog, "taxa", taxa), message)


def test_a_table_of_taxa_is_added_and_shown(catalog: Path, tmp_path: Path) -> None:
    assert run(catalog, "taxa").stdout.startswith("no taxa of its own")
    taxa = tmp_path / "taxa.csv"
    taxa.write_text(
        "common_name,scientific_name,family,order\nZog,Zogus zog,Zogidae,\nEurasian hoopoe,U. e.,,\n"
    )
    assert run(catalog, "taxa", taxa).stdout == "1 names added, 1 updated, 0 known just so\n"
    assert done(catalog, "taxa", taxa)["unchanged"] == 2
    assert [row["common_name"] for row in done(catalog, "taxa")] == ["Zog", "Eurasian hoopoe"]


def test_folders_named_after_species_label_what_is_in_them(catalog: Path, archive: Path) -> None:
    result = run(catalog, "folders")
    assert result.exit_code == 0, result.exception
    assert labels(catalog) == [
        ("0.png", "Eurasian hoopoe", "positive"),
        ("1.png", "White stork", "positive"),
        ("4.png", "Eurasian hoopoe", "positive"),
        ("5.png", "White stork", "positive"),
    ]
    problems = result.stderr.splitlines()
    assert problems[1].startswith(f"  {archive}/=misc: '=misc' is not the name of a taxon that is known")
    assert "did you mean Griffon vulture" in problems[2]
    assert problems[3].startswith("--allow-new records names that are not known as new taxa")
    refused(run(catalog, "folders", archive / "=misc"), "there is nothing to record: no label was found")
    answer = done(catalog, "folders", archive / "Grifon vultur", "--allow-new")
    assert answer["new_taxa"] == ["Grifon vultur"]
    refused(run(catalog, "folders", "--level", 1), "there is nothing to record")


def test_keywords_label_photos(catalog: Path, archive: Path) -> None:
    sidecar = archive / "=misc" / "2.xmp"
    sidecar.write_text(
        '<x xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        "<d:subject><r:Bag><r:li>hoopoe</r:li></r:Bag></d:subject></x>"
    )
    try:
        result = run(catalog, "keywords")
    finally:
        sidecar.unlink()
    assert result.exit_code == 0, result.exception
    assert labels(catalog) == [("2.png", "Eurasian hoopoe", "positive")]
    assert result.stderr == "Note: 7 photos without keywords\n"
    refused(run(catalog, "keywords", archive / "Grifon vultur"), "there is nothing to record")


def test_hits_are_labelled_with_the_photo_that_was_asked_about(catalog: Path, archive: Path) -> None:
    photo = archive / "Eurasian_hoopoe" / "0.png"
    dry = done(catalog, "hits", photo, "-k", 3, "--as", "hoopoe", "--dry-run")
    assert (dry["dry_run"], dry["run"], dry["added"]) == (True, None, 4)
    assert [row["where"].split(",")[0] for row in dry["labels"]] == [
        "the photo itself",
        "hit 1",
        "hit 2",
        "hit 3",
    ]
    assert labels(catalog) == []
    answer = done(catalog, "hits", photo, "-k", 50, "--as", "hoopoe", "--min-similarity", 1)
    assert {row["path"] for row in answer["labels"]} >= {str(photo)}
    assert done(catalog, "hits", photo, "-k", 50, "--as", "hoopoe", "--verdict", "uncertain")["added"] == 8
    assert done(catalog, "list")[0]["source"] == f"hits of {photo}"
    refused(run(catalog, "hits", archive / "none.png", "--as", "hoopoe"), "no such file", PhotoError)
    assert run(catalog, "hits", photo, "--as", "hoopoe", "--min-similarity", 2).exit_code == 2


def test_who_is_the_login_name_unless_it_is_given(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    run(catalog, "set", "#1", "--as", "hoopoe")
    monkeypatch.setattr(getpass, "getuser", nobody)
    run(catalog, "set", "#2", "--as", "hoopoe")
    assert [row["who"] for row in done(catalog, "list")] == ["ada", "unknown"]
    refused(run(catalog, "set", "#3", "--as", "hoopoe", "--who", " "), "say who verified the labels")


def test_csv_has_a_row_a_label_and_no_formulas(catalog: Path) -> None:
    run(catalog, "set", "#1", "--as", "=HYPERLINK(x)", "--allow-new", "--who", "@ada")
    result = run(catalog, "list", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["taxon"], row["who"]) == ("'=HYPERLINK(x)", "'@ada")
    listed = run(catalog, "set", "#2", "#3", "--as", "hoopoe", "--format", "csv")
    assert [row["taxon"] for row in csv.DictReader(io.StringIO(listed.stdout))] == ["Eurasian hoopoe"] * 2
    undone = run(catalog, "undo", "--format", "csv")
    assert next(csv.DictReader(io.StringIO(undone.stdout)))["undone"] == "2"


def test_many_problems_are_shown_in_part_and_all_in_json(catalog: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,taxon\n" + "".join(f"{number}.png,hoopoe\n" for number in range(30)))
    result = run(catalog, "import", table)
    lines = result.stderr.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 10 more; --format json lists all"
    assert len(json.loads(run(catalog, "import", table, "--format", "json").stdout)["problems"]) == 30


def test_a_catalog_that_is_taken_or_not_there_is_told(catalog: Path, tmp_path: Path) -> None:
    with CatalogStore.open(catalog, "write", purpose="birdsearch index"):
        assert run(catalog, "set", "#1", "--as", "hoopoe").exit_code == 0
    with CatalogStore.open(catalog, "edit", purpose="birdsearch annotate"):
        refused(run(catalog, "set", "#1", "--as", "hoopoe"), "birdsearch annotate", CatalogLockedError)
        assert run(catalog, "set", "#1", "--as", "hoopoe", "--dry-run").exit_code == 0
        assert run(catalog, "list").exit_code == 0
    refused(run(tmp_path / "none", "set", "#1", "--as", "hoopoe"), "birdsearch index FOLDER", CatalogError)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "#1"],
        ["set", "--as", "hoopoe"],
        ["set", "#1", "--as", "hoopoe", "--verdict", "maybe"],
        ["import"],
        ["folders", "--level", "-1"],
        ["undo", "0"],
        ["undo", "last"],
        ["nothing"],
    ],
)
def test_a_wrong_use_is_told_apart_from_a_failure(catalog: Path, arguments: list[str]) -> None:
    result = run(catalog, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_every_help_loads_nothing_heavy_and_an_error_is_one_line(catalog: Path) -> None:
    program = (
        "import sys\n"
        "from birdsearch.cli import cli\n"
        "for name in ('set', 'import', 'folders', 'keywords', 'hits', 'list', 'undo', 'taxa'):\n"
        "    cli.main(['annotate', name, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'faiss', 'numpy', 'sqlalchemy', 'PIL', 'pyarrow', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    helped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    command = [sys.executable, "-m", "birdsearch", "annotate", "set", "--catalog", str(catalog), "#1"]
    failed = subprocess.run([*command, "--as", "Hopo"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: 'Hopo' is not the name of a taxon that is known")
    assert len(failed.stderr.splitlines()) == 1
