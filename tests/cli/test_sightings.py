"""`birdsearch sightings`, `similar` and `deployments`, as they are typed."""

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
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli import COMMANDS
from birdsearch.cli.deployments import deployments
from birdsearch.cli.sightings import sightings, similar
from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]

# Folder, seed of the picture, time and fraction of its second: a burst of three, one later, one on another day.
PHOTOS = (
    ("fen", 1, "2023:05:14 06:30:00", "10"),
    ("fen", 1, "2023:05:14 06:30:00", "50"),
    ("fen", 1, "2023:05:14 06:30:00", "90"),
    ("fen", 2, "2023:05:14 06:30:20", "00"),
    ("wood", 3, "2023:05:16 17:00:00", "25"),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    folder = tmp_path_factory.mktemp("sightings") / "archive"
    for number, (site, seed, taken, fraction) in enumerate(PHOTOS):
        exif = Image.Exif()
        exif[271], exif[272] = "Norvik", "Norvik D50"
        details = exif.get_ifd(0x8769)
        details[36867], details[37521], details[42033] = taken, fraction, "300"
        # Frames of a burst look alike and are no copies, whose image data would be equal.
        make_photo(folder / "2023" / site / f"DSC_{number:04d}.jpg", seed, exif=exif, quality=90 - number)
    shutil.copy(folder / "2023" / "fen" / "DSC_0001.jpg", folder / "2023" / "fen" / "DSC_0001 (1).jpg")
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("sightings") / "catalog"
    with Catalog.open(folder) as opened:
        opened.index([archive], model=tiny_model, workers=1)
    return folder


@pytest.fixture
def catalog(indexed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(indexed, tmp_path / "catalog"))


def run(command: click.Command, catalog: Path, *arguments: object) -> Result:
    given = [str(argument) for argument in arguments]
    # The group takes the catalog with its command.
    return CliRunner().invoke(command, [*given, "--catalog", str(catalog)])


def done(command: click.Command, catalog: Path, *arguments: object) -> str:
    result = run(command, catalog, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stderr == ""
    return result.stdout


def rows(command: click.Command, catalog: Path, *arguments: object) -> Any:
    return json.loads(done(command, catalog, *arguments, "--format", "json"))


def stored(catalog: Path) -> int:
    with CatalogStore.open(catalog) as store, store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.event)).scalar_one())


def verify_one(catalog: Path) -> None:
    with CatalogStore.open(catalog, "write") as store:
        record(store, [(view, new_taxon("Moss owl"), "positive") for view in (1, 4)], "ada", "test")


def test_the_commands_are_known() -> None:
    assert {"sightings", "similar", "deployments"} <= set(COMMANDS)


def test_the_table_counts_and_lists_sightings(catalog: Path, archive: Path) -> None:
    verify_one(catalog)
    lines = done(sightings, catalog).splitlines()
    assert lines[0].startswith("5 photos, 5 of them no copies: 1 bursts, 2 events, 2 sightings (run ")
    assert lines[1].split() == ["No.", "Label", "p", "When", "Site", "Frames", "Events", "Best", "photo"]
    assert lines[2].split()[:3] == ["s1", "Moss", "owl"]
    assert "2023-05-14 06:30:00 - 06:30:20" in lines[2]
    assert str(archive) in lines[2]
    assert lines[-1].startswith("not calibrated")
    assert stored(catalog) == 5


def test_json_says_why(catalog: Path) -> None:
    verify_one(catalog)
    first, second = rows(sightings, catalog)
    assert (first["number"], first["name"], first["verified"], first["probability"]) == (
        "s1", "Moss owl", True, None
    )  # fmt: skip
    assert (first["frames"], first["photos"], first["bursts"], first["events"]) == (4, 4, 1, 1)
    (reason,) = first["why"]
    assert reason["largest_gap_s"] == pytest.approx(19.1)
    assert (reason["split"], reason["joined_to"]) == ("one", None)
    assert second["started_at"] == "2023-05-16T17:00:00.250000"
    assert second["verified"] is False
    assert 0 <= second["unknown"] <= 1


