"""Places of sensitive species: told coarsely wherever they are told, and not found out by asking."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from birdsearch.cli import cli
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.annotations import record, undo
from birdsearch.indexer.catalog.filtered_photos import allowed_views, great_circle_km
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import add_taxa
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.query.location_privacy import coarsening, sensitive_photos
from birdsearch.search.query.location_privacy.coarsening import (
    SensitiveNames,
    SensitivePhotos,
    coarse,
    coarse_places,
)

SENSITIVE, COMMON, CROW = "Red kite", "Great tit", "crow"
CLASSES = (CROW, SENSITIVE, COMMON)
PLACE = (47.1234567, 8.5678912)


@dataclass
class Placed:
    """A catalog whose network takes a photo for what a test says, and whose photos have places."""

    path: Path
    store: CatalogStore
    views: dict[str, int] = field(default_factory=dict)
    photos: dict[str, int] = field(default_factory=dict)

    def photo(self, catalog: Any, name: str, looks_like: str, place: tuple[float, float] = PLACE) -> int:
        vector = np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(looks_like)] * 9
        # Photos differ a little, so that none is a copy of another.
        vector += np.float32(1e-3) * np.random.default_rng(len(self.views)).normal(size=3).astype(np.float32)
        # Each on a day of its own, out of reach of the others.
        time = (datetime(2024, 5, 1, 10) + timedelta(days=len(self.views))).isoformat()
        photo_id, view_ids = catalog.photo([vector], latitude=place[0], longitude=place[1], captured_at=time)
        self.views[name], self.photos[name] = view_ids[0], photo_id
        return int(photo_id)

    def verify(self, name: str, taxon: str, verdict: str = "positive") -> int:
        found = Taxonomy.load().find(taxon)
        assert found is not None
        run_id = record(self.store, [(self.views[name], found, verdict)], "me", "test").run_id
        assert run_id is not None
        return run_id

    def predict(self, **species: str) -> None:
        with self.store.writing() as connection:
            run_id = start_run(connection, "label")
            for name, said in species.items():
                connection.execute(
                    sa.insert(schema.prediction).values(
                        view_id=self.views[name],
                        run_id=run_id,
                        name="bird",
                        rank="bird",
                        probability=0.9,
                        species=said,
                        species_probability=0.6,
                        margin=0.1,
                        knn_weight=0.0,
                        unknown=0.1,
                        flags="",
                    )
                )
            finish_run(connection, run_id, {})

    def hidden(self) -> set[str]:
        found = SensitivePhotos(self.store).among(list(self.photos.values()))
        return {name for name, photo_id in self.photos.items() if photo_id in found}


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Any:
    catalog = make_catalog(len(CLASSES))
    with catalog.store.writing() as connection:
        connection.execute(
            sa.update(schema.model).values(
                classes=json.dumps(CLASSES),
                head_weight=np.eye(len(CLASSES), dtype="<f4").tobytes(),
                head_bias=bytes(4 * len(CLASSES)),
            )
        )
    return catalog


@pytest.fixture
def placed(made: Any) -> Placed:
    return Placed(made.store.path, made.store)


# -- which photos ----------------------------------------------------------------------------------------------


def test_a_place_becomes_the_middle_of_a_cell() -> None:
    for degrees, told in ((47.1234567, 47.1), (-10.07, -10.1), (179.96, 180.0), (0.04, 0.0), (-0.04, 0.0)):
        assert coarse(degrees) == told
        assert coarse_places(np.array([degrees, np.nan]))[0] == told
    assert np.isnan(coarse_places(np.array([np.nan]))[0])


def test_names_are_sensitive_however_they_are_spelt() -> None:
    names = SensitiveNames(
        Taxonomy.load(), [("Rotmilan", "Milvus milvus"), ("Cape Verde kite", "Milvus milvus fasciicauda")]
    )
    for name in (SENSITIVE, "red-kite", "RED KITE", "Milvus milvus", "Rotmilan", "Cape Verde kite"):
        assert name in names, name
    for other in (COMMON, CROW, "Milvus", "", None, 3):
        assert other not in names, other
    assert names.any_of(None, COMMON, SENSITIVE)
    assert not names.any_of(None, COMMON)


def test_any_label_that_says_so_makes_a_photo_sensitive(made: Any, placed: Placed) -> None:
    for name in ("verified", "perhaps", "denied", "undone", "predicted", "formerly", "other"):
        placed.photo(made, name, CROW)
    placed.photo(made, "by network", SENSITIVE)
    placed.photo(made, "both", SENSITIVE)
    assert placed.hidden() == {"by network", "both"}
    placed.verify("verified", SENSITIVE)
    placed.verify("perhaps", SENSITIVE, "uncertain")
    placed.verify("denied", SENSITIVE, "negative")
    placed.verify("both", COMMON)
    undo(placed.store, placed.verify("undone", SENSITIVE))
    placed.predict(formerly=SENSITIVE)
    placed.predict(predicted=SENSITIVE, other=COMMON)
    expected = {"verified", "perhaps", "predicted", "by network", "both"}
    assert placed.hidden() == expected
    # A name of one's own for a sensitive species, which the taxonomy does not have.
    add_taxa(
        placed.store,
        "common_name,scientific_name,family,order\nRotmilan,Milvus milvus,Accipitridae,Accipitriformes\n",
    )
    placed.predict(other="Rotmilan")
    assert placed.hidden() == expected - {"predicted"} | {"other"}


def test_many_photos_are_told_apart_as_few_are(
    made: Any, placed: Placed, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(7)
    for number in range(60):
        placed.photo(made, str(number), CLASSES[rng.integers(3)])
        if rng.random() < 0.2:
            placed.verify(str(number), CLASSES[rng.integers(1, 3)])
    placed.predict(**{str(number): CLASSES[rng.integers(3)] for number in range(0, 60, 7)})
    expected = placed.hidden()
    assert 10 < len(expected) < 50
    monkeypatch.setattr(coarsening, "FEW", 5)
    monkeypatch.setattr(sensitive_photos, "FEW", 5)
    assert placed.hidden() == expected
    known = SensitivePhotos(placed.store)
    assert len(known.among(list(placed.photos.values()))) == len(expected)
    # What it knows already is asked for again, and a photo is added.
    placed.photo(made, "new", SENSITIVE)
    assert len(known.among(list(placed.photos.values()))) == len(expected) + 1
    assert known.among([10**9]) == frozenset()
    assert known.among([]) == frozenset()


def test_a_photo_whose_vector_is_damaged_is_hidden_until_it_is_embedded_again(
    made: Any, placed: Placed
) -> None:
    for name, looks_like in (("kite", SENSITIVE), ("tit", COMMON)):
        placed.photo(made, name, looks_like)
    assert placed.hidden() == {"kite"}
    embedding = schema.embedding.c
    with placed.store.writing() as connection:
        for view_id in placed.views.values():
            vector = connection.execute(
                sa.select(embedding.vector).where(embedding.view_id == view_id)
            ).scalar_one()
            flipped = bytes([vector[0], vector[1], vector[2], vector[3] ^ 0x40]) + vector[4:]
            connection.execute(
                sa.update(schema.embedding).where(embedding.view_id == view_id).values(vector=flipped)
            )
    # Nobody can tell any more which of them showed a kite.
    assert placed.hidden() == {"kite", "tit"}


# -- asking does not find it out -------------------------------------------------------------------------------


def test_near_and_bbox_see_what_is_told(made: Any, placed: Placed) -> None:
    seed = 11
    print("seed", seed)
    rng = np.random.default_rng(seed)
    shown: dict[int, tuple[float, float]] = {}
    for number in range(120):
        place = (float(rng.uniform(-1, 1)), float(rng.choice([rng.uniform(-1, 1), rng.uniform(179, 181)])))
        place = (place[0], place[1] - 360 if place[1] > 180 else place[1])
        looks_like = CLASSES[rng.integers(3)]
        placed.photo(made, str(number), looks_like, place)
        is_hidden = looks_like == SENSITIVE
        shown[placed.views[str(number)]] = (coarse(place[0]), coarse(place[1])) if is_hidden else place
    sensitive = SensitivePhotos(placed.store)
    counts = []
    for _ in range(120):
        lat, lon = rng.uniform(-1.2, 1.2), rng.choice([rng.uniform(-1.2, 1.2), 180.0, -179.9, 179.95])
        km = float(rng.choice([3.0, 15.0, 60.0]))
        near = Where(near=(lat, lon, km), coarse_by=sensitive)
        expected = [
            view
            for view, (one, other) in shown.items()
            if great_circle_km(lat, lon, np.array([one]), np.array([other]))[0] <= km
        ]
        assert allowed_views(made.store, made.model_id, near).tolist() == expected
        south, north = sorted(rng.uniform(-1, 1, 2))
        west, east = rng.choice([[-0.52, 0.48], [179.5, -179.5], [-180.0, -179.6], [0.1, 0.3]])
        box = Where(bbox=(south, west, north, east), coarse_by=sensitive)
        turned = west > east or 180.0 in (abs(west), abs(east))
        inside = [
            view
            for view, (one, other) in shown.items()
            if south <= one <= north
            and (
                (west <= other <= east if west <= east else other >= west or other <= east)
                or (turned and abs(other) == 180.0)
            )
        ]
        assert allowed_views(made.store, made.model_id, box).tolist() == inside
        counts.append(len(inside))
    assert min(counts) < 5 < max(counts)


def test_two_places_in_one_cell_cannot_be_told_apart(made: Any, placed: Placed) -> None:
    places_of = {"one": (47.1234567, 8.5678912), "other": (47.0712, 8.6341)}
    for name, place in places_of.items():
        placed.photo(made, name, SENSITIVE, place)
    sensitive = SensitivePhotos(placed.store)
    both, none = set(placed.views.values()), set[int]()
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(200):
        lat, lon, km = 47.1 + rng.normal() * 0.05, 8.6 + rng.normal() * 0.05, float(rng.uniform(0.1, 10))
        found = set(
            allowed_views(made.store, made.model_id, Where(near=(lat, lon, km), coarse_by=sensitive)).tolist()
        )
        assert found in (both, none)
        seen.append(found)
    assert both in seen
    assert none in seen
    # With exact places they are.
    exact = allowed_views(made.store, made.model_id, Where(near=(*places_of["one"], 0.1))).tolist()
    assert exact == [placed.views["one"]]


# -- the API ---------------------------------------------------------------------------------------------------


def get(server: Any, path: str, **parameters: object) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}?{urlencode(parameters)}", timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def shown(made: Any, placed: Placed, _session_environment: None) -> Placed:
    placed.photo(made, "kite", SENSITIVE)
    placed.photo(made, "tit", COMMON)
    placed.photo(made, "verified", CROW)
    placed.verify("verified", SENSITIVE)
    placed.photo(made, "labelled", CROW)
    placed.predict(labelled=SENSITIVE)
    return placed


def test_fault_75_the_api_tells_coarse_places_unless_asked(
    shown: Placed, make_server: Callable[..., Any]
) -> None:
    server = make_server(catalog=shown.path, read_only=True, originals=True)
    exact = make_server(catalog=shown.path, read_only=True, originals=True, exact_places=True)
    for name, photo_id in shown.photos.items():
        is_hidden = name != "tit"
        found = get(server, f"/api/photos/{photo_id}")
        assert found["coarse"] is is_hidden, name
        assert (found["lat"], found["lon"]) == ((47.1, 8.6) if is_hidden else PLACE), name
        # The file would tell it.
        assert (found["image"] is None) is is_hidden
        told = get(exact, f"/api/photos/{photo_id}")
        assert (told["lat"], told["lon"], told["coarse"]) == (*PLACE, False)
        assert told["image"] is not None
    page = get(server, "/api/photos")["photos"]
    assert sum(photo["coarse"] for photo in page) == 3
    text = json.dumps(page)
    assert text.count("47.1234567") == 1
    kite = shown.photos["kite"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, f"/api/photos/{kite}/image")
    with caught.value as refused:
        assert refused.code == 404
        assert "exact place" in json.loads(refused.read())["detail"]


def test_fault_75_filters_of_the_api_see_coarse_places(
    shown: Placed, make_server: Callable[..., Any]
) -> None:
    server = make_server(catalog=shown.path, read_only=True)
    exact = make_server(catalog=shown.path, read_only=True, exact_places=True)
    here, cell = f"{PLACE[0]},{PLACE[1]},0.5", "47.1,8.6,0.5"
    box = "47.12,8.56,47.13,8.57"
    hidden = [shown.photos[name] for name in ("kite", "verified", "labelled")]
    for endpoint in ("/api/photo-ids", "/api/photos"):

        def ids(found: Any) -> list[int]:
            return found["ids"] if "ids" in found else [photo["id"] for photo in found["photos"]]

        assert ids(get(server, endpoint, near=here)) == [shown.photos["tit"]]
        assert ids(get(server, endpoint, bbox=box)) == [shown.photos["tit"]]
        assert ids(get(server, endpoint, near=cell)) == hidden
        assert sorted(ids(get(exact, endpoint, near=here))) == sorted(shown.photos.values())
        assert sorted(ids(get(exact, endpoint, bbox=box))) == sorted(shown.photos.values())
    page = get(server, "/api/photos", near=cell, limit=2)
    assert page["total"] == 3
    rest = get(server, "/api/photos", near=cell, limit=2, cursor=page["next"])
    assert [photo["id"] for photo in page["photos"] + rest["photos"]] == hidden
    assert (rest["next"], rest["total"]) == (None, 3)


# -- exports ---------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def test_fault_75_queries_are_exported_with_coarse_places_unless_asked(shown: Placed) -> None:
    arguments = ("query", "#" + str(shown.photos["tit"]), "--include-self", "--catalog", str(shown.path))
    result = run(*arguments, "--format", "json")
    (answer,) = json.loads(result.stdout)
    by_id = {hit["photo_id"]: hit for hit in answer["hits"]}
    assert len(by_id) == 4
    for name, photo_id in shown.photos.items():
        hit = by_id[photo_id]
        assert (hit["lat"], hit["lon"]) == (PLACE if name == "tit" else (47.1, 8.6))
        assert hit.get("coarse", False) is (name != "tit")
    assert "places of 3 photos of sensitive species are coarsened" in result.stderr
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    assert sorted(row["lat"] for row in rows) == ["47.1", "47.1", "47.1", "47.1234567"]
    table = run(*arguments).stdout
    assert table.count("47.1, 8.6") == 3
    assert table.count("47.1235, 8.5679") == 1
    told = json.loads(run(*arguments, "--format", "json", "--exact-places").stdout)[0]["hits"]
    assert {hit["lat"] for hit in told} == {PLACE[0]}


def test_fault_75_sightings_are_exported_with_coarse_places_unless_asked(shown: Placed) -> None:
    arguments = ("sightings", "--dry-run", "--catalog", str(shown.path), "--format", "csv")
    places_of = [
        (row["latitude"], row["is_coarse"]) for row in csv.DictReader(io.StringIO(run(*arguments).stdout))
    ]
    assert sorted(places_of) == [("47.1", "true")] * 3 + [("47.123457", "false")]
    exact = csv.DictReader(io.StringIO(run(*arguments, "--exact-places").stdout))
    assert {row["latitude"] for row in exact} == {"47.123457"}
