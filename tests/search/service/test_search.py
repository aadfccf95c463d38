"""Searching over HTTP: the answers are those of the catalog, and what is not accepted is said."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.catalog import Catalog
from birdsearch.search.query.hits import QueryResult
from birdsearch.search.service.schemas.search import SearchAnswer

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Iterator[Catalog]:
    with Catalog.open(catalog_path, "read") as opened:
        yield opened


@pytest.fixture(scope="module")
def photo_ids(catalog: Catalog) -> list[int]:
    return sorted(hit.photo_id for hit in catalog.query(1, k=1000, include_self=True).hits)


def search(client: httpx.Client, **request: Any) -> dict[str, Any]:
    response = client.post("/api/search", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    # Nothing is missing, and nothing is there that the record does not have.
    assert SearchAnswer.from_dict(answer).to_dict() == answer
    return answer


def upload(client: httpx.Client, content: bytes, name: str = "photo.jpg", **request: Any) -> httpx.Response:
    return client.post("/api/search", files={"photo": (name, content)}, data={"request": json.dumps(request)})


def same(answer: dict[str, Any], expected: QueryResult, *, close: bool = False) -> None:
    """The answer of the service is that of the catalog, but for how paths are shown."""
    near = (lambda value: pytest.approx(value, abs=1e-5)) if close else (lambda value: value)
    assert [hit["photo_id"] for hit in answer["hits"]] == [hit.photo_id for hit in expected.hits]
    for hit, theirs in zip(answer["hits"], expected.hits, strict=True):
        assert hit["similarity"] == near(theirs.similarity)
        assert (hit["rank"], hit["view_id"], hit["label"]) == (theirs.rank, theirs.view_id, theirs.label)
        assert (hit["captured_at"], hit["camera"]) == (theirs.captured_at, theirs.camera)
        assert theirs.path.endswith("/" + hit["path"])
        assert hit["thumb"] == f"/api/photos/{theirs.photo_id}/thumb"
        assert hit["width"] > 0
    assert [label["name"] for label in answer["labels"]] == [label.name for label in expected.labels]
    assert [label["probability"] for label in answer["labels"]] == [
        near(label.probability) for label in expected.labels
    ]
    assert answer["unknown"] == near(expected.unknown)
    assert expected.evidence is not None
    assert (answer["evidence"]["name"], answer["evidence"]["rank"]) == (
        expected.evidence.name,
        expected.evidence.rank,
    )
    voters = [(one["photo_id"], one["label"]) for one in answer["evidence"]["neighbours"]]
    assert voters == [(voter.photo_id, voter.label) for voter in expected.evidence.neighbours]


def test_a_photo_of_the_catalog_is_answered_as_by_the_catalog(
    client: httpx.Client, catalog: Catalog, photo_ids: Sequence[int]
) -> None:
    for photo_id in photo_ids[::9]:
        answer = search(client, photo_id=photo_id, k=7)
        same(answer, catalog.query(photo_id, k=7))
        assert answer["query"]["photo_id"] == photo_id
        assert not answer["query"]["path"].startswith("/")
    with_self = search(client, photo_id=photo_ids[0], k=3, include_self=True)
    same(with_self, catalog.query(photo_ids[0], k=3, include_self=True))
    assert with_self["hits"][0]["photo_id"] == photo_ids[0]


def test_no_answer_names_an_absolute_path(client: httpx.Client, archive: Path, photo_ids: list[int]) -> None:
    response = client.post("/api/search", json={"photo_id": photo_ids[3], "k": 1000})
    assert response.status_code == 200
    assert str(archive.parent) not in response.text


def test_an_upload_is_answered_as_the_file_is(
    client: httpx.Client, catalog: Catalog, archive: Path, tmp_path: Path
) -> None:
    known = next(path for path in sorted(archive.rglob("*.jpg")) if is_photo(path))
    answer = upload(client, known.read_bytes(), "of the catalog.jpg", k=6)
    assert answer.status_code == 200
    same(answer.json(), catalog.query(known, k=6))
    assert answer.json()["query"]["path"] == "of the catalog.jpg"
    assert answer.json()["query"]["photo_id"] is not None

    # Another content: decoded in a process, embedded in a batch.
    changed = tmp_path / "changed.png"
    with Image.open(known) as image:
        image.convert("RGB").rotate(7).save(changed)
    answer = upload(client, changed.read_bytes(), "changed.png", k=6)
    same(answer.json(), catalog.query(changed, k=6), close=True)
    assert answer.json()["query"] == {"path": "changed.png", "photo_id": None, "box": None}


def is_photo(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def test_a_region_is_asked_about_in_a_photo_of_the_catalog_and_in_an_upload(
    client: httpx.Client, catalog: Catalog, archive: Path, photo_ids: list[int]
) -> None:
    box = [0.2, 0.1, 0.5, 0.6]
    photo_id = photo_ids[4]
    expected = catalog.query(photo_id, k=6, box=box)
    answer = search(client, photo_id=photo_id, box=box, k=6)
    same(answer, expected, close=True)
    assert answer["query"]["box"] == pytest.approx(box)
    file = Path(os.fsdecode(catalog.store.photos([photo_id])[photo_id].path))
    sent = upload(client, file.read_bytes(), file.name, box=box, k=6)
    same(sent.json(), expected, close=True)
    whole = search(client, photo_id=photo_id, box=[0, 0, 1, 1], k=6)
    same(whole, catalog.query(photo_id, k=6))


def test_a_view_is_asked_about_by_its_id(client: httpx.Client, photo_ids: list[int]) -> None:
    by_photo = search(client, photo_id=photo_ids[2], k=5)
    hit = by_photo["hits"][0]
    by_view = search(client, view_id=hit["view_id"], k=5)
    assert by_view["query"]["photo_id"] == hit["photo_id"]
    assert by_view["hits"] == search(client, photo_id=hit["photo_id"], k=5)["hits"]


def test_the_vector_of_an_answer_asks_on(client: httpx.Client, photo_ids: list[int]) -> None:
    first = search(client, photo_id=photo_ids[5], k=8, include_self=True)
    again = search(client, vector=first["vector"], k=8, include_self=True)
    assert again["hits"] == first["hits"]
    assert again["query"] == {"path": "", "photo_id": None, "box": None}
    # Twice as long a vector has the same direction.
    longer = search(client, vector=[2 * value for value in first["vector"]], k=8)
    assert [hit["photo_id"] for hit in longer["hits"]] == [hit["photo_id"] for hit in first["hits"]]
    without = search(client, vector=first["vector"], k=8, labels=False)
    assert (without["labels"], without["evidence"], without["unknown"]) == ([], None, None)


def test_hits_are_few_none_or_all_there_are(client: httpx.Client, photo_ids: list[int]) -> None:
    vector = search(client, photo_id=photo_ids[0], k=0)["vector"]
    nothing = search(client, vector=vector, k=0)
    assert nothing["hits"] == []
    assert len(nothing["labels"]) == 5
    every = search(client, vector=vector, k=1000)
    assert sorted(hit["photo_id"] for hit in every["hits"]) == photo_ids
    shown = [hit["similarity"] for hit in every["hits"]]
    assert shown == sorted(shown, reverse=True)


def test_conditions_hold_before_the_search(
    client: httpx.Client, catalog: Catalog, archive: Path, photo_ids: list[int]
) -> None:
    photo_id = photo_ids[1]
    times = sorted(
        hit.captured_at for hit in catalog.query(photo_id, k=1000).hits if hit.captured_at is not None
    )
    since, until = times[len(times) // 4][:10], times[len(times) // 2][:10]
    answer = search(client, photo_id=photo_id, k=5, where={"since": since, "until": until})
    same(answer, catalog.query(photo_id, k=5, where=Where(since=since, until=until)))
    assert answer["hits"]
    assert all(since <= hit["captured_at"][:10] <= until for hit in answer["hits"])
    verified = search(client, photo_id=photo_id, k=1000, where={"verified": True})
    same(verified, catalog.query(photo_id, k=1000, where=Where(verified=True)))
    assert all(hit["verified"] is not None for hit in verified["hits"])
    folder = f"{archive.name}/{Path(verified['hits'][0]['path']).parts[1]}"
    under = search(client, photo_id=photo_id, k=1000, where={"under": [folder]})
    assert under["hits"]
    assert all(hit["path"].startswith(folder + "/") for hit in under["hits"])
    nowhere = search(client, photo_id=photo_id, where={"since": "1950", "until": "1951"})
    assert nowhere["hits"] == []
    assert nowhere["warnings"] == ["no photo of the catalog meets the conditions"]


def test_hits_say_what_they_were_verified_to_be(
    client: httpx.Client, catalog: Catalog, photo_ids: list[int]
) -> None:
    said = {one.photo_id: one.name for one in labels_in_force(catalog.store)}
    assert said
    hits = search(client, photo_id=photo_ids[0], k=1000, labels=False)["hits"]
    assert {hit["photo_id"]: hit["verified"] for hit in hits} == {
        hit["photo_id"]: said.get(hit["photo_id"]) for hit in hits
    }


def test_refined_and_exact_searches_are_those_of_the_catalog(
    client: httpx.Client, catalog: Catalog, photo_ids: list[int]
) -> None:
    same(
        search(client, photo_id=photo_ids[6], k=9, refined=True),
        catalog.query(photo_ids[6], k=9, refined=True),
    )
    same(search(client, photo_id=photo_ids[6], k=9, exact=True), catalog.query(photo_ids[6], k=9))


def unit_vectors(catalog: Catalog, photo_ids: Sequence[int]) -> np.ndarray:
    record = catalog.store.active_model()
    assert record is not None
    views = catalog.store.whole_views(photo_ids)
    stored = catalog.store.embeddings(record.id, list(views.values()))
    vectors = np.stack([stored[views[photo_id]] for photo_id in photo_ids]).astype(np.float64)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_feedback_moves_a_search_as_rocchio_says(
    client: httpx.Client, catalog: Catalog, photo_ids: list[int]
) -> None:
    asked, like, unlike = photo_ids[0], photo_ids[10:12], photo_ids[20:23]
    unit = unit_vectors(catalog, photo_ids)
    place = {photo_id: at for at, photo_id in enumerate(photo_ids)}

    def mean(some: Sequence[int]) -> np.ndarray:
        return np.asarray(unit[[place[one] for one in some]].mean(axis=0))

    def nearest(vector: np.ndarray, without: Sequence[int]) -> list[int]:
        # Two examples are exactly as far from their mean: of equals the smaller id comes first.
        order = np.argsort(-(unit @ vector).round(9), kind="stable")
        return [photo_ids[at] for at in order if photo_ids[at] not in without]

    answer = search(client, photo_id=asked, like=like, unlike=unlike, k=10)
    expected = nearest(unit[0] + 0.75 * mean(like) - 0.25 * mean(unlike), [asked, *like, *unlike])
    assert [hit["photo_id"] for hit in answer["hits"]] == expected[:10]
    # What it is and what to ask on with are those of the photo.
    plain = search(client, photo_id=asked, k=10)
    assert (answer["labels"], answer["vector"]) == (plain["labels"], plain["vector"])
    assert answer["hits"] != plain["hits"]

    examples = search(client, like=like, k=10)
    assert [hit["photo_id"] for hit in examples["hits"]] == nearest(mean(like), like)[:10]
    with_them = search(client, like=like, k=10, include_self=True)
    assert [hit["photo_id"] for hit in with_them["hits"]] == nearest(mean(like), [])[:10]
    by_vector = search(client, vector=plain["vector"], like=like, unlike=unlike, k=10)
    expected = nearest(unit[0] + 0.75 * mean(like) - 0.25 * mean(unlike), [*like, *unlike])
    assert [hit["photo_id"] for hit in by_vector["hits"]] == expected[:10]


def test_a_label_is_what_a_search_says_it_is(client: httpx.Client, photo_ids: list[int]) -> None:
    response = client.post("/api/label", json={"photo_id": photo_ids[7], "confidence": 0.5})
    assert response.status_code == 200
    assert QueryResult.from_dict(response.json()).to_dict() == response.json()
    found = search(client, photo_id=photo_ids[7], k=3, confidence=0.5)
    assert response.json() == {key: value for key, value in found.items() if key != "vector"} | {"hits": []}


@pytest.mark.parametrize(
    ("request_", "status", "where"),
    [
        ({}, 422, None),
        ({"photo_id": 1, "k": -1}, 422, "body.k"),
        ({"photo_id": 1, "k": 1001}, 422, "body.k"),
        ({"photo_id": 1, "unknown": 1}, 422, "body.unknown"),
        ({"photo_id": 1, "view_id": 1}, 422, "body"),
        ({"photo_id": 10**9}, 404, None),
        ({"view_id": 10**9}, 404, None),
        ({"photo_id": 1, "like": [10**9]}, 404, None),
        ({"unlike": [1]}, 422, None),
        ({"vector": [0.5, 0.5]}, 422, None),
        ({"vector": []}, 422, "body"),
        ({"vector": [0.0] * 128}, 422, "body"),
        ({"vector": [0.5, 0.5], "like": [1]}, 422, None),
        ({"vector": ["a"]}, 422, "body.vector.0"),
        ({"photo_id": 1, "box": [0, 0, 2, 1]}, 422, None),
        ({"photo_id": 1, "box": [0, 0, 1]}, 422, "body.box"),
        ({"view_id": 1, "box": [0, 0, 1, 1]}, 422, "body"),
        ({"like": [1], "box": [0, 0, 0.5, 1]}, 422, None),
        ({"photo_id": 1, "where": {"since": "yesterday"}}, 422, None),
        ({"photo_id": 1, "where": {"taxon": "no such bird"}}, 422, None),
        ({"photo_id": 1, "where": {"colour": "red"}}, 422, "body.where.colour"),
        ({"photo_id": 1, "confidence": 1.5}, 422, "body.confidence"),
    ],
)
def test_what_is_not_accepted_is_said(
    client: httpx.Client, request_: dict[str, Any], status: int, where: str | None
) -> None:
    response = client.post("/api/search", json=request_)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    if where is not None:
        assert [error["where"] for error in problem["errors"]] == [where]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e39"])
def test_numbers_that_are_not_finite_are_not_accepted(client: httpx.Client, number: str) -> None:
    body = f'{{"vector": [{", ".join([number] * 128)}]}}'
    response = client.post("/api/search", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text


def test_bodies_of_another_form_are_refused(client: httpx.Client) -> None:
    for body in (b"", b"{", b"[1]", b"null", b"\xff"):
        headers = {"content-type": "application/json"}
        assert client.post("/api/search", content=body, headers=headers).status_code == 422
    assert client.post("/api/search", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/api/search").status_code == 415
    picture = jpeg(1)
    assert client.post("/api/search", files={"file": ("a.jpg", picture)}).status_code == 422
    assert client.post("/api/search", files={"photo": (None, b"text")}).status_code == 422
    assert upload(client, picture, photo_id=1).status_code == 422
    both = client.post("/api/search", files=[("photo", ("a", picture)), ("photo", ("b", picture))])
    assert both.status_code == 400
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/api/search", content=b"--y", headers=broken).status_code in (400, 422)


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()
