from __future__ import annotations

import hashlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from birdsearch.errors import CheckpointError, WeightsError
from birdsearch.model.config import VARIANTS
from birdsearch.model.inference import load_model
from birdsearch.model.weights import (
    DEFAULT_WEIGHTS,
    WEIGHTS,
    WeightsEntry,
    cache_folder,
    file_sha256,
    refuse_superseded,
    resolve_weights,
)
from birdsearch.settings import Settings

PAYLOAD = np.random.default_rng(40).bytes(300_000)
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
OLD = b"an older edition"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind = self.path.strip("/").split("/")[0]
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if kind == "absent":
            self.send_error(404)
        elif kind in ("moved", "away"):
            self.send_response(302)
            self.send_header(
                "Location", "/whole/small.pt" if kind == "moved" else "http://example.invalid/small.pt"
            )
            self.end_headers()
        else:
            bodies = {
                "page": PAGE,
                "disguised": PAGE,
                "old": OLD,
                "other": PAYLOAD[:-1] + b"!",
                "cut": PAYLOAD[:70_000],
            }
            body = bodies.get(kind, PAYLOAD)
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if kind == "page" else "application/octet-stream")
            if kind == "endless":
                body = PAYLOAD * 5
            elif kind == "long":
                self.send_header("Content-Length", str(10**12))
            elif kind not in ("unsized",):
                self.send_header("Content-Length", str(len(PAYLOAD) if kind == "cut" else len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # The client hangs up on what it refuses.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(catalog=tmp_path / "catalog", cache=tmp_path / "cache", weights_dir=None)


def _table(url: str, content: bytes = PAYLOAD) -> Mapping[str, WeightsEntry]:
    entry = replace(
        WEIGHTS[DEFAULT_WEIGHTS],
        name="small",
        url=url,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        superseded=(hashlib.sha256(OLD).hexdigest(),),
    )
    return {"small": entry}


def _url(server: _Server, kind: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{kind}/small.pt"


def _cached(settings: Settings) -> list[str]:
    folder = cache_folder(settings)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_table_names_the_published_file() -> None:
    entry = WEIGHTS[DEFAULT_WEIGHTS]
    assert entry.file_name == "xcit_nano12_p16_il-common.pt"
    assert entry.url.startswith("https://")
    assert entry.sha256.startswith("1b55a77f")
    assert len(entry.sha256) == 64
    assert [old[:8] for old in entry.superseded] == ["f0b1d9b6"]
    assert all(entry.name == name and entry.network in VARIANTS for name, entry in WEIGHTS.items())


@pytest.mark.parametrize("kind", ["whole", "unsized", "moved"])
def test_a_download_is_kept_and_not_repeated(kind: str, server: _Server, settings: Settings) -> None:
    seen: list[tuple[int, int | None]] = []
    table = _table(_url(server, kind))
    path = resolve_weights(
        "small", settings, download=True, progress=lambda *state: seen.append(state), table=table
    )
    assert path == cache_folder(settings) / "small.pt"
    assert path.read_bytes() == PAYLOAD
    assert _cached(settings) == ["small.pt"]
    assert seen[-1] == (len(PAYLOAD), None if kind == "unsized" else len(PAYLOAD))
    assert seen == sorted(seen, key=lambda state: state[0])
    asked = len(server.requests)
    assert resolve_weights("small", settings, download=True, table=table) == path
    assert len(server.requests) == asked


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other", "is not small: its sha256 is"),
        ("cut", "ended after 70000 of 300000 bytes"),
        ("page", "a web page instead of the weights"),
        ("disguised", "a web page instead of the weights"),
        ("endless", "more than 600000 bytes"),
        ("long", "would send 1000000000000 bytes"),
        ("absent", "answered 404.*--weights FILE.*BIRDSEARCH_WEIGHTS_DIR"),
        ("old", "superseded edition of small"),
        ("away", "https only, not from http://example.invalid"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(
    kind: str, message: str, server: _Server, settings: Settings
) -> None:
    with pytest.raises(WeightsError, match=message):
        resolve_weights("small", settings, download=True, table=_table(_url(server, kind)))
    assert server.requests
    assert _cached(settings) == []


def test_an_interrupted_download_leaves_nothing_behind(server: _Server, settings: Settings) -> None:
    def interrupt(received: int, total: int | None) -> None:
        if received > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve_weights(
            "small", settings, download=True, progress=interrupt, table=_table(_url(server, "whole"))
        )
    assert _cached(settings) == []


def test_without_network_or_file_the_error_says_what_to_do(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/small.pt"
        for download in (True, False):
            with pytest.raises(WeightsError) as caught:
                resolve_weights("small", settings, download=download, table=_table(url))
            text = str(caught.value)
            for part in (
                "small.pt",
                url,
                "--weights FILE",
                "BIRDSEARCH_WEIGHTS_DIR",
                str(settings.cache),
                "model pull",
            ):
                assert part in text
            assert ("refused" in text) == download
    assert _cached(settings) == []


@pytest.mark.parametrize("url", ["http://example.invalid/a.pt", "ftp://127.0.0.1/a.pt", "file:///etc/passwd"])
def test_weights_are_fetched_over_https_only(url: str, settings: Settings) -> None:
    with pytest.raises(WeightsError, match="https only"):
        resolve_weights("small", settings, download=True, table=_table(url))
    assert _cached(settings) == []


def test_the_weights_folder_comes_before_the_cache_and_the_network(
    server: _Server, settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, weights_dir=tmp_path / "given")
    table = _table(_url(server, "whole"))
    fetched = resolve_weights("small", settings, download=True, table=table)
    (tmp_path / "given").mkdir()
    given = tmp_path / "given" / "small.pt"
    given.write_bytes(PAYLOAD)
    assert resolve_weights("small", settings, download=False, table=table) == given != fetched
    given.write_bytes(PAYLOAD[:-1])
    with pytest.raises(WeightsError, match=f"{given} is not small"):
        resolve_weights("small", settings, download=True, table=table)
    given.write_bytes(OLD)
    with pytest.raises(WeightsError, match=r"superseded edition of small.*model pull small"):
        resolve_weights("small", settings, download=True, table=table)
    assert len(server.requests) == 1


def test_a_damaged_file_in_the_cache_is_fetched_anew(server: _Server, settings: Settings) -> None:
    cache_folder(settings).mkdir(parents=True)
    path = cache_folder(settings) / "small.pt"
    path.write_bytes(OLD)
    table = _table(_url(server, "whole"))
    with pytest.raises(WeightsError, match="superseded"):
        resolve_weights("small", settings, download=False, table=table)
    assert resolve_weights("small", settings, download=True, table=table).read_bytes() == PAYLOAD


def test_what_a_killed_download_left_is_removed_after_a_day(server: _Server, settings: Settings) -> None:
    folder = cache_folder(settings)
    folder.mkdir(parents=True)
    for name, age in ((".small.pt.old.part", 2 * 86400), (".small.pt.new.part", 60)):
        (folder / name).write_bytes(b"part")
        os.utime(folder / name, (time.time() - age,) * 2)
    resolve_weights("small", settings, download=True, table=_table(_url(server, "whole")))
    assert _cached(settings) == [".small.pt.new.part", "small.pt"]


def test_a_cache_that_cannot_be_made_is_an_error(server: _Server, settings: Settings) -> None:
    settings.cache.parent.mkdir(exist_ok=True)
    settings.cache.write_text("a file where the folder should be")
    with pytest.raises(WeightsError, match="cannot be written to"):
        resolve_weights("small", settings, download=True, table=_table(_url(server, "whole")))


def test_a_path_is_used_as_it_is(settings: Settings, weights_file: Path, tmp_path: Path) -> None:
    assert resolve_weights(weights_file, settings, download=False) == weights_file
    assert resolve_weights(str(weights_file), settings, download=False) == weights_file
    with pytest.raises(WeightsError, match="there is no weights file"):
        resolve_weights(tmp_path / "absent.pt", settings, download=True)
    with pytest.raises(
        WeightsError, match=r"'xcit_nano12_p16_world' is neither the name.*xcit_nano12_p16_il-common"
    ):
        resolve_weights("xcit_nano12_p16_world", settings, download=True)


def test_a_downloaded_checkpoint_loads(server: _Server, settings: Settings, weights_file: Path) -> None:
    global PAYLOAD
    before, PAYLOAD = PAYLOAD, weights_file.read_bytes()
    try:
        path = resolve_weights("small", settings, download=True, table=_table(_url(server, "whole"), PAYLOAD))
    finally:
        PAYLOAD = before
    assert load_model(path).sha256 == file_sha256(weights_file)


def test_a_file_under_the_published_name_is_hashed_before_it_is_parsed(
    tmp_path: Path, weights_file: Path
) -> None:
    settings = Settings(tmp_path / "catalog", tmp_path / "cache", tmp_path)
    (tmp_path / "xcit_nano12_p16_il-common.pt").write_bytes(weights_file.read_bytes())
    # It would load, but it is not the published file.
    with pytest.raises(WeightsError, match="is not xcit_nano12_p16_il-common"):
        load_model(settings=settings, download=False)
    (tmp_path / "xcit_nano12_p16_il-common.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="is not xcit_nano12_p16_il-common"):
        load_model(settings=settings, download=False)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "xcit_nano12_p16_il-common.pt", settings=settings)


def test_a_superseded_file_given_by_path_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    with pytest.raises(WeightsError, match=r"mine.pt is a superseded edition.*birder dropped in 0\.7"):
        refuse_superseded(path, WEIGHTS[DEFAULT_WEIGHTS].superseded[0])
    refuse_superseded(path, WEIGHTS[DEFAULT_WEIGHTS].sha256)


def test_the_demo_weights_come_with_birdsearch_and_are_used_only_when_named(settings: Settings) -> None:
    entry = WEIGHTS["xcit_nano12_p16_demo"]
    path = resolve_weights("demo", settings, download=False)
    assert path == resolve_weights(entry.name, settings, download=False)
    assert (file_sha256(path), path.stat().st_size) == (entry.sha256, entry.size)
    assert entry.size < 8_000_000
    assert entry.name != DEFAULT_WEIGHTS
    loaded = load_model("demo", settings=settings)
    # A catalog remembers the full name, whichever was typed.
    assert (loaded.name, len(loaded.classes), loaded.input_size) == (entry.name, 371, (256, 256))
    with pytest.raises(WeightsError, match="birdsearch demo"):
        resolve_weights(DEFAULT_WEIGHTS, settings, download=False)
