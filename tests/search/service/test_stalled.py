"""A network that hangs: who waits for it is answered, the rest of the service goes on, and it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from birdsearch.client import Client
from birdsearch.errors import StalledError
from birdsearch.model import Model

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]


def test_a_search_that_waits_for_a_network_that_hangs_is_answered_and_the_rest_goes_on(
    make_server: MakeServer,
    catalog_path: Path,
    make_photo: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = threading.Event()
    # Any number of seconds: what hangs is never back in time.
    monkeypatch.setattr(Model, "infer_pixels", lambda *_: end.wait(120))
    server = make_server(catalog=catalog_path, read_only=True)
    server.service.embedder._network._answer_s = 1.0
    new = make_photo(tmp_path / "new.png", 4711)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            began = time.monotonic()
            answer = client.post("/api/search", files={"photo": ("new.png", new.read_bytes())})
            assert time.monotonic() - began < 55
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith(
                "the network gave no sign of life for 1 s and was given up;"
            )
            ready = client.get("/readyz")
            assert ready.status_code == 503
            assert "the network has given no answer for" in ready.json()["detail"]
            assert client.get("/healthz").status_code == 200
            assert client.post("/api/search", json={"photo_id": 1}).status_code == 200
        with Client(server.url) as asking, pytest.raises(StalledError, match="the network gave no sign"):
            asking.query(new)
    finally:
        end.set()
