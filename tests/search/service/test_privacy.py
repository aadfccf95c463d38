"""Nothing that birdsearch prints, writes or serves tells where a sensitive species is, however it is asked."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
import requests
from click.testing import CliRunner
from PIL import Image

from birdsearch.cli import cli
from birdsearch.search.service.app import create_app
from birdsearch.search.service.openapi import describe
from birdsearch.search.service.options import ServeOptions
from tests.search.service.conftest import running
from tests.search.service.two_worlds import (
    CELLS,
    DEPLOYMENT,
    FRAMES,
    HOME,
    NEST,
    SITE,
    SPECIES,
    TRAP,
    World,
    alike,
    deployments_table,
    leaks,
    make_worlds,
    moved,
)
from tests.shared import made_once

if TYPE_CHECKING:
    from birdsearch.model.inference import Model
    from tests.search.service.conftest import RunningServer

CLUSTERS = "--method kmeans --clusters 2 --frames"
FORMATS = ("table", "json", "csv")
KITE, NEXT, COPY = "visit/DSC_0001.jpg", "visit/DSC_0002.jpg", "edited/kite.jpg"
CONTROL = "home/DSC_0201.jpg"

PLACED = ("query", "sightings", "similar", "cluster", "cluster list", "cluster show")
"""Commands that tell places or sites of photos; `deployments` lists the sites themselves, by their names."""

# Every command, with what it is asked; `{name}` is filled in. The first is asked in every format.
ASKED: dict[str, tuple[str, ...]] = {
    "query": (
        f"#{{{CONTROL}}} --include-self -k 50",
        f"{{archive}}/{CONTROL} -k 50 --sheet {{out}}/hits.html",
        f"#{{{CONTROL}}} --include-self -k 50 --checklist {{checklist}}",
        f"#{{{KITE}}} --checklist {{checklist}}",
    ),
    "label": ("", "--suggest 50", "--checklist {checklist}"),
    "mislabelled": ("",),
    "sightings": (
        "",
        "--level events",
        "--level bursts",
        "--sighting-gap 1e9 --dry-run",
        "--event-gap 1e9 --dry-run",
        "--out {out}/seen.csv",
        "--out {out}/seen.parquet",
    ),
    "similar": (f"#{{{CONTROL}}}", f"#{{{KITE}}}", f"#{{{CONTROL}}} --elsewhere", "s1"),
    "deployments list": ("",),
    "deployments import": ("{sites}",),
    "cluster": (CLUSTERS, CLUSTERS + " --report {out}/report --out {out}/members.csv"),
    "cluster list": ("", "--report {out}/again"),
    "cluster show": (
        "{cluster}",
        "{cluster} --sheet {out}/cluster.html",
        "{cluster} --sheet {out}/cluster.png",
    ),
    "dedup": ("", "--sheet {out}/copies.html"),
    "dedup rejected": ("",),
    "forget": ("",),
    "annotate list": ("", "--history"),
    "annotate hits": (f"#{{{CONTROL}}} --as 'Great tit' --dry-run",),
    "eval": ("--report {out}/eval",),
    "status": ("",),
    "check": ("",),
}
UNASKED = {
    "index": "counts files",
    "annotate folders": "labels by names of folders",
    "annotate import": "labels by a table",
    "annotate keywords": "labels by keywords",
    "annotate set": "labels what is named",
    "annotate taxa": "adds names",
    "annotate undo": "takes labels back",
    "probe drop": "of vectors",
    "probe fit": "of vectors",
    "probe info": "of vectors",
    "dedup reject": "records what is named",
    "dedup undo": "moves files back",
    "forget undo": "counts",
    "deployments remove": "counts",
    "cluster label": "records what is named",
    "cluster merge": "records what is named",
    "cluster name": "records what is named",
    "cluster split": "records what is named",
    "cluster undo": "counts",
    "rebuild": "counts",
    "roots": "folders",
    "roots move": "folders",
    "serve": "its routes are asked one by one",
    "bench": "measures",
    "model bench": "measures",
    "model features": "of a photo that is given",
    "model info": "of weights",
    "model list": "of weights",
    "model pull": "of weights",
    "model verify": "of weights",
    "demo": "makes up an archive of its own",
}


Worlds = tuple[World, World]


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Model, _session_environment: None
) -> Worlds:
    """Both worlds, with sightings and clusters."""

    def make(folder: Path) -> None:
        worlds = make_worlds(folder, tiny_model)
        for world in worlds:
            ask(world, "sightings", "", "csv")
            ask(world, "cluster", CLUSTERS, "csv")
        (folder / "worlds.pickle").write_bytes(pickle.dumps(worlds))

    made = made_once(tmp_path_factory, "worlds", make)
    worlds: Worlds = pickle.loads((made / "worlds.pickle").read_bytes())
    return worlds


@pytest.fixture
def worlds(prepared: Worlds, tmp_path: Path) -> Worlds:
    """Both worlds, of the test's own."""
    first, second = (world.copied(tmp_path) for world in prepared)
    return first, second


