"""`birdsearch dedup`, as it is typed, on a catalog that `birdsearch index` made."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli.dedup import dedup
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.store import CatalogStore

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto, tiny_model: Model) -> Path:
    """An archive with an exact copy and a near-copy, and its catalog; fingerprints are made by one dry run."""
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("dedup")
    archive = folder / "archive"
    for seed in range(5):
        make_photo(archive / f"2023/IMG_{seed}.png", seed, size=(480, 360))
    with Image.open(archive / "2023/IMG_3.png") as image:
        (archive / "web").mkdir()
        image.resize((240, 180), Image.Resampling.LANCZOS).save(archive / "web/IMG_3.jpg", quality=85)
    shutil.copy(archive / "2023/IMG_1.png", archive / "2023/IMG_1 (1).png")
    (archive / "web/IMG_3.xmp").write_text("sidecar")
    with Catalog.open(folder / "catalog") as opened:
        opened.index([archive], model=tiny_model, workers=1)
    assert run(folder / "catalog").exit_code == 0
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A folder with `archive` and `catalog`."""
    for name in ("archive", "catalog"):
        shutil.copytree(template / name, tmp_path / name)
    with CatalogStore.open(tmp_path / "catalog", "write") as store, store.writing() as connection:
        connection.execute(sa.update(schema.root).values(path=os.fsencode(tmp_path / "archive")))
    return tmp_path


def run(catalog: Path, *arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    verb = [words.pop(0)] if words and words[0] in ("undo", "reject", "rejected") else []
    return CliRunner().invoke(dedup, [*verb, "--catalog", str(catalog), *words])


def done(catalog: Path, *arguments: object) -> tuple[str, str]:
    result = run(catalog, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout, result.stderr


def found(catalog: Path, *arguments: object) -> Any:
    return json.loads(done(catalog, *arguments, "--format", "json")[0])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_apply_nothing_changes_and_the_table_says_what_is_kept_and_why(place: Path) -> None:
    before = files(place / "archive")
    shown, summary = done(place / "catalog")
    lines = shown.splitlines()
    assert lines[0].split() == ["Group", "What", "Alike", "%", "Size", "Why", "Path"]
    assert lines[1].split()[:2] == ["1", "keep"]
    assert re.search(r" \d+ kB ", lines[1])
    assert "the other name is made from its name" in lines[1]
    assert lines[1].endswith(str(place / "archive/2023/IMG_1.png"))
    assert lines[2].split()[:2] == ["copy", "100"]
    assert "same content" in lines[2]
    assert lines[3] == ""
    assert "0.17 megapixels, the other has 0.043" in lines[4]
    assert lines[5].endswith(str(place / "archive/web/IMG_3.jpg"))
    assert summary.startswith(
        "2 groups of copies among 6 photos (1 of the same content, 1 near-copies): 2 files"
    )
    assert "Nothing was moved" in summary
    assert files(place / "archive") == before
    assert not (place / "catalog/quarantine").exists()


def test_json_and_csv_hold_every_file_of_every_group(place: Path) -> None:
    exact, near = found(place / "catalog")
    assert (exact["kind"], near["kind"]) == ("exact", "near")
    assert exact["kept"]["path"] == str(place / "archive/2023/IMG_1.png")
    assert [file["path"] for file in near["others"]] == [str(place / "archive/web/IMG_3.jpg")]
    assert near["others"][0]["role"] == "move"
    assert near["bytes_freed"] == (place / "archive/web/IMG_3.jpg").stat().st_size
    rows = list(csv.DictReader(io.StringIO(done(place / "catalog", "--format", "csv")[0])))
    assert [(row["group"], row["role"]) for row in rows] == [
        ("1", "keep"),
        ("1", "move"),
        ("2", "keep"),
        ("2", "move"),
    ]
    assert [int(row["bytes_freed"]) > 0 for row in rows] == [False, True, False, True]


def test_apply_moves_copies_to_quarantine_and_undo_brings_them_back(place: Path) -> None:
    before = files(place / "archive")
    shown, told = done(place / "catalog", "--apply")
    assert [line.split()[0] for line in shown.splitlines() if "moved" in line] == ["moved", "moved"]
    assert "Moved 2 files with 1 companion" in told
    assert set(before) - set(files(place / "archive")) == {
        "2023/IMG_1 (1).png",
        "web/IMG_3.jpg",
        "web/IMG_3.xmp",
    }
    again, told = done(place / "catalog", "--apply")
    assert again == ""
    assert "Nothing was moved." in told
    shown, _ = done(place / "catalog", "undo")
    assert shown.endswith(": 3 files are back\n")
    assert files(place / "archive") == before
    assert len(found(place / "catalog")) == 2
    with pytest.raises(InvalidInputError, match="there is nothing to undo"):
        raise run(place / "catalog", "undo").exception  # type: ignore[misc]


def test_what_apply_refuses_is_named_and_ends_with_status_1(place: Path) -> None:
    copy = place / "archive/2023/IMG_1 (1).png"
    status = copy.stat()
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = run(place / "catalog", "--apply", "--quarantine", place / "away")
    assert result.exit_code == 1
    assert f"Warning: {copy}: changed since it was indexed" in result.stderr
    assert copy.exists()
    assert not (place / "archive/web/IMG_3.jpg").exists()
    report = json.loads(run(place / "catalog", "undo", "--format", "json").stdout)
    assert (report["restored"], report["refused"]) == (2, [])


def test_options_choose_what_is_compared_and_kept(place: Path) -> None:
    catalog, archive = place / "catalog", place / "archive"
    assert [group["kind"] for group in found(catalog, "--across-folders")] == ["near"]
    assert [group["kind"] for group in found(catalog, "--under", archive / "2023")] == ["exact"]
    kept = [group["kept"]["path"] for group in found(catalog, "--keep", "path:web")]
    assert str(archive / "web/IMG_3.jpg") in kept
    kept = [group["kept"]["path"] for group in found(catalog, "--reference", archive / "web")]
    assert str(archive / "web/IMG_3.jpg") in kept
    _, told = done(catalog, "--reference", archive)
    assert "2 more groups lie within the references; nothing could go." in told
    assert [group["kind"] for group in found(catalog, "--min-similarity", 1)][:1] == ["exact"]
    assert len(found(catalog, "--only", "new")) == 2
    assert len(found(catalog, "--rotations")) == 2


def test_a_sheet_shows_the_groups_without_metadata(place: Path) -> None:
    sheet = place / "copies.html"
    done(place / "catalog", "--sheet", sheet)
    page = sheet.read_text()
    assert page.count("<section>") == 2
    assert page.count('class="keep"') == 2
    assert page.count("data:image/jpeg;base64,") == 4
    assert str(place / "archive/web/IMG_3.jpg") in page
    wrong = run(place / "catalog", "--sheet", place / "copies.png").exception
    assert isinstance(wrong, InvalidInputError)
    assert "written as .html" in str(wrong)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--quarantine", "x"], 2, "give both"),
        (["--min-similarity", "2"], 2, "0<=x<=1"),
        (["--only", "old"], 2, "'old' is not"),
    ],
)
def test_wrong_options_are_refused(place: Path, arguments: list[str], status: int, message: str) -> None:
    result = run(place / "catalog", *arguments)
    assert result.exit_code == status
    assert message in result.output


