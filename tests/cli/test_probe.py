"""`birdsearch probe`, as it is typed."""

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

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli.probe import probe
from birdsearch.errors import CatalogError, InvalidInputError

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto, tiny_model: Model) -> Path:
    """A catalog of 12 photos on as many days: 5 labelled with one species, 5 with another, 1 with a third."""
    from birdsearch import Catalog
    from birdsearch.indexer.catalog.annotations import record
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.taxa import new_taxon

    folder = tmp_path_factory.mktemp("probe")
    for seed in range(12):
        exif = Image.Exif()
        exif[271] = "Nikon"
        exif.get_ifd(0x8769)[36867] = f"2023:05:{seed + 1:02d} 06:30:00"
        make_photo(folder / "archive" / f"{seed:02d}.png", seed, exif=exif)
    with Catalog.open(folder / "catalog") as opened:
        opened.index([folder / "archive"], model=tiny_model, workers=1)
    names = ["Rusty teal"] * 5 + ["Dusky teal"] * 5 + ["Lone teal"]
    with CatalogStore.open(folder / "catalog", "write") as store:
        items = [(view, new_taxon(name), "positive") for view, name in enumerate(names, start=1)]
        record(store, items, "Ada", "test")
    return folder / "catalog"


@pytest.fixture
def catalog(labelled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labelled, tmp_path / "catalog"))


def run(catalog: Path, *arguments: str) -> Result:
    return CliRunner().invoke(probe, [arguments[0], "--catalog", str(catalog), *arguments[1:]])


def answer(catalog: Path, *arguments: str) -> Any:
    result = run(catalog, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_catalog_is_taught_asked_and_goes_back(catalog: Path) -> None:
    fitted = answer(catalog, "fit")
    assert fitted["classes"] == ["Dusky teal", "Lone teal", "Rusty teal"]
    assert fitted["labels_by_class"] == {"Dusky teal": 5, "Lone teal": 1, "Rusty teal": 5}
    assert fitted["groups_by_class"]["Rusty teal"] == 5
    assert fitted["chosen"] is True
    assert 0 <= fitted["accuracy"] <= 1
    assert answer(catalog, "info") == fitted
    dropped = run(catalog, "drop")
    assert dropped.exit_code == 0
    assert dropped.stdout == f"Probe {fitted['id']} is no longer in use.\n"
    assert answer(catalog, "info") is None
    assert run(catalog, "info").stdout == "No probe is in use; --all lists those that are kept.\n"
    assert [(row["id"], row["in_use"]) for row in answer(catalog, "info", "--all")] == [(fitted["id"], False)]
    again = run(catalog, "drop")
    assert isinstance(again.exception, InvalidInputError)
    assert "nothing to drop" in str(again.exception)


def test_the_table_says_how_c_came_about_and_what_was_not_validated(catalog: Path) -> None:
    fitted = run(catalog, "fit")
    assert fitted.exit_code == 0
    lines = {" ".join(line.split()) for line in fitted.stdout.splitlines()}
    assert "C is chosen by cross-validation" in lines
    assert "class: Rusty teal 5 labels in 5 groups" in lines
    assert fitted.stderr == (
        "Note: no validation for classes whose labels are all of one event or one picture: Lone teal; "
        "label photos of another day\n"
    )
    given = run(catalog, "fit", "--C", "0.5")
    lines = {" ".join(line.split()) for line in given.stdout.splitlines()}
    assert {"C 0.5", "C is given", "labels 11", "classes 3"} <= lines


def test_csv_has_a_row_a_fact_and_a_row_a_probe(catalog: Path) -> None:
    assert run(catalog, "info", "--format", "csv").stdout == "what,value\n"
    for strength in ("1", "2"):
        assert run(catalog, "fit", "--C", strength).exit_code == 0
    facts = dict(csv.reader(io.StringIO(run(catalog, "info", "--format", "csv").stdout)))
    assert facts["C"] == "2.0"
    rows = list(csv.DictReader(io.StringIO(run(catalog, "info", "--all", "--format", "csv").stdout)))
    assert [row["in_use"] for row in rows] == ["false", "true"]
    assert [row["classes"] for row in rows] == ["3", "3"]


def test_labels_that_cannot_be_validated_with_are_said(catalog: Path) -> None:
    from birdsearch.indexer.catalog.annotations import record, undo
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.taxa import new_taxon

    with CatalogStore.open(catalog, "write") as store:
        undo(store)
    nothing = run(catalog, "fit")
    assert isinstance(nothing.exception, InvalidInputError)
    assert "birdsearch annotate" in str(nothing.exception)
    with CatalogStore.open(catalog, "write") as store:
        record(store, [(1, new_taxon("a"), "positive"), (2, new_taxon("b"), "positive")], "Ada", "test")
    fitted = run(catalog, "fit")
    assert fitted.exit_code == 0
    assert "how right the probe is, is not known" in fitted.stderr
    assert "not validated" in fitted.stdout
    assert "accuracy" not in fitted.stdout


def test_a_c_that_is_none_is_refused(catalog: Path) -> None:
    refused = run(catalog, "fit", "--C", "-1")
    assert isinstance(refused.exception, InvalidInputError)
    assert str(refused.exception) == "C is -1.0; it has to be more than 0 and finite"
    assert run(catalog, "fit", "--C", "much").exit_code == 2


def test_a_catalog_without_photos_is_said(tmp_path: Path) -> None:
    from birdsearch.indexer.catalog.store import CatalogStore

    missing = run(tmp_path / "none", "info")
    assert isinstance(missing.exception, CatalogError)
    CatalogStore.open(tmp_path / "empty", "create").close()
    done = subprocess.run(
        [sys.executable, "-m", "birdsearch", "probe", "info", "--catalog", str(tmp_path / "empty")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "no photo is indexed yet" in done.stderr
