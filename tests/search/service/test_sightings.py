"""Sightings over HTTP: joined by a job, stored, and told with the labels that photos have now."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.sightings.find import FoundSightings, find_sightings
from birdsearch.search.sightings.store import store_sightings
from tests.search.service.test_jobs import finished

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer


def found_in(path: Path, mode: Any = "read") -> FoundSightings:
    """What is to be found in a catalog; stored if it is opened for writing."""
    with CatalogStore.open(path, mode) as store:
        record = store.active_model()
        assert record is not None
        found = find_sightings(store, record, estimator=LabelEstimator.open(store, record))
        if store.writable:
            store_sightings(store, found, {})
    return found


@pytest.fixture(scope="module")
def seen(catalog_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the catalog with stored sightings. Do not write to it."""
    path = Path(shutil.copytree(catalog_path, tmp_path_factory.mktemp("seen") / "catalog"))
    found_in(path, "write")
    return path


@pytest.fixture
def own(seen: Path, tmp_path: Path, make_server: MakeServer) -> RunningServer:
    return make_server(catalog=Path(shutil.copytree(seen, tmp_path / "catalog")))


def get(server: RunningServer, path: str = "", **query: Any) -> Any:
    answer = httpx.get(f"{server.url}/api/sightings{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def everything(server: RunningServer, **query: Any) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = get(server, limit=3, **query, **({"cursor": cursor} if cursor else {}))
        listed += page["sightings"]
        cursor = page["next"]
        if cursor is None:
            assert page["total"] == len(listed)
            return listed


def label(server: RunningServer, photo_ids: list[int], taxon: str) -> None:
    items = [{"photo_id": photo_id, "taxon": taxon} for photo_id in photo_ids]
    answer = httpx.post(f"{server.url}/api/annotations", json={"items": items})
    assert answer.status_code in (200, 201), answer.text


def test_what_is_stored_is_told_as_it_was_found(own: RunningServer) -> None:
    wanted = found_in(own.options.catalog).listed
    listed = everything(own)
    assert len(wanted) > 3
    assert [
        (one["id"], one["taxon"], one["rank"], one["first"], one["last"], one["site"], one["verified"])
        for one in listed
    ] == [
        (one.number, one.name, one.rank, one.started_at, one.ended_at, one.site, one.verified)
        for one in wanted
    ]
    assert [(one["photos"], one["frames"], one["events"], one["cameras"]) for one in listed] == [
        (one.photos, one.frames, one.events, one.cameras) for one in wanted
    ]
    for shown, one in zip(listed, wanted, strict=True):
        assert shown["photo_ids"][0] == one.photo_id
        assert shown["probability"] == pytest.approx(one.probability)
        assert (shown["lat"], shown["lon"]) == pytest.approx((one.latitude, one.longitude), abs=1e-5)
        assert get(own, f"/{one.number}")["photos"] == one.photos
    every = [photo for one in wanted for photo in get(own, f"/{one.number}")["photo_ids"]]
    assert sorted(every) == sorted(set(every))


def test_labels_change_what_sightings_are_called_and_not_what_they_are(own: RunningServer) -> None:
    before = everything(own)
    one = next(one for one in before if not one["verified"])
    label(own, get(own, f"/{one['id']}")["photo_ids"], "Eurasian hoopoe")
    after = get(own, f"/{one['id']}")
    assert (after["taxon"], after["scientific_name"]) == ("Eurasian hoopoe", "Upupa epops")
    assert (after["verified"], after["probability"]) == (True, None)
    assert [each["photos"] for each in everything(own)] == [each["photos"] for each in before]
    for name in ("Eurasian hoopoe", "upupa", "Upupidae", "Bucerotiformes"):
        assert [each["id"] for each in everything(own, taxon=name)] == [one["id"]], name


def test_sightings_are_chosen_by_time(own: RunningServer) -> None:
    listed = [one for one in everything(own) if one["first"] is not None]
    middle = listed[len(listed) // 2]
    day = middle["first"][:10]
    of_day = everything(own, since=day, until=day)
    assert middle["id"] in {one["id"] for one in of_day}
    assert of_day == [one for one in listed if one["first"][:10] <= day <= one["last"][:10]]
    assert get(own, until="1900")["total"] == 0
    assert httpx.get(f"{own.url}/api/sightings", params={"since": "tomorrow"}).status_code == 422
    assert httpx.get(f"{own.url}/api/sightings", params={"taxon": "nothing such"}).status_code == 422


def test_places_of_sensitive_species_are_told_coarsely_unless_exact_ones_are_wanted(
    own: RunningServer, make_server: MakeServer
) -> None:
    sensitive = next(taxon.common_name for taxon in Taxonomy.load() if taxon.sensitive)
    one = next(one for one in everything(own) if one["lat"] is not None)
    assert not one["coarse"]
    label(own, [one["photo_ids"][0]], sensitive)
    after = get(own, f"/{one['id']}")
    assert after["coarse"]
    assert after["lat"] == pytest.approx(one["lat"], abs=0.0501)
    assert (after["lat"], after["lon"]) == (round(after["lat"], 1), round(after["lon"], 1))
    exact = make_server(catalog=own.options.catalog, exact_places=True)
    told = get(exact, f"/{one['id']}")
    assert (told["lat"], told["lon"], told["coarse"]) == (one["lat"], one["lon"], False)


def test_finding_sightings_is_a_job(make_server: MakeServer) -> None:
    server = make_server()
    assert get(server) == {"run": None, "sightings": [], "next": None, "total": 0}
    answer = httpx.post(f"{server.url}/api/sightings", json={})
    assert answer.status_code == 202
    job = finished(server, answer.json())
    assert job["state"] == "done", job
    first = get(server)
    assert (first["run"], first["total"]) == (job["result"]["run"], job["result"]["sightings"])
    body = {"burst_gap_s": 0, "event_gap_s": 0, "sighting_gap_s": 0}
    finer = finished(server, httpx.post(f"{server.url}/api/sightings", json=body).json())
    assert finer["result"]["sightings"] > job["result"]["sightings"]
    assert get(server)["run"] == finer["result"]["run"]


def test_what_is_no_request_is_refused(server: RunningServer, own: RunningServer) -> None:
    assert httpx.post(f"{server.url}/api/sightings").status_code == 403
    assert httpx.get(f"{own.url}/api/sightings/999999").status_code == 404
    assert httpx.get(f"{own.url}/api/sightings/0").status_code == 422
    for body in ({"event_gap_s": -1}, {"burst_gap_s": 10, "event_gap_s": 1}, {"gap": 1}):
        assert httpx.post(f"{own.url}/api/sightings", json=body).status_code == 422, body
