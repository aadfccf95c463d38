"""Copies over HTTP: found by a job, judged by a person, moved away and back, and never lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from PIL import Image

from birdsearch.data.synthetic.truth import read_truth
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.catalog import Catalog
from tests.search.service.test_jobs import finished

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, archive: Path, _session_environment: None) -> Path:
    """A folder of three photos with a smaller and an exact copy of the first, and its catalog beside it."""
    folder = tmp_path_factory.mktemp("copies") / "photos"
    (folder / "more").mkdir(parents=True)
    rows = [row for row in read_truth(archive) if row.kind == "photo" and row.path.lower().endswith(".jpg")]
    # One photo of each of three events.
    sources = list({row.event: archive / row.path for row in reversed(rows)}.values())[:3]
    for number, source in enumerate(sources):
        shutil.copy2(source, folder / f"bird{number}.jpg")
    shutil.copy2(folder / "bird0.jpg", folder / "more" / "bird0.jpg")
    with Image.open(folder / "bird0.jpg") as image:
        image.resize((image.width // 2, image.height // 2)).save(folder / "more" / "small.jpg", quality=80)
    with Catalog.open(folder.parent / "catalog", "create") as catalog:
        catalog.index([folder], "demo")
    return folder


@pytest.fixture
def own(photos: Path, tmp_path: Path, make_server: MakeServer) -> RunningServer:
    """A server that may move files, of a catalog of the test's own; the photos are as they were after each test."""
    catalog = Path(shutil.copytree(photos.parent / "catalog", tmp_path / "catalog"))
    return make_server(catalog=catalog, apply=True)


def find(server: RunningServer, **options: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/api/duplicates", json=options)
    assert answer.status_code == 202, answer.text
    job = finished(server, answer.json())
    assert job["state"] == "done", job
    return listing(server)


def listing(server: RunningServer, **query: Any) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/api/duplicates", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def post(server: RunningServer, what: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/duplicates/{what}", json=body)


def paths(group: dict[str, Any]) -> dict[str, str]:
    return {file["path"]: file["role"] for file in group["files"]}


def test_before_a_search_nothing_is_known(own: RunningServer) -> None:
    found = listing(own)
    assert (found["state"], found["groups"], found["found_at"]) == ("none", [], None)
    assert post(own, "apply", groups=[1]).status_code == 409
    assert post(own, "keep", group=1, photo_id=1).status_code == 409


def test_copies_are_found_with_the_file_that_is_kept_and_why(own: RunningServer) -> None:
    found = find(own)
    assert (found["state"], found["total"], found["photos"], found["next"]) == ("ready", 1, 4, None)
    group = found["groups"][0]
    assert paths(group) == {
        "photos/bird0.jpg": "keep",
        "photos/more/bird0.jpg": "copy",
        "photos/more/small.jpg": "copy",
    }
    kept, *others = group["files"]
    assert kept["why"]
    assert kept["width"] > others[-1]["width"]
    assert {file["why"] for file in others} >= {"same content"}
    assert group["exact"] is False
    assert group["movable_bytes"] == found["movable_bytes"] == sum(file["bytes"] for file in others)
    assert all(file["thumb"] == f"/api/photos/{file['photo_id']}/thumb" for file in group["files"])


def test_photos_that_are_told_apart_are_no_group_until_that_is_taken_back(own: RunningServer) -> None:
    group = find(own)["groups"][0]
    ids = sorted({file["photo_id"] for file in group["files"]})
    assert len(ids) == 2
    assert post(own, "distinct", photo_ids=ids).json() == {"pairs": 1}
    assert post(own, "distinct", photo_ids=ids).json() == {"pairs": 0}
    # The file of the same content stays a copy, whatever is said of the other.
    left = listing(own)["groups"]
    assert [paths(one) for one in left] == [{"photos/bird0.jpg": "keep", "photos/more/bird0.jpg": "copy"}]
    assert left[0]["exact"] is True
    back = httpx.request("DELETE", f"{own.url}/api/duplicates/distinct", json={"photo_ids": ids})
    assert back.json() == {"pairs": 1}
    assert listing(own)["groups"] == [group]


