"""How much requests may take: bodies, how many at once, headers, ranges, answers that nobody reads."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from birdsearch.search.service.connections import ConnectionLimits

if TYPE_CHECKING:
    from birdsearch.search.service.jobs import Task
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]

MB = 1_000_000
_TOKEN = "correct horse battery staple"
STATIC = Path(__file__).parents[3] / "search" / "service" / "gallery"


@pytest.fixture
def small(make_server: MakeServer, catalog_path: Path) -> RunningServer:
    """A server that takes bodies of 1 MB."""
    return make_server(catalog=catalog_path, read_only=True, max_upload_mb=1)


def _problem(answer: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    problem: dict[str, object] = json.loads(body)
    return int(head.split(b" ", 2)[1]), problem


def _status(opened: socket.socket) -> int:
    """Read one answer from a connection that stays open."""
    with http.client.HTTPResponse(opened) as answer:
        answer.begin()
        answer.read()
        return answer.status


def _until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


# -- bodies ------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_unread(small: RunningServer) -> None:
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(small.address, timeout=10) as opened:
        opened.sendall(head + b"Content-Length: 8001\r\n\r\n")
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    status, problem = _problem(answer)
    assert status == 413
    assert "8 KB" in str(problem["detail"])
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("path", "content_type", "most", "told"),
    [
        ("/api/session", "application/json", 8_000, "8 KB"),
        ("/api/session", "multipart/form-data; boundary=b", 8_000, "8 KB"),
        ("/api/jobs", "application/json", 64_000, "64 KB"),
        ("/api/jobs", "multipart/form-data; boundary=b", 64_000, "64 KB"),
        ("/api/nothing", "application/json", 64_000, "64 KB"),
        ("/api/annotations", "application/json", MB, "1 MB"),
        ("/api/search", "application/json", MB, "1 MB"),
        ("/api/search", "multipart/form-data; boundary=b", 3 * MB, "3 MB"),
    ],
)
def test_each_body_may_be_as_large_as_it_can_have_to_be(
    make_server: MakeServer, catalog_path: Path, path: str, content_type: str, most: int, told: str
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_upload_mb=3)
    headers = {"Content-Type": content_type}
    assert httpx.post(server.url + path, content=b" " * most, headers=headers).status_code != 413
    answer = httpx.post(server.url + path, content=b" " * (most + 1), headers=headers)
    assert answer.status_code == 413
    assert told in answer.json()["detail"]


def test_a_body_of_the_largest_size_is_read(small: RunningServer) -> None:
    start, end = b'{"token": "', b'"}'
    body = start + b"x" * (8_000 - len(start) - len(end)) + end
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{small.url}/api/session", content=body, headers=headers)
    assert answer.status_code == 422  # The token is too long, which only who has read it knows.
    assert httpx.post(f"{small.url}/api/session", content=body + b" ", headers=headers).status_code == 413


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(small: RunningServer) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b"x" * 65536

    answer = httpx.post(
        f"{small.url}/api/session",
        content=endless(),
        headers={"Content-Type": "application/json"},
        timeout=30,
    )
    assert answer.status_code == 413
    assert sent < 200 * MB


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_is_too_large_leaves_nothing_on_disk(
    make_server: MakeServer,
    catalog_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunked: bool,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = make_server(catalog=catalog_path, read_only=True, max_upload_mb=3)
    part = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    before, files = _open_files(), set(tmp_path.rglob("*"))

    def body() -> Iterator[bytes]:
        yield part
        for _ in range(80):
            yield b"\xff" * 65536
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    content = body() if chunked else b"".join(body())
    answer = httpx.post(f"{server.url}/api/search", content=content, headers=headers, timeout=30)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(tmp_path.rglob("*")) == files
    _until(lambda: _open_files() <= before)


def _open_files() -> int:
    """Files without a name that this process holds open; those of uploads are such."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(link)  # noqa: PTH115 it need not be a path
            found += target.startswith("/") and target.endswith("(deleted)")
    return found


