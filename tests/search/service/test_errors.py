"""Errors: one shape, no absolute path, no traceback; and no way out of the folder of the gallery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from birdsearch.errors import (
    BirdsearchError,
    CatalogError,
    CatalogLockedError,
    CatalogReadOnlyError,
    InvalidInputError,
    MissingFilesError,
    ModelMismatchError,
    PhotoError,
    WeightsError,
)
from birdsearch.search.service.problems import as_problem, without_paths

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]


# -- what is not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/../../../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/%2e%2e%2fapp.py",
        "/../app.py",
        "/..\\app.py",
        "/..%5capp.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/....//app.py",
        "/%252e%252e/app.py",
        "/x/../../app.py",
        "/app.css/../../app.py",
        "/%00",
        "/app.css%00.html",
        "/" + "a" * 5000,
        "/%ff%fe",
        "/con",
        "/~root",
        "/.",
        "/..",
        "/__pycache__/",
        "http://localhost/app.css",
        "*",
    ],
)
def test_no_path_leads_out_of_the_gallery(server: RunningServer, path: str) -> None:
    answer = server.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), timeout=10
    )
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 404), answer[:200]
    assert b"root:" not in answer
    assert b"import " not in answer


def test_a_link_out_of_the_gallery_is_not_followed(tmp_path: Path) -> None:
    from birdsearch.search.service.static_files import gallery

    folder, outside = tmp_path / "static", tmp_path / "secret.css"
    folder.mkdir()
    outside.write_text("secret")
    (folder / "link.css").symlink_to(outside)
    (folder / "own.css").write_text("own")

    async def get(path: str) -> httpx.Response:
        app = httpx.ASGITransport(Starlette(routes=[gallery(folder)]))
        async with httpx.AsyncClient(transport=app, base_url="http://localhost") as client:
            return await client.get(path)

    assert asyncio.run(get("/own.css")).text == "own"
    assert asyncio.run(get("/link.css")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing",
        "/api/",
        "/api/photos/999999",
        "/api/photos/..%2f..%2fetc%2fpasswd/thumb",
        "/api/jobs/999999",
        "/nothing",
        "/healthz/",
    ],
)
def test_what_is_unknown_is_a_problem(server: RunningServer, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.status_code in (404, 422), answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status_code
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/healthz", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("GET", "/api/session", {"POST", "DELETE"}),
        ("PUT", "/api/session", {"POST", "DELETE"}),
        ("OPTIONS", "/api/session", {"POST", "DELETE"}),
        ("POST", "/app.css", {"GET", "HEAD"}),
        ("BREW", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_allowed_is_a_problem(
    server: RunningServer, method: str, path: str, allowed: set[str]
) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"token": 1}',
        b'{"token": "t", "more": 1}',
        b"\xff\xfe",
        b"[" * 8_000,
        b"1e999",
    ],
)
def test_a_body_that_is_not_accepted_says_where(server: RunningServer, body: bytes) -> None:
    answer = httpx.post(
        f"{server.url}/api/session", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.status_code == 422:
        assert answer.json()["errors"][0]["where"].startswith("body")


# -- what went wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInputError("k must be at least 0, got -1"), 422),
        (PhotoError("decode", "truncated", "the file ends early"), 422),
        (CatalogLockedError("process 7 is writing"), 409),
        (MissingFilesError("the root is empty"), 409),
        (CatalogReadOnlyError("read-only"), 403),
        (ModelMismatchError("another model"), 503),
        (WeightsError("no weights"), 503),
        (CatalogError("damaged"), 503),
        (BirdsearchError("who knows"), 500),
    ],
)
def test_each_error_has_its_status(error: BirdsearchError, status: int) -> None:
    answer = as_problem(error)
    assert answer.status_code == status
    assert (b"internal error" in bytes(answer.body)) == (status == 500)
    assert ("retry-after" in answer.headers) == isinstance(error, CatalogLockedError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/birds/2024/a b.jpg: the file ends early", "birds/2024/a b.jpg: the file ends early"),
        ("/home/me/catalog: process 7 is writing", "my catalog: process 7 is writing"),
        ("[Errno 2] No such file: '/etc/ssl/key.pem'", "[Errno 2] No such file: 'key.pem'"),
        ("weights at /opt/x/y/z.pt, or /z.pt", "weights at z.pt, or z.pt"),
        (
            "birds/2024/a.jpg is 3/4 of http://example.org/x/y",
            "birds/2024/a.jpg is 3/4 of http://example.org/x/y",
        ),
        ("/data/birdsong/a.jpg", "a.jpg"),
    ],
)
def test_no_absolute_path_is_shown(text: str, shown: str) -> None:
    assert without_paths(text, {"/data/birds": "birds", "/home/me/catalog": "my catalog"}) == shown


def test_a_catalog_that_breaks_is_told_without_its_place(
    make_server: MakeServer, own_catalog: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(catalog=own_catalog)
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    (own_catalog / "birdsearch.sqlite").write_bytes(b"no database" * 1000)
    for path in ("/readyz", "/api/annotations?photo_id=1"):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 503, answer.text
        assert str(own_catalog.parent) not in answer.text
        assert "Traceback" not in answer.text
    assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_an_error_that_nobody_foresaw_is_logged_and_not_told(
    make_server: MakeServer,
    catalog_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server(catalog=catalog_path, read_only=True)

    def fail() -> str:
        raise RuntimeError("secret of /root/secret")

    monkeypatch.setattr(server.service.metrics, "text", fail)
    with caplog.at_level(logging.ERROR):
        answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 500
    assert answer.json()["detail"] == "internal error"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret of /root/secret" in caplog.text
    assert httpx.get(f"{server.url}/healthz").status_code == 200
