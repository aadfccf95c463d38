"""`birdsearch label` and `mislabelled`, as they are typed; and what `query` says of labels."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli.label import label, mislabelled
from birdsearch.cli.query import query
from birdsearch.errors import CatalogError, CatalogLockedError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.indexer.catalog.vector_bytes import encode_vector

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]
COUNT = 24


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """A picture a day."""
    folder = tmp_path_factory.mktemp("label") / "archive"
    for seed in range(COUNT):
        exif = Image.Exif()
        exif[271] = "Nikon" if seed % 2 else "Canon"
        exif.get_ifd(0x8769)[36867] = f"2023:05:{seed + 1:02d} 06:30:00"
        make_photo(folder / f"{seed:02d}.png", seed, exif=exif)
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("label") / "catalog"
    with Catalog.open(folder) as opened:
        opened.index([archive], model=tiny_model, workers=1, batch_size=1)
    return folder


@pytest.fixture
def catalog(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "catalog"))


def verify(catalog: Path, labels: dict[int, str]) -> None:
    """Verify photos by id; here each has one view, whose id is the same."""
    with CatalogStore.open(catalog, "write") as store:
        record(store, [(photo, new_taxon(name), "positive") for photo, name in labels.items()], "ada", "test")


def verify_all(catalog: Path) -> None:
    verify(catalog, {photo: ("species a", "Moss owl")[photo % 2] for photo in range(1, COUNT + 1)})


def run(command: click.Command, catalog: Path, *arguments: object) -> Result:
    return CliRunner().invoke(command, ["--catalog", str(catalog), *map(str, arguments)])


def done(command: click.Command, catalog: Path, *arguments: object) -> str:
    result = run(command, catalog, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""
    return result.stdout


def rows(command: click.Command, catalog: Path, *arguments: object) -> Any:
    return json.loads(done(command, catalog, *arguments, "--format", "json"))


def count(catalog: Path, table: sa.Table) -> int:
    with CatalogStore.open(catalog) as store, store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_the_table_counts_labels_and_says_that_nothing_is_fitted(catalog: Path) -> None:
    lines = done(label, catalog, "--confidence", 0).splitlines()
    assert lines[0].startswith(f"labelled {COUNT} photos (run ")
    assert lines[0].endswith(f"): {COUNT} species")
    assert lines[1].split() == ["Label", "Photos"]
    assert sum(int(line.split()[-1]) for line in lines[2:-1]) == COUNT
    assert lines[-1].startswith("not calibrated: verify photos with `birdsearch annotate`")
    assert count(catalog, schema.prediction) == COUNT
    assert f"): {COUNT} bird" in done(label, catalog, "--confidence", 1)


def test_many_names_are_shown_in_part(catalog: Path) -> None:
    verify(catalog, {photo: f"Bird {photo:02d}" for photo in range(1, COUNT + 1)})
    verify(catalog, {photo: f"Bird {photo - 1:02d}" for photo in range(2, COUNT + 1, 2)})
    lines = done(label, catalog, "--confidence", 0).splitlines()
    named = {row["name"] for row in rows(label, catalog, "--confidence", 0)}
    assert (len(named) > 15) == any(line.startswith(f"and {len(named) - 15} more") for line in lines)


def test_json_and_csv_have_every_photo_with_its_evidence(catalog: Path, archive: Path) -> None:
    verify(catalog, {1: "species a", 2: "Moss owl", 3: "Moss owl"})
    found = rows(label, catalog)
    assert [row["photo_id"] for row in found] == list(range(1, COUNT + 1))
    assert [row["path"] for row in found] == [str(archive / f"{seed:02d}.png") for seed in range(COUNT)]
    assert list(found[0]) == [
        *("photo_id", "name", "rank", "probability", "species", "species_probability", "p_model", "p_knn"),
        *("lambda", "unknown", "path"),
    ]
    assert all(0 <= row[key] <= 1 for row in found for key in ("probability", "p_knn", "lambda", "unknown"))
    table = list(csv.DictReader(io.StringIO(done(label, catalog, "--format", "csv"))))
    assert [row["species"] for row in table] == [row["species"] for row in found]
    assert [float(row["species_probability"]) for row in table] == [
        row["species_probability"] for row in found
    ]
    assert rows(label, catalog) == found


@pytest.fixture
def checklist(tmp_path: Path) -> Path:
    """Lists two of the five classes, one of them for a month in which no photo was taken."""
    path = tmp_path / "=list.csv"
    path.write_text("species,months\nSpecies A,all\nspecies b,6-3\nNo such bird,5\nMoss owl,5\n")
    return path


def test_a_checklist_adds_a_column_of_flags_and_changes_no_label(catalog: Path, checklist: Path) -> None:
    verify(catalog, {1: "species a", 2: "Moss owl", 3: "species b", 4: "species c"})
    plain = rows(label, catalog, "--confidence", 0)
    result = run(label, catalog, "--confidence", 0, "--checklist", checklist, "--format", "json")
    assert result.exit_code == 0
    assert (
        result.stderr
        == f"Warning: {checklist}, line 4: 'No such bird' is not the name of a taxon that is known\n"
    )
    found = json.loads(result.stdout)
    assert list(found[0]) == ["photo_id", "name", "flags", *list(plain[0])[2:]]
    expected = {"species a": "", "species b": "out-of-season", "Moss owl": ""}
    assert [row.pop("flags") for row in found] == [expected.get(row["name"], "not-on-list") for row in plain]
    assert found == plain
    text = run(label, catalog, "--confidence", 0, "--checklist", checklist, "--format", "csv").stdout
    flags = [row["flags"] for row in csv.DictReader(io.StringIO(text))]
    counts = {flag: flags.count(flag) for flag in ("not-on-list", "out-of-season") if flag in flags}
    assert counts
    lines = run(label, catalog, "--confidence", 0, "--checklist", checklist).stdout.splitlines()
    parts = ", ".join(f"{number} {flag}" for flag, number in counts.items())
    assert lines[-2] == (
        f"{checklist} flags {sum(counts.values())} of {COUNT} labels: {parts}; "
        "--format csv has them in its column flags"
    )
    lines = run(label, catalog, "--confidence", 1, "--checklist", checklist).stdout.splitlines()
    assert lines[-2] == f"{checklist} flags no label"


def test_what_to_verify_next_is_flagged_and_in_the_same_order(catalog: Path, checklist: Path) -> None:
    plain = rows(label, catalog, "--suggest", 5)
    result = run(label, catalog, "--suggest", 5, "--checklist", checklist, "--format", "json")
    found = json.loads(result.stdout)
    for row in found:
        expected = {"species a": "", "species b": "out-of-season"}.get(row["name"], "not-on-list")
        assert row.pop("flags") == expected
    assert found == plain
    assert "Flags" in run(label, catalog, "--suggest", 5, "--checklist", checklist).stdout.splitlines()[0]
    assert count(catalog, schema.prediction) == 0


def test_a_checklist_that_makes_no_sense_is_an_error_before_anything_is_written(
    catalog: Path, checklist: Path
) -> None:
    runs = count(catalog, schema.run)
    checklist.write_text("species,months\nspecies a,13\n")
    for arguments in ([], ["--suggest", "2"]):
        result = run(label, catalog, *arguments, "--checklist", checklist)
        assert isinstance(result.exception, InvalidInputError)
        assert str(result.exception).startswith(f"{checklist}, line 2: months is '13'")
        assert result.stdout == ""
    missing = run(label, catalog, "--checklist", checklist.with_name("none.csv"))
    assert "cannot be read: No such file" in str(missing.exception)
    assert run(label, catalog, "--checklist", checklist.parent).exit_code == 2
    assert count(catalog, schema.run) == runs


def test_conditions_choose_the_photos(catalog: Path) -> None:
    verify(catalog, {1: "species a", 2: "Moss owl"})

    def chosen(*arguments: object) -> list[int]:
        return [row["photo_id"] for row in rows(label, catalog, *arguments)]

    assert chosen("--since", "2023-05-03", "--until", "2023-05-06", "--camera", "nikon") == [4, 6]
    assert chosen("--taxon", "moss owl") == [2]
    assert chosen("--verified") == [1, 2]
    assert chosen("--unverified") == list(range(3, COUNT + 1))
    assert done(label, catalog, "--since", "2030").splitlines()[0].endswith(": none")
    assert done(label, catalog, "--since", "2030", "--format", "csv").splitlines() == [
        "photo_id,name,rank,probability,species,species_probability,p_model,p_knn,lambda,unknown,path"
    ]


def test_damaged_vectors_are_told_in_every_format(catalog: Path) -> None:
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        connection.execute(
            sa.update(schema.embedding).where(schema.embedding.c.view_id < 3).values(vector=b"")
        )
    for fmt in ("table", "json", "csv"):
        result = run(label, catalog, "--format", fmt)
        assert result.exit_code == 0
        assert result.stderr == "Warning: 2 stored vectors are damaged; run `birdsearch check`\n"
    assert "labelled 22 photos" in run(label, catalog).stdout


def test_a_fit_says_what_it_was_fitted_on_and_labels_nothing(catalog: Path) -> None:
    verify_all(catalog)
    found = rows(label, catalog, "--fit")
    assert list(found) == [
        *("photos", "groups", "labels", "ece_before", "ece_after", "top1_before", "top1_after"),
        *("temperature", "discount", "tau", "neighbour_weight", "mean_weight"),
    ]
    assert (found["photos"], found["groups"], found["labels"]) == (COUNT, COUNT, 2)
    assert count(catalog, schema.prediction) == 0
    lines = done(label, catalog, "--fit").splitlines()
    assert lines[1].split() == ["fitted", "on", "photos", str(COUNT)]
    table = list(csv.DictReader(io.StringIO(done(label, catalog, "--fit", "--format", "csv"))))
    assert {row["key"]: float(row["value"]) for row in table} == found
    assert "not calibrated" not in done(label, catalog)


def test_too_few_to_fit_on_is_an_error_that_says_how_many_are_needed(catalog: Path) -> None:
    verify_all(catalog)
    result = run(label, catalog, "--fit", "--camera", "nikon")
    assert isinstance(result.exception, InvalidInputError)
    assert "12 verified photos in 12 groups" in str(result.exception)
    assert "at least 20 photos" in str(result.exception)
    assert result.stdout == ""


def test_what_to_verify_next_is_listed_and_nothing_is_written(catalog: Path) -> None:
    verify(catalog, {1: "species a", 2: "Moss owl"})
    found = rows(label, catalog, "--suggest", 3)
    assert len({row["photo_id"] for row in found}) == 3
    assert not {row["photo_id"] for row in found} & {1, 2}
    assert rows(label, catalog, "--suggest", 3) == found
    lines = done(label, catalog, "--suggest", 3).splitlines()
    assert lines[0].split()[:3] == ["Photo", "Label", "Rank"]
    assert [int(line.split()[0]) for line in lines[1:]] == [row["photo_id"] for row in found]
    table = csv.DictReader(io.StringIO(done(label, catalog, "--suggest", 3, "--format", "csv")))
    assert [row["path"] for row in table] == [row["path"] for row in found]
    assert {row["photo_id"] % 2 for row in rows(label, catalog, "--suggest", 3, "--camera", "nikon")} == {0}
    assert len(rows(label, catalog, "--suggest", 1000)) == COUNT - 2
    assert rows(label, catalog, "--suggest", 3, "--verified") == []
    assert count(catalog, schema.prediction) == 0


def separated(catalog: Path) -> None:
    """Two clusters far apart, the first ten photos and the others; all verified, and two of them wrongly."""
    rng = np.random.default_rng(1)
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        for view in range(1, COUNT + 1):
            vector = np.eye(128)[int(view > 10)] + 0.02 * rng.normal(size=128)
            content, checksum = encode_vector(vector)
            connection.execute(
                sa.update(schema.embedding)
                .where(schema.embedding.c.view_id == view)
                .values(vector=content, crc32=checksum)
            )
    labels = {view: ("Moss owl", "Ghost finch")[view > 10] for view in range(1, COUNT + 1)}
    verify(catalog, labels | {4: "Ghost finch", 20: "Moss owl"})


def test_labels_that_look_wrong_are_listed(catalog: Path, archive: Path) -> None:
    separated(catalog)
    found = rows(mislabelled, catalog)
    assert {row["photo_id"]: (row["label"], row["better"]) for row in found} == {
        4: ("Ghost finch", "Moss owl"),
        20: ("Moss owl", "Ghost finch"),
    }
    assert list(found[0]) == ["photo_id", "label", "p_label", "better", "p_better", "neighbours", "path"]
    assert {row["path"] for row in found} == {str(archive / "03.png"), str(archive / "19.png")}
    lines = done(mislabelled, catalog).splitlines()
    assert lines[0].split()[:3] == ["Photo", "Verified", "as"]
    assert len(lines) == 3
    assert "% Moss owl, " in lines[1] + lines[2]
    assert len(done(mislabelled, catalog, "--format", "csv").splitlines()) == 3
    assert done(mislabelled, catalog, "--least", 1) == "no verified label is contradicted\n"
    assert rows(mislabelled, catalog, "--least", 1) == []
    assert len(done(mislabelled, catalog, "--least", 1, "--format", "csv").splitlines()) == 1


def test_without_verified_labels_none_is_contradicted(catalog: Path) -> None:
    assert done(mislabelled, catalog) == "no verified label is contradicted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--confidence", "1.5"],
        ["--confidence", "much"],
        ["--suggest", "0"],
        ["--fit", "--suggest", "3"],
        ["--fit", "--checklist", "list.csv"],
        ["--format", "xml"],
        ["photo.jpg"],
    ],
)
def test_a_wrong_use_is_told_apart_from_a_failure(catalog: Path, arguments: list[str]) -> None:
    result = run(label, catalog, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert run(mislabelled, catalog, "--least", 2).exit_code == 2


def test_conditions_that_make_no_sense_are_errors(catalog: Path) -> None:
    for arguments, message in (
        (["--since", "soon"], "'soon' is not a time"),
        (["--taxon", "Dodoo"], "no species, genus"),
    ):
        result = run(label, catalog, *arguments)
        assert isinstance(result.exception, InvalidInputError)
        assert message in str(result.exception)


def test_there_must_be_a_catalog_with_a_photo(tmp_path: Path) -> None:
    for command in (label, mislabelled):
        result = run(command, tmp_path / "none")
        assert isinstance(result.exception, CatalogError)
        assert "birdsearch index" in str(result.exception)
    assert not (tmp_path / "none").exists()
    CatalogStore.open(tmp_path / "empty", "create").close()
    for command, arguments in (
        (label, []),
        (label, ["--fit"]),
        (label, ["--suggest", "3"]),
        (mislabelled, []),
    ):
        result = run(command, tmp_path / "empty", *arguments)
        assert result.exit_code == 1
        assert result.stderr.endswith("empty: no photo is indexed yet; run `birdsearch index FOLDER`\n")
        assert result.stdout == ""


def test_a_catalog_that_is_taken_is_only_read(catalog: Path) -> None:
    with CatalogStore.open(catalog, "write", purpose="birdsearch index"):
        for arguments in ([], ["--fit"]):
            result = run(label, catalog, *arguments)
            assert isinstance(result.exception, CatalogLockedError)
            assert "birdsearch index" in str(result.exception)
        assert len(rows(label, catalog, "--suggest", 2)) == 2
        assert rows(mislabelled, catalog) == []


def test_a_damaged_calibration_is_told_and_a_new_fit_repairs_it(catalog: Path) -> None:
    verify_all(catalog)
    rows(label, catalog, "--fit")
    with CatalogStore.open(catalog, "write") as store, store.writing() as connection:
        connection.execute(sa.update(schema.calibration).values(parameters="{"))
    for command, arguments in ((label, []), (label, ["--suggest", "2"]), (mislabelled, []), (query, ["#1"])):
        result = run(command, catalog, *arguments)
        assert isinstance(result.exception, CatalogError)
        assert "run `birdsearch label --fit`" in str(result.exception)
    rows(label, catalog, "--fit")
    assert len(rows(label, catalog)) == COUNT


# -- query -------------------------------------------------------------------------------------------------


def test_a_query_says_what_its_labels_rest_on(catalog: Path) -> None:
    lines = [line.strip() for line in done(query, catalog, "#5", "-k", 1).splitlines()]
    assert "; of no known label: " in lines[1]
    assert lines[2].startswith("candidates: species ")
    assert lines[2].count("%") == 5
    assert lines[3] == "by the network alone: no verified photo has a say"
    assert lines[4].startswith("not calibrated: ")
    verify_all(catalog)
    lines = [line.strip() for line in done(query, catalog, "#5", "-k", 1, "--confidence", 0).splitlines()]
    first = json.loads(done(query, catalog, "#5", "-k", 1, "--confidence", 0, "--format", "json"))[0]
    assert first["evidence"]["rank"] == "species"
    assert first["evidence"]["calibrated"] is False
    assert lines[1].startswith(
        f"{first['labels'][0]['name']} {first['evidence']['probability']:.1%}; of no known"
    )
    assert f"of no known label: {first['unknown']:.1%}" in lines[1]
    assert lines[3].startswith(
        f"{first['labels'][0]['name']}: network {first['labels'][0]['p_model']:.1%}, verified"
    )
    votes = [voter["label"] for voter in first["evidence"]["neighbours"]]
    assert len(votes) == 20
    for name in set(votes):
        assert f"{votes.count(name)} {name}" in lines[3]
    assert f"(their part {first['evidence']['lambda']:.0%}: " in lines[3]
    rows(label, catalog, "--fit")
    text = done(query, catalog, "#5", "-k", 1)
    assert "not calibrated" not in text
    assert json.loads(done(query, catalog, "#5", "--format", "json"))[0]["evidence"]["calibrated"] is True


def test_a_query_may_be_among_verified_photos_or_others(catalog: Path) -> None:
    verify(catalog, {1: "species a", 2: "Moss owl", 3: "Moss owl"})

    def hits(*arguments: object) -> list[int]:
        found = rows(query, catalog, "#9", "-k", 50, *arguments)[0]["hits"]
        return sorted(hit["photo_id"] for hit in found)

    assert hits("--taxon", "MOSS-OWL") == [2, 3]
    assert hits("--verified") == [1, 2, 3]
    assert hits("--unverified") == [photo for photo in range(4, COUNT + 1) if photo != 9]
    assert hits("--verified", "--camera", "canon") == [1, 3]
    # Conditions hold for the hits; who votes stays the same.
    one, other = (rows(query, catalog, "#9", *arguments)[0] for arguments in ([], ["--unverified"]))
    assert one["labels"] == other["labels"]
    assert one["evidence"] == other["evidence"]


# -- as a process ------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy_and_labels_need_no_network_and_no_picture(
    archive: Path, tiny_model: Model, tmp_path: Path
) -> None:
    from birdsearch import Catalog

    photos = Path(shutil.copytree(archive, tmp_path / "photos"))
    with Catalog.open(tmp_path / "catalog") as opened:
        opened.index([photos], model=tiny_model, workers=1)
    shutil.rmtree(photos)
    program = (
        "import sys\n"
        "from birdsearch.cli import cli\n"
        "for command in ('label', 'mislabelled'):\n"
        "    cli.main([command, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'faiss', 'numpy', 'sqlalchemy', 'tqdm'} & set(sys.modules)\n"
        f"arguments = ['--catalog', {str(tmp_path / 'catalog')!r}]\n"
        "cli.main(['label', *arguments], standalone_mode=False)\n"
        "cli.main(['mislabelled', *arguments], standalone_mode=False)\n"
        "assert not {'torch', 'PIL.Image'} & set(sys.modules), 'a picture is read'\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"labelled {COUNT} photos" in found.stdout


def test_an_error_is_one_line_and_exit_1(catalog: Path) -> None:
    command = [sys.executable, "-m", "birdsearch", "label", "--catalog", str(catalog), "--fit"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("Error: 0 verified photos in 0 groups")
    assert len(found.stderr.splitlines()) == 1