@pytest.fixture(scope="module")
def served(prepared: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    """A service of each world, which has made its map of the clusters."""
    folder = tmp_path_factory.mktemp("served")
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                running(ServeOptions(catalog=world.copied(folder).catalog, port=0, originals=True))
            )
            for world in prepared
        ]
        for server in servers:
            run = requests.get(f"{server.url}/api/clusters", timeout=60).json()["runs"][0]["run"]
            job = requests.post(f"{server.url}/api/clusters/{run}/map", json={}, timeout=60).json()
            requests.get(f"{server.url}/api/jobs/{job['id']}/events", timeout=60)
        yield servers


def commands(command: click.Command, name: str = "") -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            child = command.get_command(context, part)
            assert child is not None
            yield from commands(child, f"{name} {part}".strip())
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name


def ask(world: World, command: str, given: str, fmt: str, *more: str) -> bytes:
    """Run a command in a world, and return what it prints and writes."""
    out = world.catalog.parent / "out"
    for path in sorted(out.rglob("*")) if out.exists() else ():
        if path.is_file():
            path.unlink()
    out.mkdir(exist_ok=True)
    trap = TRAP if world.is_first else moved(TRAP)
    sites = world.catalog.parent / "sites.csv"
    sites.write_text(deployments_table(world.archive, trap))
    # Boxes whose borders part the two worlds, and the place from the middle of its cell.
    checklist = world.catalog.parent / "checklist.csv"
    south, west = NEST[0] + 0.004 - 0.012, NEST[1] + 0.01
    names = ("species a", "species b", "species c", "species d", "species e", SPECIES, "Great tit")
    rows = [f"{name},{south},{west},{south + 1},{west + 1}" for name in names]
    checklist.write_text("\n".join(["species,south,west,north,east", *rows]))
    values = {**world.ids, "archive": world.archive, "out": out, "sites": sites, "checklist": checklist}
    values["cluster"] = "1"
    arguments = [re.sub(r"\{([^}]+)\}", lambda match: str(values[match[1]]), word) for word in _words(given)]
    result = CliRunner().invoke(
        cli, [*command.split(), *arguments, "--catalog", str(world.catalog), "--format", fmt, *more]
    )
    assert result.exit_code in (0, 1), f"{command} {given}: {result.output}"
    assert result.exit_code == 0 or command == "check", f"{command} {given}: {result.output}"
    written = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return b"\n".join([result.output.encode(), *(_content(path) for path in written)])


def _words(text: str) -> list[str]:
    import shlex

    return shlex.split(text.replace("#", "\\#"))


def _content(path: Path) -> bytes:
    """A file as bytes; pictures in it must carry no metadata."""
    content = path.read_bytes()
    pictures = [
        base64.b64decode(found) for found in re.findall(rb"data:image/[a-z]+;base64,([^\"')]+)", content)
    ]
    if path.suffix == ".png":
        pictures.append(content)
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert not image.getexif(), path
            assert not {"exif", "xmp", "comment"} & {str(key).lower() for key in image.info}, path
    return path.name.encode() + b"\n" + content


