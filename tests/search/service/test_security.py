"""Who may ask: addresses, host names, tokens, sessions, origins; and what every response carries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def test_a_token_that_could_be_guessed_is_refused_where_others_can_try() -> None:
    with pytest.raises(InvalidInputError, match=r"1 characters .* at least 16; `openssl rand -hex 32`"):
        ServeOptions(catalog=Path("c"), host="0.0.0.0", token="x")
    assert ServeOptions(catalog=Path("c"), token="x").token == "x"


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
        held = {"Cookie": cookie.partition(";")[0]}
        assert client.delete("/api/session").status_code == 204
        assert client.get("/metrics").status_code == 401
    # Nor is it of use to whoever has kept it.
    assert httpx.get(f"{guarded.url}/metrics", headers=held).status_code == 401


def test_a_session_is_found_among_other_cookies(guarded: RunningServer) -> None:
    started = httpx.post(f"{guarded.url}/api/session", json={"token": TOKEN})
    own = started.headers["set-cookie"].partition(";")[0]
    for header in (f"a=b; {own}", f'x="; y={{}}; {own} ;z', f"{own};;=", f"other{own}; {own}"):
        assert httpx.get(f"{guarded.url}/metrics", headers={"Cookie": header}).status_code == 200, header
    for header in (own.upper(), own.replace("=", " "), own + "x", f"x{own}"):
        assert httpx.get(f"{guarded.url}/metrics", headers={"Cookie": header}).status_code == 401, header


def test_a_cookie_that_takes_long_to_read_is_not_read(guarded: RunningServer) -> None:
    # `http.cookies` of Python 3.11.7 takes 10 s for this (CVE-2024-7592), and others wait meanwhile.
    cookie = b'birdsearch_session="' + b"\\" * 30_000 + b'"'
    answer = httpx.get(f"{guarded.url}/metrics", headers={b"Cookie": cookie}, timeout=5)
    assert answer.status_code == 401


def test_guesses_are_answered_late_and_not_many_at_a_time(guarded: RunningServer) -> None:
    with httpx.Client(base_url=guarded.url) as client, ThreadPoolExecutor(12) as pool:
        client.post("/api/session", json={"token": TOKEN})
        url = guarded.url
        guesses = [
            pool.submit(httpx.post, f"{url}/api/session", json={"token": f"guess {n}"}) for n in range(6)
        ] + [
            pool.submit(httpx.get, f"{url}/metrics", headers={"Authorization": f"Bearer guess {n}"})
            for n in range(6)
        ]
        # Who has a session is not held up.
        assert client.get("/metrics").status_code == 200
        statuses = Counter(one.result().status_code for one in guesses)
        assert set(statuses) == {401, 429}
        assert statuses[401] <= 10
        refused = next(one.result() for one in guesses if one.result().status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert "too many wrong tokens" in refused.json()["detail"]
    assert httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


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
        {"Origin": "http://["},
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


_WRONG = [
    b"[",
    b"http://[",
    b"//[::1",
    b"%",
    b"%zz",
    b"%00",
    b"\xff\xfe",
    b"a" * 3000,
    b"=;,\"'",
    b"../../",
    b"\x01",
]
_PLACES = [
    b"GET /metrics HTTP/1.1\r\nHost: %s",
    b"GET /metrics HTTP/1.1\r\nHost: localhost:%s",
    b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nOrigin: %s",
    b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nOrigin: http://%s",
    b"DELETE /api/jobs/1 HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: %s",
    b"GET /api/nothing HTTP/1.1\r\nHost: localhost\r\nCookie: %s",
    b"GET /api/nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s",
    b"GET /api/photos/1/thumb?size=%s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos/1/thumb?box=%s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos?%s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos?under=%s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos?cursor=%s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos/%s HTTP/1.1\r\nHost: localhost",
    b"GET /%s HTTP/1.1\r\nHost: localhost",
    b"GET %s HTTP/1.1\r\nHost: localhost",
    b"GET /api/photos/1/image HTTP/1.1\r\nHost: localhost\r\nRange: %s",
    b"GET /nothing.css HTTP/1.1\r\nHost: localhost\r\nRange: bytes=%s",
    b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s",
    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s",
    b"GET /api/photos/999/thumb HTTP/1.1\r\nHost: localhost\r\nAccept: %s",
    b"GET /api/photos/999/thumb HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: %s",
    b"GET /api/jobs/999/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %s",
]


@pytest.mark.parametrize("place", _PLACES)
def test_whatever_a_request_says_wrongly_is_a_problem_that_is_safe_to_show(
    server: RunningServer, place: bytes
) -> None:
    for wrong in _WRONG:
        answer = server.raw(place % wrong + b"\r\nConnection: close\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status < 300:
            # What is wrong is of no account there.
            assert place.startswith((b"GET /api/photos?", b"DELETE", b"GET /%s", b"POST /api/session")), wrong
            continue
        assert 400 <= status < 500, (place, wrong, answer)
        assert b"content-type: application/problem+json" in head.lower()
        assert b"x-content-type-options: nosniff" in head.lower()
        assert b"content-security-policy: default-src 'none'" in head.lower()
        assert json.loads(body)["status"] == status


def test_a_refused_connection_is_safe_to_show_too(server: RunningServer) -> None:
    answer = server.raw(b"nonsense\r\n\r\n").lower()
    assert answer.startswith(b"http/1.1 400 ")
    assert b"x-content-type-options: nosniff" in answer
    assert b"content-type: application/problem+json" in answer
