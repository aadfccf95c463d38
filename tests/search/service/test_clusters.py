"""Clusters over HTTP: made by a job, looked at, corrected, labelled and drawn."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from birdsearch.indexer.catalog.clusters import current_state, require_state
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.clusters.catalog import cluster_catalog
from birdsearch.search.clusters.report import overview
from tests.search.service.test_jobs import finished

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer


@pytest.fixture(scope="module")
def clustered(catalog_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the catalog with four clusters. Do not write to it."""
    path = Path(shutil.copytree(catalog_path, tmp_path_factory.mktemp("clustered") / "catalog"))
    with CatalogStore.open(path, "write") as store:
        record = store.active_model()
        assert record is not None
        cluster_catalog(store, record.id, method="kmeans", k=4)
    return path


@pytest.fixture
def own(clustered: Path, tmp_path: Path, make_server: MakeServer) -> RunningServer:
    return make_server(catalog=Path(shutil.copytree(clustered, tmp_path / "catalog")), who="Ada")


def get(server: RunningServer, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{server.url}/api/clusters{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def current(server: RunningServer) -> int:
    run: int = get(server, "")["runs"][0]["run"]
    return run


def edit(server: RunningServer, run: int, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/clusters/{run}/edits", json=body)


def members(server: RunningServer, run: int, cluster: int) -> list[int]:
    return [photo["photo_id"] for photo in get(server, f"/{run}/{cluster}", limit=1000)["photos"]]


def test_clusters_are_shown_as_they_are_stored(own: RunningServer) -> None:
    run = current(own)
    with CatalogStore.open(own.options.catalog) as store:
        found = overview(store, require_state(store))
    shown = get(own, f"/{run}")
    assert [(one["id"], one["photos"], one["events"], one["label"]) for one in shown["clusters"]] == [
        (row.id, row.photos, row.events, row.label) for row in found.rows
    ]
    assert shown["run"] == run
    for one in shown["clusters"]:
        ids = members(own, run, one["id"])
        assert len(ids) == one["photos"]
        assert set(one["thumbs"]) <= set(ids)
        assert one["thumbs"][0] == ids[0]
        assert 0 <= one["tightness"] <= 1


def test_the_members_of_a_cluster_come_in_pages_the_strongest_first(own: RunningServer) -> None:
    run = current(own)
    cluster = get(own, f"/{run}")["clusters"][0]["id"]
    photos: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = get(own, f"/{run}/{cluster}", limit=3, **({"cursor": cursor} if cursor else {}))
        photos += page["photos"]
        cursor = page["next"]
        if cursor is None:
            break
    assert len({photo["photo_id"] for photo in photos}) == len(photos) == page["total"]
    strengths = [photo["strength"] for photo in photos]
    assert strengths == sorted(strengths, reverse=True)
    assert get(own, f"/{run}/-1") == {"id": -1, "name": None, "photos": [], "next": None, "total": 0}


def test_who_bears_another_label_than_most_of_its_cluster_is_odd(own: RunningServer) -> None:
    run = current(own)
    cluster = get(own, f"/{run}")["clusters"][0]["id"]
    ids = members(own, run, cluster)
    items = [{"photo_id": photo_id, "taxon": "Eurasian hoopoe"} for photo_id in ids[1:]]
    items.append({"photo_id": ids[0], "taxon": "Common kingfisher"})
    assert httpx.post(f"{own.url}/api/annotations", json={"items": items}).status_code == 201
    photos = get(own, f"/{run}/{cluster}", limit=1000)["photos"]
    assert photos[0]["odd"] is True
    assert photos[0]["label"] == "Common kingfisher"
    assert all(photo["verified"] for photo in photos)
    median = float(np.median([photo["strength"] for photo in photos]))
    assert [photo["odd"] for photo in photos[1:]] == [
        photo["strength"] < 0.5 * median for photo in photos[1:]
    ]


def test_edits_make_new_runs_and_can_be_taken_back(own: RunningServer) -> None:
    run = current(own)
    before = {one["id"]: one["photos"] for one in get(own, f"/{run}")["clusters"]}
    first, second = list(before)[:2]
    named = edit(own, run, op="name", cluster=first, name="grey ones").json()["run"]
    assert named > run
    assert {one["id"]: one["name"] for one in get(own, f"/{named}")["clusters"]}[first] == "grey ones"
    merged = edit(own, named, op="merge", clusters=[first, second]).json()["run"]
    after = {one["id"]: one["photos"] for one in get(own, f"/{merged}")["clusters"]}
    assert after[first] == before[first] + before[second]
    assert second not in after
    ids = members(own, merged, first)[:2]
    moved = edit(own, merged, op="move", cluster=first, photo_ids=ids).json()["run"]
    new = max(one["id"] for one in get(own, f"/{moved}")["clusters"])
    assert sorted(members(own, moved, new)) == sorted(ids)
    for _ in range(3):
        undone = edit(own, current(own), op="undo")
        assert undone.status_code == 200
    assert get(own, f"/{current(own)}")["clusters"] == get(own, f"/{run}")["clusters"]
    runs = get(own, "")["runs"]
    assert [one["method"] for one in runs] == ["undo", "undo", "undo", "split", "merge", "name", "kmeans"]
    assert [one["current"] for one in runs] == [True] + [False] * 6


def test_a_cluster_is_split_by_how_its_photos_look(own: RunningServer) -> None:
    run = current(own)
    largest = max(get(own, f"/{run}")["clusters"], key=lambda one: one["events"])
    answer = edit(own, run, op="split", cluster=largest["id"])
    assert answer.status_code == 200, answer.text
    clusters = get(own, f"/{answer.json()['run']}")["clusters"]
    assert len(clusters) == len(get(own, f"/{run}")["clusters"]) + 1
    assert edit(own, current(own), op="split", cluster=largest["id"], into=99).status_code == 422


def test_only_the_clusters_in_force_are_edited(own: RunningServer) -> None:
    run = current(own)
    cluster = get(own, f"/{run}")["clusters"][0]["id"]
    newer = edit(own, run, op="name", cluster=cluster, name="a").json()["run"]
    late = edit(own, run, op="name", cluster=cluster, name="b")
    assert late.status_code == 409
    assert f"run {newer}" in late.json()["detail"]
    assert edit(own, 10**6, op="undo").status_code == 404


def test_a_cluster_is_labelled_at_once_but_for_some(own: RunningServer) -> None:
    run = current(own)
    cluster = get(own, f"/{run}")["clusters"][0]["id"]
    ids = members(own, run, cluster)
    body = {"op": "label", "cluster": cluster, "taxon": "upupa epops", "except": ids[:1]}
    answer = edit(own, run, **body).json()
    assert answer["run"] == run
    assert answer["recorded"] == len(ids) - 1
    labels = {one.photo_id: one for one in labels_in_force(own.service.store)}
    assert all(labels[photo_id].name == "Eurasian hoopoe" for photo_id in ids[1:])
    assert {labels[photo_id].who for photo_id in ids[1:]} == {"Ada"}
    assert ids[0] not in labels or labels[ids[0]].name != "Eurasian hoopoe"
    assert edit(own, run, **body).json() == {"run": run, "annotation_run": None, "recorded": 0}
    undone = httpx.delete(f"{own.url}/api/annotations/{answer['annotation_run']}").json()
    assert undone["undone"] == answer["recorded"]
    wrong = edit(own, run, op="label", cluster=cluster, taxon="Eurasian hoopo")
    assert wrong.status_code == 422
    assert "did you mean Eurasian hoopoe" in wrong.json()["detail"]


def read_map(content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 2), clusters (N,) and photo ids (N,)."""
    (count,) = struct.unpack_from("<I", content)
    assert len(content) == 4 + 16 * count
    points = np.frombuffer(content, "<f4", 2 * count, 4).reshape(2, count).T
    ids = np.frombuffer(content, "<i4", 2 * count, 4 + 8 * count).reshape(2, count)
    return points, ids[0], ids[1]


def test_the_map_is_worked_out_once_and_outlives_edits(own: RunningServer) -> None:
    run = current(own)
    url = f"{own.url}/api/clusters/{run}/map"
    first = httpx.get(url)
    assert first.status_code == 202
    job = finished(own, first.json())
    assert (job["kind"], job["state"]) == ("map", "done")
    answer = httpx.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    points, clusters, photo_ids = read_map(answer.content)
    assert points.min() >= 0
    assert points.max() <= 1
    with CatalogStore.open(own.options.catalog) as store:
        state = require_state(store)
        views = store.views(state.view_ids.tolist())
    wanted = {
        views[view_id].photo_id: cluster
        for view_id, cluster in zip(state.view_ids.tolist(), state.cluster_ids.tolist(), strict=True)
    }
    assert dict(zip(photo_ids.tolist(), clusters.tolist(), strict=True)) == wanted
    one, other = state.ids[:2]
    merged = edit(own, run, op="merge", clusters=[one, other]).json()["run"]
    after = httpx.get(f"{own.url}/api/clusters/{merged}/map")
    assert after.status_code == 200
    moved, joined, _ = read_map(after.content)
    assert np.array_equal(moved, points)
    assert np.array_equal(joined, np.where(clusters == other, one, clusters))


def test_a_map_that_is_damaged_on_disk_is_worked_out_again(own: RunningServer) -> None:
    run = current(own)
    url = f"{own.url}/api/clusters/{run}/map"
    finished(own, httpx.post(url).json())
    content = httpx.get(url).content
    state = current_state(own.service.store)
    assert state is not None
    file = own.service.maps._file(own.service.store, state)
    file.write_bytes(file.read_bytes()[:100])
    again = httpx.get(url)
    assert again.status_code == 202
    finished(own, again.json())
    assert httpx.get(url).content == content


def test_clustering_is_a_job(make_server: MakeServer) -> None:
    server = make_server()
    assert get(server, "")["runs"] == []
    answer = httpx.post(f"{server.url}/api/clusters", json={"method": "kmeans", "clusters": 3, "seed": 1})
    assert answer.status_code == 202
    job = finished(server, answer.json())
    assert job["state"] == "done", job
    assert job["result"]["clusters"] == 3
    run = get(server, "")["runs"][0]
    assert (run["run"], run["clusters"], run["current"]) == (job["result"]["run"], 3, True)
    none = httpx.post(f"{server.url}/api/clusters", json={"where": {"since": "2999"}})
    failed = finished(server, none.json())
    assert (failed["state"], failed["error"]["status"]) == ("failed", 422)


def test_what_is_no_request_is_refused(server: RunningServer, own: RunningServer) -> None:
    run = current(own)
    assert httpx.get(f"{own.url}/api/clusters/999999").status_code == 404
    assert httpx.get(f"{own.url}/api/clusters/999999/map").status_code == 404
    assert httpx.get(f"{own.url}/api/clusters/{run}/999999").status_code == 404
    assert edit(own, run, op="explode").status_code == 422
    assert edit(own, run, op="name", cluster=10**6, name="x").status_code == 422
    assert edit(own, run, op="name", cluster=1, name="x", colour="red").status_code == 422
    for body in ({"method": "graph", "clusters": 3}, {"clusters": 0}, {"where": {"near": "x"}}, {"x": 1}):
        assert httpx.post(f"{own.url}/api/clusters", json=body).status_code == 422, body
    assert httpx.post(f"{server.url}/api/clusters", json={}).status_code == 403
    assert edit(server, 1, op="undo").status_code == 403
