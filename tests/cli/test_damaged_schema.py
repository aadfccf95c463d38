"""Commands over a catalog with a changed byte in its schema or first page: an error for people, never a crash."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from birdsearch.cli import run
from birdsearch.indexer.catalog.store import CatalogStore

SEED = 5


def ending(*arguments: str) -> tuple[int, str]:
    """How a command ended, and what it wrote on stderr; whatever it raises fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code, _ = run(arguments)
    return code, err.getvalue()


@pytest.mark.parametrize("command", ["status", "annotate list", "check", "rebuild"])
def test_a_bad_page_of_the_schema_ends_in_one_error(command: str, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    CatalogStore.open(catalog, "create").close()
    file = catalog / "birdsearch.sqlite"
    whole = file.read_bytes()
    pages = [at for at in range(0, len(whole), 4096) if at == 0 or b"CREATE " in whole[at : at + 4096]]
    rng = np.random.default_rng(SEED)
    codes = set()
    for number in range(40):
        page = whole[pages[number % len(pages)] :][:4096]
        # Where something is written, and not the zeros between.
        place = pages[number % len(pages)] + int(rng.choice(np.flatnonzero(np.frombuffer(page, np.uint8))))
        content = bytearray(whole)
        # No text in UTF-8, an unfinished one, and a quote that changes what a statement says.
        content[place] = (0xFF, 0x80, 0xC3, 0x27, 0x00)[number % 5]
        shutil.rmtree(catalog)
        catalog.mkdir()
        file.write_bytes(content)
        code, err = ending(*command.split(), "--catalog", str(catalog))
        assert code in {0, 1}, f"seed {SEED}, byte {place}: {err}"
        assert "Traceback" not in err
        if code == 1 and command != "check":
            assert err.count("Error: ") == 1, err
            assert str(file) in err or str(catalog) in err
        codes.add(code)
    assert 1 in codes
