"""Who may ask: addresses, host names, tokens, sessions, origins; and what every response carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.service.options import ServeOptions

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]

TOKEN = "correct horse battery staple"


@pytest.fixture
def guarded(make_server: MakeServer, catalog_path: Path) -> RunningServer:
    return make_server(catalog=catalog_path, read_only=True, token=TOKEN)


def _status(server: RunningServer, headers: bytes, start: bytes = b"GET /metrics HTTP/1.1") -> int:
    answer = server.raw(start + b"\r\n" + headers + b"\r\nConnection: close\r\n\r\n")
    return int(answer.split(b" ", 2)[1])


# -- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert ServeOptions(catalog=Path("c"), host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "birds.example", "localhost.example"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(InvalidInputError, match="token"):
        ServeOptions(catalog=Path("c"), host=host)
    assert ServeOptions(catalog=Path("c"), host=host, token=TOKEN).host == host


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(ServeOptions(catalog=Path("c"), token=TOKEN))


# -- host names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LocalHost", "127.0.0.1:1", "[::1]:80", "[::1]", "localhost."]
)
def test_the_names_of_this_machine_are_answered(server: RunningServer, host: str) -> None:
    assert _status(server, b"Host: " + host.encode()) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@localhost",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost/evil.example",
        "192.168.1.5",
        "",
        "[::1",
        "localhost:port",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/nothing"])
def test_a_foreign_host_header_is_refused(server: RunningServer, host: str, path: str) -> None:
    assert _status(server, b"Host: " + host.encode(), b"GET " + path.encode() + b" HTTP/1.1") == 400


def test_a_missing_or_repeated_host_header_is_refused(server: RunningServer) -> None:
    assert _status(server, b"Accept: */*") == 400
    assert _status(server, b"Accept: */*", b"GET /metrics HTTP/1.0") == 400
    assert _status(server, b"Host: localhost\r\nHost: localhost") == 400


def test_an_allowed_host_is_answered(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True, allowed_hosts=("Birds.Example",))
    assert _status(server, b"Host: birds.example:8443") == 200
    assert _status(server, b"Host: other.example") == 400


# -- tokens and sessions -----------------------------------------------------------------------------------


def test_without_the_token_nothing_of_the_catalog_is_told(guarded: RunningServer) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        for path in ("/metrics", "/api/openapi.json", "/api/catalog", "/api/nothing"):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/api//catalog", "//api/catalog", "/API/catalog", "/%61pi/catalog", "/./api/catalog", "/x/../metrics"],
)
def test_no_spelling_of_a_path_goes_round_the_token(guarded: RunningServer, path: str) -> None:
    status = _status(guarded, b"Host: localhost", b"GET " + path.encode() + b" HTTP/1.1")
    assert status in (401, 404)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer", 401),
        ("Bearer \u00fc", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_a_bearer_token_is_compared_whole(guarded: RunningServer, header: str, status: int) -> None:
    answer = httpx.get(f"{guarded.url}/metrics", headers={b"Authorization": header.encode()})
    assert answer.status_code == status


def test_a_session_stands_for_the_token(guarded: RunningServer) -> None:
    with httpx.Client(base_url=guarded.url) as client:
        refused = client.post("/api/session", json={"token": "wrong"})
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
        started = client.post("/api/session", json={"token": TOKEN})
        assert started.status_code == 204
        cookie = started.headers["set-cookie"]
        assert cookie.startswith("birdsearch_session=")
        for part in ("HttpOnly", "samesite=strict", "Path=/"):
            assert part.lower() in cookie.lower()
        assert TOKEN not in cookie
        assert "secure" not in cookie.lower()
        assert client.get("/metrics").status_code == 200
        assert client.delete("/api/session").status_code == 204
        assert client.get("/metrics").status_code == 401


def test_a_session_behind_tls_is_for_tls_only(guarded: RunningServer) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    started = httpx.post(f"{guarded.url}/api/session", json={"token": TOKEN}, headers=headers)
    assert "; secure" in started.headers["set-cookie"].lower()


@pytest.mark.parametrize("value", ["", "x", "=;=", TOKEN, "\u00fc", 'birdsearch_session="'])
def test_a_made_up_session_is_none(guarded: RunningServer, value: str) -> None:
    cookie = b"birdsearch_session=" + value.encode()
    assert httpx.get(f"{guarded.url}/metrics", headers={b"Cookie": cookie}).status_code == 401


def test_a_session_of_another_token_is_none(
    guarded: RunningServer, make_server: MakeServer, catalog_path: Path
) -> None:
    other = make_server(catalog=catalog_path, read_only=True, token="another token")
    with httpx.Client() as client:
        client.post(f"{other.url}/api/session", json={"token": "another token"})
        assert client.get(f"{other.url}/metrics").status_code == 200
        assert client.get(f"{guarded.url}/metrics").status_code == 401


# -- origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_of_another_site_may_change_nothing(
    server: RunningServer, headers: dict[str, str], method: str
) -> None:
    answer = httpx.request(method, f"{server.url}/api/session", headers=headers)
    assert answer.status_code == 403


def test_pages_of_the_service_and_programs_may(server: RunningServer) -> None:
    for headers in ({}, {"Origin": server.url}, {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}):
        answer = httpx.post(f"{server.url}/api/session", json={"token": "x"}, headers=headers)
        assert answer.status_code == 204


def test_no_other_site_may_read(server: RunningServer) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = httpx.request(method, f"{server.url}/api/openapi.json", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# -- headers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/app.css", 200),
        ("GET", "/api/openapi.json", 200),
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/healthz", 405),
        ("POST", "/api/session", 422),
    ],
)
def test_every_response_is_safe_to_show(server: RunningServer, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    if path.startswith("/api/"):
        assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


def test_a_refused_connection_is_safe_to_show_too(server: RunningServer) -> None:
    answer = server.raw(b"nonsense\r\n\r\n").lower()
    assert answer.startswith(b"http/1.1 400 ")
    assert b"x-content-type-options: nosniff" in answer
    assert b"content-type: application/problem+json" in answer
