"""What holds for the project as a whole: imports, packaging, start-up."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "torchvision",
    "faiss",
    "onnxruntime",
    "sqlalchemy",
    "PIL",
    "numpy",
    "tqdm",
    "fastapi",
    "uvicorn",
)
ORDER = (
    *(
        "errors",
        "version",
        "display_path",
        "size_text",
        "cores",
        "settings",
        "first_use",
        "csv_table",
        "files",
        "partial_dates",
    ),
    *("model.images", "model"),
    *("indexer.catalog", "indexer.vectors", "indexer"),
    *("search.json_records", "search.photos", "search.catalog_info", "search.problem", "search.job"),
    *("search.metrics", "search.query", "search.annotate", "search.labels", "search.query.engine"),
    *("search.dedup", "search.sightings", "search.clusters", "search.evaluation", "search.export"),
    *("search.catalog", "data", "search.service", "client", "cli"),
)
"""Each part may import itself and those before it. A file belongs to the longest name that fits."""
# What only gathers the names of others for users.
_FACES = {"", "model", "indexer", "search", "__main__"}


def _modules() -> dict[str, Path]:
    """Every module of the package, by its name after `birdsearch.`."""
    found = {}
    for top in ("birdsearch", "model", "indexer", "search", "data"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if any(parent.is_symlink() for parent in path.parents):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[1:] if top == "birdsearch" else parts)
            found[name.removesuffix("__init__").rstrip(".")] = path
    return found


def _imports(path: Path) -> set[str]:
    """What a file imports anywhere: at its top, in functions and under `TYPE_CHECKING`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
            names.add(node.module or "")
    return names


MODULES = _modules()
GRAPH = {
    name: {
        wanted.removeprefix("birdsearch").lstrip(".")
        for wanted in _imports(path)
        if wanted.split(".")[0] == "birdsearch"
    }
    & MODULES.keys() - {name, ""}
    for name, path in MODULES.items()
}
"""Module -> the modules that it imports."""


def _part(name: str) -> int:
    fitting = [part for part in ORDER if name == part or name.startswith(f"{part}.")]
    assert fitting, f"{name} belongs to no part"
    return ORDER.index(max(fitting, key=len))


def test_imports_go_one_way() -> None:
    against = {
        (name, wanted)
        for name, imported in GRAPH.items()
        if name not in _FACES
        for wanted in imported
        if _part(wanted) > _part(name)
    }
    assert not against


def test_no_import_leads_back() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for wanted in sorted(GRAPH[name]):
                visit(wanted, (*above, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def _talks_sql(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {
        node.func.attr: node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args
    }
    roots = {name.split(".")[0] for name in _imports(path)}
    inner = {
        f"birdsearch.indexer.catalog.{name}"
        for name in ("schema", "connection.cursor_of", "connection.connect")
    }
    return bool(roots & {"sqlalchemy"} or _imports(path) & inner or calls.keys() & {"reading", "writing"})


def test_only_the_catalog_talks_sql() -> None:
    found = {
        str(path.relative_to(ROOT))
        for name, path in MODULES.items()
        if not name.startswith("indexer.catalog.") and _talks_sql(path)
    }
    assert not found


def test_only_its_command_knows_the_service() -> None:
    for name, imported in GRAPH.items():
        if not name.startswith("search.service") and name != "cli.serve":
            assert not [wanted for wanted in imported if wanted.startswith("search.service")], name


def _loaded_after(steps: Sequence[str]) -> dict[str, list[str]]:
    """Run statements one after the other in a fresh process; which heavy libraries are loaded after each."""
    program = (
        f"import sys, json\nfound = {{}}\nfor step in {list(steps)!r}:\n    exec(step)\n"
        f"    found[step] = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_loads_nothing_heavy() -> None:
    steps = (
        "import birdsearch",
        "import birdsearch.errors, birdsearch.settings, birdsearch.model",
        "import birdsearch.indexer, birdsearch.search, birdsearch.data",
        "import birdsearch.cli",
        "import birdsearch.cli.index, birdsearch.cli.query, birdsearch.cli.catalog, birdsearch.cli.model",
    )
    assert _loaded_after(steps) == {step: [] for step in steps}


def test_every_help_loads_nothing_heavy() -> None:
    from birdsearch.cli import cli

    def commands(group: click.Command, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        yield name
        if isinstance(group, click.Group):
            context = click.Context(group)
            for sub in group.list_commands(context):
                command = group.get_command(context, sub)
                assert command is not None
                yield from commands(command, (*name, sub))

    found = list(commands(cli))
    assert len(found) > 40
    steps = [
        "from birdsearch.cli import cli\n"
        f"try:\n    cli.main({[*command, '--help']!r}, standalone_mode=False)\n"
        "except SystemExit:\n    pass"
        for command in found
    ]
    assert _loaded_after(steps) == {step: [] for step in steps}


def test_the_packages_that_are_built_are_the_folders_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["package-dir"]
    assert sorted(listed) == sorted(project["tool"]["setuptools"]["packages"])
    folders = {
        str(path.parent.relative_to(ROOT))
        for top in ("birdsearch", "model", "indexer", "search", "data")
        for path in (ROOT / top).rglob("__init__.py")
        if not any(parent.is_symlink() for parent in path.parents)
    }
    assert folders == set(listed.values())
    for part in ("model", "indexer", "search", "data"):
        link = ROOT / "birdsearch" / part
        assert link.is_symlink()
        assert link.readlink() == Path("..") / part


def test_the_version_is_said_once() -> None:
    from birdsearch import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == __version__


def test_public_names_exist() -> None:
    import importlib

    for package in ("birdsearch", "birdsearch.model", "birdsearch.indexer", "birdsearch.search"):
        module = importlib.import_module(package)
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_every_interface_has_the_same_default_confidence() -> None:
    import inspect

    from birdsearch import Catalog
    from birdsearch.cli import cli
    from birdsearch.client import Client
    from birdsearch.search.service.schemas.search import LabelRequest
    from birdsearch.settings import DEFAULT_CONFIDENCE

    methods = (Catalog.query, Catalog.query_many, Client.query, Client.query_many, Client.label)
    found = {
        method.__qualname__: inspect.signature(method).parameters["confidence"].default for method in methods
    }
    found["request"] = LabelRequest.model_fields["confidence"].default
    for command in ("query", "label", "sightings"):
        loaded = cli.get_command(click.Context(cli), command)
        assert loaded is not None
        found[command] = next(option.default for option in loaded.params if option.name == "confidence")
    assert set(found.values()) == {DEFAULT_CONFIDENCE}