def test_every_command_is_asked() -> None:
    known = set(commands(cli)) - {"", "deployments"}
    assert known == ASKED.keys() | UNASKED.keys()


@pytest.mark.parametrize("command", ASKED)
def test_no_command_tells_a_place_or_where_in_its_cell_it_is(worlds: Worlds, command: str) -> None:
    first_of_all, *others = ASKED[command]
    formats = FORMATS if command in PLACED else ("json",)
    for given, fmt in [*((first_of_all, fmt) for fmt in formats), *((given, "json") for given in others)]:
        first, second = (ask(world, command, given, fmt) for world in worlds)
        for content, world in zip((first, second), worlds, strict=True):
            assert leaks(content, world) == [], f"{command} {given} --format {fmt}"
        assert alike(first, worlds[0]) == alike(second, worlds[1]), f"{command} {given} --format {fmt}"
        if command in PLACED:
            assert not _named(first), f"{command} {given}"


def _named(content: bytes) -> bool:
    """Whether the site or the deployment is called by its name."""
    return SITE.encode() in content or DEPLOYMENT.encode() in content


def test_exact_places_are_told_where_that_is_asked_for(worlds: Worlds) -> None:
    world = worlds[0]
    for command in ("query", "sightings", "deployments list"):
        assert leaks(ask(world, command, ASKED[command][0], "json", "--exact-places"), world), command
    assert _named(ask(world, "sightings", "--dry-run", "json", "--exact-places"))
    assert _named(ask(world, "cluster list", "--report {out}/report", "json", "--exact-places"))
    near, far = (
        ask(world, "similar", f"#{{{CONTROL}}}", "json", *more) for more in ((), ("--exact-places",))
    )
    assert near != far


def test_places_out_of_reach_stay_exact(worlds: Worlds) -> None:
    asked = ["query", f"#{worlds[0].ids[CONTROL]}", "--include-self", "-k", "50"]
    result = CliRunner().invoke(cli, [*asked, "--catalog", str(worlds[0].catalog), "--format", "json"])
    answer = json.loads(result.stdout)
    told = {hit["photo_id"]: (hit["lat"], hit["lon"], hit.get("coarse", False)) for hit in answer[0]["hits"]}
    for frame in FRAMES:
        photo_id = worlds[0].ids[frame.path]
        if frame.path == "gone/DSC_0100.jpg":
            assert photo_id not in told
        elif not frame.hidden:
            assert told[photo_id] == (*(frame.place or ()), False)
        elif frame.place is not None:
            cell = CELLS[min(CELLS, key=lambda nest: abs(nest[0] - frame.place[0]))]  # type: ignore[index]
            assert told[photo_id] == (*cell, True), frame.path


# -- filters that are bisected ---------------------------------------------------------------------------------


def filters(steps: int = 12) -> Iterator[str]:
    """Circles and boxes of falling size about a sensitive place, such as would close in on it."""
    rng = np.random.default_rng(9)
    for step in range(steps):
        side = 0.08 / 2 ** (step * 12 / steps)
        yield f"--near {NEST[0]},{NEST[1]},{side * 111}"
        yield f"--bbox {NEST[0] - side},{NEST[1] - side},{NEST[0] + side},{NEST[1] + side}"
        yield f"--bbox {NEST[0] - side},0,{NEST[0]},90"
    for _ in range(steps):
        lat, lon, km = 47.1 + rng.normal() * 0.05, 8.6 + rng.normal() * 0.05, rng.uniform(0.1, 9)
        yield f"--near {lat},{lon},{km}"


def test_filters_of_commands_cannot_be_bisected(worlds: Worlds) -> None:
    seen = set()
    for given in filters(3):
        first, second = (
            ask(world, "query", f"#{{{CONTROL}}} --include-self -k 50 {given}", "csv") for world in worlds
        )
        assert alike(first, worlds[0]) == alike(second, worlds[1]), given
        seen.add(first.count(b"\n"))
    assert len(seen) > 1
    # With exact places they find out.
    given = f"#{{{CONTROL}}} --include-self --near {NEST[0]},{NEST[1]},0.5"
    exact = [ask(world, "query", given, "csv", "--exact-places") for world in worlds]
    assert exact[0] != exact[1]


