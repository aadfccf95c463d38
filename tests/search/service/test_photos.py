"""Photos, lists of them, names of taxa and originals, over real servers."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.filtered_photos import allowed_views, photos_of
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.search.catalog import Catalog
from birdsearch.search.service.originals import parse_range

Server = Any
Answer = tuple[int, dict[str, str], bytes]


def ask(server: Server, path: str, **headers: str) -> Answer:
    host, port = server.address
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=given)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get(server: Server, path: str, status: int = 200, **parameters: object) -> Any:
    query = urlencode({key: str(value) for key, value in parameters.items()})
    found, _, body = ask(server, f"{path}?{query}" if query else path)
    assert found == status, body
    return json.loads(body)


def pages(server: Server, **parameters: object) -> Iterator[dict[str, Any]]:
    while True:
        page = get(server, "/api/photos", 200, **parameters)
        yield page
        if page["next"] is None:
            return
        parameters["cursor"] = page["next"]


def some_jpegs(catalog_path: Path, count: int) -> list[Path]:
    """Files of photos of the shared catalog, the first by path."""
    with CatalogStore.open(catalog_path) as store:
        ids = range(1, store.counts().photos + 1)
        found = [
            record for record in store.photos(ids).values() if record.format == "JPEG" and not record.missing
        ]
    return [Path(os.fsdecode(path)) for path in sorted(record.path for record in found)[:count]]


# -- the catalog and its photos --------------------------------------------------------------------------------


def test_the_catalog_tells_what_it_holds(server: Server) -> None:
    found = get(server, "/api/catalog")
    counts = server.service.store.counts()
    verified = {label.photo_id for label in labels_in_force(server.service.store)}
    assert (found["name"], found["photos"]) == ("catalog", counts.photos)
    assert found["verified_photos"] == len(verified) > 0
    assert found["model"]["classes"] > 1
    assert found["features"] == {
        "originals": False,
        "apply": False,
        "read_only": True,
        "token": False,
        "exact_places": False,
    }
    assert [(root["name"], root["photos"]) for root in found["roots"]] == [("archive", counts.photos)]
    assert found["first"] < found["last"]


def test_a_photo_has_what_the_catalog_knows(server: Server, archive: Path) -> None:
    store = server.service.store
    photo_id = labels_in_force(store)[0].photo_id
    found = get(server, f"/api/photos/{photo_id}")
    record = store.photos([photo_id])[photo_id]
    assert (found["id"], found["width"], found["height"]) == (photo_id, record.width, record.height)
    assert found["path"] == f"archive/{Path(record.path.decode()).relative_to(archive)}"
    assert found["files"][0] == {"path": found["path"], "state": "present"}
    assert (found["captured_at"], found["camera"]) == (record.captured_at, record.camera)
    assert found["views"][0]["kind"] == "whole"
    assert found["views"][0]["box"] == [0, 0, 1, 1]
    assert found["verified"][0]["verdict"] == "positive"
    assert found["label"]["rank"] == "species"
    assert 0 < found["label"]["probability"] <= 1
    assert found["label"]["p_knn"] is None
    assert (found["thumb"], found["image"]) == (f"/api/photos/{photo_id}/thumb", None)


def test_a_stored_prediction_is_the_label(own_catalog: Path, make_server: Callable[..., Server]) -> None:
    from birdsearch.search.labels.predict import label_catalog

    with Catalog.open(own_catalog, "write") as catalog:
        estimator = catalog.label_estimator()
        label_catalog(catalog.store, estimator)
    server = make_server(catalog=own_catalog)
    photo = get(server, "/api/photos", limit=1)["photos"][0]
    with server.service.store.reading() as connection:
        row = connection.execute(
            sa.select(schema.prediction).where(schema.prediction.c.view_id == photo["views"][0]["view_id"])
        ).one()
    assert photo["label"]["name"] == row.name
    assert photo["label"]["rank"] == row.rank
    assert photo["label"]["unknown"] == row.unknown
    assert photo["label"]["probability"] == row.probability


def test_photos_by_id_come_in_the_order_asked_for(server: Server) -> None:
    ids = get(server, "/api/photo-ids", sort="id")["ids"]
    asked = [ids[3], 999_999, ids[0], ids[3], 1 << 62]
    page = get(server, "/api/photos", ids=",".join(map(str, asked)))
    assert [photo["id"] for photo in page["photos"]] == [ids[3], ids[0]]
    assert page["next"] is None


@pytest.mark.parametrize(
    "path", ["/api/photos/999999", "/api/photos/999999/thumb", "/api/photos/999999/image"]
)
def test_an_unknown_photo_is_404(server: Server, path: str) -> None:
    assert get(server, path, status=404)["status"] == 404


@pytest.mark.parametrize(
    "query",
    [
        "ids=1,x",
        "ids=-1",
        "ids=" + ",".join(["1"] * 501),
        "sort=size",
        "limit=0",
        "limit=501",
        "cursor=abc",
        "cursor=%00",
        "cursor=W1tbW1tbW1s",
        "since=yesterday",
        "near=1,2",
        "near=nan,1,2",
        "bbox=5,0,1,1",
        "taxon=Nessie",
        "verified=perhaps",
        "under=elsewhere",
        "under=%00",
        "camera=",
        "lens=",
    ],
)
def test_what_cannot_be_meant_is_422(server: Server, query: str) -> None:
    status, headers, body = ask(server, f"/api/photos?{query}")
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert b"/tmp" not in body
    assert json.loads(body)["detail"]


@pytest.mark.parametrize("photo_id", ["0", "-1", str(1 << 63), "1e3", "..%2f1", "%00"])
def test_what_is_no_id_is_refused(server: Server, photo_id: str) -> None:
    assert ask(server, f"/api/photos/{photo_id}")[0] in (404, 422)
    assert ask(server, f"/api/photos/{photo_id}/thumb")[0] in (404, 422)


# -- filters, order, pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", ["captured_at", "-captured_at", "id", "-id"])
def test_pages_hold_what_the_list_of_ids_holds(server: Server, sort: str) -> None:
    ids = get(server, "/api/photo-ids", sort=sort)["ids"]
    found = list(pages(server, sort=sort, limit=7))
    assert [photo["id"] for page in found for photo in page["photos"]] == ids
    assert {page["total"] for page in found} == {len(ids)}
    records = server.service.store.photos(ids)
    times = [records[photo_id].captured_at for photo_id in ids]
    sign = -1 if sort.startswith("-") else 1
    if sort.endswith("id"):
        assert ids == sorted(ids, key=lambda photo_id: sign * photo_id)
    else:
        known = [time for time in times if time is not None]
        assert times == sorted(known, reverse=sign < 0) + [None] * (len(times) - len(known))


def test_conditions_are_those_of_the_command_line(server: Server) -> None:
    store = server.service.store
    record = store.active_model()
    some = labels_in_force(store)[0].name
    day = get(server, "/api/catalog")["first"][:10]
    for parameters, where in (
        ({"since": day, "until": day}, Where(since=day, until=day)),
        ({"taxon": some}, Where(taxon=some)),
        ({"verified": "false"}, Where(verified=False)),
        ({"taxon": some, "until": day}, Where(taxon=some, until=day)),
    ):
        expected = set(photos_of(store, allowed_views(store, record.id, where)).tolist())
        found = get(server, "/api/photo-ids", **parameters)["ids"]
        assert set(found) == expected, parameters
        assert get(server, "/api/photos", limit=1, **parameters)["total"] == len(expected)
    assert len(get(server, "/api/photo-ids", verified="true")["ids"]) > 0


def test_folders_are_named_as_they_are_shown(server: Server) -> None:
    path = get(server, "/api/photos", limit=1)["photos"][0]["path"]
    folder = path.rpartition("/")[0]
    inside = get(server, "/api/photo-ids", under=folder)["ids"]
    assert inside
    everything = get(server, "/api/photo-ids")["ids"]
    assert everything == get(server, "/api/photo-ids", under="archive")["ids"]
    without = get(server, "/api/photo-ids", exclude_under=folder)["ids"]
    assert set(without) | set(inside) == set(everything)


def test_a_folder_with_a_strange_name_is_named_as_it_is_shown(
    tmp_path: Path, catalog_path: Path, make_server: Callable[..., Server]
) -> None:
    root = tmp_path / "strange"
    strange = root / "a\nb \udcff"
    strange.mkdir(parents=True)
    photos = some_jpegs(catalog_path, 2)
    shutil.copy(photos[0], strange / "1.jpg")
    shutil.copy(photos[1], root / "2.jpg")
    with Catalog.open(tmp_path / "own", "create") as catalog:
        catalog.index([root], "demo")
    server = make_server(catalog=tmp_path / "own")
    shown = {photo["path"] for photo in get(server, "/api/photos")["photos"]}
    assert "strange/a\\nb \\xff/1.jpg" in shown
    inside = get(server, "/api/photos", under="strange/a\\nb \\xff")["photos"]
    assert [photo["path"] for photo in inside] == ["strange/a\\nb \\xff/1.jpg"]


def test_a_page_goes_on_where_the_last_ended_though_photos_come_and_go(
    own_catalog: Path, make_server: Callable[..., Server]
) -> None:
    server = make_server(catalog=own_catalog)
    before = get(server, "/api/photo-ids")["ids"]
    first = get(server, "/api/photos", limit=10)
    with CatalogStore.open(own_catalog, "write") as store, store.writing() as connection:
        # One that sorts before the page, and one of the page that leaves.
        root_id = connection.execute(sa.select(schema.root.c.id)).scalar_one()
        new = connection.execute(
            sa.insert(schema.photo)
            .values(
                digest=b"x" * 32, size=1, format="JPEG", width=1, height=1, captured_at="1999-01-01T00:00:00"
            )
            .returning(schema.photo.c.id)
        ).scalar_one()
        facts = dict.fromkeys(("size", "mtime_ns", "ctime_ns", "device", "inode", "transient"), 0)
        connection.execute(
            sa.insert(schema.file).values(
                root_id=root_id, path=b"new.jpg", state="present", photo_id=new, **facts
            )
        )
        connection.execute(
            sa.update(schema.file).where(schema.file.c.photo_id == before[9]).values(state="missing")
        )
    second = get(server, "/api/photos", limit=500, cursor=first["next"])
    assert [photo["id"] for photo in second["photos"]] == before[10:]
    assert get(server, "/api/photo-ids")["ids"] == [new, *before[:9], *before[10:]]


def test_a_cursor_is_of_one_order(server: Server) -> None:
    cursor = get(server, "/api/photos", limit=1)["next"]
    assert "order" in get(server, "/api/photos", status=422, sort="id", cursor=cursor)["detail"]


def test_a_page_takes_few_statements_however_many_photos_it_has(server: Server) -> None:
    from birdsearch.search.service.photo_rows import read_photo_rows

    counted: list[str] = []
    with server.service.store.reading() as connection:
        engine = connection.engine

    def count(*arguments: Any) -> None:
        counted.append(arguments[2])

    ids = get(server, "/api/photo-ids")["ids"]
    sa.event.listen(engine, "before_cursor_execute", count)
    try:
        for some in (ids[:2], ids):
            counted.clear()
            assert len(read_photo_rows(server.service, some)) == len(some)
            assert len(counted) < 30, counted
    finally:
        sa.event.remove(engine, "before_cursor_execute", count)


# -- names -----------------------------------------------------------------------------------------------------


def test_names_are_found_by_their_beginning_and_verified_ones_first(server: Server) -> None:
    labels = labels_in_force(server.service.store)
    name = labels[0].name
    found = get(server, "/api/taxa", q=name[:4].upper())["taxa"]
    assert name in [taxon["name"] for taxon in found]
    exact = get(server, "/api/taxa", q=name)["taxa"][0]
    assert exact["name"] == name
    assert exact["photos"] == len({label.photo_id for label in labels if label.name == name})


def test_words_within_names_and_scientific_names_are_found(server: Server) -> None:
    assert get(server, "/api/taxa", q="parus maj")["taxa"][0]["name"] == "Great tit"
    by_word = get(server, "/api/taxa", q="tit", limit=100)["taxa"]
    names = [taxon["name"].lower() for taxon in by_word]
    begins = [name.startswith("tit") for name in names]
    assert "coal tit" in names
    assert begins == sorted(begins, reverse=True)
    assert len(get(server, "/api/taxa", limit=3)["taxa"]) == 3
    assert get(server, "/api/taxa", q="zzzz")["taxa"] == []


# -- originals -------------------------------------------------------------------------------------------------


@pytest.fixture
def original(catalog_path: Path, tmp_path: Path, make_server: Callable[..., Server]) -> Any:
    """A server of originals over three photos in a folder of its own: (server, folder, name -> id)."""
    root = tmp_path / "originals"
    root.mkdir()
    for number, path in enumerate(some_jpegs(catalog_path, 3)):
        shutil.copy(path, root / f"{number}.jpg")
    with Catalog.open(tmp_path / "own", "create") as catalog:
        catalog.index([root], "demo")
        ids = {name: catalog.store.photo_at(bytes(root / name)) for name in ("0.jpg", "1.jpg", "2.jpg")}
    return make_server(catalog=tmp_path / "own", originals=True, exact_places=True), root, ids


def test_originals_are_served_only_if_asked_for(server: Server, original: Any) -> None:
    photo_id = get(server, "/api/photo-ids")["ids"][0]
    assert "--originals" in get(server, f"/api/photos/{photo_id}/image", status=404)["detail"]
    serving, root, ids = original
    assert get(serving, f"/api/photos/{ids['0.jpg']}")["image"] == f"/api/photos/{ids['0.jpg']}/image"
    status, headers, body = ask(serving, f"/api/photos/{ids['0.jpg']}/image")
    assert (status, body) == (200, (root / "0.jpg").read_bytes())
    assert headers["content-type"] == "image/jpeg"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == f'inline; filename="photo-{ids["0.jpg"]}.jpg"'
    assert headers["accept-ranges"] == "bytes"
    assert "default-src 'none'" in headers["content-security-policy"]
    status, _, body = ask(serving, f"/api/photos/{ids['0.jpg']}/image", If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")


def test_a_part_of_an_original(original: Any) -> None:
    server, root, ids = original
    content, path = (root / "1.jpg").read_bytes(), f"/api/photos/{ids['1.jpg']}/image"
    status, headers, body = ask(server, path, Range="bytes=5-14")
    assert (status, body) == (206, content[5:15])
    assert headers["content-range"] == f"bytes 5-14/{len(content)}"
    assert ask(server, path, Range="bytes=-7")[2] == content[-7:]
    assert ask(server, path, Range="bytes=5-14", If_Range='"other"')[2] == content
    assert ask(server, path, Range="bytes=5-14", If_Range=headers["etag"])[2] == content[5:15]
    status, headers, _ = ask(server, path, Range=f"bytes={len(content)}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(content)}")


def test_fault_74_thousands_of_ranges_are_answered_with_the_whole(original: Any) -> None:
    server, root, ids = original
    content, path = (root / "1.jpg").read_bytes(), f"/api/photos/{ids['1.jpg']}/image"
    for ranges in ("0-0," * 3000 + "0-0", "0-1,2-3", "0-" + "9" * 1000, "a-b", "5-2", "-"):
        status, headers, body = ask(server, path, Range="bytes=" + ranges)
        assert (status, body) == (200, content), ranges[:30]
        assert headers["content-type"] == "image/jpeg"


def test_ranges_as_rfc_9110_has_them() -> None:
    assert parse_range(None, 10) is None
    assert parse_range("bytes=0-", 10) == (0, 10)
    assert parse_range("bytes=9-99", 10) == (9, 10)
    assert parse_range("bytes=-99", 10) == (0, 10)
    assert parse_range("lines=1-2", 10) is None
    for beyond in ("bytes=10-", "bytes=10-20", "bytes=-0"):
        with pytest.raises(ValueError, match="no byte"):
            parse_range(beyond, 10)
    with pytest.raises(ValueError, match="no byte"):
        parse_range("bytes=0-", 0)


@pytest.mark.parametrize("what", ["image", "thumb"])
def test_fault_71_a_link_out_of_the_root_and_a_file_that_left_are_404(
    original: Any, tmp_path: Path, what: str
) -> None:
    server, root, ids = original
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        assert ask(server, f"/api/photos/{ids[name]}/{what}")[0] == 200
    (root / "0.jpg").rename(tmp_path / "moved.jpg")
    # The same bytes, so that only where they lie is wrong.
    (root / "0.jpg").symlink_to(tmp_path / "moved.jpg")
    (root / "1.jpg").unlink()
    assert ask(server, f"/api/photos/{ids['0.jpg']}/{what}")[0] == 404
    assert ask(server, f"/api/photos/{ids['1.jpg']}/{what}")[0] == 404
    # A link within the root leads nowhere else.
    (root / "2.jpg").rename(root / "renamed.jpg")
    (root / "2.jpg").symlink_to("renamed.jpg")
    assert ask(server, f"/api/photos/{ids['2.jpg']}/{what}")[0] == 200
    # Nor does a folder that became a link lead out.
    shutil.move(root, tmp_path / "elsewhere")
    root.mkdir()
    (root / "2.jpg").hardlink_to(tmp_path / "elsewhere" / "renamed.jpg")
    assert ask(server, f"/api/photos/{ids['2.jpg']}/{what}")[0] == 200
    (root / "2.jpg").unlink()
    assert ask(server, f"/api/photos/{ids['2.jpg']}/{what}")[0] == 404


def test_fault_72_what_is_no_picture_any_more_is_not_served(original: Any) -> None:
    server, root, ids = original
    size = (root / "0.jpg").stat().st_size
    for content in (
        b"<html><script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='a()'>",
    ):
        # Of the size that the photo had.
        (root / "0.jpg").write_bytes(content.ljust(size))
        status, headers, body = ask(server, f"/api/photos/{ids['0.jpg']}/image")
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert b"script" not in body
        status, headers, _ = ask(server, f"/api/photos/{ids['0.jpg']}/thumb?size=640")
        assert (status, headers["content-type"]) == (404, "application/problem+json")


def test_a_fifo_in_the_place_of_a_photo_is_not_waited_for(original: Any) -> None:
    server, root, ids = original
    (root / "0.jpg").unlink()
    os.mkfifo(root / "0.jpg")
    assert ask(server, f"/api/photos/{ids['0.jpg']}/image")[0] == 404
    assert ask(server, f"/api/photos/{ids['0.jpg']}/thumb")[0] == 404
