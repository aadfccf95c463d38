"""A small indexed archive with verified labels, and real servers over it."""

from __future__ import annotations

import contextlib
import csv
import faulthandler
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.shared import made_once

if TYPE_CHECKING:
    from birdsearch.search.service.connections import ConnectionLimits
    from birdsearch.search.service.options import ServeOptions
    from birdsearch.search.service.state import Service

_SEED = 1
_PHOTOS = 40


@dataclass(frozen=True)
class RunningServer:
    """A server that listens on a port of its own.

    Attributes:
        url: Where, without a slash at the end.
        options: What it was started with.
        service: What it holds, in this process.
    """

    url: str
    options: ServeOptions
    service: Service

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a socket."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def raw(self, request: bytes, *, timeout: float = 20.0) -> bytes:
        """Send bytes as they are, and read until the server closes; for what a client would normalise.

        `Connection: close` belongs into the request.
        """
        with socket.create_connection(self.address, timeout=timeout) as opened:
            opened.sendall(request)
            return b"".join(iter(lambda: opened.recv(65536), b""))


@contextlib.contextmanager
def running(options: ServeOptions, limits: ConnectionLimits | None = None) -> Iterator[RunningServer]:
    """A server in a thread of its own, stopped and closed at the end."""
    from birdsearch.search.service.app import create_app
    from birdsearch.search.service.connections import ConnectionLimits
    from birdsearch.search.service.server import Server, listen

    app = create_app(options)
    listening = threading.Event()
    urls: list[str] = []

    def on_listening(url: str) -> None:
        urls.append(url)
        listening.set()

    server = Server(app, listen(options.host, options.port), limits or ConnectionLimits(), on_listening)
    thread = threading.Thread(target=server.serve_until_stopped, name="server")
    thread.start()
    try:
        while not listening.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        yield RunningServer(urls[0], options, app.state.service)
    finally:
        server.stop()
        thread.join(30)
        if thread.is_alive():
            # What it waits for, said in the test's output.
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic archive with its truth.csv: folders of days, bursts, copies, corrupt files."""
    from birdsearch.data.synthetic import write_archive

    def make(folder: Path) -> None:
        write_archive(folder / "archive", seed=_SEED, photos=_PHOTOS, workers=1)

    return made_once(tmp_path_factory, "served", make) / "archive"


@pytest.fixture(scope="session")
def _session_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a server of the whole session finds in the environment: its own cache, and no measuring of runtimes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIRDSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("BIRDSEARCH_RUNTIME", "torch")
        yield


@pytest.fixture(scope="session")
def catalog_path(archive: Path, _session_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of `archive`, of the demo's own network, with the truth of half of the events as verified labels.

    Do not write to it: tests that do take `own_catalog`.
    """
    from birdsearch.search.catalog import Catalog

    def make(folder: Path) -> None:
        with Catalog.open(folder / "catalog", "create") as catalog:
            catalog.index([archive], "demo")
        _verify_half(archive, folder / "catalog")

    made = made_once(tmp_path_factory, "served-catalog", make)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("served"), dirs_exist_ok=True)) / "catalog"


def _verify_half(archive: Path, catalog: Path) -> None:
    """Say what is on every second event, as somebody who looked at them would."""
    from birdsearch.cli import cli
    from birdsearch.cli.demo_scores import looked_at
    from birdsearch.data.synthetic.truth import read_truth

    frames = [row for row in read_truth(archive) if row.kind == "photo"]
    seen = looked_at(frames)
    named = {(row.common_name, row.species, row.family, row.order) for row in frames}
    labelled = [(str(archive / row.path), row.common_name) for row in frames if row.event in seen]
    taxa, labels = catalog.with_name("taxa.csv"), catalog.with_name("labels.csv")
    for path, rows in (
        (taxa, [("common_name", "scientific_name", "family", "order"), *sorted(named)]),
        (labels, [("path", "taxon"), *labelled]),
    ):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    files = [str(labels), "--taxonomy", str(taxa), "--catalog", str(catalog)]
    cli.main(["annotate", "import", *files, "--who", "demo"], standalone_mode=False)


@pytest.fixture
def own_catalog(catalog_path: Path, tmp_path: Path) -> Path:
    """A copy of `catalog_path` (of the same photos) that a test may write to."""
    return Path(shutil.copytree(catalog_path, tmp_path / "catalog"))


@pytest.fixture(scope="session")
def server(catalog_path: Path) -> Iterator[RunningServer]:
    """A server of `catalog_path` that changes nothing, shared by all tests."""
    from birdsearch.search.service.options import ServeOptions

    with running(ServeOptions(catalog=catalog_path, port=0, read_only=True)) as started:
        yield started


MakeServer = Callable[..., RunningServer]


@pytest.fixture
def make_server(request: pytest.FixtureRequest) -> Iterator[MakeServer]:
    """Starts servers: `make_server(**options)`; stopped after the test.

    Without `catalog=`, it is a copy of `catalog_path` of the test's own. `limits=` are those of connections.
    """
    from birdsearch.search.service.options import ServeOptions

    with contextlib.ExitStack() as stack:

        def make(*, limits: ConnectionLimits | None = None, **options: Any) -> RunningServer:
            options.setdefault("port", 0)
            if "catalog" not in options:
                options["catalog"] = request.getfixturevalue("own_catalog")
            return stack.enter_context(running(ServeOptions(**options), limits))

        yield make
