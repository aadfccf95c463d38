"""Every command over a catalog whose disk is full: one clear error, nothing lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from birdsearch.cli import COMMANDS

MakePhoto = Callable[..., Path]

# Runs commands one after the other, each with not a byte left: on a disk that is filled to the brim before each, or
# in a process that may not make any file longer.
RUN = """
import contextlib, io, json, os, resource, signal, sys
from birdsearch.cli import run

filler, commands = sys.argv[1], json.loads(sys.argv[2])
if filler == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
results = []
for command in commands:
    if filler != "limit":
        # Without a buffer, so that nothing is left to be written when the file is closed.
        with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
            size = 1 << 16
            while size:
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass
                size //= 2
    out, err = io.StringIO(), io.StringIO()
    code, crash = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code, _ = run(command)
        except BaseException as error:
            crash = f"{type(error).__name__}: {error}"
    results.append({"command": command, "code": code, "crash": crash, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(results))
"""


@dataclass
class Disk:
    """Where the catalog is, and what fills it up: a file on it, or `limit`."""

    folder: Path
    filler: str

    def run(self, commands: list[list[str]]) -> list[dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, self.filler, json.dumps(commands)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few megabytes where mounting is allowed; else a limit on what may be written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    program = shutil.which("mount")
    mounted = (
        request.param == "tmpfs"
        and program is not None
        and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    try:
        yield Disk(folder, str(folder / "filler") if mounted else "limit")
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def birdsearch(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "birdsearch", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_ends_in_one_clear_error_and_nothing_is_lost(
    disk: Disk, tmp_path: Path, make_photo: MakePhoto, tiny_weights: Path
) -> None:
    archive = tmp_path / "archive"
    for number in range(12):
        make_photo(archive / "species a" / f"{number:02d}.jpg", number, exif=_exif(number))
    shutil.copy(archive / "species a" / "00.jpg", archive / "copy.jpg")
    catalog = ["--catalog", str(disk.folder / "catalog")]
    birdsearch("index", archive, "--weights", tiny_weights, "--workers", "1", *catalog)
    labelled = birdsearch("annotate", "set", "#1", "#2", "--as", "Mallard", *catalog)
    assert "2" in labelled
    photo = str(archive / "species a" / "00.jpg")
    make_photo(archive / "new.jpg", 77)
    (tmp_path / "labels.csv").write_text(f"path,taxon\n{photo},Mallard\n")
    (tmp_path / "sites.csv").write_text(f"deployment,site,folder\nwest,Pond,{archive}\n")
    reads = [
        ["status"],
        ["check"],
        ["query", photo],
        ["annotate", "list"],
        ["deployments", "list"],
        ["mislabelled"],
        ["sightings", "--dry-run"],
    ]
    writes = [
        ["index", str(archive), "--workers", "1"],
        ["annotate", "set", "#3", "--as", "Mallard"],
        ["annotate", "import", str(tmp_path / "labels.csv")],
        ["annotate", "undo"],
        ["label"],
        ["dedup", "--apply"],
        ["dedup", "reject", "#1", "#2"],
        ["sightings"],
        ["deployments", "import", str(tmp_path / "sites.csv")],
        ["deployments", "--from-folders", "1"],
        ["cluster", "--method", "kmeans", "--clusters", "2"],
        ["rebuild"],
    ]
    # These need more labels than there are, and say so before they write.
    others = [
        ["label", "--fit"],
        ["probe", "fit"],
        ["eval"],
        ["similar", "s1"],
        ["cluster", "name", "1", "x"],
    ]
    tried = {command[0] for command in (*reads, *writes, *others)}
    assert set(COMMANDS) - tried <= {"serve", "bench", "model", "demo", "roots", "forget"}
    # What the last writer left of its lock would give the next one room to write.
    (disk.folder / "catalog" / "lock").unlink()
    for result in disk.run([[*command, *catalog] for command in (*reads, *writes, *others)]):
        said = f"{result['command']}: {result['code']} {result['crash']} {result['err']}"
        assert result["crash"] is None, said
        assert result["code"] in {0, 1}, said
        err = str(result["err"])
        assert "Traceback" not in err, said
        if result["code"] == 1:
            assert err.count("Error: ") == 1, said
        command = [str(part) for part in result["command"]][:-2]  # type: ignore[attr-defined]
        if command in writes:
            assert result["code"] == 1, said
            assert "disk" in err, said
            assert "full" in err, said
    if disk.filler != "limit":
        Path(disk.filler).unlink()
    birdsearch("check", "--files", *catalog)
    assert json.loads(birdsearch("annotate", "list", "--format", "json", *catalog))
    assert (archive / "copy.jpg").exists()


def _exif(number: int) -> object:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 06:{number:02d}:00"
    return exif
