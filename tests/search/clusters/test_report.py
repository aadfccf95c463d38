"""What is told about clusters: rows, sites, maps, sheets and the report; and what must not be."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import importlib.machinery
import importlib.util
import io
import itertools
import json
import math
import os
import re
import shutil
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import new_taxon
from birdsearch.search.clusters.catalog import cluster_catalog
from birdsearch.search.clusters.edit import label_source, name_cluster
from birdsearch.search.clusters.map import main_axes, map_embeddings
from birdsearch.search.clusters.report import ClusterRow, Overview, member_rows, overview, picks
from birdsearch.search.clusters.sites import binomial_tail, check_sites
from birdsearch.search.export.cluster_files import write_cluster_sheet, write_members, write_report
from birdsearch.search.export.cluster_page import map_script
from birdsearch.search.export.cluster_plots import colours, draw_map

MakePhoto = Callable[..., Path]
DIM = 8
EVIL = "<script>alert(1)<"


@dataclass(frozen=True)
class Found:
    """What the stand-in answers."""

    labels: NDArray[np.int64]
    strength: NDArray[np.float64]
    method: str = "planted"
    parameters: dict[str, Any] = field(default_factory=lambda: {"k": 10})
    scores: dict[str, Any] = field(default_factory=lambda: {"modularity": 0.5})


def planted(unit: NDArray[np.float32], *_: Any, **__: Any) -> Found:
    """The axis that a vector is near, else an outlier."""
    near = unit.max(axis=1)
    return Found(np.where(near > 0.8, unit.argmax(axis=1), -1).astype(np.int64), near.astype(np.float64))


def vector(axis: int, number: int) -> NDArray[np.float32]:
    made = np.zeros(DIM, np.float32)
    made[axis], made[(axis + 1) % DIM] = 1.0, 0.01 * number
    return made


@dataclass(frozen=True)
class Made:
    """A catalog open for writing."""

    store: CatalogStore
    model_id: int


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the catalog that all tests begin with is kept, once one of them has made it."""
    return tmp_path_factory.mktemp("report")


@pytest.fixture
def made(
    make_catalog: Callable[..., Any], make_photo: MakePhoto, kept: Path, tmp_path: Path
) -> Iterator[Made]:
    """Clusters of 20 and 6 photos with hostile names and secrets in them, and an outlier without a file."""
    if not (kept / "catalog").exists():
        fill(make_catalog(DIM), make_photo, kept / "archive")
        shutil.copytree(tmp_path / "catalog", kept / "catalog")
    folder = shutil.copytree(kept / "catalog", tmp_path / "copy")
    with CatalogStore.open(folder, "write") as store:
        yield Made(store, 1)


def fill(catalog: Any, make_photo: MakePhoto, folder: Path) -> None:
    archive = os.fsencode(folder)
    for number in range(26):
        axis = 0 if number < 20 else 1
        name = f"{EVIL}{number:02d}.jpg" if number % 2 else f"=cmd({number}).jpg"
        exif = Image.Exif()
        exif[270] = "SECRET COMMENT"
        make_photo(folder / name, number, exif=exif)
        catalog.photo(
            [vector(axis, number)],
            [(archive, os.fsencode(name), "present")],
            captured_at=f"2023-05-{number + 1:02d}T{number % 24:02d}:30:00",
            camera="Z <b>9" if axis else "D50",
            serial="7" if axis else None,
            latitude=47.123456,
            longitude=9.654321,
        )
    catalog.photo([np.ones(DIM, np.float32)], [(archive, b"gone\xff.jpg", "present")])
    cluster_catalog(catalog.store, catalog.model_id, algorithm=planted)
    name_cluster(catalog.store, 2, EVIL)


def described(made: Made) -> Overview:
    from birdsearch.indexer.catalog.clusters import require_state

    return overview(made.store, require_state(made.store))


def verify(made: Made, labels: dict[int, str]) -> None:
    record(made.store, [(view, new_taxon(name), "positive") for view, name in labels.items()], "ada", "test")