def test_levels_gaps_and_conditions(catalog: Path) -> None:
    assert [row["frames"] for row in rows(sightings, catalog, "--level", "events")] == [4, 1]
    assert [row["frames"] for row in rows(sightings, catalog, "--level", "bursts")] == [3]
    short = ["--level", "events", "--event-gap", "10", "--burst-gap", "0.3"]
    assert [row["frames"] for row in rows(sightings, catalog, *short)] == [3, 1, 1]
    assert rows(sightings, catalog, *short[:-1], "0.3", "--level", "bursts") == []
    assert len(rows(sightings, catalog, "--since", "2023-05-15")) == 1
    assert rows(sightings, catalog, "--since", "2030") == []
    assert "0 photos" in done(sightings, catalog, "--since", "2030")
    table = done(sightings, catalog, "--level", "bursts").splitlines()
    assert table[1].split()[:3] == ["Group", "When", "Camera"]


def test_a_dry_run_stores_nothing(catalog: Path) -> None:
    assert "(not stored)" in done(sightings, catalog, "--dry-run")
    assert stored(catalog) == 0
    with CatalogStore.open(catalog, "write", purpose="birdsearch index"):
        assert len(rows(sightings, catalog, "--dry-run")) == 2
        assert isinstance(run(sightings, catalog).exception, CatalogError)


