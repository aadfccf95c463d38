"""Photos in other colour spaces than sRGB, in the catalog."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.options import IndexOptions
from birdsearch.indexer.pipeline import IndexSummary, index_archive
from birdsearch.model.images.color import ADOBE_RGB, DISPLAY_P3
from birdsearch.model.images.decode import decode_photo
from tests.model.images.test_raw_exif import mrw

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

SEED = 20261130


def scene(seed: int = SEED, size: tuple[int, int] = (300, 200)) -> Image.Image:
    small = np.random.default_rng(seed).integers(40, 210, (18, 26, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BOX)


def encode(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=97, subsampling=0, **options)
    return file.getvalue()


def stored_in(image: Image.Image, profile: bytes) -> bytes:
    """An sRGB picture as a camera that is set to another colour space stores it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    assert converted is not None
    return encode(converted, icc_profile=profile)


@pytest.mark.parametrize("decode", ["scaled", "full", "preview"])
@pytest.mark.parametrize("profile", [ADOBE_RGB, DISPLAY_P3], ids=["adobe", "p3"])
def test_pixels_hash_and_sharpness_are_those_of_the_srgb_picture(profile: bytes, decode: str) -> None:
    plain, wide = (
        decode_photo(data, input_size=(64, 64), decode=decode)
        for data in (encode(scene()), stored_in(scene(), profile))
    )
    assert np.abs(plain.pixels.astype(int) - wide.pixels).mean() < 1
    assert (int.from_bytes(plain.phash) ^ int.from_bytes(wide.phash)).bit_count() <= 2
    assert wide.sharpness == pytest.approx(plain.sharpness, rel=0.02)


# Catalogs from before colours, planes and RAW metadata were read right


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture
def run(catalog: Path, tiny_model: Model) -> Callable[[Path], IndexSummary]:
    def index(folder: Path) -> IndexSummary:
        with CatalogStore.open(catalog, "create") as store:
            return index_archive(store, tiny_model, [folder], IndexOptions(workers=1, batch_size=4))

    return index


def age(catalog: Path, folder: Path, *statements: str) -> None:
    """Make a catalog say what one of the first reading says of the same files."""
    connection = sqlite3.connect(catalog / "birdsearch.sqlite")
    connection.create_function(
        "sha256", 1, lambda path: sha256((folder / os.fsdecode(path)).read_bytes()).digest()
    )
    of_file = "(SELECT file.digest FROM file WHERE file.photo_id = photo.id)"
    for statement in (
        "UPDATE file SET reading = 0, capture = NULL, digest = sha256(path)",
        f"UPDATE photo SET reading = 0, rendering = NULL, digest = {of_file}",
        *statements,
    ):
        connection.execute(statement)
    connection.commit()
    connection.close()


def embedded_by(catalog: Path, run_id: int) -> set[str]:
    connection = sqlite3.connect(catalog / "birdsearch.sqlite")
    found = connection.execute(
        "SELECT file.path FROM embedding JOIN view ON view.id = view_id"
        " JOIN file ON file.photo_id = view.photo_id WHERE embedding.run_id = ?",
        (run_id,),
    ).fetchall()
    connection.close()
    return {os.fsdecode(path) for (path,) in found}


def test_only_photos_that_are_seen_otherwise_now_are_embedded_again(
    run: Callable[[Path], IndexSummary], catalog: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    camera = Image.Exif()
    camera.get_ifd(0x8769)[0xA001] = 0xFFFF
    camera.get_ifd(0x8769)[0xA005] = {1: "R03"}
    (folder / "plain.jpg").write_bytes(encode(scene(1)))
    (folder / "srgb.jpg").write_bytes(encode(scene(2), icc_profile=srgb))
    (folder / "p3.jpg").write_bytes(stored_in(scene(3), DISPLAY_P3))
    (folder / "camera.jpg").write_bytes(encode(scene(4), exif=camera.tobytes()))
    scene(5).save(folder / "plain.tif")
    Image.fromarray(np.asarray(scene(7).convert("L"), np.int32)).save(folder / "scan.tif")
    scene(6).save(folder / "plain.png")
    assert run(folder).embedded == 7
    assert run(folder).unchanged == 7
    age(catalog, folder)
    summary = run(folder)
    assert embedded_by(catalog, 3) == {"p3.jpg", "camera.jpg", "scan.tif"}
    assert (summary.embedded, summary.new, sum(summary.failed.values())) == (3, 0, 0)
    # Once only.
    assert (run(folder).embedded, run(folder).unchanged) == (0, 7)


def test_a_raw_file_of_an_old_catalog_gets_its_metadata_and_is_not_embedded_again(
    run: Callable[[Path], IndexSummary], catalog: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rawpy")
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "a.mrw").write_bytes(mrw({271: "Minolta", 272: "DiMAGE A2"}))
    assert run(folder).embedded == 1
    age(catalog, folder, "UPDATE photo SET captured_at = NULL, camera = NULL, lens = NULL, latitude = NULL")
    assert run(folder).embedded == 0
    with CatalogStore.open(catalog) as store:
        photo = store.photos([1])[1]
    assert (photo.captured_at, photo.camera) == ("2024-05-06T07:08:09.250000", "Minolta DiMAGE A2")
    assert (photo.lens, photo.latitude) == ("AF 600mm f/4", -34.5)


def test_a_file_that_an_older_reading_could_not_read_is_tried_once_more(
    run: Callable[[Path], IndexSummary], catalog: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "plain.jpg").write_bytes(encode(scene(1)))
    (folder / "cut.jpg").write_bytes(encode(scene(2))[:2000])
    assert run(folder).failed == {"truncated": 1}
    scene(3).save(folder / "scan.tif")
    run(folder)
    # As if that TIFF had been called damaged.
    age(
        catalog,
        folder,
        "UPDATE file SET state = 'error', stage = 'decode', code = 'corrupt', reason = 'damaged', transient = 0,"
        " photo_id = NULL, digest = NULL WHERE path = CAST('scan.tif' AS BLOB)",
    )
    assert run(folder).failed == {"truncated": 1}
    with CatalogStore.open(catalog) as store:
        assert [Path(os.fsdecode(failure.path)).name for failure in store.failures()] == ["cut.jpg"]