def test_what_is_refused_before_its_body_is_read_does_not_hold_the_connection(
    make_server: MakeServer, catalog_path: Path
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, token="t")
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(server.address, timeout=20) as opened:
        opened.sendall(head + b"4\r\nabcd\r\n")
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert _problem(answer)[0] == 401


def test_a_body_that_stands_still_is_given_up(
    make_server: MakeServer, catalog_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdsearch.search.service.limits import BodyLimit

    monkeypatch.setattr(BodyLimit.__init__, "__defaults__", (0.2,))
    server = make_server(catalog=catalog_path, read_only=True)
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = server.raw(head + b'Content-Length: 100\r\n\r\n{"tok')
    assert _problem(answer)[0] == 408


# -- how many at once --------------------------------------------------------------------------------------


_SEARCH = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_SESSION = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_too_many_requests_at_once_are_told_to_come_again(
    make_server: MakeServer, catalog_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdsearch.search.service.searching import Searcher

    server = make_server(catalog=catalog_path, read_only=True, max_requests=2)
    going_on, answer_now = threading.Semaphore(0), threading.Event()
    answers = Searcher._answers

    def held(self: Searcher, asked: Any) -> list[bytes]:
        going_on.release()
        answer_now.wait(20)
        return answers(self, asked)

    monkeypatch.setattr(Searcher, "_answers", held)
    with ThreadPoolExecutor(2) as pool:
        asked = {"photo_id": 3, "exact": True}
        running = [
            pool.submit(httpx.post, f"{server.url}/api/search", json=asked, timeout=30) for _ in range(2)
        ]
        for _ in running:
            assert going_on.acquire(timeout=20)
        for refused in (
            httpx.get(f"{server.url}/api/catalog"),
            httpx.post(f"{server.url}/api/search", json=asked),
        ):
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["content-type"] == "application/problem+json"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        answer_now.set()
        assert [one.result().status_code for one in running] == [200, 200]
    assert httpx.get(f"{server.url}/api/catalog").status_code == 200


@pytest.mark.parametrize("head", [_SEARCH, _SESSION])
def test_bodies_that_do_not_come_take_no_place_from_others(
    make_server: MakeServer, catalog_path: Path, head: bytes
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=8)
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(server.address, timeout=20)) for _ in range(20)
        ]
        for one in opened:
            one.sendall(head + b"Content-Length: 20\r\n\r\n{")
        # Those that were begun first are ended for those that came later.
        _until(lambda: len(select.select(opened, [], [], 0)[0]) >= 12)
        for one in select.select(opened, [], [], 0)[0]:
            status, problem = _problem(b"".join(iter(lambda one=one: one.recv(65536), b"")))  # type: ignore[misc]
            assert status == 408
            assert "others wait" in str(problem["detail"])
        with httpx.Client(base_url=server.url, timeout=20) as client:
            assert client.get("/api/catalog").status_code == 200
            assert client.post("/api/search", json={"photo_id": 3}).status_code == 200
            assert client.post("/api/session", json={"token": "t"}).status_code == 204
            assert client.delete("/api/jobs/1").status_code == 404


@pytest.mark.parametrize("path", [b"/app.css", b"/api/session", b"/api/catalog"])
def test_bodies_that_no_route_reads_take_no_place_from_others(
    make_server: MakeServer, catalog_path: Path, path: bytes
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=4)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            opened = stack.enter_context(socket.create_connection(server.address, timeout=20))
            opened.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
            # The head of the answer is there, and the service waits for the body.
            assert opened.recv(9) == b"HTTP/1.1 "
        with httpx.Client(base_url=server.url, timeout=20) as client:
            assert client.get("/app.js").status_code == 200
            assert client.get("/api/catalog").status_code == 200
            assert client.post("/api/session", json={"token": "t"}).status_code == 204