def test_options_before_a_subcommand_are_refused(place: Path) -> None:
    result = CliRunner().invoke(dedup, ["--catalog", str(place / "catalog"), "undo"])
    assert result.exit_code == 2
    assert "options of `undo` go after its name" in result.output


def test_rejected_photos_are_no_copies_until_that_is_forgotten(place: Path) -> None:
    catalog, archive = place / "catalog", place / "archive"
    pair = (archive / "2023/IMG_3.png", archive / "web/IMG_3.jpg")
    assert done(catalog, "reject", *pair, "--who", "ada")[0] == "remembered for 1 pair of photos\n"
    assert done(catalog, "reject", *pair)[0] == "nothing to change\n"
    assert [group["kind"] for group in found(catalog)] == ["exact"]
    (row,) = json.loads(done(catalog, "rejected", "--format", "json")[0])
    assert {row["first"], row["second"]} == {str(path) for path in pair}
    assert row["who"] == "ada"
    assert "Is no copy of" in done(catalog, "rejected")[0]
    ids = [f"#{row['first_id']}", row["second_id"]]
    assert done(catalog, "reject", "--undo", *ids)[0] == "forgotten for 1 pair of photos\n"
    assert done(catalog, "rejected")[0] == "no pair was rejected\n"
    assert len(found(catalog)) == 2
    for wrong in ([pair[0]], [archive / "2023/IMG_1.png", archive / "2023/IMG_1 (1).png"]):
        assert isinstance(run(catalog, "reject", *wrong).exception, InvalidInputError)


def test_a_catalog_that_somebody_else_writes_to_is_searched_all_the_same(place: Path) -> None:
    catalog = place / "catalog"
    with CatalogStore.open(catalog, "write") as store:
        with store.writing() as connection:
            connection.execute(sa.delete(schema.fingerprint))
        assert len(found(catalog)) == 2
        # And what was reckoned for it is kept: looking takes no lock but for moments.
        with store.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(schema.fingerprint)).scalar_one()


def test_an_interrupt_finishes_the_file_in_hand_and_exits_with_130(place: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "real = os.unlink\n"
        "def unlink(path, **options):\n"
        "    if b'archive' in os.fsencode(path):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    real(path, **options)\n"
        "from birdsearch.search.dedup import moves\n"
        "moves.os.unlink = unlink\n"
        "from birdsearch.cli import main\n"
        "main()\n"
    )
    before = files(place / "archive")
    command = [sys.executable, "-c", program, "dedup", "--catalog", str(place / "catalog"), "--apply"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 130, ended.stderr
    assert "Moved 1 file" in ended.stderr
    assert len(files(place / "archive")) == len(before) - 1
    with CatalogStore.open(place / "catalog") as store, store.reading() as connection:
        assert connection.execute(sa.select(schema.quarantine.c.state)).scalars().all() == ["moved"]
    done(place / "catalog", "undo")
    assert files(place / "archive") == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_interrupted_run_before_is_told_of(place: Path) -> None:
    with CatalogStore.open(place / "catalog", "write") as store:
        photo_id = store.photo_at(os.fsencode(place / "archive/web/IMG_3.jpg"))
        assert photo_id is not None
        digest = hashlib.sha256((place / "archive/web/IMG_3.jpg").read_bytes()).digest()
        with store.writing() as connection:
            run_id = connection.execute(sa.select(sa.func.max(schema.run.c.id))).scalar_one()
            connection.execute(
                sa.insert(schema.quarantine).values(
                    run_id=run_id,
                    photo_id=photo_id,
                    keeper_id=photo_id,
                    original=os.fsencode(place / "archive/web/IMG_3.jpg"),
                    moved_to=os.fsencode(place / "away/IMG_3.jpg"),
                    digest=digest,
                    state="planned",
                )
            )
    assert "an --apply was cut short" in done(place / "catalog")[1]
    _, told = done(place / "catalog", "--apply")
    assert f"run {run_id} was cut short before it moved {place / 'archive/web/IMG_3.jpg'}" in told
    assert "Moved 2 files" in told
