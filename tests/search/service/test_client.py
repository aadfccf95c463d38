"""`Client` and `Catalog` answer the same."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from birdsearch import Catalog, Client
from birdsearch.data.synthetic.truth import Truth, read_truth
from birdsearch.errors import (
    CatalogReadOnlyError,
    InvalidInputError,
    PhotoError,
    ServiceError,
)
from birdsearch.indexer.catalog.filters import Where
from birdsearch.model.images.box import Box
from birdsearch.model.images.photo import upright_rgb
from birdsearch.search.query.hits import QueryResult
from birdsearch.search.query.inputs import Photo

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer

# A query that is computed on its own or with others, here or there, differs by no more.
_ROUNDING = 1e-5
# An image is sent as a file, of which no more pixels are decoded than the network needs.
_DECODING = 1e-2


@pytest.fixture(scope="module")
def exact_server(catalog_path: Path) -> Iterator[RunningServer]:
    """A server that shows paths and places as the catalog has them."""
    from birdsearch.search.service.options import ServeOptions
    from tests.search.service.conftest import running

    options = ServeOptions(
        catalog=catalog_path, port=0, read_only=True, show_paths=True, exact_places=True, originals=True
    )
    with running(options) as server:
        yield server


@pytest.fixture(scope="module")
def client(exact_server: RunningServer) -> Iterator[Client]:
    with Client(exact_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Iterator[Catalog]:
    with Catalog.open(catalog_path, "read") as catalog:
        yield catalog


@pytest.fixture(scope="module")
def frames(archive: Path) -> list[Truth]:
    return [row for row in read_truth(archive) if row.kind == "photo"]


def assert_same(remote: QueryResult, local: QueryResult) -> None:
    """The same answer, but for the last bits of numbers, `file` of this machine, and `thumb` of the service."""
    assert_equal(
        dataclasses.asdict(remote) | {"query": dataclasses.asdict(remote.query) | {"file": None}},
        dataclasses.asdict(local) | {"query": dataclasses.asdict(local.query) | {"file": None}},
    )


def assert_equal(remote: Any, local: Any, place: str = "") -> None:
    if isinstance(local, dict):
        assert remote.keys() == local.keys(), place
        for name, value in local.items():
            if name not in ("file", "thumb"):
                assert_equal(remote[name], value, f"{place}.{name}")
    elif isinstance(local, list | tuple):
        assert len(remote) == len(local), place
        for number, (there, here) in enumerate(zip(remote, local, strict=True)):
            assert_equal(there, here, f"{place}[{number}]")
    elif isinstance(local, float):
        assert remote == pytest.approx(local, abs=_ROUNDING), place
    else:
        assert remote == local, place


@pytest.mark.parametrize("kind", ["path", "path object", "id", "id as text"])
def test_a_photo_is_found_the_same_there_and_here(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth], kind: str
) -> None:
    path = archive / frames[3].path
    photos: dict[str, Photo] = {"path": str(path), "path object": path, "id": 5, "id as text": "#5"}
    remote, local = client.query(photos[kind], 8), catalog.query(photos[kind], 8)
    assert len(local.hits) == 8
    assert_same(remote, local)
    if "id" not in kind:
        # Whatever the service was told, here the photo is known by its own name.
        assert remote.query == local.query


@pytest.mark.parametrize("turned", [0, 3])
def test_an_image_is_found_as_its_file_would_be(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth], tmp_path: Path, turned: int
) -> None:
    with Image.open(archive / frames[3].path) as opened:
        image = opened.rotate(turned) if turned else opened
        remote, local = client.query(image, 8), catalog.query(image, 8)
        upright_rgb(image).save(tmp_path / "image.png")
    assert remote.query == local.query
    file = catalog.query(tmp_path / "image.png", 8)
    assert_same(dataclasses.replace(remote, query=file.query), file)
    similarities = [[hit.similarity for hit in result.hits] for result in (remote, local)]
    assert similarities[0] == pytest.approx(similarities[1], abs=_DECODING)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 500},
        {"box": (0.2, 0.1, 0.5, 0.6)},
        {"box": Box(0.2, 0.1, 0.5, 0.6), "k": 3},
        {"include_self": True, "k": 3},
        {"refined": True},
        {"exact": True, "confidence": 0.999},
        {"where": Where(verified=True)},
        {"where": Where(since=date(2024, 4, 1), until="2025")},
        {"where": Where(bbox=(-90, -180, 90, 180), camera="a")},
        {"where": Where(near=(0.0, 0.0, 1.5))},
    ],
    ids=str,
)
def test_options_mean_the_same_there_and_here(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth], options: dict[str, Any]
) -> None:
    for photo in (archive / frames[3].path, 5):
        assert_same(client.query(photo, **options), catalog.query(photo, **options))


def test_folders_and_taxa_mean_the_same_there_and_here(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth]
) -> None:
    folder = (archive / frames[-1].path).parent
    evidence = catalog.query(5).evidence
    assert evidence is not None
    for where in (
        Where(under=[folder]),
        Where(under=[str(folder)], exclude_under=[archive / "none"]),
        Where(exclude_under=[folder]),
        Where(taxon=evidence.neighbours[0].label),
    ):
        assert_same(client.query(5, where=where), catalog.query(5, where=where))


def test_several_photos_are_answered_in_order(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth]
) -> None:
    photos: list[Photo] = [3, archive / frames[0].path, "#7", archive / frames[1].path, 9]
    remote, local = client.query_many(photos, 4), catalog.query_many(photos, 4)
    assert len(remote) == 5
    for there, here in zip(remote, local, strict=True):
        assert_same(there, here)


def test_photos_that_cannot_be_read_are_told_and_left_out(
    client: Client, catalog: Catalog, archive: Path
) -> None:
    broken = [archive / row.path for row in read_truth(archive) if row.kind == "corrupt"]
    photos: list[Photo] = [3, *broken, archive / "none.jpg", 10**9, 4]
    told: dict[str, list[tuple[Photo, str, str]]] = {"there": [], "here": []}
    reasons: dict[str, list[str]] = {"there": [], "here": []}
    answers = {}
    for side, asked in (("there", client), ("here", catalog)):

        def note(photo: Photo, error: PhotoError, side: str = side) -> None:
            told[side].append((photo, error.stage, error.code))
            # The command line has more to say of an id.
            reasons[side].append("unknown" if isinstance(photo, int) else error.reason)

        answers[side] = asked.query_many(photos, 2, on_error=note)
    assert len(told["here"]) == len(photos) - 2
    assert told["there"] == told["here"]
    assert reasons["there"] == reasons["here"]
    assert len(answers["there"]) == 2
    for there, here in zip(answers["there"], answers["here"], strict=True):
        assert_same(there, here)
    with pytest.raises(PhotoError):
        client.query_many(photos, 2)


@pytest.mark.parametrize(
    ("photo", "options"),
    [
        (5, {"k": -1}),
        (5, {"box": (0.5, 0.5, 0.6, 0.6)}),
        (5, {"box": "abc"}),
        (5, {"where": Where(taxon="no such bird")}),
        (True, {}),
        (2.5, {}),
    ],
)
def test_what_is_not_accepted_here_is_not_accepted_there(
    client: Client, catalog: Catalog, photo: Any, options: dict[str, Any]
) -> None:
    for asked in (client, catalog):
        with pytest.raises(InvalidInputError):
            asked.query(photo, **options)


def test_a_label_is_what_a_query_says_without_hits(
    client: Client, catalog: Catalog, archive: Path, frames: list[Truth]
) -> None:
    path = archive / frames[6].path
    for photo in (path, 11):
        assert_same(client.label(photo), catalog.query(photo, 0))


def test_more_like_some_and_unlike_others(client: Client, catalog: Catalog) -> None:
    near = [hit.photo_id for hit in catalog.query(5, 3).hits]
    far = catalog.query(5, 500).hits[-1].photo_id
    found = client.more_like([5, *near[:1]], [far], k=10)
    assert len(found.hits) == 10
    assert far not in {hit.photo_id for hit in found.hits}
    assert not {5, near[0]} & {hit.photo_id for hit in found.hits}
    with pytest.raises((InvalidInputError, PhotoError)):
        client.more_like([10**9])


def test_photos_come_page_by_page_with_what_the_catalog_knows(
    client: Client, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdsearch.client.photos._PAGE", 7)
    shown = {photo.id: photo for photo in client.photos(sort="id")}
    assert list(shown) == sorted(shown) == client.photo_ids(sort="id")
    assert client.info().photos == len(shown)
    for photo_id, record in catalog.store.photos(list(shown)).items():
        photo = shown[photo_id]
        # Alone or among others, a label's probability differs in its last bits.
        assert_equal(dataclasses.asdict(client.photo(photo_id)), dataclasses.asdict(photo))
        assert photo.path == record.path.decode()
        assert (photo.width, photo.height, photo.format) == (record.width, record.height, record.format)
        assert (photo.lat, photo.lon, photo.camera) == (record.latitude, record.longitude, record.camera)
        assert photo.captured_at == record.captured_at
    assert {photo.id for photo in shown.values() if photo.verified} == set(
        client.photo_ids(Where(verified=True))
    )
    with pytest.raises(InvalidInputError):
        client.photo(10**9)


def test_pictures_are_those_of_the_photos(client: Client) -> None:
    photo = client.photo(5)
    thumb = client.thumb(5, 160)
    assert max(thumb.size) == min(160, max(photo.width, photo.height))
    part = client.thumb(5, 160, box=(0, 0, 0.5, 0.5))
    assert part.width / part.height == pytest.approx(photo.width / photo.height, rel=0.05)
    content = client.image(5)
    assert content == Path(photo.path).read_bytes()
    with pytest.raises(InvalidInputError):
        client.thumb(5, 17)
    with pytest.raises(InvalidInputError):
        client.thumb(10**9)


def test_names_are_completed(client: Client) -> None:
    verified = next(photo for photo in client.photos(Where(verified=True)))
    name = verified.verified[0].taxon
    found = client.taxa(name[:4])
    assert name in {taxon.name for taxon in found}
    assert next(taxon for taxon in client.taxa(name) if taxon.name == name).photos > 0


def test_labels_are_recorded_shown_and_taken_back(make_server: MakeServer) -> None:
    server = make_server(token="sesame")
    with Client(server.url, "sesame") as client:
        unverified = client.photo_ids(Where(verified=False))[:2]
        name = next(client.photos(Where(verified=True))).verified[0].taxon
        recorded = client.annotate(dict.fromkeys(unverified, name), who="me")
        assert recorded.recorded == 2
        assert client.photo(unverified[0]).verified[0].taxon == name
        (entry,) = client.annotations(unverified[0])
        assert (entry.taxon, entry.who, entry.in_force) == (name, "me", True)
        assert recorded.run_id is not None
        assert client.undo(recorded.run_id) == 2
        assert client.photo(unverified[0]).verified == ()
        assert [entry.in_force for entry in client.annotations(unverified[0])] == [False]
        with pytest.raises(InvalidInputError):
            client.annotate({unverified[0]: "no such bird"})
        items = client.review(5)
        assert items
        assert all(not item.photo.verified and item.labels for item in items)


def test_copies_sightings_and_clusters_are_found_by_jobs(make_server: MakeServer) -> None:
    server = make_server()
    with Client(server.url) as client:
        assert client.duplicates().state == "none"
        seen: list[str] = []
        done = client.wait(client.find_duplicates(), 120, progress=lambda job: seen.append(job.state))
        assert done.state == seen[-1] == "done"
        duplicates = client.duplicates()
        assert duplicates.state == "ready"
        assert duplicates.groups
        group = duplicates.groups[0]
        assert [file.role for file in group.files].count("keep") == 1
        assert client.mark_distinct([file.photo_id for file in group.files][:2]) in (0, 1)
        with pytest.raises(ServiceError) as refused:
            client.move_duplicates([group.id])
        assert refused.value.status == 403

        client.wait(client.find_sightings(), 120)
        sightings = list(client.sightings())
        assert sum(sighting.photos for sighting in sightings) > 0

        client.wait(client.find_clusters(), 120)
        (run,) = client.clusters()
        clusters = client.cluster_run(run.run)
        assert len(clusters) == run.clusters > 0
        members = list(client.cluster_members(run.run, clusters[0].id))
        assert len(members) == clusters[0].photos
        named = client.edit_clusters(run.run, "name", cluster=clusters[0].id, name="by the pond")
        assert next(each for each in client.cluster_run(named) if each.id == clusters[0].id).name == (
            "by the pond"
        )
        assert {job.kind for job in client.jobs()} >= {"duplicates", "sightings", "cluster"}
        assert client.wait(client.start("index"), 120).state == "done"


def test_a_read_only_service_says_that_it_is_one(client: Client) -> None:
    with pytest.raises(CatalogReadOnlyError):
        client.annotate({1: "Eurasian hoopoe"})


def test_a_token_is_needed_where_there_is_one(make_server: MakeServer) -> None:
    server = make_server(token="sesame")
    for token in (None, "another"):
        with Client(server.url, token) as stranger, pytest.raises(ServiceError) as refused:
            stranger.info()
        assert refused.value.status == 401
    with Client(server.url, "sesame") as known:
        assert known.info().photos > 0


def test_many_threads_get_the_answers_of_one(client: Client, archive: Path, frames: list[Truth]) -> None:
    path = archive / frames[2].path
    wanted = client.query(path, 5)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            assert_same(client.query(path, 5), wanted)
        except BaseException as error:  # the test has to fail for it
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
