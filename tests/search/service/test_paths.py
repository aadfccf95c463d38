"""Where photos are said to be: below the names of their roots, never where the machine has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from birdsearch.search.service.paths import ShownPaths

if TYPE_CHECKING:
    from tests.search.conftest import MadeCatalog
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]
MakeCatalog = Callable[..., "MadeCatalog"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/data/archive/2024/a.jpg", "archive/2024/a.jpg"),
        (b"/backup/archive/2024/a.jpg", "archive (2)/2024/a.jpg"),
        (b"/data/archive/card/b.jpg", "card/b.jpg"),
        (b"/data/archive", "archive"),
        (b"/data/archive2/a.jpg", "a.jpg"),
        (b"/elsewhere/c.jpg", "c.jpg"),
        (b"/data/archive/\xff\n.jpg", "archive/\\xff\\n.jpg"),
        (b"/data/archive/\xc3\xbc.jpg", "archive/\u00fc.jpg"),
        (b"", ""),
    ],
)
def test_a_path_is_shown_below_its_innermost_root(make_catalog: MakeCatalog, path: bytes, shown: str) -> None:
    made = make_catalog()
    for root in (b"/data/archive", b"/backup/archive", b"/data/archive/card"):
        made.root(root)
    paths = ShownPaths(made.store)
    assert paths.shown(path) == shown
    assert ShownPaths(made.store, absolute=True).shown(path).startswith("/" if path else "")
    if shown.count("/") and "\\" not in shown:
        assert paths.absolute(shown) == path


def test_a_root_that_is_added_is_shown_by_its_name(make_catalog: MakeCatalog) -> None:
    made = make_catalog()
    paths = ShownPaths(made.store)
    assert paths.shown(b"/data/archive/a.jpg") == "a.jpg"
    made.root(b"/data/archive")
    assert paths.shown(b"/data/archive/a.jpg") == "archive/a.jpg"


@pytest.mark.parametrize("shown", ["..", "archive/../../etc", "nothing/a", "", "/etc/passwd"])
def test_a_name_that_is_no_root_leads_to_no_photo(make_catalog: MakeCatalog, shown: str) -> None:
    made = make_catalog()
    made.root(b"/data/archive")
    found = ShownPaths(made.store).absolute(shown)
    assert found == shown.encode() or not found.startswith(b"/data/archive/") or b".." in found


def _gets(described: dict[str, Any]) -> list[str]:
    """Every path that can be got, with 1 for each id."""
    paths = [path for path, operations in described["paths"].items() if "get" in operations]
    filled = []
    for path in paths:
        start, *rest = path.split("{")
        filled.append(start + "".join("1" + part.partition("}")[2] for part in rest))
    return filled


def test_no_answer_tells_where_the_machine_has_things(server: RunningServer, archive: Path) -> None:
    secret = str(archive.parent)
    asked = 0
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for path in _gets(client.get("/api/openapi.json").json()):
            if path.endswith("/events"):
                continue
            answer = client.get(path)
            assert answer.status_code != 500, path
            assert secret.encode() not in answer.content, path
            assert secret not in json.dumps(dict(answer.headers)), path
            asked += 1
        for question in ({"photo_id": 1}, {"photo_id": 10**9}, {"vector": [1.0]}, {"photo_id": 1, "k": -1}):
            answer = client.post("/api/search", json=question)
            assert answer.status_code in (200, 404, 422), answer.text
            assert secret.encode() not in answer.content
        assert client.get("/api/photos/1").json()["path"].startswith("archive/")
    assert asked > 10


def test_absolute_paths_are_shown_where_that_is_asked_for(
    make_server: MakeServer, catalog_path: Path, archive: Path
) -> None:
    server = make_server(catalog=catalog_path, read_only=True, show_paths=True)
    assert httpx.get(f"{server.url}/api/photos/1").json()["path"].startswith(f"{archive}/")