@pytest.mark.parametrize(
    "command", ["label", "label --suggest 9", "dedup", "similar {id}", "sightings --dry-run", "cluster"]
)
def test_the_filters_of_every_command_see_what_is_told(worlds: Worlds, command: str) -> None:
    name, _, given = command.replace("{id}", f"#{{{CONTROL}}}").partition(" ")
    for place in (f"--near {NEST[0]},{NEST[1]},0.5", "--near 47.1,8.6,0.5"):
        first, second = (_outcome(world, name, f"{given} {place}") for world in worlds)
        assert alike(first, worlds[0]) == alike(second, worlds[1]), place


def _outcome(world: World, command: str, given: str) -> bytes:
    try:
        return ask(world, command, given, "json")
    except AssertionError as error:
        # No photo meets the conditions.
        return str(error).encode()


# -- the service -----------------------------------------------------------------------------------------------

_WHERE = (
    "",
    f"near={NEST[0]},{NEST[1]},0.5",
    "near=47.1,8.6,1",
    f"bbox={NEST[0] - 1e-4},8,{NEST[0] + 1e-4},9",
)
# Every operation that answers with something of the catalog: paths with queries, or bodies.
ROUTES: dict[str, tuple[str, ...]] = {
    "get /api/photos": (*(f"?limit=500&{where}" for where in _WHERE), "?limit=3&sort=-captured_at"),
    "get /api/photo-ids": tuple(f"?{where}" for where in _WHERE),
    "get /api/photos/{photo_id}": ("",),
    "get /api/photos/{photo_id}/thumb": ("?size=320",),
    "get /api/photos/{photo_id}/image": ("",),
    "get /api/catalog": ("",),
    "get /api/taxa": ("?q=red",),
    "get /api/review": tuple(f"?limit=50&{where}" for where in _WHERE),
    "get /api/sightings": ("?limit=500", f"?taxon={SPECIES}"),
    "get /api/sightings/{number}": ("",),
    "get /api/clusters": ("",),
    "get /api/clusters/{run}": ("",),
    "get /api/clusters/{run}/map": ("",),
    "get /api/clusters/{run}/{cluster}": ("?limit=100",),
    "get /api/duplicates": ("",),
    "get /api/annotations": ("?photo_id={photo_id}",),
    "get /healthz": ("",),
    "get /readyz": ("",),
    "post /api/search": (
        '{{"photo_id": {photo_id}, "k": 50}}',
        '{{"photo_id": {photo_id}, "k": 50, "where": {{"near": "47.123456,8.567891,0.5"}}}}',
        '{{"like": [{photo_id}], "k": 50, "where": {{"bbox": "47.12,8.5,47.13,8.58"}}}}',
    ),
    "post /api/label": ('{{"photo_id": {photo_id}}}',),
}
UNASKED_ROUTES = {
    "get /metrics": "counts and times of requests",
    "post /api/session": "a token",
    "delete /api/session": "a token",
    "post /api/jobs": "answers with a job, as those that find things do",
    "get /api/jobs": "progress",
    "get /api/jobs/{job_id}": "progress",
    "delete /api/jobs/{job_id}": "progress",
    "get /api/jobs/{job_id}/events": "progress",
    "post /api/annotations": "counts",
    "delete /api/annotations/{run_id}": "counts",
    "post /api/duplicates": "a job",
    "post /api/duplicates/distinct": "records what is named",
    "delete /api/duplicates/distinct": "records what is named",
    "post /api/duplicates/keep": "records what is named",
    "post /api/duplicates/apply": "a job",
    "post /api/duplicates/undo": "a job",
    "post /api/clusters": "a job",
    "post /api/clusters/{run}/map": "a job",
    "post /api/clusters/{run}/edits": "records what is named",
    "post /api/sightings": "a job",
}


def test_every_route_is_asked() -> None:
    described = describe(create_app(ServeOptions(catalog=Path("none"))))
    known = {f"{method} {path}" for path, methods in described["paths"].items() for method in methods}
    assert known == ROUTES.keys() | UNASKED_ROUTES.keys()


