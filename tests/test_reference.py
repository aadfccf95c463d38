"""The reference that `make docs` writes from the code."""

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def texts(generate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("reference") / "docs"
    generate.main(folder)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def prose(text: str) -> list[str]:
    """The lines outside fenced blocks."""
    assert len(re.findall("^```", text, re.MULTILINE)) % 2 == 0
    return re.sub(r"^```\w+\n.*?\n```$", "", text, flags=re.MULTILINE | re.DOTALL).split("\n")


def headings(text: str) -> list[str]:
    return [line for line in prose(text) if line.startswith("#")]


def test_both_files_name_what_a_user_looks_for(texts: dict[str, str]) -> None:
    assert sorted(texts) == ["api.md", "cli.md"]
    assert "### birdsearch query" in headings(texts["cli.md"])
    assert "- `--catalog DIR`: Folder of the catalog." in texts["cli.md"]
    assert "### Catalog" in headings(texts["api.md"])
    assert "#### Catalog.query" in headings(texts["api.md"])


@pytest.mark.parametrize("name", ["api.md", "cli.md"])
def test_headings_are_names(texts: dict[str, str], name: str) -> None:
    first, *rest = headings(texts[name])
    assert first in {"# Command line", "# Python interface"}
    assert [line for line in rest if not re.fullmatch(r"#{2,5} [A-Za-z_]\w*([. ][\w-]+)*", line)] == []


@pytest.mark.parametrize("name", ["api.md", "cli.md"])
def test_no_line_is_cut_inside_a_code_span(texts: dict[str, str], name: str) -> None:
    assert [line for line in prose(texts[name]) if line.count("`") % 2] == []


@pytest.mark.parametrize("name", ["api.md", "cli.md"])
def test_a_paragraph_is_one_line_and_no_machine_address_is_shown(texts: dict[str, str], name: str) -> None:
    lines = prose(texts[name])
    wrapped = [
        (line, after)
        for line, after in itertools.pairwise(lines)
        if line and after and not after.startswith(("- ", "* "))
    ]
    assert wrapped == []
    assert not re.search(r" at 0x[0-9a-f]+|<function |<object ", texts[name])


def test_what_is_public_has_a_docstring(generate: ModuleType) -> None:
    assert generate.undocumented() == []