# -- rows ----------------------------------------------------------------------------------------------------


def test_a_row_says_how_many_when_where_and_what(made: Made) -> None:
    verify(made, {1: "Moss owl", 2: "Moss owl", 3: "Ghost finch", 21: "Ghost finch"})
    found = described(made)
    first, second = found.rows
    assert first == ClusterRow(
        id=1, name="", photos=20, events=20, strength=first.strength, sites=1, first="2023-05-01T00:30:00",
        last="2023-05-20T19:30:00", label="Moss owl", label_share=2 / 3, verified=3, judged=3, purity=2 / 3,
        one_site=first.one_site,
    )  # fmt: skip
    assert 0.9 < second.strength < first.strength < 1
    assert (second.name, second.photos, second.purity) == (EVIL, 6, 1.0)
    assert found.outliers is not None
    assert (found.outliers.id, found.outliers.photos, found.outliers.label) == (None, 1, None)
    assert found.purity == 3 / 4


def test_without_verified_labels_the_last_estimate_is_told(made: Made) -> None:
    with made.store.writing() as connection:
        for run, name in enumerate(("crow", "wren")):
            run_id = start_run(connection, "label", made.model_id)
            for view in range(1, 21):
                connection.execute(
                    sa.insert(schema.prediction).values(
                        view_id=view, run_id=run_id, name="rook" if view > 15 else name, rank="species",
                        probability=0.5, species=name, species_probability=0.5, margin=0.1, knn_weight=0.0,
                        unknown=0.0, flags="",
                    )
                )  # fmt: skip
            finish_run(connection, run_id, {}, "done" if run == 0 else "interrupted")
    first, second = described(made).rows
    assert (first.label, first.label_share, first.verified, first.purity) == ("crow", 0.75, 0, None)
    assert (second.label, second.label_share) == (None, None)


def test_labels_that_were_given_to_a_cluster_as_a_whole_do_not_judge_it(made: Made) -> None:
    verify(made, {1: "Owl", 2: "Owl", 3: "Wren"})
    given = [(view, new_taxon("Wren"), "positive") for view in (4, 5, 6, 7, 21)]
    record(made.store, given, "ada", label_source(1))
    found = described(made)
    first, second = found.rows
    assert (first.label, first.verified, first.judged, first.purity) == ("Wren", 7, 3, 2 / 3)
    assert (second.label, second.verified, second.judged, second.purity) == ("Wren", 1, 0, None)
    assert found.purity == 2 / 3


def test_the_commonest_label_of_equally_common_ones_is_the_first_by_name(made: Made) -> None:
    verify(made, {1: "Wren", 2: "Owl", 3: "Owl", 4: "Wren"})
    assert described(made).rows[0].label == "Owl"


def test_members_are_listed_cluster_by_cluster_the_strongest_first(made: Made) -> None:
    rows = member_rows(described(made))
    assert [row["cluster_id"] for row in rows] == [1] * 20 + [2] * 6 + [None]
    assert [row["photo_id"] for row in rows[:20]] == list(range(1, 21))
    strengths = [float(str(row["strength"])) for row in rows[:20]]
    assert strengths == sorted(strengths, reverse=True)
    assert rows[25]["name"] == EVIL