def test_answers_before_the_body_is_there_fail_nothing(
    make_server: MakeServer, catalog_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=4)
    head = b"POST /app.css HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            opened = stack.enter_context(socket.create_connection(server.address, timeout=20))
            opened.sendall(head)
            assert opened.recv(12) == b"HTTP/1.1 405"
    assert [record for record in caplog.records if record.exc_info] == []


def test_answers_that_nobody_reads_take_no_place_from_others(
    make_server: MakeServer, catalog_path: Path
) -> None:
    limits = ConnectionLimits(at_once=6)
    server = make_server(catalog=catalog_path, read_only=True, max_requests=2, limits=limits)
    request = b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            opened = stack.enter_context(socket.socket())
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect(server.address)
            opened.sendall(request * 100)
        time.sleep(0.5)
        # Those that were not read for longest are closed for these.
        for path in ("/healthz", "/api/catalog"):
            _until(lambda path=path: httpx.get(server.url + path).status_code == 200)  # type: ignore[misc]


def test_a_client_that_sends_ahead_without_end_is_cut(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, limits=ConnectionLimits(ahead_bytes=10_000))
    request = b"GET /app.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(server.address, timeout=20) as opened:
        opened.sendall(request * 100)
        received = b""
        while received.count(b"HTTP/1.1 200") < 100:
            received += opened.recv(1 << 20)
    with socket.create_connection(server.address, timeout=20) as opened, contextlib.suppress(ConnectionError):
        opened.sendall(request * 2000)
        answers = b"".join(iter(lambda: opened.recv(65536), b""))
        assert answers.count(b"HTTP/1.1 200") < 2000
    assert _answers(server)


def test_streams_of_events_take_no_place_from_others(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=8)
    end = threading.Event()

    def work(task: Task) -> dict[str, object]:
        while not end.wait(0.01):
            task.check()
        return {}

    job = server.service.jobs.start("label", work)
    stream = b"GET /api/jobs/%d/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %d\r\n\r\n"
    try:
        with contextlib.ExitStack() as stack:
            for client in (1, 1, 1, 1, 1, 1, 2, 2):
                opened = stack.enter_context(socket.create_connection(server.address, timeout=20))
                opened.sendall(stream % (job.id, client))
                assert opened.recv(12) == b"HTTP/1.1 200"
            for client, told in ((1, b"6 streams of events go to you already"), (3, b"8 requests are being")):
                with socket.create_connection(server.address, timeout=20) as refused:
                    refused.sendall(stream % (job.id, client))
                    answer = b""
                    while told not in answer and (more := refused.recv(65536)):
                        answer += more
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"retry-after: " in answer.lower()
            with httpx.Client(base_url=server.url, timeout=20) as client_of_others:
                assert client_of_others.get("/api/catalog").status_code == 200
                # The request that ends them all.
                assert client_of_others.delete(f"/api/jobs/{job.id}").status_code == 202
        _until(lambda: server.service.jobs.unfinished(None) is None)
    finally:
        end.set()


def test_thumbnails_that_nobody_waits_for_any_more_take_no_place_from_others(
    make_server: MakeServer, catalog_path: Path
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=8)
    ids = httpx.get(f"{server.url}/api/photo-ids").json()["ids"]
    thumb = b"GET /api/photos/%d/thumb?size=1280 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # As of a page that is scrolled fast: each is given up at once, before it can be there.
    for photo_id in ids[:30]:
        with socket.create_connection(server.address, timeout=20) as opened:
            opened.sendall(thumb % photo_id)
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(6) as pool:
        assert client.get("/api/catalog").status_code == 200
        time.sleep(0.5)  # Not more than between two screens that somebody looks at.
        shown = pool.map(
            lambda photo_id: client.get(f"/api/photos/{photo_id}/thumb?size=320").status_code, ids[:12]
        )
        assert set(shown) == {200}


