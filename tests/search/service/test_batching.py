"""Requests that come together: batched, each with its own answer, whatever the others send."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import CatalogError, StalledError
from birdsearch.search.catalog import Catalog
from birdsearch.search.service.batching import Batcher

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer

# Photos that are indexed while others search.
_MORE = 32


def test_what_comes_while_a_batch_is_answered_is_answered_together() -> None:
    batches: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def answer(questions: Sequence[int]) -> list[int]:
        batches.append(list(questions))
        begun.set()
        assert go_on.wait(10)
        return [2 * question for question in questions]

    batcher = Batcher(answer, most=4, name="test")
    first = batcher.submit(0)
    assert begun.wait(10)
    rest = [batcher.submit(question) for question in range(1, 8)]
    go_on.set()
    assert first.result(10) == 0
    assert [one.result(10) for one in rest] == [2 * question for question in range(1, 8)]
    batcher.close()
    assert batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


def test_a_question_that_cannot_be_answered_fails_alone() -> None:
    def answer(questions: Sequence[int]) -> list[float]:
        return [1 / question for question in questions]

    batcher = Batcher(answer, most=8, name="test", window_s=0.5, expected=lambda: 1)
    asked = [batcher.submit(question) for question in (1, 0, 2)]
    assert (asked[0].result(10), asked[2].result(10)) == (1.0, 0.5)
    with pytest.raises(ZeroDivisionError):
        asked[1].result(10)
    batcher.close()


def test_a_batch_waits_for_those_that_are_on_their_way_and_for_no_others() -> None:
    sizes: list[int] = []
    expected = [1]

    def answer(questions: Sequence[int]) -> Sequence[int]:
        sizes.append(len(questions))
        return questions

    batcher = Batcher(answer, most=8, name="test", window_s=20.0, expected=lambda: expected[0])
    first = batcher.submit(1)
    second = batcher.submit(2)
    expected[0] = 0
    third = batcher.submit(3)
    started = time.monotonic()
    assert [one.result(30) for one in (first, second, third)] == [1, 2, 3]
    assert time.monotonic() - started < 15
    batcher.close()
    assert sum(sizes) == 3


def test_those_that_were_answered_together_are_waited_for_but_not_for_long() -> None:
    sizes: list[int] = []
    go_on = threading.Event()

    def answer(questions: Sequence[int]) -> Sequence[int]:
        sizes.append(len(questions))
        assert go_on.wait(10)
        return questions

    batcher = Batcher(answer, most=8, name="test", window_s=20.0, gap_s=1.5)
    asked = [batcher.submit(0)]
    while not sizes:
        time.sleep(0.001)
    asked += [batcher.submit(number) for number in range(3)]
    go_on.set()
    assert [one.result(10) for one in asked] == [0, 0, 1, 2]
    assert sizes == [1, 3]
    # Three come back, one after the other.
    for number in range(3):
        asked[number] = batcher.submit(number)
        time.sleep(0.05)
    assert [one.result(10) for one in asked[:3]] == [0, 1, 2]
    assert sizes == [1, 3, 3]
    # Only one does: it waits once for the others.
    for expected in (1.5, 0.0):
        started = time.monotonic()
        assert batcher.submit(1).result(10) == 1
        assert expected <= time.monotonic() - started < expected + 1.2
    batcher.close()
    assert sizes == [1, 3, 3, 1, 1]


def test_closing_answers_what_was_asked_and_refuses_more() -> None:
    batcher: Batcher[int, int] = Batcher(lambda questions: questions, most=2, name="test")
    asked = [batcher.submit(question) for question in range(5)]
    batcher.close()
    batcher.close()
    assert [one.result(0) for one in asked] == list(range(5))
    with pytest.raises(CatalogError, match="stopping"):
        batcher.submit(1)


# -- over a server -------------------------------------------------------------------------------------------


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def picture(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def send(client: httpx.Client, content: bytes, name: str = "photo.png", **request: Any) -> httpx.Response:
    files, data = {"photo": (name, content)}, {"request": json.dumps(request)}
    return client.post("/api/search", files=files, data=data)


def test_many_at_once_get_the_answers_that_each_gets_alone(
    server: RunningServer, client: httpx.Client, catalog_path: Path, tmp_path: Path
) -> None:
    with Catalog.open(catalog_path, "read") as catalog:
        ids = [hit.photo_id for hit in catalog.query(1, k=1000).hits]
    uploads = {seed: picture(seed) for seed in range(6)}
    requests: list[tuple[str, Any]] = [("photo", one) for one in ids[:8]]
    requests += [("vector", one) for one in ids[8:16]]
    requests += [("box", one) for one in ids[16:19]]
    requests += [("upload", seed) for seed in uploads]

    def ask(asking: httpx.Client, kind: str, what: Any) -> dict[str, Any]:
        if kind == "photo":
            response = asking.post("/api/search", json={"photo_id": what, "k": 5, "labels": what % 2 == 0})
        elif kind == "vector":
            response = asking.post("/api/search", json={"vector": vectors[what], "k": 3 + what % 3})
        elif kind == "box":
            response = asking.post("/api/search", json={"photo_id": what, "box": [0.1, 0.2, 0.6, 0.7]})
        else:
            response = send(asking, uploads[what], k=6)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    vectors = {
        one: client.post("/api/search", json={"photo_id": one, "k": 0}).json()["vector"] for one in ids[8:16]
    }
    alone = {(kind, what): ask(client, kind, what) for kind, what in requests}
    order = requests * 4
    seed = random.randrange(1 << 30)
    print("seed", seed)
    random.Random(seed).shuffle(order)
    with ThreadPoolExecutor(16) as pool, httpx.Client(base_url=server.url, timeout=60) as shared:
        together = list(pool.map(lambda one: ask(shared, *one), order))
    for key, answer in zip(order, together, strict=True):
        expected = alone[key]
        assert [hit["photo_id"] for hit in answer["hits"]] == [hit["photo_id"] for hit in expected["hits"]]
        # Of photos that go through the network, the last bits depend on the batch.
        assert answer["vector"] == pytest.approx(expected["vector"], abs=1e-5)
        if key[0] == "vector":
            assert answer == expected


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that is `side` pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def decoders() -> list[int]:
    found = []
    for pid in children_of(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"worker.child" in command:
            found.append(pid)
    return found


def test_what_is_no_photo_gets_422_and_the_next_request_an_answer(client: httpx.Client) -> None:
    good = picture(77)
    truncated = io.BytesIO()
    Image.new("RGB", (800, 600), (10, 200, 30)).save(truncated, "JPEG")
    bad = {
        "empty.jpg": b"",
        "page.jpg": b"<html>not found</html>",
        "short.jpg": truncated.getvalue()[:700],
        "short.png": good[: len(good) // 2],
        "bomb.png": bomb(60_000),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "print.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, content in bad.items():
        response = send(client, content, name)
        assert response.status_code == 422, (name, response.text)
        problem = response.json()
        assert problem["detail"].startswith(f"{name}: ")
        assert "birdsearch-" not in problem["detail"]
        assert send(client, good, k=1).status_code == 200


def test_a_decoder_that_dies_takes_no_request_with_it(client: httpx.Client) -> None:
    assert send(client, picture(1), k=1).status_code == 200
    killed = decoders()
    assert killed
    for pid in killed:
        os.kill(pid, 9)
    for seed in range(4):
        assert send(client, picture(100 + seed), k=1).status_code == 200
    assert not set(killed) & set(decoders())


def test_nothing_of_an_upload_is_left_on_the_disk(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    started = make_server()
    with httpx.Client(base_url=started.url, timeout=60) as client:
        large = io.BytesIO()
        noise = np.random.default_rng(1).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(large, "PNG")
        assert len(large.getvalue()) > 1 << 20
        assert send(client, large.getvalue(), k=1).status_code == 200
        assert send(client, large.getvalue()[:-5000], k=1).status_code == 422
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_searches_during_an_index_run_are_right_throughout(
    make_server: MakeServer, own_catalog: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for seed in range(_MORE):
        (more / f"{seed:02d}.png").write_bytes(picture(1000 + seed))
    with Catalog.open(own_catalog, "read") as catalog:
        before = [hit.photo_id for hit in catalog.query(1, k=1000, include_self=True).hits]
    started = make_server(catalog=own_catalog)
    answers: list[dict[str, Any]] = []
    command = [sys.executable, "-m", "birdsearch", "index", str(more), "--catalog", str(own_catalog)]
    command += ["--batch-size", "4", "--workers", "1"]
    with httpx.Client(base_url=started.url, timeout=60) as client:
        vector = client.post("/api/search", json={"photo_id": before[0], "k": 0}).json()["vector"]

        def ask() -> dict[str, Any]:
            response = client.post("/api/search", json={"vector": vector, "k": 1000})
            assert response.status_code == 200, response.text
            answer: dict[str, Any] = response.json()
            return answer

        first = ask()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            while run.poll() is None:
                answers.append(ask())
            said, _ = run.communicate()
        assert run.returncode == 0, said
        last = ask()
    assert len(first["hits"]) == len(before) > 0
    assert len(last["hits"]) == len(before) + _MORE
    final = {hit["photo_id"]: hit for hit in last["hits"]}
    sizes = []
    for answer in [first, *answers]:
        # Whatever was there at the time, with all that is known of it, in the order of the last answer.
        shown = [hit["photo_id"] for hit in answer["hits"]]
        assert set(before) <= set(shown)
        assert shown == [photo_id for photo_id in final if photo_id in set(shown)]
        for rank, hit in enumerate(answer["hits"], start=1):
            assert hit == {**final[hit["photo_id"]], "rank": rank}
        sizes.append(len(shown))
    assert sizes == sorted(sizes)
    # The run commits every few photos, and some states in between were seen.
    assert len(set(sizes)) > 2


def test_an_answer_that_never_comes_is_given_up_and_nobody_waits_behind_it() -> None:
    begun, end = threading.Event(), threading.Event()

    def answer(questions: Sequence[int]) -> list[int]:
        begun.set()
        end.wait(60)
        return list(questions)

    batcher = Batcher(answer, most=4, name="test", what="the test", answer_s=0.3)
    try:
        with pytest.raises(
            StalledError, match=r"^the test gave no sign of life for 0 s and was given up; try"
        ):
            asyncio.run(batcher.ask(1))
        assert begun.is_set()
        time.sleep(0.1)
        assert batcher.stalled_s is not None
        with pytest.raises(StalledError):
            batcher.submit(2)
        began = time.monotonic()
        batcher.close()
        assert time.monotonic() - began < 30
    finally:
        end.set()
