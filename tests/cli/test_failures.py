"""What `index` and `status --failures` say about files that could not be read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.command import birdsearch

MakePhoto = Callable[..., Path]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    if not environment:
        return birdsearch(*arguments)
    return subprocess.run(
        [sys.executable, "-m", "birdsearch", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def archive(tmp_path: Path, make_photo: MakePhoto) -> Path:
    folder = tmp_path / "archive"
    make_photo(folder / "good.jpg", 1)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(folder / f"phone {number}.heic")
    whole = make_photo(folder / "cut.jpg", 2, (300, 200)).read_bytes()
    for number in range(2):
        (folder / f"cut{number}.jpg").write_bytes(whole[: len(whole) // 2 + 50 * number])
    (folder / "cut.jpg").unlink()
    (folder / "page.jpg").write_text("<html></html>")
    return folder


@pytest.fixture
def without_heif(tmp_path: Path) -> Mapping[str, str]:
    """An environment in which the extra `heic` is not installed."""
    folder = tmp_path / "absent"
    folder.mkdir()
    (folder / "pillow_heif.py").write_text("raise ImportError('not installed')\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])}


def test_files_that_fail_for_one_reason_are_one_line_that_says_what_to_do(
    archive: Path, without_heif: Mapping[str, str], tiny_weights: Path, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    done = run("index", archive, "--weights", tiny_weights, "--catalog", catalog, **without_heif)
    assert done.returncode == 0, done.stderr
    line = (
        "4 files: HEIF pictures need an optional part: pip install 'birdsearch[heic]'; then run "
        "`birdsearch index` again"
    )
    assert [text.strip() for text in done.stderr.splitlines()].count(line) == 1
    assert "2 files: the file ends early; copy it again from the card" in done.stderr
    assert "1 file: the content is no picture; " in done.stderr
    assert f"birdsearch status --failures --verbose --catalog {catalog}" in done.stderr

    shown = run("status", "--failures", "--catalog", catalog)
    assert shown.stdout.splitlines()[0] == line
    assert len([text for text in shown.stdout.splitlines() if re.match(r"\d+ files?: ", text)]) == 3
    assert "phone 0.heic" not in shown.stdout

    every = run("status", "--failures", "--verbose", "--catalog", catalog).stdout
    assert all(str(archive / f"phone {number}.heic") in every for number in range(4))
    # A reason that differs from file to file stands at the file.
    assert re.search(r"cut0\.jpg: .*ends early", every)


def test_programs_get_every_failed_file_with_its_reason_and_the_advice(
    archive: Path, without_heif: Mapping[str, str], tiny_weights: Path, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    run("index", archive, "--weights", tiny_weights, "--catalog", catalog, **without_heif)
    rows = json.loads(run("status", "--failures", "--catalog", catalog, "--format", "json").stdout)
    assert sorted(Path(row["path"]).name for row in rows) == sorted(
        ["cut0.jpg", "cut1.jpg", "page.jpg", *(f"phone {number}.heic" for number in range(4))]
    )
    assert all(row["stage"] and row["code"] and row["reason"] and row["advice"] for row in rows)
    text = run("status", "--failures", "--catalog", catalog, "--format", "csv").stdout
    assert [row["path"] for row in csv.DictReader(io.StringIO(text))] == [row["path"] for row in rows]


def test_files_that_failed_for_a_missing_extra_are_taken_up_once_it_is_there(
    archive: Path, without_heif: Mapping[str, str], tiny_weights: Path, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    run("index", archive, "--weights", tiny_weights, "--catalog", catalog, **without_heif)
    done = run("index", archive, "--catalog", catalog, "--format", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["embedded"] == 4
    assert summary["failed"] == {"not-a-picture": 1, "truncated": 2}


def test_a_catalog_without_failures_says_so(
    make_photo: MakePhoto, tiny_weights: Path, tmp_path: Path
) -> None:
    make_photo(tmp_path / "photos" / "a.jpg", 1)
    catalog = tmp_path / "catalog"
    done = run("index", tmp_path / "photos", "--weights", tiny_weights, "--catalog", catalog)
    assert "could not be read" not in done.stderr
    assert run("status", "--failures", "--catalog", catalog).stdout == "No file failed.\n"


def test_what_the_commands_of_the_readme_need_is_what_make_installs() -> None:
    text = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    installed = re.search(r"/\.run:.*\n.*--editable '\.\[([a-z,]+)\]'", text)
    assert installed is not None
    assert {"cluster", "fast", "heic", "raw", "serve"} <= set(installed[1].split(","))