def test_a_body_that_drips_is_given_up(
    make_server: MakeServer, catalog_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from birdsearch.search.service.limits import BodyLimit

    monkeypatch.setattr(BodyLimit.__init__, "__defaults__", (0.5,))
    server = make_server(catalog=catalog_path, read_only=True)
    begun = time.monotonic()
    with socket.create_connection(server.address, timeout=20) as opened:
        opened.sendall(_SESSION + b"Content-Length: 1000\r\n\r\n")
        opened.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() < begun + 15:
            with contextlib.suppress(TimeoutError):
                opened.sendall(b" ")
                answer = opened.recv(65536)
        opened.settimeout(10)
        with contextlib.suppress(ConnectionError):
            answer += b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"came too slowly" in answer


def test_a_connection_that_is_silent_makes_room_for_another(
    make_server: MakeServer, catalog_path: Path
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, limits=ConnectionLimits(at_once=4))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(server.address, timeout=20)) for _ in range(4)]
        _until(lambda: _answers(server))
        with contextlib.suppress(ConnectionError):
            assert silent[0].recv(1) == b""


def test_too_many_connections_that_are_answered_are_refused(
    make_server: MakeServer, catalog_path: Path
) -> None:
    server = make_server(
        catalog=catalog_path, read_only=True, token=_TOKEN, limits=ConnectionLimits(at_once=4)
    )
    # A wrong token is answered late.
    late = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(server.address, timeout=20)).sendall(late)
        time.sleep(0.2)
        with socket.create_connection(server.address, timeout=20) as one_more:
            answer = b"".join(iter(lambda: one_more.recv(65536), b""))
        status, _ = _problem(answer)
        assert status == 503
        assert b"retry-after: 1" in answer.lower()
    _until(lambda: _answers(server))


def _answers(server: RunningServer) -> bool:
    return httpx.get(f"{server.url}/healthz").status_code == 200


# -- headers -----------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(make_server: MakeServer, catalog_path: Path) -> RunningServer:
    """A server that waits for headers for half a second."""
    return make_server(catalog=catalog_path, read_only=True, limits=ConnectionLimits(headers_s=0.5))


def test_headers_that_drip_are_cut(hasty: RunningServer) -> None:
    begun = time.monotonic()
    with socket.create_connection(hasty.address, timeout=10) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        opened.settimeout(0.05)
        answer = b""
        while time.monotonic() < begun + 10:
            try:
                opened.sendall(b"X-Slow: 1\r\n")
                got = opened.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if not got:
                break
            answer += got
        took = time.monotonic() - begun
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert took < 5
    assert _answers(hasty)


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\n"])
def test_a_connection_that_asks_nothing_is_cut(hasty: RunningServer, sent: bytes) -> None:
    assert _problem(hasty.raw(sent, timeout=10))[0] == 408


def test_the_second_request_of_a_connection_is_cut_as_the_first(hasty: RunningServer) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = hasty.raw(first + b"GET /healthz HT", timeout=10)
    assert answer.startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(hasty.address, timeout=10) as opened:
        opened.sendall(first)
        assert _status(opened) == 200
        opened.sendall(b"GET /healthz HT")
        assert _status(opened) == 408


def test_an_idle_connection_is_kept_longer_than_headers_may_take(hasty: RunningServer) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(hasty.address, timeout=10) as opened:
        for _ in range(2):
            opened.sendall(request)
            assert _status(opened) == 200
            time.sleep(0.8)  # What is tested is that time passes and nothing happens.


def test_a_slow_body_is_not_taken_for_slow_headers(hasty: RunningServer) -> None:
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(hasty.address, timeout=10) as opened:
        opened.sendall(head + b"Content-Length: 14\r\n\r\n")
        for byte in b'{"token": "t"}':
            opened.sendall(bytes([byte]))
            time.sleep(0.06)
        assert opened.recv(65536).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b""])
