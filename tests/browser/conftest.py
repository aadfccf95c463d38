"""A real browser before a real `birdsearch serve` over a small archive."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

HERE = Path(__file__).parent
ARTEFACTS = HERE / "artefacts"
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SEED, _PHOTOS = 3, 60
# What one step may take on a busy machine, in milliseconds.
_PATIENCE_MS = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ARTEFACTS.exists():
        terminalreporter.write_line(f"screenshots: {ARTEFACTS}")


@dataclass(frozen=True)
class Gallery:
    """A gallery that is being served.

    Attributes:
        url: Its address, without a slash at the end.
        archive: The folder of the photos; beside it is `truth.csv`, which says what they show.
    """

    url: str
    archive: Path

    def at(self, page: str) -> str:
        """Address of a page, such as `photos` or `find?like=3`."""
        return f"{self.url}/#/{page}"


@contextlib.contextmanager
def serving(catalog: Path, *options: str, token: str | None = None) -> Iterator[str]:
    """Run `birdsearch serve` in a process of its own; gives its URL, and expects it to end well."""
    environment = _environment(catalog.parent)
    if token is not None:
        environment["BIRDSEARCH_TOKEN"] = token
    command = [
        sys.executable,
        "-m",
        "birdsearch",
        "serve",
        "--catalog",
        str(catalog),
        "--port",
        "0",
        *options,
    ]
    with (
        open(catalog.parent / "serve.log", "a+", encoding="utf-8") as log,  # noqa: PTH123
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"https?://\S+", line)
            if match is None:
                process.wait(10)
                log.seek(0)
                raise RuntimeError(f"serve did not start: {line}{log.read()}")
            yield match[0]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        log.seek(0)
        errors = log.read()
        assert code == 0, errors
        assert "Traceback" not in errors, errors


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic archive with its truth.csv: folders of days, bursts, copies, corrupt files."""
    from birdsearch.data.synthetic import write_archive

    folder = tmp_path_factory.mktemp("gallery") / "archive"
    write_archive(folder, seed=_SEED, photos=_PHOTOS, workers=1)
    return folder


@pytest.fixture(scope="session")
def catalog(archive: Path, truth: list[dict[str, str]]) -> Path:
    """A catalog of the archive, of the demo's own network, with the truth of half of the events verified."""
    path = archive.parent / "catalog"
    shared = ["--catalog", str(path)]
    _birdsearch(archive.parent, "index", str(archive), "--model", "demo", "--workers", "1", *shared)
    labels, taxa = archive.parent / "labels.csv", archive.parent / "taxa.csv"
    rows = truth
    events = sorted({row["event"] for row in rows})[::2]
    columns = ("common_name", "species", "family", "order")
    named = sorted({tuple(row[name] for name in columns) for row in rows})
    _write(taxa, [("common_name", "scientific_name", "family", "order"), *named])
    verified = [(str(archive / row["path"]), row["common_name"]) for row in rows if row["event"] in events]
    _write(labels, [("path", "taxon"), *verified])
    _birdsearch(
        archive.parent, "annotate", "import", str(labels), "--taxonomy", str(taxa), "--who", "demo", *shared
    )
    return path


@pytest.fixture(scope="session")
def truth(archive: Path) -> list[dict[str, str]]:
    """What the frames of an archive show; copies and broken files are left out."""
    with (archive / "truth.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == "photo"]


def _environment(folder: Path) -> dict[str, str]:
    """What programs of a session run with, so that they share a cache in its folder."""
    own = {"BIRDSEARCH_CACHE": str(folder / "cache"), "BIRDSEARCH_RUNTIME": "torch", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def _birdsearch(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "birdsearch", *arguments]
    done = subprocess.run(command, env=_environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _write(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="session")
def gallery(catalog: Path, archive: Path) -> Iterator[Gallery]:
    """The gallery that the tests share; a test that changes something takes it back."""
    with serving(catalog, "--apply", "--originals") as url:
        yield Gallery(url, archive)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'birdsearch[browser]'"
    )
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"needs Chromium: none of {', '.join(_NAMES)} is installed")
    # Containers have little shared memory, and Chromium's sandbox does not start as root.
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


OpenPage = Callable[..., "Page"]
Until = Callable[..., None]


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens an address in a window of its own: `open_page(url, **options of the context)`.

    At the end of the test each page leaves a screenshot, and none may have written an error to the console, the
    refusals of a Content-Security-Policy among them. `allow=` is a pattern of errors that belong to the test.
    """
    contexts: list[BrowserContext] = []
    pages: list[Page] = []
    faults: list[str] = []

    def open_page(url: str, *, allow: str | None = None, **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
        )
        context.set_default_timeout(_PATIENCE_MS)
        contexts.append(context)

        def note(text: str) -> None:
            if allow is None or re.search(allow, text) is None:
                faults.append(text)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                note(f"{message.type}: {message.text} ({message.location.get('url', '')})")

        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: note(f"uncaught: {error}"))
        pages.append(page)
        page.goto(url)
        return page

    yield open_page
    ARTEFACTS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    for number, page in enumerate(pages):
        page.screenshot(path=ARTEFACTS / f"{name}{f'-{number + 1}' if number else ''}.png")
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def until() -> Until:
    """Waits until an expression is true in a page: `until(page, "() => ...", argument)`.

    Playwright's own `wait_for_function` has the page evaluate text, which its Content-Security-Policy forbids.
    """

    def wait(page: Page, function: str, argument: Any = None, *, timeout_ms: int = _PATIENCE_MS) -> None:
        deadline = time.monotonic() + timeout_ms / 1000
        while not page.evaluate(function, argument):
            if time.monotonic() > deadline:
                raise AssertionError(f"not true within {timeout_ms / 1000:g} s: {function}")
            page.wait_for_timeout(50)

    return wait


@pytest.fixture(scope="session")
def barriers() -> Callable[[Page], list[str]]:
    """What axe-core finds on a page that bars people from using it: its serious and critical violations."""
    if not AXE.exists():
        pytest.skip("needs axe-core: `npm ci` in tests/browser, which `make test-browser` does")
    source = AXE.read_text(encoding="utf-8")

    def look(page: Page) -> list[str]:
        # Not as an element of the page, which its Content-Security-Policy forbids.
        page.evaluate(source)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{violation['id']} ({violation['impact']}): {node['html']}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    return look
