"""Photos without a live file take no part: an archive that lost photos answers as one that never had them."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from PIL import Image

from birdsearch import Catalog
from birdsearch.cli import cli
from birdsearch.indexer.catalog.clusters import current_state, list_states, state_of
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.clusters.report import overview
from birdsearch.search.evaluation.data import read_labelled
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.service.options import ServeOptions
from tests.search.service.conftest import running

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]

_SPECIES = ("Eurasian hoopoe", "Mallard", "Gadwall", "European robin")
_EACH = 12
_START = datetime(2023, 5, 1, 6, 30)


def exif(at: datetime, camera: str = "Z 9") -> Image.Exif:
    made = Image.Exif()
    made[271], made[272] = "Nikon", camera
    made.get_ifd(0x8769)[36867] = f"{at:%Y:%m:%d %H:%M:%S}"
    return made


def index(catalog: Path, folder: Path, model: Model) -> None:
    with Catalog.open(catalog) as opened:
        opened.index([folder], model=model, workers=1, confirm_missing=True)


def run(catalog: Path, *arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--catalog", str(catalog)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def answers(catalog: Path, *arguments: str) -> Any:
    return json.loads(run(catalog, *arguments, "--format", "json"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    """48 photos of four species, two and two 8 minutes apart, which is two events, and 8 that nobody labelled."""
    folder = tmp_path_factory.mktemp("live") / "archive"
    for place, name in enumerate(_SPECIES):
        for number in range(_EACH):
            at = _START + timedelta(days=20 * place + number // 2, minutes=8 * (number % 2))
            path = folder / name / f"{number:02d}.jpg"
            make_photo(path, 100 * place + number, size=(96, 72), exif=exif(at), quality=95)
        for number in range(2):
            make_photo(folder / "unknown" / f"{place}-{number}.jpg", 500 + 10 * place + number, size=(96, 72))
    return folder


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, archive: Path, make_photo: MakePhoto, tiny_model: Model
) -> tuple[Path, Path]:
    """A catalog of the archive, and one that also knew photos that were deleted since, labelled and clustered."""
    folder = tmp_path_factory.mktemp("both")
    never, lost = folder / "never", folder / "lost"
    for catalog in (never, lost):
        index(catalog, archive, tiny_model)
    deleted = archive.parent / "deleted"
    deleted.mkdir()
    for place, name in enumerate(_SPECIES):
        wrong = deleted / _SPECIES[place - 1]
        for number in range(_EACH):
            # A reduced copy under another name of a species, and a frame that links two events to one.
            with Image.open(archive / name / f"{number:02d}.jpg") as image:
                small = image.resize((64, 48))
            wrong.mkdir(exist_ok=True)
            small.save(wrong / f"small{number:02d}.png", exif=exif(_START))
            at = _START + timedelta(days=20 * place + number // 2, minutes=4)
            path = wrong / f"between{number:02d}.jpg"
            make_photo(path, 1000 + 100 * place + number, size=(96, 72), exif=exif(at))
    index(lost, deleted, tiny_model)
    run(lost, "annotate", "folders", str(deleted))
    run(lost, "annotate", "folders", str(archive))
    run(lost, "label", "--fit")
    run(lost, "sightings")
    run(lost, "cluster")
    with CatalogStore.open(lost) as store:
        assert len(labels_in_force(store)) == 3 * 4 * _EACH
    for path in sorted(deleted.rglob("*.*")):
        path.unlink()
    index(lost, deleted, tiny_model)
    for catalog in (never, lost):
        run(catalog, "annotate", "folders", str(archive))
        run(catalog, "label", "--fit")
        run(catalog, "label")
    return never, lost


def without(value: Any, *keys: str) -> Any:
    """A JSON value without what tells one run from another."""
    if isinstance(value, dict):
        return {key: without(item, *keys) for key, item in value.items() if key not in keys}
    return [without(item, *keys) for item in value] if isinstance(value, list) else value


_COMMANDS = {
    "label": ("label",),
    "suggest": ("label", "--suggest", "10"),
    "mislabelled": ("mislabelled", "--least", "0"),
    "eval": ("eval",),
    "probe": ("probe", "fit"),
    "dedup": ("dedup",),
    "sightings": ("sightings",),
    "events": ("sightings", "--level", "events", "--dry-run"),
    "cluster": ("cluster", "--method", "kmeans", "--clusters", "4"),
    "clusters": ("cluster", "list"),
    "status": ("status",),
    "taxa": ("annotate", "taxa"),
    "similar": ("similar", "#1"),
    "verified": ("query", "#1", "--verified", "-k", "500"),
    "query": ("query", "#1", "-k", "500"),
    "refined": ("query", "#1", "-k", "500", "--refined"),
    "taxon": ("query", "#1", "--taxon", "Mallard", "-k", "500"),
}
_ROUTES = (
    "catalog",
    "photos?limit=500",
    "photo-ids",
    "photos?verified=true",
    "review?limit=50",
    "taxa?q=mall",
    "sightings?limit=100",
)
# Ids that are never used twice, times, the size on disk, and how much was lost.
_OWN = (
    *(
        "run",
        "run_id",
        "at",
        "bytes",
        "catalog",
        "id",
        "clustering",
        "cluster_id",
        "based_on",
        "kept",
        "states",
    ),
    *("edits_dropped", "missing_files", "missing_photos", "files_missing", "name", "roots", "who"),
    *("folders", "made_with", "created_at"),
)


def test_an_archive_that_lost_photos_answers_as_one_that_never_had_them(both: tuple[Path, Path]) -> None:
    never, lost = both
    for name, arguments in _COMMANDS.items():
        expected, found = answers(never, *arguments), answers(lost, *arguments)
        assert expected or name == "dedup", name
        assert without(found, *_OWN) == without(expected, *_OWN), name


def test_a_service_shows_and_counts_no_lost_photo(both: tuple[Path, Path]) -> None:
    told = []
    for catalog in both:
        for command in ("sightings", "cluster"):
            run(catalog, command)
        with running(ServeOptions(catalog=catalog, port=0)) as server:

            def get(path: str, url: str = server.url) -> bytes:
                with urllib.request.urlopen(url + path, timeout=30) as answer:
                    return bytes(answer.read())

            found = {route: without(json.loads(get(f"/api/{route}")), *_OWN) for route in _ROUTES}
            newest = json.loads(get("/api/clusters"))["runs"][0]["run"]
            found["clusters"] = without(json.loads(get(f"/api/clusters/{newest}")), *_OWN)
            lines = get("/metrics").decode().splitlines()
            found["metrics"] = [line for line in lines if line.startswith("birdsearch_photos")]
            told.append(found)
    for route in told[0]:
        assert told[1][route] == told[0][route], route


def test_what_was_clustered_and_seen_before_a_loss_is_shown_without_it(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    lost = Path(shutil.copytree(both[1], tmp_path / "catalog"))
    with CatalogStore.open(lost) as store:
        live = {label.view_id for label in labels_in_force(store)}
        every = {label.view_id for label in labels_in_force(store, with_lost=True)}
        assert len(live) == len(_SPECIES) * _EACH
        assert len(every) == 3 * len(live)
        run_ids = [state.run_id for state in list_states(store)]
        first = state_of(store, min(run_ids))
        model = store.active_model()
        assert model is not None
        assert set(first.view_ids.tolist()) <= set(allowed_views(store, model.id, Where()).tolist())
        references = LabelEstimator.open(store, model).references
        assert set(references.view_ids.tolist()) <= live


def test_the_labels_of_a_lost_photo_come_back_with_its_file(
    tmp_path: Path, make_photo: MakePhoto, tiny_model: Model
) -> None:
    catalog, folder = tmp_path / "catalog", tmp_path / "archive"
    for number in range(4):
        make_photo(folder / "Mallard" / f"{number}.jpg", number)
    index(catalog, folder, tiny_model)
    run(catalog, "annotate", "folders", str(folder))
    content = (folder / "Mallard" / "2.jpg").read_bytes()
    (folder / "Mallard" / "2.jpg").unlink()
    index(catalog, folder, tiny_model)

    def voters() -> int:
        with CatalogStore.open(catalog) as store:
            model = store.active_model()
            assert model is not None
            return len(LabelEstimator.open(store, model).references)

    assert voters() == 3
    listed = CliRunner().invoke(cli, ["annotate", "list", "--catalog", str(catalog)])
    assert "Note: 1 of these labels are of photos without a file: they are kept" in listed.stderr
    assert len(answers(catalog, "annotate", "list")) == 4
    (folder / "elsewhere.jpg").write_bytes(content)
    index(catalog, folder, tiny_model)
    assert voters() == 4


def test_photos_whose_clock_was_corrected_and_that_were_labelled_again_are_judged_once(
    tmp_path: Path, make_photo: MakePhoto, tiny_model: Model
) -> None:
    catalog, folder = tmp_path / "catalog", tmp_path / "archive"

    def write(shift: timedelta) -> None:
        for number in range(60):
            at = _START + timedelta(days=number) + shift
            path = folder / _SPECIES[number % 4] / f"{number:02d}.jpg"
            make_photo(path, number, size=(96, 72), exif=exif(at), quality=95)

    scores = []
    for shift in (timedelta(), timedelta(hours=1)):
        write(shift)
        index(catalog, folder, tiny_model)
        run(catalog, "annotate", "folders", str(folder))
        scores.append(without(answers(catalog, "eval"), *_OWN))
    # Only the clock has changed: the scores are the same, photo for photo.
    assert scores[0] == scores[1]
    with CatalogStore.open(catalog) as store:
        model = store.active_model()
        assert model is not None
        assert len(read_labelled(store, model)[0].references) == 60


def test_copies_are_one_witness(tmp_path: Path, make_photo: MakePhoto, tiny_model: Model) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    archive, copies = tmp_path / "archive", tmp_path / "copies"
    for number in range(60):
        name = _SPECIES[number % 4]
        path = archive / name / f"{number:02d}.jpg"
        make_photo(path, number, size=(96, 72), exif=exif(_START + timedelta(days=number)), quality=95)
        copy = copies / name / f"{number:02d}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(copy, quality=60, exif=exif(_START + timedelta(days=number)))
    found = {}
    for catalog, folders in ((once, [archive]), (twice, [archive, copies])):
        for folder in folders:
            index(catalog, folder, tiny_model)
            run(catalog, "annotate", "folders", str(folder))
        run(catalog, "cluster", "--method", "kmeans", "--clusters", "4")
        with CatalogStore.open(catalog) as store:
            state = current_state(store)
            assert state is not None
            seen = overview(store, state)
            judged = sum(row.judged for row in (*seen.rows, *([seen.outliers] if seen.outliers else [])))
        found[catalog] = (
            without(answers(catalog, "eval"), *_OWN),
            answers(catalog, "probe", "fit")["labels"],
            [hit["probability"] for hit in answers(catalog, "query", "#1")[0]["labels"]],
            judged,
        )
    assert found[twice] == found[once]
    assert found[once][1] == found[once][3] == 60
