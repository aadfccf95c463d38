"""Files of one picture with other metadata are copies that are said to be no exact ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from birdsearch.cli import cli
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import index_archive

if TYPE_CHECKING:
    from birdsearch.model.inference import Model


def write(path: Path, *, place: bool) -> None:
    tags = Image.Exif()
    tags[271], tags[272] = "Nikon", "D90"
    tags.get_ifd(0x8769)[36867] = "2023:05:01 06:30:00"
    if place:
        tags.get_ifd(0x8825).update({1: "N", 2: (52.0, 0.0, 0.0), 3: "E", 4: (13.0, 0.0, 0.0)})
    coarse = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path, exif=tags)


@pytest.fixture
def archive(tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    write(folder / "a.jpg", place=False)
    write(folder / "b.jpg", place=True)
    shutil.copy2(folder / "b.jpg", folder / "c.jpg")
    monkeypatch.setenv("BIRDSEARCH_CATALOG", str(tmp_path / "catalog"))
    with CatalogStore.open(tmp_path / "catalog", "create") as store:
        summary = index_archive(store, tiny_model, [folder], IndexOptions(workers=1))
    assert (summary.new, summary.copies) == (1, 2)
    return folder


def dedup(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(cli, ["dedup", *arguments, "--format", "json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def name(file: dict[str, Any]) -> str:
    return Path(file["path"]).name


def test_the_file_that_tells_more_is_kept_and_the_other_is_called_what_it_is(archive: Path) -> None:
    (group,) = dedup()
    assert group["kind"] == "near"
    assert name(group["kept"]) in ("b.jpg", "c.jpg")
    assert "tells time, place, camera" in group["kept"]["reason"]
    reasons = {name(file): (file["reason"], file["similarity"]) for file in group["others"]}
    assert reasons["a.jpg"] == ("same picture, other metadata", 1.0)
    assert {reasons.get("b.jpg"), reasons.get("c.jpg")} == {None, ("same content", 1.0)}
    assert (archive / "a.jpg").exists()


def test_what_was_moved_comes_back_byte_by_byte(archive: Path) -> None:
    before = {path.name: path.read_bytes() for path in archive.iterdir()}
    dedup("--apply")
    assert len(list(archive.iterdir())) == 1
    done = CliRunner().invoke(cli, ["dedup", "undo"])
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_bytes() for path in archive.iterdir()} == before


def test_a_file_whose_metadata_was_edited_since_it_was_indexed_is_not_moved(archive: Path) -> None:
    status = (archive / "a.jpg").stat()
    content = (archive / "a.jpg").read_bytes()
    (archive / "a.jpg").write_bytes(content.replace(b"06:30:00", b"07:30:00"))
    os.utime(archive / "a.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    dedup("--apply", code=1)
    assert (archive / "a.jpg").exists()


def test_once_a_file_is_moved_its_photo_says_what_the_files_say_that_are_there(archive: Path) -> None:
    def place() -> float | None:
        with CatalogStore.open(os.environ["BIRDSEARCH_CATALOG"]) as store:
            return store.photos([1])[1].latitude

    assert place() == 52
    dedup("--apply", "--keep", "path:*a.jpg")
    assert [path.name for path in archive.iterdir()] == ["a.jpg"]
    assert place() is None
    done = CliRunner().invoke(cli, ["dedup", "undo"])
    assert done.exit_code == 0, done.output
    assert place() == 52


def test_frames_that_show_exactly_the_same_are_no_copies(
    tmp_path: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a trail camera whose flash failed: black frames, each with a number and a time of its own."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for number in (7, 8):
        tags = Image.Exif()
        tags[271], tags[272] = "Nikon", "D90"
        tags.get_ifd(0x8769)[36867] = f"2023:05:01 06:30:{number:02d}"
        Image.new("RGB", (64, 48)).save(folder / f"RCNX227{number}.jpg", exif=tags)
    shutil.copy2(folder / "RCNX2278.jpg", folder / "RCNX2278 (1).jpg")
    shutil.copy2(folder / "RCNX2277.jpg", folder / "best.jpg")
    monkeypatch.setenv("BIRDSEARCH_CATALOG", str(tmp_path / "catalog"))
    with CatalogStore.open(tmp_path / "catalog", "create") as store:
        index_archive(store, tiny_model, [folder], IndexOptions(workers=1))
    groups = [{name(file) for file in (group["kept"], *group["others"])} for group in dedup()]
    assert groups == [{"RCNX2277.jpg", "best.jpg"}, {"RCNX2278.jpg", "RCNX2278 (1).jpg"}]
    dedup("--apply")
    left = {path.name for path in folder.iterdir()}
    assert left & {"RCNX2277.jpg", "best.jpg"}
    assert left & {"RCNX2278.jpg", "RCNX2278 (1).jpg"}