def test_a_catalog_that_cannot_be_written_is_only_read(
    catalog: Path, without_override: tuple[str, ...]
) -> None:
    for path in (*catalog.rglob("*"), catalog):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = [*without_override, "-m", "birdsearch", "sightings", "--catalog", str(catalog)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for path in (catalog, *catalog.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert result.returncode == 0, result.stderr
    assert "(not stored)" in result.stdout
    assert result.stderr.startswith("Warning: nothing is stored: ")
    assert stored(catalog) == 0


def test_the_list_is_written_to_a_file(catalog: Path, tmp_path: Path) -> None:
    verify_one(catalog)
    result = run(sightings, catalog, "--out", tmp_path / "s.csv", "--format", "csv")
    assert result.stderr == f"wrote {tmp_path / 's.csv'}\n"
    written = (tmp_path / "s.csv").read_text(encoding="utf-8")
    assert written == result.stdout
    first, second = csv.DictReader(io.StringIO(written))
    assert (first["number"], first["name"], first["verified"]) == ("s1", "Moss owl", "true")
    assert second["verified"] == "false"
    parquet = pytest.importorskip("pyarrow.parquet")
    run(sightings, catalog, "--out", tmp_path / "s.parquet")
    table = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert [row["frames"] for row in table] == [4, 1]
    assert set(table[0]) == set(first)
    assert run(sightings, catalog, "--out", tmp_path / "s.txt").exit_code == 2
    missing = run(sightings, catalog, "--out", tmp_path / "none" / "s.csv")
    assert isinstance(missing.exception, InvalidInputError)


def test_names_that_a_spreadsheet_would_run_are_defused(catalog: Path, tmp_path: Path) -> None:
    with CatalogStore.open(catalog, "write") as store:
        record(store, [(5, new_taxon("=cmd()"), "positive")], "ada", "test")
    run(sightings, catalog, "--out", tmp_path / "s.csv")
    assert "'=cmd()" in (tmp_path / "s.csv").read_text(encoding="utf-8")


def test_gaps_that_make_no_sense_are_errors(catalog: Path) -> None:
    assert run(sightings, catalog, "--event-gap", "-1").exit_code == 2
    result = run(sightings, catalog, "--event-gap", "1", "--burst-gap", "2")
    assert isinstance(result.exception, InvalidInputError)
    assert "the event gap the longer" in str(result.exception)


def test_similar_finds_the_other_event(catalog: Path, archive: Path) -> None:
    (hit,) = rows(similar, catalog, "#1")
    assert (hit["photo_id"], hit["sighting"]) == (5, None)
    assert hit["path"] == str(archive / "2023" / "wood" / "DSC_0004.jpg")
    done(sightings, catalog)
    assert rows(similar, catalog, "s1")[0]["sighting"] == "s2"
    by_path = rows(similar, catalog, archive / "2023" / "fen" / "DSC_0001.jpg")
    assert [each["photo_id"] for each in by_path] == [5]
    lines = done(similar, catalog, "s1").splitlines()
    assert lines[0].split() == ["Rank", "Similarity", "Label", "Away", "Site", "Sighting", "Path"]
    assert "2 days" in lines[1]
    assert len(done(similar, catalog, "s1", "--format", "csv").splitlines()) == 2
    assert done(similar, catalog, "s1", "--since", "2030") == "no photo meets the conditions\n"
    assert rows(similar, catalog, "s1", "--other-time") == rows(similar, catalog, "s1")
    assert isinstance(run(similar, catalog, "s9").exception, InvalidInputError)


def test_deployments_from_folders_give_sightings_a_site(catalog: Path) -> None:
    result = CliRunner().invoke(deployments, ["--from-folders", "2", "--catalog", str(catalog)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "2 deployments added, 0 changed, 0 as they were"
    listed = rows(deployments, catalog, "list")
    assert [(row["name"], row["site"], row["photos"]) for row in listed] == [
        ("2023/fen", "fen", 4), ("2023/wood", "wood", 1)
    ]  # fmt: skip
    assert [row["site"] for row in rows(sightings, catalog)] == ["fen", "wood"]
    assert [row["photo_id"] for row in rows(similar, catalog, "s1", "--elsewhere")] == [5]
    assert done(deployments, catalog, "remove", "2023/fen") == "1 deployments removed\n"
    assert len(rows(deployments, catalog, "list")) == 1
    assert isinstance(run(deployments, catalog, "remove", "x").exception, InvalidInputError)


def test_deployments_are_imported_and_conflicts_told(catalog: Path, archive: Path, tmp_path: Path) -> None:
    assert done(deployments, catalog, "list").startswith("no deployments")
    table = tmp_path / "deployments.csv"
    table.write_text(
        "deploymentID,locationName,folder,deploymentStart,deploymentEnd,latitude,longitude\n"
        "d1,Old oak,2023/fen,2023-05-14T00:00:00Z,2023-05-15,52.5,8.5\n"
        f"d2,Pond,{archive}/2023/wood,2024-01-01,2024-12-31,,\n"
    )
    result = run(deployments, catalog, "import", table)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "2 deployments added, 0 changed, 0 as they were"
    assert result.stderr == (
        f"Warning: 1 photo in {archive}/2023/wood is of another camera or time than its deployment\n"
    )
    found = json.loads(run(sightings, catalog, "--format", "json").stdout)
    assert [(row["site"], row["latitude"]) for row in found] == [("Old oak", 52.5), (None, None)]
    assert isinstance(run(deployments, catalog, "import", tmp_path / "none.csv").exception, InvalidInputError)


def test_there_must_be_a_catalog_with_a_photo(tmp_path: Path) -> None:
    for command, arguments in ((sightings, []), (similar, ["s1"]), (deployments, ["list"])):
        assert isinstance(run(command, tmp_path / "none", *arguments).exception, CatalogError)
    CatalogStore.open(tmp_path / "empty", "create").close()
    for command, arguments in ((sightings, []), (similar, ["s1"])):
        result = run(command, tmp_path / "empty", *arguments)
        assert result.exit_code == 1
        assert "no photo is indexed yet" in result.stderr


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom birdsearch.cli import cli\n"
        "for name in ('sightings', 'similar', 'deployments'):\n"
        "    cli.main([name, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'faiss', 'sqlalchemy', 'numpy'} & set(sys.modules), sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--event-gap" in result.stdout
