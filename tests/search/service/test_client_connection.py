"""How the client keeps connections, waits and fails: against servers that do as a test says."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from birdsearch import Client
from birdsearch.errors import BirdsearchError, CatalogLockedError, InvalidInputError, PhotoError, ServiceError

_JOBS = json.dumps({"jobs": []}).encode()


class Scripted(http.server.ThreadingHTTPServer):
    """Answers each request with the next of its answers (status, headers, body), then with the last for good."""

    daemon_threads = True

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        answers = self.server.answers
        status, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if headers.get("X-Then") == "close":
            # Without saying so before, as a server does whose idle time is over.
            self.close_connection = True

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        return


MakeScripted = Callable[..., Scripted]


@pytest.fixture
def scripted() -> Iterator[MakeScripted]:
    with contextlib.ExitStack() as stack:

        def make(*answers: tuple[int, dict[str, str], bytes]) -> Scripted:
            server = stack.enter_context(Scripted(list(answers)))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield make


def _problem(status: int, **more: object) -> tuple[int, dict[str, str], bytes]:
    content = {"type": "about:blank", "title": "-", "status": status, "detail": "it is so", **more}
    return status, {"Content-Type": "application/problem+json"}, json.dumps(content).encode()


def test_one_connection_serves_many_requests_and_carries_the_token(scripted: MakeScripted) -> None:
    server = scripted((200, {}, _JOBS))
    with Client(server.url, "secret") as client:
        for _ in range(5):
            assert client.jobs() == []
    assert server.connections == 1
    assert {headers["Authorization"] for _, _, headers, _ in server.seen} == {"Bearer secret"}


def test_a_connection_that_the_server_closed_is_not_used_again(scripted: MakeScripted) -> None:
    server = scripted((200, {"X-Then": "close"}, _JOBS))
    with Client(server.url, tries=1) as client:
        for _ in range(3):
            client.jobs()
            # The end of the connection has to be here, or it could not be seen.
            transport = client._connections._client._transport
            assert isinstance(transport, httpx.HTTPTransport)
            deadline = time.monotonic() + 5
            while not all(kept.has_expired() for kept in transport._pool.connections):
                assert time.monotonic() < deadline
                time.sleep(0.001)
    assert server.connections == 3


def test_several_threads_ask_at_once_each_with_a_connection_of_its_own(scripted: MakeScripted) -> None:
    server = scripted((200, {}, _JOBS))
    failures: list[BaseException] = []
    with Client(server.url) as client:
        barrier = threading.Barrier(6)

        def ask() -> None:
            try:
                barrier.wait(10)
                for _ in range(20):
                    assert client.jobs() == []
            except BaseException as error:  # whatever it is, the test has to fail for it
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(server.seen) == 120
    assert server.connections <= 6


def test_a_read_is_asked_again_after_the_time_that_a_busy_service_names(
    scripted: MakeScripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("birdsearch.client.connection.time", SimpleNamespace(sleep=waited.append))
    busy = _problem(503)
    server = scripted(
        (503, {**busy[1], "Retry-After": "2"}, busy[2]),
        (503, {**busy[1], "Retry-After": "86400"}, busy[2]),
        (200, {}, _JOBS),
    )
    with Client(server.url) as client:
        assert client.jobs() == []
    assert waited == [2.0, 30.0]


def test_a_busy_service_is_given_up_after_the_tries(scripted: MakeScripted) -> None:
    busy = _problem(503)
    server = scripted((503, {**busy[1], "Retry-After": "0"}, busy[2]))
    with Client(server.url, tries=3) as client, pytest.raises(ServiceError, match="it is so") as caught:
        client.jobs()
    assert caught.value.status == 503
    assert len(server.seen) == 3


def test_what_changes_the_catalog_is_sent_once(scripted: MakeScripted) -> None:
    busy = _problem(503)
    server = scripted((503, {**busy[1], "Retry-After": "0"}, busy[2]))
    with Client(server.url) as client, pytest.raises(ServiceError):
        client.annotate({1: "Eurasian hoopoe"})
    assert len(server.seen) == 1


def test_a_read_is_asked_again_when_the_connection_breaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    if number:
                        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_JOBS)}\r\n\r\n"
                        connection.sendall(head.encode() + _JOBS)

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            assert client.jobs() == []
        thread.join()


def test_a_service_that_says_nothing_is_given_up_after_the_timeout() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2) as client,
        pytest.raises(ServiceError, match="timed out"),
    ):
        client.jobs()


def test_a_service_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(ServiceError, match=f"127.0.0.1:{port}.*refused"),
    ):
        client.jobs()


@pytest.mark.parametrize("status", [200, 404, 502])
def test_another_program_at_the_address_is_no_answer(scripted: MakeScripted, status: int) -> None:
    server = scripted((status, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"))
    with Client(server.url) as client, pytest.raises(ServiceError) as caught:
        client.jobs()
    assert caught.value.status == status


def test_an_answer_of_another_version_is_said_to_be_one(scripted: MakeScripted) -> None:
    server = scripted((200, {}, b'{"jobs": [{"id": "1"}]}'))
    with Client(server.url) as client, pytest.raises(ServiceError, match="of another version"):
        client.jobs()


def test_errors_are_raised_as_what_they_are(scripted: MakeScripted) -> None:
    server = scripted(
        _problem(409, error="CatalogLockedError"),
        _problem(422, error="PhotoError", stage="decode", code="truncated"),
        _problem(404),
        _problem(401),
        _problem(500, error="SystemExit"),
        (200, {}, _JOBS),
    )
    with Client(server.url) as client:
        with pytest.raises(CatalogLockedError, match="it is so"):
            client.jobs()
        with pytest.raises(PhotoError) as caught:
            client.jobs()
        assert (caught.value.stage, caught.value.code) == ("decode", "truncated")
        with pytest.raises(InvalidInputError):
            client.jobs()
        for status in (401, 500):
            with pytest.raises(ServiceError) as refused:
                client.jobs()
            assert refused.value.status == status


def test_a_service_below_a_path_of_a_proxy_is_asked_there(scripted: MakeScripted) -> None:
    server = scripted((200, {}, _JOBS))
    with Client(f"{server.url}/birds/") as client:
        client.jobs()
    assert server.seen[0][1] == "/birds/api/jobs"


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("127.0.0.1:8000", {}, "url"),
        ("ftp://birds.example.org", {}, "url"),
        ("http://me:secret@birds.example.org", {}, "token="),
        ("http://birds.example.org:99999", {}, "url"),
        ("http://birds.example.org", {"timeout": 0}, "timeout"),
        ("http://birds.example.org", {"tries": 0}, "tries"),
        ("http://birds.example.org", {"token": "a\nb"}, "token"),
    ],
)
def test_an_address_or_option_that_cannot_be_is_refused(
    url: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        Client(url, **options)
    assert "secret" not in str(caught.value)


def test_without_its_library_the_client_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(BirdsearchError, match=r"pip install 'birdsearch\[client\]'"):
        Client("http://127.0.0.1:1")