def test_another_file_can_be_kept(own: RunningServer) -> None:
    group = find(own)["groups"][0]
    small = next(file for file in group["files"] if file["path"].endswith("small.jpg"))
    answer = post(own, "keep", group=group["id"], photo_id=small["photo_id"])
    assert answer.status_code == 200
    changed = answer.json()
    assert paths(changed) == {
        "photos/more/small.jpg": "keep",
        "photos/bird0.jpg": "copy",
        "photos/more/bird0.jpg": "copy",
    }
    assert changed["files"][0]["why"] == "chosen by hand"
    assert listing(own)["groups"] == [changed]
    # Of two files of one content, the path says which.
    other = group["files"][0]["photo_id"]
    answer = post(own, "keep", group=group["id"], photo_id=other, path="photos/more/bird0.jpg")
    assert paths(answer.json())["photos/more/bird0.jpg"] == "keep"
    assert post(own, "keep", group=group["id"], photo_id=10**9).status_code == 404
    assert post(own, "keep", group=99, photo_id=other).status_code == 404


def test_copies_are_moved_to_quarantine_and_put_back(own: RunningServer, photos: Path) -> None:
    found = find(own)
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    answer = post(own, "apply", groups=[found["groups"][0]["id"]])
    assert answer.status_code == 202
    job = finished(own, answer.json())
    try:
        assert (job["state"], job["result"]["moved"], job["result"]["refused"]) == ("done", 2, 0)
        assert sorted(path.name for path in photos.rglob("*.jpg")) == ["bird0.jpg", "bird1.jpg", "bird2.jpg"]
        # The search is still good for what it left, which is nothing here.
        left = listing(own)
        assert (left["state"], left["total"]) == ("ready", 0)
    finally:
        undone = finished(own, post(own, "undo").json())
    assert (undone["state"], undone["result"]["restored"]) == ("done", 2)
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before
    assert listing(own)["groups"] == found["groups"]
    nothing = finished(own, post(own, "undo").json())
    assert (nothing["state"], nothing["error"]["status"]) == ("failed", 422)
    assert "nothing to undo" in nothing["error"]["detail"]


def test_groups_are_forgotten_once_the_files_of_the_catalog_may_be_others(own: RunningServer) -> None:
    assert find(own)["state"] == "ready"
    with CatalogStore.open(own.options.catalog, "write") as store:
        Catalog(store.path, store, read_only=False).index([path.decode() for _, path in store.roots()])
    assert listing(own)["state"] == "none"


def test_labels_do_not_make_groups_be_forgotten(own: RunningServer) -> None:
    group = find(own)["groups"][0]
    item = {"photo_id": group["files"][0]["photo_id"], "taxon": "Eurasian hoopoe"}
    assert httpx.post(f"{own.url}/api/annotations", json={"items": [item]}).status_code == 201
    now = listing(own)["groups"][0]
    assert now["files"][0]["verified"] == "Eurasian hoopoe"


def test_pages_hold_every_group_once(make_server: MakeServer) -> None:
    server = make_server()
    whole = find(server)
    assert whole["total"] > 2
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = listing(server, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [group["id"] for group in page["groups"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [group["id"] for group in whole["groups"]]
    assert httpx.get(f"{server.url}/api/duplicates", params={"cursor": "x"}).status_code == 422


def test_a_service_that_may_not_move_files_moves_none(make_server: MakeServer) -> None:
    server = make_server()
    found = find(server)
    for answer in (post(server, "apply", groups=[found["groups"][0]["id"]]), post(server, "undo")):
        assert answer.status_code == 403
        assert "--apply" in answer.json()["detail"]


def test_what_is_no_request_is_refused(server: RunningServer, own: RunningServer) -> None:
    assert httpx.post(f"{server.url}/api/duplicates").status_code == 403
    assert post(server, "distinct", photo_ids=[1, 2]).status_code == 403
    assert post(own, "distinct", photo_ids=[1, 10**9]).status_code == 404
    assert post(own, "distinct", photo_ids=[1, 1]).status_code == 422
    assert post(own, "distinct", photo_ids=[1]).status_code == 422
    assert httpx.post(f"{own.url}/api/duplicates", json={"keep": "beauty"}).status_code == 422
    assert httpx.post(f"{own.url}/api/duplicates", json={"min_similarity": 2}).status_code == 422
