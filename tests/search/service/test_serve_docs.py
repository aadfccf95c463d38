"""What docs/serve.md shows is run as it stands there."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from birdsearch.data.synthetic.truth import read_truth

if TYPE_CHECKING:
    from tests.search.service.conftest import MakeServer

DOCS = Path(__file__).parents[3] / "docs"


def test_the_script_searches_labels_and_exports(
    make_server: MakeServer, archive: Path, tmp_path: Path
) -> None:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    server = make_server(token="sesame open")
    # A photo of which there is a copy, so that something is nearly the same.
    truth = read_truth(archive)
    copied = next(row for row in truth if row.kind == "near-copy" and row.common_name)
    shown = copied.common_name
    photo, out = archive / copied.path, tmp_path / "found.csv"
    command = ["sh", str(DOCS / "serve-example.sh"), server.url, str(photo), shown, str(out)]
    environment = {**os.environ, "BIRDSEARCH_TOKEN": "sesame open"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *hits, said = done.stdout.splitlines()
    assert [int(line.split("\t")[0]) for line in hits] == list(range(1, 11))
    run = re.fullmatch(r"run (\d+): (\d+) recorded, (\d+) known before", said)
    assert run is not None
    assert int(run[2]) + int(run[3]) > 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = {row.path for row in truth if row.common_name == shown}
    assert rows
    for row in rows:
        assert row["species"] == shown
        assert row["path"].removeprefix("archive/") in known
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.stdout.splitlines()[-1].startswith("run null: 0 recorded")


def test_the_script_ends_with_what_the_service_refuses(
    make_server: MakeServer, archive: Path, tmp_path: Path
) -> None:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    server = make_server()
    photo = next(row.path for row in read_truth(archive) if row.kind == "photo")
    command = ["sh", str(DOCS / "serve-example.sh"), server.url, str(archive / photo)]
    done = subprocess.run(
        [*command, "no such bird", str(tmp_path / "none.csv")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "422" in done.stderr
    assert not (tmp_path / "none.csv").exists()


def test_every_option_that_the_page_names_exists() -> None:
    from birdsearch.cli import cli

    page = (DOCS / "serve.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(--[a-z0-9-]+)", page)) | {
        option
        for line in re.findall(r"birdsearch serve .*", page)
        for option in re.findall(r"--[a-z0-9-]+", line)
    }
    help_text = CliRunner().invoke(cli, ["serve", "--help"]).output
    assert {"--token-file", "--allow-host", "--max-upload-mb"} <= named
    for option in named - {"--oauth2-bearer"}:
        assert option in help_text, option
