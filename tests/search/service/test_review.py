"""What to verify next over HTTP: the photos that teach the most, and why each is shown."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.labels.suggest import Candidates, suggest
from tests.search.service.test_jobs import finished, until

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer


def get(server: RunningServer, **query: Any) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/api/review", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reading(server: RunningServer) -> bool:
    """Whether it reads in the background what is doubtful."""
    refresh = server.service.review._refresh
    return refresh is not None and refresh.is_alive()


def ids(review: dict[str, Any]) -> list[int]:
    return [item["photo"]["id"] for item in review["items"]]


def test_the_photos_that_teach_the_most_come_first(server: RunningServer) -> None:
    store, estimator = server.service.store, server.service.catalog.label_estimator()
    wanted = suggest(store, estimator, 8)
    views = store.views([one.view_id for one in wanted])
    review = get(server, limit=8)
    assert ids(review) == [views[one.view_id].photo_id for one in wanted]
    assert len(review["items"]) == 8
    verified = {label.photo_id for label in labels_in_force(store)}
    assert not verified & set(ids(review))
    assert review["photos"] == store.counts().photos
    assert review["verified"] == len(verified)
    for item, one in zip(review["items"], wanted, strict=True):
        assert item["labels"][0]["name"] == one.species
        assert item["labels"][0]["probability"] == pytest.approx(one.species_probability)
        assert item["unknown"] == pytest.approx(one.unknown)
        assert item["reason"]
        assert {voter["photo_id"] for voter in item["evidence"]["neighbours"]} <= verified
        paths = [voter["path"] for voter in item["evidence"]["neighbours"]]
        assert all(path.startswith("archive/") for path in paths)


def test_photos_can_be_ordered_by_one_sign_alone(server: RunningServer) -> None:
    unknown = [item["unknown"] for item in get(server, order="unknown", limit=200)["items"]]
    assert len(unknown) > 3
    assert unknown == sorted(unknown, reverse=True)
    doubtful = get(server, order="doubtful", limit=200)["items"]
    margins = [item["labels"][0]["probability"] - item["labels"][1]["probability"] for item in doubtful]
    assert margins == pytest.approx(sorted(margins))


def test_only_photos_that_meet_the_conditions_are_shown(server: RunningServer) -> None:
    every = get(server, limit=200)
    times = [item["photo"]["captured_at"] for item in every["items"]]
    day = next(time for time in times if time is not None)[:10]
    of_day = get(server, limit=200, since=day, until=day)
    assert 0 < len(of_day["items"]) < len(every["items"])
    assert all(item["photo"]["captured_at"].startswith(day) for item in of_day["items"])
    assert get(server, until="1900")["items"] == []
    assert get(server, verified="true")["items"] == []


def test_what_was_verified_is_not_asked_again_and_comes_back_when_that_is_taken_back(
    make_server: MakeServer,
) -> None:
    server = make_server()
    before = get(server)
    first = ids(before)[0]
    body = {"items": [{"photo_id": first, "taxon": before["items"][0]["labels"][0]["name"]}]}
    run = httpx.post(f"{server.url}/api/annotations", json=body).json()["run_id"]
    after = get(server)
    # At once, and for good once all has been read by the new labels.
    assert first not in ids(after)
    until(lambda: not reading(server))
    assert first not in ids(get(server))
    assert after["verified"] == before["verified"] + 1
    assert httpx.delete(f"{server.url}/api/annotations/{run}").status_code == 200
    until(lambda: get(server) == before)


def test_who_verifies_photos_does_not_wait_for_all_to_be_read_anew(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    before = ids(get(server, limit=200))
    release = threading.Event()
    read = Candidates.read

    def slow(*arguments: Any) -> Candidates:
        release.wait(30)
        return read(*arguments)

    monkeypatch.setattr(Candidates, "read", slow)
    for photo_id in before[:3]:
        body = {"items": [{"photo_id": photo_id, "taxon": "Eurasian hoopoe"}]}
        assert httpx.post(f"{server.url}/api/annotations", json=body).status_code == 201
        assert photo_id not in ids(get(server, limit=200))
    left = ids(get(server, limit=200))
    assert set(left) < set(before)
    assert not set(before[:3]) & set(left)
    release.set()
    until(lambda: not reading(server))
    assert not set(before[:3]) & set(ids(get(server, limit=200)))


def test_what_is_doubtful_is_read_once_until_labels_change(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    reads: list[None] = []
    read = Candidates.read

    def counted(*arguments: Any) -> Candidates:
        reads.append(None)
        return read(*arguments)

    monkeypatch.setattr(Candidates, "read", counted)
    for order in ("informative", "doubtful", "unknown"):
        review = get(server, order=order)
    # A run of another kind changes nothing of what labels hang on.
    sightings = httpx.post(f"{server.url}/api/sightings").json()
    assert finished(server, sightings)["state"] == "done"
    get(server)
    assert len(reads) == 1
    body = {"items": [{"photo_id": ids(review)[0], "taxon": "Eurasian hoopoe"}]}
    assert httpx.post(f"{server.url}/api/annotations", json=body).status_code == 201
    get(server)
    until(lambda: not reading(server))
    get(server)
    assert len(reads) == 2


def test_what_is_no_request_is_refused(server: RunningServer) -> None:
    for query in ({"limit": 0}, {"limit": 10**6}, {"order": "best"}, {"confidence": 2}, {"since": "x"}):
        assert httpx.get(f"{server.url}/api/review", params=query).status_code == 422, query
