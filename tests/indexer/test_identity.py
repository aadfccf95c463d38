"""A photo is its picture: what is done to the metadata of its files never costs a label, and is said truthfully."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from birdsearch.indexer.catalog.annotations import record
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.verified_labels import labels_in_force
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import IndexSummary, index_archive
from birdsearch.indexer.verify import check_catalog
from birdsearch.model.taxonomy import Taxon

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

Run = Callable[..., IndexSummary]
VECTOR_OF = """
    SELECT vector, phash, sharpness, width, height, rendering FROM embedding JOIN view ON view.id = view_id
    JOIN photo ON photo.id = view.photo_id JOIN file ON file.photo_id = photo.id
    WHERE file.path = CAST('{name}' AS BLOB)
"""
MALLARD = Taxon("Mallard", "Anas platyrhynchos", "Anas", "Anatidae", "Anseriformes", (), False)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(4):
        write(folder / f"{number}.jpg", number)
    return folder


@pytest.fixture
def run(catalog: Path, tiny_model: Model) -> Run:
    def index(*roots: Path, **options: Any) -> IndexSummary:
        with CatalogStore.open(catalog, "create") as store:
            return index_archive(store, tiny_model, roots, IndexOptions(workers=1, batch_size=4, **options))

    return index


@pytest.fixture(autouse=True)
def _sound(catalog: Path) -> Iterator[None]:
    """After every test the catalog verifies, its files and its vector index included."""
    yield
    with CatalogStore.open(catalog) as store:
        assert check_catalog(store, files=True).problems == ()


def write(
    path: Path,
    seed: int,
    *,
    taken: str | None = "2023:05:01 06:30:00",
    turn: int = 1,
    place: float | None = None,
    name: str | None = None,
) -> Path:
    """A picture that depends on its seed alone, with metadata."""
    tags = Image.Exif()
    tags[271], tags[272], tags[274] = "Nikon", "D90", turn
    if taken is not None:
        tags.get_ifd(0x8769)[36867] = taken
    if place is not None:
        tags.get_ifd(0x8825).update({1: "N", 2: (place, 0.0, 0.0), 3: "E", 4: (13.0, 0.0, 0.0)})
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)
    image.save(path, name, exif=tags)
    return path


def rows(catalog: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(catalog / "birdsearch.sqlite")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def label(catalog: Path, path: Path) -> int:
    """Say that a photo is a Mallard; returns its id."""
    with CatalogStore.open(catalog, "write") as store:
        photo_id = store.photo_at(os.fsencode(path))
        assert photo_id is not None
        record(store, [(store.whole_views([photo_id])[photo_id], MALLARD, "positive")], "Ann", "set")
    return photo_id


def labelled(catalog: Path, path: Path) -> list[str]:
    """What is known of the photo at a path."""
    with CatalogStore.open(catalog) as store:
        photo_id = store.photo_at(os.fsencode(path))
        return [found.name for found in labels_in_force(store) if found.photo_id == photo_id]


def facts(catalog: Path, path: Path) -> tuple[Any, ...]:
    with CatalogStore.open(catalog) as store:
        photo_id = store.photo_at(os.fsencode(path))
        assert photo_id is not None
        photo = store.photos([photo_id])[photo_id]
    return photo.captured_at, photo.latitude, photo.camera


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"taken": "2023:05:01 07:30:00"}, ("2023-05-01T07:30:00", None, "Nikon D90")),
        ({"taken": None}, (None, None, "Nikon D90")),
        ({"place": 52.5}, ("2023-05-01T06:30:00", 52.5, "Nikon D90")),
    ],
)
def test_80_a_photo_whose_metadata_is_edited_is_the_same_photo(
    run: Run, archive: Path, catalog: Path, edit: dict[str, Any], says: tuple[Any, ...]
) -> None:
    run(archive)
    photo_id = label(catalog, archive / "1.jpg")
    write(archive / "1.jpg", 1, **edit)
    summary = run(archive)
    assert (summary.edited, summary.changed, summary.new, summary.missing, summary.embedded) == (
        1,
        0,
        0,
        0,
        0,
    )
    assert labelled(catalog, archive / "1.jpg") == ["Mallard"]
    assert facts(catalog, archive / "1.jpg") == says
    with CatalogStore.open(catalog) as store:
        assert store.photo_at(os.fsencode(archive / "1.jpg")) == photo_id
    assert run(archive).unchanged == 4


def test_80_a_photo_whose_orientation_is_edited_keeps_its_label_and_is_embedded_again(
    run: Run, archive: Path, catalog: Path, tiny_model: Model
) -> None:
    run(archive)
    before = dict(rows(catalog, "SELECT view_id, vector FROM embedding"))
    photo_id = label(catalog, archive / "1.jpg")
    write(archive / "1.jpg", 1, turn=6)
    summary = run(archive)
    assert (summary.edited, summary.embedded, summary.new) == (1, 1, 0)
    assert labelled(catalog, archive / "1.jpg") == ["Mallard"]
    after = dict(rows(catalog, "SELECT view_id, vector FROM embedding"))
    ((view_id,),) = rows(catalog, f"SELECT id FROM view WHERE photo_id = {photo_id}")
    assert [one for one in before if before[one] != after[one]] == [view_id]
    assert rows(catalog, f"SELECT width, height, rendering FROM photo WHERE id = {photo_id}") == [
        (48, 64, "6")
    ]
    # As if it had been like that from the start.
    with CatalogStore.open(catalog.with_name("other"), "create") as store:
        index_archive(store, tiny_model, [archive], IndexOptions(workers=1))
    (one,) = rows(catalog, VECTOR_OF.format(name="1.jpg"))
    (fresh,) = rows(catalog.with_name("other"), VECTOR_OF.format(name="1.jpg"))
    assert one[1:] == fresh[1:]
    np.testing.assert_allclose(np.frombuffer(one[0], "<f4"), np.frombuffer(fresh[0], "<f4"), atol=1e-4)
    assert run(archive).unchanged == 4


def test_80_a_photo_that_is_renamed_and_edited_between_two_runs_is_the_same_photo(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    photo_id = label(catalog, archive / "1.jpg")
    (archive / "1.jpg").unlink()
    write(archive / "best.jpg", 1, taken="2023:05:01 07:30:00")
    summary = run(archive)
    assert (summary.moved, summary.new, summary.copies, summary.missing, summary.embedded) == (1, 0, 0, 0, 0)
    assert labelled(catalog, archive / "best.jpg") == ["Mallard"]
    assert facts(catalog, archive / "best.jpg")[0] == "2023-05-01T07:30:00"
    assert rows(catalog, f"SELECT count(*) FROM file WHERE photo_id = {photo_id}") == [(1,)]


def test_31_a_file_with_another_picture_than_before_is_another_photo(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    label(catalog, archive / "1.jpg")
    write(archive / "1.jpg", 99)
    summary = run(archive)
    assert (summary.changed, summary.edited, summary.embedded) == (1, 0, 1)
    assert labelled(catalog, archive / "1.jpg") == []


def test_33_one_picture_with_two_sets_of_metadata_is_one_photo_and_the_richer_set_counts(
    run: Run, archive: Path, catalog: Path
) -> None:
    write(archive / "shared.jpg", 1, taken=None)
    write(archive / "1.jpg", 1, place=52.5)
    summary = run(archive)
    assert (summary.new, summary.copies, summary.embedded) == (4, 1, 4)
    for name in ("1.jpg", "shared.jpg"):
        assert facts(catalog, archive / name) == ("2023-05-01T06:30:00", 52.5, "Nikon D90")
    # Without it, the other file is all that tells.
    (archive / "1.jpg").unlink()
    run(archive)
    assert facts(catalog, archive / "shared.jpg") == (None, None, "Nikon D90")
    write(archive / "1.jpg", 1, place=52.5)
    run(archive)
    assert facts(catalog, archive / "shared.jpg") == ("2023-05-01T06:30:00", 52.5, "Nikon D90")
    assert run(archive).unchanged == 5


def test_of_equally_rich_files_the_one_that_was_changed_last_counts_whatever_was_read_first(
    run: Run, archive: Path, catalog: Path, tmp_path: Path
) -> None:
    corrected = write(archive / "0-corrected.jpg", 1, taken="2023:05:01 07:30:00")
    status = (archive / "1.jpg").stat()
    os.utime(corrected, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    run(archive)
    assert facts(catalog, archive / "1.jpg")[0] == "2023-05-01T07:30:00"
    os.utime(corrected, ns=(status.st_atime_ns, status.st_mtime_ns - 10**9))
    run(archive)
    assert facts(catalog, archive / "1.jpg")[0] == "2023-05-01T06:30:00"


def test_two_files_that_turn_one_picture_differently_settle_on_one_of_them(
    run: Run, archive: Path, catalog: Path
) -> None:
    turned = write(archive / "0-turned.jpg", 1, turn=6)
    status = (archive / "1.jpg").stat()
    os.utime(turned, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    summary = run(archive)
    assert (summary.new, summary.copies) == (4, 1)
    run(archive)
    sql = "SELECT rendering, width FROM photo JOIN file ON photo_id = photo.id WHERE path = '1.jpg'"
    sql = sql.replace("'1.jpg'", "CAST('1.jpg' AS BLOB)")
    assert rows(catalog, sql) == [("6", 48)]
    assert run(archive).unchanged == 5
    turned.unlink()
    run(archive)
    run(archive)
    assert rows(catalog, sql) == [("1", 64)]
    assert run(archive).unchanged == 4


def test_an_exact_copy_of_an_edited_file_says_what_that_says(run: Run, archive: Path, catalog: Path) -> None:
    run(archive)
    edited = write(archive / "edited.jpg", 1, place=52.5)
    shutil.copy(edited, archive / "copy.jpg")
    assert run(archive).copies == 2
    edited.unlink()
    (archive / "1.jpg").unlink()
    run(archive)
    assert facts(catalog, archive / "copy.jpg")[1] == 52.5


def test_a_file_that_cannot_be_read_for_now_keeps_what_it_said(
    run: Run, archive: Path, catalog: Path
) -> None:
    run(archive)
    write(archive / "1.jpg", 1, place=52.5)
    run(archive)
    (archive / "1.jpg").rename(archive / "away")
    (archive / "1.jpg").symlink_to(archive / "nowhere")
    run(archive)
    (archive / "1.jpg").unlink()
    (archive / "away").rename(archive / "1.jpg")
    run(archive)
    assert facts(catalog, archive / "1.jpg")[1] == 52.5