def answers(server: RunningServer, route: str, given: str, world: World) -> list[tuple[int, bytes]]:
    """What a route answers for every photo that it may be asked about."""
    method, path = route.split(" ")
    clusters = requests.get(f"{server.url}/api/clusters", timeout=60).json()
    values: dict[str, Sequence[object]] = {
        "photo_id": [world.ids[path] for path in (KITE, NEXT, COPY, CONTROL, "gone/DSC_0100.jpg")],
        "run": [clusters["runs"][0]["run"]],
        "cluster": [1, 2],
        "number": [1, 2, 3, 4],
    }
    used = [name for name in values if "{" + name + "}" in path + given]
    found = []
    for chosen in itertools.product(*(values[name] for name in used)):
        filling = dict(zip(used, chosen, strict=True))
        url = server.url + path.format(**filling)
        if method == "get":
            answer = requests.get(url + given.format(**filling), timeout=60)
        else:
            answer = requests.post(url, json=json.loads(given.format(**filling)), timeout=60)
        found.append((answer.status_code, answer.content))
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_tells_a_place_or_where_in_its_cell_it_is(
    prepared: Worlds, served: list[RunningServer], route: str
) -> None:
    for given in ROUTES[route]:
        first, second = (
            answers(server, route, given, world) for server, world in zip(served, prepared, strict=True)
        )
        assert any(status == 200 for status, _ in first), route
        for found, world in ((first, prepared[0]), (second, prepared[1])):
            for _, content in found:
                assert leaks(content, world) == [], f"{route} {given}"
                assert not _named(content), f"{route} {given}"
        told = [
            [(status, alike(content, world)) for status, content in found]
            for found, world in ((first, prepared[0]), (second, prepared[1]))
        ]
        assert told[0] == told[1], f"{route} {given}"


def test_originals_of_what_is_hidden_are_not_served(
    prepared: Worlds, served: list[RunningServer], make_server: Callable[..., RunningServer]
) -> None:
    exact = make_server(catalog=prepared[0].catalog, read_only=True, originals=True, exact_places=True)
    for frame in FRAMES:
        url = f"/api/photos/{prepared[0].ids[frame.path]}"
        told, image = (requests.get(served[0].url + url + part, timeout=60) for part in ("", "/image"))
        assert (told.json()["image"] is None) is frame.hidden, frame.path
        assert image.status_code == (404 if frame.hidden else 200), frame.path
        assert leaks(image.content, prepared[0]) == []
        if frame.hidden:
            assert "exact place" in image.json()["detail"]
        if frame.path != "gone/DSC_0100.jpg":
            assert requests.get(exact.url + url + "/image", timeout=60).status_code == 200


def test_a_service_of_exact_places_tells_them(
    worlds: Worlds, make_server: Callable[..., RunningServer]
) -> None:
    exact = make_server(catalog=worlds[0].catalog, read_only=True, exact_places=True)
    assert leaks(requests.get(f"{exact.url}/api/photos?limit=500", timeout=60).content, worlds[0])
    assert leaks(requests.get(f"{exact.url}/api/sightings?limit=500", timeout=60).content, worlds[0])
    near = f"{exact.url}/api/photo-ids?near={NEST[0]},{NEST[1]},0.2"
    found: Any = requests.get(near, timeout=60).json()["ids"]
    assert worlds[0].ids[NEXT] in found
    assert worlds[0].ids[CONTROL] not in found
    home = f"{exact.url}/api/photo-ids?near={HOME[0]},{HOME[1]},0.2"
    assert worlds[0].ids[CONTROL] in requests.get(home, timeout=60).json()["ids"]


def test_filters_of_the_service_cannot_be_bisected(
    served: list[RunningServer],
) -> None:
    seen = set()
    for given in filters():
        name, _, value = given.removeprefix("--").partition(" ")
        first, second = (
            requests.get(f"{server.url}/api/photos", params={name: value}, timeout=60).json()
            for server in served
        )
        assert first == second, given
        seen.add(first["total"])
    assert len(seen) > 1
