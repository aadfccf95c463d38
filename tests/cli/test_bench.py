"""`birdsearch bench`, as it is typed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from birdsearch.cli.bench import bench
from birdsearch.cli.catalog import status
from birdsearch.errors import CatalogError

if TYPE_CHECKING:
    from birdsearch.model.inference import Model


@pytest.fixture(scope="module")
def catalog(
    tmp_path_factory: pytest.TempPathFactory, make_photo: Callable[..., Path], tiny_model: Model
) -> Path:
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("bench")
    for seed in range(30):
        make_photo(folder / "archive" / f"{seed}.png", seed)
    with Catalog.open(folder / "catalog") as opened:
        opened.index([folder / "archive"], model=tiny_model, workers=1)
    return folder / "catalog"


def test_bench_measures_exact_search_and_lists_where_asked(catalog: Path) -> None:
    shown = CliRunner().invoke(bench, ["--catalog", str(catalog)])
    assert shown.exit_code == 0, shown.output
    assert "exact" in shown.output
    assert "30 vectors, k 20" in shown.output
    done = CliRunner().invoke(bench, ["--catalog", str(catalog), "-k", "3", "--lists", "--format", "json"])
    found = json.loads(done.stdout)
    assert (found["vectors"], found["k"]) == (30, 3)
    assert [one["search"] for one in found["searches"]][:2] == ["exact", "lists"]
    assert found["searches"][0]["recall"] == 1.0
    done = CliRunner().invoke(bench, ["--catalog", str(catalog), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[0]["search"] == "exact"
    assert float(rows[0]["recall"]) == 1.0


def test_status_says_how_vectors_are_searched(catalog: Path) -> None:
    found = json.loads(CliRunner().invoke(status, ["--catalog", str(catalog), "--format", "json"]).stdout)
    assert found["search"] == {"vectors": 30, "lists": 0, "recall": 1.0}
    lines = CliRunner().invoke(status, ["--catalog", str(catalog)]).stdout.splitlines()
    assert any(line.split() == ["search", "exact"] for line in lines)


def test_bench_without_a_catalog_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, ["--catalog", str(tmp_path)])
    assert isinstance(done.exception, CatalogError)
