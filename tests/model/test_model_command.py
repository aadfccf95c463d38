from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from birdsearch.cli import cli
from birdsearch.errors import BirdsearchError
from birdsearch.model import load_model
from tests import command


def _run(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("BIRDSEARCH_")}
    env |= {"BIRDSEARCH_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1", **environment}
    with mock.patch.dict(os.environ, env, clear=True):
        return command.birdsearch("model", *arguments, cwd=cwd)


def test_the_list_says_where_the_weights_are(tmp_path: Path) -> None:
    run = _run("list", "--format", "json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    row, demo = json.loads(run.stdout)
    assert row["name"] == "xcit_nano12_p16_il-common"
    assert (demo["name"], demo["where"]) == ("xcit_nano12_p16_demo", "comes with birdsearch")
    assert (row["network"], row["classes"], row["input"]) == ("xcit_nano12_p16", 371, "256x256")
    assert row["where"] == "not here"
    for folder, variable, where in (
        (tmp_path / "given", {"BIRDSEARCH_WEIGHTS_DIR": str(tmp_path / "given")}, "weights dir"),
        (tmp_path / "cache" / "weights", {}, "cached"),
    ):
        folder.mkdir(parents=True)
        (folder / "xcit_nano12_p16_il-common.pt").write_bytes(b"anything")
        run = _run("list", "--format", "csv", cwd=tmp_path, **variable)
        row, _demo = csv.DictReader(io.StringIO(run.stdout))
        assert where in row.values()
    assert "xcit_nano12_p16_il-common" in _run("list", cwd=tmp_path).stdout


def test_info_shows_what_a_file_holds(tmp_path: Path, weights_file: Path) -> None:
    run = _run("info", weights_file, "--format", "json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    (facts,) = json.loads(run.stdout)
    model = load_model(weights_file)
    assert facts["sha256"] == model.sha256
    assert (facts["network"], facts["classes"], facts["embedding"]) == ("xcit_nano12_p16", 7, 128)
    assert (facts["input"], facts["parameters"]) == ("64x96", model.parameters)
    assert facts["preprocessing"] == model.preprocessing
    assert model.sha256 in CliRunner().invoke(cli, ["model", "info", str(weights_file)]).output


def test_verify_tells_a_good_file_from_a_bad_one(tmp_path: Path, weights_file: Path) -> None:
    good = CliRunner().invoke(cli, ["model", "verify", str(weights_file)])
    assert good.exit_code == 0
    assert good.output.startswith("ok: ")
    bad = tmp_path / "bad.pt"
    bad.write_bytes(weights_file.read_bytes()[:-100])
    run = _run("verify", bad, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"Error: {bad}")
    assert "Traceback" not in run.stderr


def test_weights_that_are_not_here_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    for verb in ("info", "verify"):
        run = _run(verb, cwd=tmp_path)
        assert (run.returncode, run.stdout) == (1, "")
        assert "birdsearch model pull xcit_nano12_p16_il-common" in run.stderr
        assert str(tmp_path / "cache") in run.stderr
    run = _run("pull", "xcit_nano12_p16_world", cwd=tmp_path)
    assert run.returncode == 1
    assert "known: xcit_nano12_p16_il-common" in run.stderr


def test_pulling_with_no_network_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    # A proxy that refuses connections stands for no network.
    run = _run(
        "pull", cwd=tmp_path, https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9", no_proxy=""
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "could not be fetched" in run.stderr
    assert "BIRDSEARCH_WEIGHTS_DIR" in run.stderr
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_features_are_written_as_arrays_and_as_a_picture(tmp_path: Path, weights_file: Path) -> None:
    rng = np.random.default_rng(70)
    photo = tmp_path / "bird one.png"
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(photo)
    run = _run("features", photo, "--weights", weights_file, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["bird one.features.npz", "bird one.features.png"]
    expected = load_model(weights_file).detection_features([photo])
    with np.load(tmp_path / "bird one.features.npz") as arrays:
        assert sorted(arrays) == ["stage1", "stage2", "stage3", "stage4"]
        for stage in arrays:
            np.testing.assert_allclose(arrays[stage], expected[stage][0], rtol=0, atol=1e-5)
    with Image.open(tmp_path / "bird one.features.png") as picture:
        assert picture.width > 1000
    out = ["--out", str(tmp_path / "other")]
    again = CliRunner().invoke(cli, ["model", "features", str(photo), "--weights", str(weights_file), *out])
    assert again.output.splitlines() == [
        str(tmp_path / f"other.features.{suffix}") for suffix in ("npz", "png")
    ]


@pytest.mark.parametrize("what", ["photo", "folder", "both"])
def test_features_that_cannot_be_made_are_an_error(what: str, tmp_path: Path, weights_file: Path) -> None:
    photo = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(photo)
    arguments: list[str | Path] = ["features", photo, "--weights", weights_file]
    if what == "photo":
        photo.write_bytes(b"<html>")
    elif what == "folder":
        arguments += ["--out", tmp_path / "absent" / "x"]
    else:
        arguments += ["--model", "xcit_nano12_p16_il-common"]
    result = CliRunner().invoke(cli, ["model", *map(str, arguments)])
    if what == "both":
        assert result.exit_code == 2
        assert "exclude each other" in result.output
    else:
        assert isinstance(result.exception, BirdsearchError)
        assert {"photo": "p.png", "folder": "absent"}[what] in str(result.exception)


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from birdsearch.cli import cli\n"
        "for name in [[], ['list'], ['info'], ['pull'], ['verify'], ['features']]:\n"
        "    result = CliRunner().invoke(cli, ['model', *name, '--help'])\n"
        "    assert result.exit_code == 0 and 'Usage' in result.output, result.output\n"
        "assert not {'torch', 'faiss', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_of_networks_has_every_published_variant(tmp_path: Path) -> None:
    run = _run("list", "--networks", "--format", "json", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    rows = {row["name"]: row for row in json.loads(run.stdout)}
    sizes = ("nano12", "tiny12", "tiny24", "small12", "small24", "medium24", "large24")
    assert set(rows) == {f"xcit_{size}_p{patch}" for size in sizes for patch in (8, 16)}
    assert (rows["xcit_small24_p8"]["embedding"], rows["xcit_small24_p8"]["heads"]) == (384, 8)