def test_members_are_written_as_csv_json_and_parquet(made: Made, tmp_path: Path) -> None:
    found = described(made)
    rows = member_rows(found)
    for name in ("a.csv", "a.json", "a.parquet"):
        write_members(tmp_path / name, found)
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == rows
    with (tmp_path / "a.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [int(row["photo_id"]) for row in table] == [row["photo_id"] for row in rows]
    assert [row["cluster_id"] for row in table[-2:]] == ["2", ""]
    with pytest.raises(InvalidInputError, match=r"\.csv, \.parquet or \.json, not 'a\.txt'"):
        write_members(tmp_path / "a.txt", found)
    with pytest.raises(InvalidInputError, match="cannot be written"):
        write_members(tmp_path / "none" / "a.csv", found)


def test_cells_that_a_spreadsheet_would_run_are_quoted(made: Made, tmp_path: Path) -> None:
    name_cluster(made.store, 1, "=cmd()")
    verify(made, {1: "+finch"})
    write_members(tmp_path / "a.csv", described(made))
    with (tmp_path / "a.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    assert (row["name"], row["label"]) == ("'=cmd()", "'+finch")


# -- sites ---------------------------------------------------------------------------------------------------


def test_a_cluster_of_one_camera_is_told_with_its_figures(made: Made) -> None:
    found = described(made)
    assert found.check is not None
    assert (found.check.kind, found.check.sites, found.check.events) == ("camera", 2, 26)
    assert found.check.information == pytest.approx(1.0)
    assert found.check.is_warning
    assert found.check.one_site == {2: ("Z <b>9 (7)", 1.0)}
    assert found.rows[1].one_site == "Z <b>9 (7)"
    assert found.warnings[-1] == found.check.sentence
    assert "clusters follow the camera: mutual information 1.00 of 1, by chance 0." in found.check.sentence


def test_sites_are_deployments_where_sightings_know_them_else_cameras_else_folders(made: Made) -> None:
    with made.store.writing() as connection:
        connection.execute(sa.update(schema.photo).where(schema.photo.c.id > 9).values(camera=None))
    found = described(made)
    assert found.members.site_kind == "folder"
    assert found.check is None
    with made.store.writing() as connection:
        run_id = start_run(connection, "sightings", made.model_id)
        deployment = connection.execute(
            sa.insert(schema.deployment)
            .values(name="north 3", site="north", run_id=run_id)
            .returning(schema.deployment.c.id)
        ).scalar_one()
        for photo in (1, 2):
            connection.execute(
                sa.insert(schema.event).values(
                    run_id=run_id, photo_id=photo, burst=1, event=1, sighting=1,
                    deployment_id=deployment if photo == 1 else None,
                )
            )  # fmt: skip
        finish_run(connection, run_id, {})
    members = described(made).members
    assert (members.site_kind, members.sites[:2]) == ("deployment", ("north 3", None))


def test_chance_is_taken_off_and_the_order_of_events_does_not_count() -> None:
    seed = 11
    print("seed", seed)
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 30, 240)
    sites = [f"s{number}" for number in rng.integers(0, 8, 240)]
    found = check_sites("camera", clusters, sites)
    assert found is not None
    # Many small clusters tell of sites by chance alone; adjusted, next to nothing is left.
    assert found.information > 0.1
    assert abs(found.adjusted) < 0.05
    assert not found.is_warning
    assert found.p_value > 0.01
    order = rng.permutation(240)
    assert check_sites("camera", clusters[order], [sites[place] for place in order]) == found
    same = check_sites("camera", clusters, [f"c{number}" for number in clusters])
    assert same is not None
    assert same.information == pytest.approx(1.0)
    assert same.p_value == 1 / 200


def information(clusters: tuple[int, ...], sites: tuple[str, ...]) -> float:
    """Normalised mutual information, term by term."""
    count = len(clusters)

    def entropy(values: list[Any]) -> float:
        return -math.fsum(each / count * math.log(each / count) for each in Counter(values).values())

    left, right = entropy(list(clusters)), entropy(list(sites))
    both = entropy(list(zip(clusters, sites, strict=True)))
    return (left + right - both) / ((left + right) / 2)


def test_information_is_that_of_the_definition_and_chance_the_mean_of_all_permutations() -> None:
    clusters, sites = (0, 0, 0, 1, 1, 2, 2), ("a", "a", "b", "b", "b", "c", "a")
    every = [information(clusters, order) for order in itertools.permutations(sites)]
    found = check_sites("camera", np.array(clusters), sites, permutations=2000)
    assert found is not None
    assert found.information == pytest.approx(information(clusters, sites))
    assert found.chance == pytest.approx(sum(every) / len(every), abs=0.01)
    assert found.adjusted == pytest.approx((found.information - found.chance) / (1 - found.chance))
    share = sum(value >= found.information - 1e-9 for value in every) / len(every)
    assert found.p_value == pytest.approx(share, abs=0.03)


def test_outliers_and_unknown_sites_do_not_count_and_one_site_is_no_question() -> None:
    clusters = np.array([0, 0, 1, 1, -1, 1])
    found = check_sites("camera", clusters, ["a", "a", "b", "b", "c", None])
    assert found is not None
    assert (found.sites, found.events) == (2, 4)
    # Two events of one site are no evidence.
    assert found.one_site == {}
    assert check_sites("camera", clusters, ["a"] * 6) is None
    assert check_sites("camera", np.zeros(4, np.int64), ["a", "b", "a", "b"]) is None
    assert check_sites("camera", np.zeros(0, np.int64), []) is None
    with pytest.raises(InvalidInputError, match="6 events need as many sites"):
        check_sites("camera", clusters, ["a"])


def test_a_site_that_has_nearly_everything_is_no_sign() -> None:
    clusters = np.repeat([0, 1], 50)
    sites = ["a"] * 48 + ["b"] * 2 + ["a"] * 48 + ["b"] * 2
    found = check_sites("camera", clusters, sites)
    assert found is not None
    assert found.one_site == {}


def test_the_tail_of_the_binomial_distribution_is_its_sum() -> None:
    for trials, p in itertools.product((1, 7, 30), (0.0, 0.1, 0.5, 1.0)):
        for successes in range(trials + 1):
            expected = math.fsum(
                math.comb(trials, each) * p**each * (1 - p) ** (trials - each)
                for each in range(successes, trials + 1)
            )
            assert binomial_tail(successes, trials, p) == pytest.approx(expected, abs=1e-12)


# -- choices and maps ----------------------------------------------------------------------------------------


def test_a_sheet_has_the_strongest_some_between_and_the_weakest_marked() -> None:
    seed = 2
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for size in (1, 5, 11, 12, 13, 14, 15, 40, 1000):
        order = rng.permutation(size)
        chosen = picks(order, np.arange(size))
        ranks = [int(order[place]) for place, _ in chosen]
        assert ranks == sorted(set(ranks))
        assert len(chosen) == min(size, 12)
        marked = [rank for (_, weak), rank in zip(chosen, ranks, strict=True) if weak]
        assert marked == ([] if size < 12 else [size - 3, size - 2, size - 1])
        if size >= 12:
            assert ranks[:6] == list(range(6))
    assert len(picks(np.arange(100), np.arange(100), 60)) == 60


def test_no_event_is_shown_twice_while_there_are_others() -> None:
    events = np.repeat(np.arange(20), 10)
    chosen = [place for place, _ in picks(np.arange(200), events)]
    assert len({int(events[place]) for place in chosen}) == 12
    few = picks(np.arange(200), np.repeat([0, 1], 100))
    assert len(few) == 12
    assert not any(weak for _, weak in few)


def test_a_map_is_the_same_again_within_0_and_1_and_a_sample_of_many() -> None:
    seed = 4
    print("seed", seed)
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(40, DIM)).astype(np.float32)
    found = map_embeddings(unit)
    assert (found.method, found.points.shape) == ("pca", (40, 2))
    assert found.points.dtype == np.float32
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    assert np.ptp(found.points, axis=0).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(map_embeddings(unit).points, found.points)
    sample = map_embeddings(unit, most=10, seed=1)
    assert len(sample.rows) == 10
    assert sample.note.endswith("a sample of 10 of 40")
    assert (np.diff(sample.rows) > 0).all()
    for count in (0, 1, 2):
        assert map_embeddings(unit[:count]).points.shape == (count, 2)
    assert map_embeddings(np.ones((5, DIM), np.float32)).points.tolist() == [[0.5, 0.5]] * 5


