"""How much requests may take: bodies, how many at once, headers, ranges, answers that nobody reads."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from birdsearch.search.service.connections import ConnectionLimits

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]

MB = 1_000_000
STATIC = Path(__file__).parents[3] / "search" / "service" / "static"


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


def _until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


# -- bodies ------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_unread(small: RunningServer) -> None:
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(small.address, timeout=10) as opened:
        opened.sendall(head + b"Content-Length: 1000001\r\n\r\n")
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    status, problem = _problem(answer)
    assert status == 413
    assert "1 MB" in str(problem["detail"])
    assert b"connection: close" in answer.lower()


def test_a_body_of_the_largest_size_is_read(small: RunningServer) -> None:
    start, end = b'{"token": "', b'"}'
    body = start + b"x" * (MB - len(start) - len(end)) + end
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


def test_too_many_requests_at_once_are_told_to_come_again(
    make_server: MakeServer, catalog_path: Path
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=2)
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b'{"token": "t"}'

    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(server.address, timeout=20)) for _ in range(2)]
        for one in opened:
            one.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        _until(lambda: httpx.get(f"{server.url}/api/openapi.json").status_code == 503)
        answer = httpx.get(f"{server.url}/api/openapi.json")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        for one in opened:
            one.sendall(body)
            assert one.recv(65536).startswith(b"HTTP/1.1 204 ")
    _until(lambda: httpx.get(f"{server.url}/api/openapi.json").status_code == 200)


def test_those_who_hang_up_make_room(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, max_requests=1)
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(server.address, timeout=20) as opened:
            opened.sendall(head)
            _until(lambda: httpx.get(f"{server.url}/api/openapi.json").status_code == 503)
        _until(lambda: httpx.get(f"{server.url}/api/openapi.json").status_code == 200)


def test_too_many_connections_are_refused(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, limits=ConnectionLimits(at_once=4))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(server.address, timeout=20))
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
    assert sent < 4 * MB or answer.startswith(b"HTTP/1.1 400 ")
    assert _answers(server)


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
        ",".join(f"{start}-{start}" for start in range(0, 8000, 2)),
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