def test_headers_without_end_are_cut(server: RunningServer, start: bytes) -> None:
    with socket.create_connection(server.address, timeout=20) as opened:
        opened.sendall(start)
        sent, answer = 0, b""
        with contextlib.suppress(ConnectionError):
            while sent < 4 * MB:
                opened.sendall(b"a" * 4096)
                sent += 4096
        with contextlib.suppress(ConnectionError):
            answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert sent < 4 * MB or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert _answers(server)


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Long: " + b"a" * 60_000,
        b"\r\n".join(b"X-%d: 1" % n for n in range(101)),
        b"Cookie: " + b"a" * 33_000,
    ],
)
def test_headers_that_are_too_large_or_too_many_are_refused_also_if_they_come_at_once(
    server: RunningServer, headers: bytes
) -> None:
    answer = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n")
    status, problem = _problem(answer)
    assert status == 431
    assert problem["detail"] == "the headers are larger than 32 KB, or more than 100"
    assert b"x-content-type-options: nosniff" in answer.lower()


def test_a_length_beside_chunks_is_refused(server: RunningServer) -> None:
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = server.raw(head + both + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    status, problem = _problem(answer)
    assert status == 400
    assert "both Content-Length and Transfer-Encoding" in str(problem["detail"])


def test_an_answer_that_nobody_reads_is_given_up(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, limits=ConnectionLimits(unread_s=0.3))
    request = b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.connect(server.address)
        opened.settimeout(0.2)
        is_cut, end = False, time.monotonic() + 20
        while not is_cut and time.monotonic() < end:
            try:
                opened.sendall(request)
            except TimeoutError:
                continue
            except ConnectionError:
                is_cut = True
    assert is_cut
    assert _answers(server)


# -- ranges ------------------------------------------------------------------------------------------------


def test_one_range_is_sent_alone(server: RunningServer) -> None:
    answer = httpx.get(f"{server.url}/app.css", headers={"Range": "bytes=3-9"})
    assert answer.status_code == 206
    assert answer.content == (STATIC / "app.css").read_bytes()[3:10]


@pytest.mark.parametrize(
    "ranges",
    [
        ",".join(f"{start}-{start}" for start in range(0, 5000, 2)),
        ",".join(["0-"] * 8000),
        ",".join(["-1"] * 9000),
        "0-0, " * 20 + "1-1",
        " " * 20000 + "0-0",
    ],
)
def test_thousands_of_ranges_are_answered_with_the_file(server: RunningServer, ranges: str) -> None:
    answer = httpx.get(f"{server.url}/app.css", headers={"Range": f"bytes={ranges}"}, timeout=5)
    assert answer.status_code == 200
    assert answer.content == (STATIC / "app.css").read_bytes()


def test_a_range_outside_of_the_file_is_a_problem(server: RunningServer) -> None:
    answer = httpx.get(f"{server.url}/app.css", headers={"Range": "bytes=999999999-"})
    assert answer.status_code == 416
    assert answer.headers["content-type"] == "application/problem+json"


# -- HEAD --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/openapi.json", "/app.css", "/api/nothing"])
def test_head_is_get_without_the_body(server: RunningServer, path: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        got, asked = client.get(path), client.head(path)
        assert asked.status_code == got.status_code
        assert asked.content == b""
        assert asked.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":
            assert asked.headers["content-length"] == got.headers["content-length"]


# -- many at once ------------------------------------------------------------------------------------------


def test_many_who_ask_different_things_at_once_are_all_answered(server: RunningServer) -> None:
    asked = [
        ("GET", "/api/catalog", None),
        ("GET", "/api/photos?limit=20", None),
        ("GET", "/api/photos/1", None),
        ("GET", "/api/photos/2/thumb?size=160", None),
        ("POST", "/api/search", {"photo_id": 3}),
        ("POST", "/api/label", {"photo_id": 4}),
        ("GET", "/api/taxa?q=b", None),
        ("GET", "/metrics", None),
    ]

    def ask(start: int) -> list[int]:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            return [
                client.request(method, path, json=body).status_code
                for method, path, body in asked[start:] + asked[:start]
            ]

    with ThreadPoolExecutor(24) as pool:
        statuses = [status for some in pool.map(ask, [n % len(asked) for n in range(24)]) for status in some]
    assert statuses == [200] * 24 * len(asked)
