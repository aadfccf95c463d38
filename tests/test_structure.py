"""What holds for the project as a whole: imports, packaging, start-up."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
# Each part may import those before it.
ORDER = ("errors", "config", "data", "model", "indexer", "search", "cli")
SOURCES = sorted(
    path
    for folder in ("birdsearch/cli", "model", "indexer", "search", "data")
    for path in (ROOT / folder).rglob("*.py")
)


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    relative = path.relative_to(ROOT).parts
    part = relative[1] if relative[0] == "birdsearch" else relative[0]
    allowed = {*ORDER[: ORDER.index(part) + 1], "__version__"}
    for name in _imports(path):
        if name.startswith("birdsearch."):
            assert name.split(".")[1] in allowed, f"{path.name} imports {name}"


def test_only_its_command_knows_the_service() -> None:
    for path in SOURCES:
        relative = path.relative_to(ROOT)
        if relative.parts[:2] != ("search", "service") and relative != Path("birdsearch/cli/serve.py"):
            assert not [name for name in _imports(path) if name.startswith("birdsearch.search.service")], path


def _loaded_by(statement: str) -> list[str]:
    program = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return [name for name in loaded if name in HEAVY]


@pytest.mark.parametrize(
    "statement",
    [
        "import birdsearch",
        "import birdsearch.cli",
        "import birdsearch.errors, birdsearch.settings, birdsearch.model",
        "import birdsearch.indexer, birdsearch.search, birdsearch.data",
        "import birdsearch.cli.index, birdsearch.cli.query, birdsearch.cli.catalog, birdsearch.cli.model",
    ],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert _loaded_by(statement) == []


def test_every_help_loads_nothing_heavy() -> None:
    for command in (
        [],
        ["index"],
        ["query"],
        ["annotate"],
        ["annotate", "import"],
        ["label"],
        ["mislabelled"],
        ["probe"],
        ["dedup"],
        ["sightings"],
        ["similar"],
        ["deployments"],
        ["cluster"],
        ["eval"],
        ["demo"],
        ["serve"],
        ["status"],
        ["check"],
        ["rebuild"],
        ["model"],
        ["model", "pull"],
    ):
        arguments = json.dumps([*command, "--help"])
        statement = (
            "from birdsearch.cli import cli\n"
            f"try:\n    cli.main({arguments}, standalone_mode=False)\nexcept SystemExit:\n    pass"
        )
        assert _loaded_by(statement) == [], command


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
