"""Query parameters: those that a route does not have, and paths that it does not show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from birdsearch.search.service.app import create_app
from birdsearch.search.service.openapi import describe
from birdsearch.search.service.options import ServeOptions

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer, RunningServer

_PATHS = describe(create_app(ServeOptions(catalog=Path("none"))))["paths"]
_OPERATIONS = [(method, path) for path, operations in _PATHS.items() for method in operations]


@pytest.mark.parametrize(("method", "path"), _OPERATIONS)
def test_a_query_parameter_that_a_route_does_not_have_is_refused(
    server: RunningServer, method: str, path: str
) -> None:
    url = server.url + "/".join("1" if part.startswith("{") else part for part in path.split("/"))
    answer = httpx.request(method, url, params={"not_known": "1"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == "query.not_known"
    assert "there is no such query parameter here" in answer.json()["detail"]


def test_a_setting_of_a_search_that_is_put_into_the_query_is_not_ignored(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/api/search", params={"k": 1}, json={"photo_id": 3})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"where": "query.k", "message": "there is no such query parameter here; it takes none"}
    ]
    misspelt = httpx.get(f"{server.url}/api/photos", params={"limits": 5})
    assert "it takes bbox, camera, " in misspelt.json()["detail"]
    assert httpx.get(f"{server.url}/api/photos", params={"limit": 5}).status_code == 200


def test_no_answer_confirms_where_on_this_machine_the_photos_are(
    server: RunningServer, archive: Path
) -> None:
    parent, name = archive.parent, archive.name
    for path in (
        str(archive),
        str(parent),
        "/nothing",
        f"{name}/../../{parent.name}/{name}",
        f"{name}/..",
        f"{name}/\\x2e\\x2e/{name}",
    ):
        for parameter in ("under", "exclude_under"):
            answer = httpx.get(f"{server.url}/api/photos", params={parameter: path})
            assert answer.status_code == 422, path
            assert "shows no absolute paths and takes none" in answer.json()["detail"]
            found = httpx.post(f"{server.url}/api/search", json={"photo_id": 3, "where": {parameter: [path]}})
            assert found.status_code == 422
    assert httpx.get(f"{server.url}/api/photos", params={"under": name}).json()["total"] > 0


def test_no_rule_for_copies_tells_by_what_is_kept_where_the_photos_are(make_server: MakeServer) -> None:
    own = make_server()
    asked = {"keep": f"path:{os.sep}home{os.sep}*"}
    answer = httpx.post(f"{own.url}/api/duplicates", json=asked)
    assert answer.status_code == 422
    assert "takes no rule for them" in answer.json()["detail"]


def test_a_service_that_shows_absolute_paths_takes_them(
    make_server: MakeServer, catalog_path: Path, archive: Path
) -> None:
    open_one = make_server(catalog=catalog_path, read_only=True, show_paths=True)
    answer = httpx.get(f"{open_one.url}/api/photos", params={"under": str(archive)})
    assert answer.json()["total"] > 0
