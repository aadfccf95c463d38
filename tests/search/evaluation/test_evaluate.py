"""`birdsearch eval`: scores that can be checked, on clusters whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from birdsearch.cli import cli
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.evaluation.evaluate import Labelled, evaluate
from birdsearch.search.evaluation.tables import build_report, unknown_rates
from birdsearch.search.export.evaluation_report import report_dict
from birdsearch.search.labels.fusion import References
from birdsearch.search.labels.space import LabelSpace

if TYPE_CHECKING:
    from collections.abc import Callable

_SPECIES, _EACH, _SIZE = 12, 14, 16


def _clusters(seed: int = 0, noise: float = 1.0) -> tuple[Labelled, LabelSpace]:
    """Photos of 12 species, of which the network has classes for 10, and is too sure of itself."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(_SPECIES, _SIZE))
    labels = np.repeat(np.arange(_SPECIES), _EACH)
    embeddings = (centres[labels] + noise * rng.normal(size=(len(labels), _SIZE))).astype(np.float32)
    names = [f"species {number:02d}" for number in range(_SPECIES)]
    space = LabelSpace.build(names[:10], names, Taxonomy([]))
    logits = (1.2 * embeddings @ centres[:10].T).astype(np.float32)
    everything = np.ones(len(labels), bool)
    references = References.build(normalised(embeddings), labels, np.arange(len(labels)) // 2)
    return Labelled(references, logits, everything, everything), space


def test_an_evaluation_is_the_same_twice_and_never_judges_what_it_fitted() -> None:
    data, space = _clusters()
    first, second = evaluate(data, space), evaluate(data, space)
    a, b = (report_dict(build_report(found, {})) for found in (first, second))
    assert a == b
    whole = first.settings[0]
    assert whole.name == "as it is"
    fused, network, knn = (whole.methods[name].right.mean() for name in ("fused", "network", "k-NN"))
    # The network has no class for 2 of 12 species.
    assert network <= 10 / 12
    assert fused >= max(network, knn) - 0.03
    assert first.unknown is not None
    rates = unknown_rates(first.unknown)
    assert rates["combined"][0] > 0.6


def test_a_photo_never_finds_its_own_group() -> None:
    _, space = _clusters()
    # Noise without species, in pairs of the same picture: only the twin is near, and it does not count.
    rng = np.random.default_rng(1)
    once = rng.normal(size=(80, _SIZE)).astype(np.float32)
    unit = normalised(np.repeat(once, 2, axis=0))
    labels = np.repeat(rng.integers(0, 10, 80), 2)
    references = References.build(unit, labels, np.repeat(np.arange(80), 2))
    logits = np.zeros((160, space.classes), np.float32)
    all_of_them = np.ones(160, bool)
    found = evaluate(Labelled(references, logits, all_of_them, all_of_them), space)
    assert found.retrieval["plain"].recall_at_k(1) < 0.35
    assert found.settings[0].methods["k-NN"].right.mean() < 0.35


def test_rankings_are_compared_where_species_have_few_photos() -> None:
    data, space = _clusters()
    found = evaluate(data, space).frequencies
    # Seven groups of two photos a species: more than 5, and fewer than 10.
    assert [one.name for one in found] == ["2 photos a species", "5 photos a species", "2, 5 photos in turn"]
    references = data.references
    for one, most in zip(found, (2, 5, 5), strict=True):
        assert len(one.plain.query) == len(references)
        assert np.array_equal(one.plain.relevant, one.refined.relevant)
        # A query that was drawn itself has its own group taken off: two photos.
        assert set(one.plain.relevant.tolist()) <= {2 * most, 2 * most - 2, 4, 2}
    mixed = found[2].plain.relevant
    assert {mixed[references.labels == label].max() for label in (0, 2, 4)} == {4}
    assert {mixed[references.labels == label].max() for label in (1, 3, 5)} == {10}


def test_too_few_verified_photos_are_told() -> None:
    data, space = _clusters()
    few = np.zeros(len(data.references), bool)
    few[:10] = True
    with pytest.raises(InvalidInputError, match="10 verified photos with 1 labels are too few"):
        evaluate(Labelled(data.references, data.logits, ~few, few), space)


def test_the_command_measures_a_catalog_and_writes_a_report(
    tmp_path: Path, tiny_weights: Path, make_photo: Callable[..., Path]
) -> None:
    archive = tmp_path / "archive"
    for number in range(48):
        make_photo(archive / f"Hoopoe {number % 4}" / f"{number}.jpg", seed=number)
    catalog = ["--catalog", str(tmp_path / "catalog")]
    runner = CliRunner()

    def run(*arguments: str) -> str:
        result = runner.invoke(cli, [*arguments, *catalog], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    run("index", str(archive), "--weights", str(tiny_weights), "--workers", "1")
    run("annotate", "folders", str(archive), "--allow-new")
    shown = run("eval", "--split", "photo", "--report", str(tmp_path / "report"), "--format", "json")
    tables = {table["title"]: table for table in json.loads(shown)["tables"]}
    assert "Retrieval" in tables
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "report.json", "reliability.png", "coverage-and-risk.png"} <= names
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == json.loads(shown)
    assert run("eval", "--split", "photo", "--format", "csv").startswith("table,row,column,value,low,high\n")
    half = str(archive / "Hoopoe 0")
    result = runner.invoke(cli, ["eval", "--queries-under", half, *catalog])
    assert isinstance(result.exception, InvalidInputError)
