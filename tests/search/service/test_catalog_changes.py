"""A catalog that is written to by others, replaced or deleted while it is served."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from birdsearch.indexer.catalog.connection import DATABASE_NAME
from birdsearch.indexer.catalog.store import CatalogStore
from tests.conftest import MakePhoto
from tests.search.service.conftest import MakeServer

_NOBODY = 65534
_LABEL = {"items": [{"photo_id": 3, "taxon": "Mallard"}], "new_taxa": True}


def _replace(catalog: Path, other: Path) -> None:
    catalog.rename(catalog.with_name("before"))
    shutil.copytree(other, catalog)


def _delete(catalog: Path, _other: Path) -> None:
    catalog.rename(catalog.with_name("before"))


@pytest.mark.parametrize("change", [_replace, _delete])
def test_a_catalog_that_was_replaced_is_refused_and_nothing_is_written(
    make_server: MakeServer, own_catalog: Path, catalog_path: Path, change: object
) -> None:
    assert callable(change)
    server = make_server()
    assert httpx.get(f"{server.url}/api/photos").status_code == 200
    change(own_catalog, catalog_path)
    asked = [
        httpx.get(f"{server.url}/api/photos"),
        httpx.post(f"{server.url}/api/search", json={"photo_id": 3}),
        httpx.get(f"{server.url}/api/photos/3/thumb"),
        httpx.post(f"{server.url}/api/annotations", json=_LABEL),
        httpx.get(f"{server.url}/readyz"),
    ]
    for answer in asked:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert re.search("gone|replaced|deleted", answer.json()["detail"])
        assert str(own_catalog) not in answer.text
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for folder in (own_catalog, own_catalog.with_name("before")):
        if folder.exists():
            with CatalogStore.open(folder) as store, store.reading() as connection:
                count = connection.exec_driver_sql("SELECT count(*) FROM annotation WHERE source = 'gallery'")
                assert count.scalar_one() == 0
    assert (own_catalog / DATABASE_NAME).exists() == (change is _replace)


def test_a_service_that_may_not_write_finds_what_the_owner_indexes(
    own_catalog: Path, make_photo: MakePhoto, tmp_path: Path, without_override: tuple[str, ...]
) -> None:
    more = tmp_path / "more"
    for seed in range(3):
        make_photo(more / f"{seed}.jpg", seed, size=(300, 200))
    for path in (own_catalog, *own_catalog.iterdir()):
        if os.getuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)
        else:
            path.chmod(0o555 if path.is_dir() else 0o444)
    command = [*without_override, "-m", "birdsearch", "serve", "--port", "0", "--catalog", str(own_catalog)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            with httpx.Client(base_url=found[0], timeout=60) as client:
                before = client.get("/api/photos").json()["total"]
                assert client.post("/api/search", json={"photo_id": 3}).status_code == 200
                for path in (own_catalog, *own_catalog.iterdir()):
                    if os.getuid() != 0:
                        path.chmod(0o755)
                index = ["index", str(more), "--catalog", str(own_catalog)]
                subprocess.run([sys.executable, "-m", "birdsearch", *index], check=True, capture_output=True)
                assert client.get("/api/photos").json()["total"] == before + 3
                new = max(client.get("/api/photo-ids").json()["ids"])
                answer = client.post("/api/search", json={"photo_id": new, "k": 1})
                assert answer.status_code == 200
                assert len(answer.json()["hits"]) == 1
                assert client.get("/readyz").status_code == 200
                refused = client.post("/api/annotations", json=_LABEL)
                assert refused.status_code == (403 if os.getuid() == 0 else 201)
        finally:
            process.terminate()
            process.communicate()
            own_catalog.chmod(0o755)