def test_pacmap_is_used_where_it_is_and_leaves_the_threads_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in takes its place: compiling the real one takes longer than all tests here."""
    import faiss

    class PaCMAP:
        def __init__(self, **options: object) -> None:
            assert options == {"n_components": 2, "random_state": 5}

        def fit_transform(self, unit: NDArray[np.float32], init: str) -> NDArray[np.float32]:
            assert init == "pca"
            faiss.omp_set_num_threads(1)
            return unit[:, :2] * 7

    stand_in = types.ModuleType("pacmap")
    stand_in.PaCMAP = PaCMAP  # type: ignore[attr-defined]
    stand_in.__spec__ = importlib.machinery.ModuleSpec("pacmap", None)
    monkeypatch.setitem(sys.modules, "pacmap", stand_in)
    unit = np.random.default_rng(3).normal(size=(60, DIM)).astype(np.float32)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        found = map_embeddings(unit, seed=5)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(threads)
    assert (found.method, found.note) == ("pacmap", "PaCMAP")
    assert np.corrcoef(found.points[:, 0], unit[:, 0])[0, 1] == pytest.approx(1.0)


def test_the_main_axes_are_those_of_the_singular_value_decomposition() -> None:
    rng = np.random.default_rng(6)
    unit = (rng.normal(size=(30, DIM)) * np.arange(1, DIM + 1)).astype(np.float32)
    centred = unit - unit.mean(axis=0, dtype=np.float64)
    expected = np.abs(centred @ np.linalg.svd(centred)[2][:2].T)
    np.testing.assert_allclose(np.abs(main_axes(unit)), expected, atol=1e-5)


def test_without_the_extra_the_main_axes_are_shown_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    unit = np.random.default_rng(8).normal(size=(80, DIM)).astype(np.float32)
    found = map_embeddings(unit)
    assert found.method == "pca"
    assert "pip install" in found.note
    with pytest.raises(InvalidInputError, match="pacmap is not installed"):
        map_embeddings(unit, method="pacmap")
    with pytest.raises(InvalidInputError, match="the method is 'tsne'"):
        map_embeddings(unit, method="tsne")


def test_colours_are_as_many_as_asked_and_a_plot_has_no_metadata() -> None:
    for count in (0, 1, 6, 7, 100):
        found = colours(count)
        assert len(set(found)) == count
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in found)
    points = np.random.default_rng(9).random((30, 2)).astype(np.float32)
    groups = np.arange(30) % 3 - 1
    content = draw_map(points, groups, ["1 $x$", "2 \udcff"], "title")
    assert content == draw_map(points, groups, ["1 $x$", "2 \udcff"], "title")
    with Image.open(io.BytesIO(content)) as picture:
        assert set(picture.info) <= {"dpi"}
    assert draw_map(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), [], "none")


# -- the report ----------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """The elements, the text and the scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[str | None, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and not self.scripts[-1][1]:
            self.scripts[-1] = (self.scripts[-1][0], data)
        else:
            self.text += data

    def images(self) -> list[Image.Image]:
        found: list[Image.Image] = []
        for tag, attributes in self.elements:
            if tag == "img":
                kind, data = str(attributes["src"]).split(",", 1)
                assert kind == "data:image/jpeg;base64"
                found.append(Image.open(io.BytesIO(base64.b64decode(data))))
        return found


def test_a_report_stands_alone_and_escapes_what_comes_from_outside(made: Made, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    files = write_report(made.store, described(made), tmp_path / "report", lambda *one: told.append(one))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "clusters.html",
        "map.png",
        "members.csv",
    ]
    assert files.notes == ()
    assert told[-1] == ("contact sheets", 3, 3)
    text = files.page.read_text(encoding="utf-8")
    page = Page(text)
    # One script that runs, and it is the one that the policy names; one of data, which has no "<".
    kinds = [kind for kind, _ in page.scripts]
    assert kinds == ["application/json", None]
    digest = base64.b64encode(hashlib.sha256(map_script().encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in text
    assert page.scripts[1][1] == map_script()
    assert "<" not in page.scripts[0][1]
    assert not re.findall(r"https?://|url\(|fetch\(|XMLHttp|import\(", text)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in text
    assert EVIL in page.text
    assert "Z <b>9 (7)" in page.text
    assert len(page.images()) == 12 + 6
    assert "Not shown: " in page.text


def test_a_report_shows_neither_coordinates_nor_metadata(made: Made, tmp_path: Path) -> None:
    write_report(made.store, described(made), tmp_path / "report")
    found = described(made)
    for name in ("sheet.png", "sheet.html"):
        write_cluster_sheet(tmp_path / "report" / name, found, found.rows[0])
    for path in (tmp_path / "report").iterdir():
        content = path.read_bytes()
        for secret in (b"SECRET", b"47.12", b"9.654"):
            assert secret not in content, path
    for image in Page((tmp_path / "report" / "clusters.html").read_text()).images():
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_the_map_has_every_photo_with_its_cluster_and_small_pictures_of_those_on_no_sheet(
    made: Made, tmp_path: Path
) -> None:
    files = write_report(made.store, described(made), tmp_path / "report")
    page = Page(files.page.read_text())
    data = json.loads(page.scripts[0][1])
    assert sorted(data["photo"]) == list(range(1, 28))
    cluster = data["kinds"][0]
    assert cluster["names"] == ["1", f"2 {EVIL}"]
    of = dict(zip(data["photo"], cluster["of"], strict=True))
    assert [of[photo] for photo in range(1, 28)] == [0] * 20 + [1] * 6 + [-1]
    on_sheets = {
        int(value)
        for tag, attributes in page.elements
        if tag == "img" and (value := attributes["data-photo"])
    }
    assert len(on_sheets) == 18
    assert {int(photo) for photo in data["thumbs"]} == set(range(1, 27)) - on_sheets
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in data["thumbs"].values())


def test_without_matplotlib_the_report_is_written_all_the_same(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    files = write_report(made.store, described(made), tmp_path / "report")
    assert files.picture is None
    assert "no map.png" in files.notes[0]
    assert "birdsearch[plots]" in files.notes[0]
    assert files.page.exists()


def test_a_report_of_the_same_clusters_is_the_same_file(made: Made, tmp_path: Path) -> None:
    one = write_report(made.store, described(made), tmp_path / "one")
    other = write_report(made.store, described(made), tmp_path / "other")
    assert one.page.read_bytes() == other.page.read_bytes()
    assert one.picture is not None
    assert other.picture is not None
    assert one.picture.read_bytes() == other.picture.read_bytes()


def test_a_report_where_it_cannot_be_is_an_error(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="cannot make this folder"):
        write_report(made.store, described(made), tmp_path / "file" / "report")


def test_a_sheet_of_one_cluster_is_a_picture_or_a_page(made: Made, tmp_path: Path) -> None:
    found = described(made)
    write_cluster_sheet(tmp_path / "a.png", found, found.rows[0], 12)
    with Image.open(tmp_path / "a.png") as sheet:
        assert not sheet.info
        small = sheet.size
    write_cluster_sheet(tmp_path / "a.png", found, found.rows[0], 60)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size[0] == small[0]
        assert sheet.size[1] > small[1]
    write_cluster_sheet(tmp_path / "a.html", found, found.rows[1])
    page = Page((tmp_path / "a.html").read_text())
    assert len(page.images()) == 6
    assert page.scripts == []
    assert found.outliers is not None
    write_cluster_sheet(tmp_path / "b.png", found, found.outliers)
    with pytest.raises(InvalidInputError, match=r"\.png or \.html"):
        write_cluster_sheet(tmp_path / "a.gif", found, found.rows[1])
