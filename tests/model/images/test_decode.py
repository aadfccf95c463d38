from __future__ import annotations

import hashlib
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from birdsearch.errors import PhotoError
from birdsearch.model.images.decode import decode_photo, digest_file, perceptual_hash, read_file, sharpness
from birdsearch.model.images.photo import PhotoLimits, open_photo
from birdsearch.model.images.resizing import resize

SEED = 20240613
SIZE = (32, 48)
LIMITS = PhotoLimits()


@dataclass(frozen=True)
class Seen:
    size: int
    mtime_ns: int


def seen(path: Path) -> Seen:
    status = path.stat()
    return Seen(status.st_size, status.st_mtime_ns)


def scene(width: int = 600, height: int = 400, seed: int = SEED) -> Image.Image:
    """Smooth blobs with edges: something like a photo."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, name: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


# Decoding


def test_a_photo_is_decoded_for_the_network_and_measured() -> None:
    tags = Image.Exif()
    tags[274], tags[272], tags[306] = 6, "Acme One", "2023:05:06 07:08:09"
    data = encode(scene(), exif=tags)
    photo = decode_photo(data, input_size=SIZE, limits=LIMITS, decode="full")
    upright = open_photo(data)
    assert (photo.format, photo.width, photo.height) == ("JPEG", 400, 600)
    assert photo.pixels.shape == (*SIZE, 3)
    assert photo.pixels.dtype == np.uint8
    np.testing.assert_array_equal(photo.pixels, resize(upright, SIZE))
    assert photo.capture.camera == "Acme One"
    assert photo.capture.captured_at == "2023-05-06T07:08:09"
    assert photo.phash == perceptual_hash(upright)
    assert photo.sharpness == sharpness(upright)


def test_all_orientations_give_the_same_photo() -> None:
    # What the camera stores is the upright picture turned the other way.
    stored_by = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = scene(60, 40)
    photos = []
    for orientation in range(1, 9):
        stored = image.transpose(stored_by[orientation]) if orientation in stored_by else image
        tags = Image.Exif()
        tags[274] = orientation
        photos.append(decode_photo(encode(stored, "PNG", exif=tags), input_size=SIZE, limits=LIMITS))
    for photo in photos:
        np.testing.assert_array_equal(photo.pixels, photos[0].pixels)
        assert (photo.phash, photo.sharpness) == (photos[0].phash, photos[0].sharpness)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 20000), (20000, 1)])
def test_extreme_sizes_are_decoded(size: tuple[int, int]) -> None:
    photo = decode_photo(encode(Image.new("RGB", size, (9, 9, 9)), "PNG"), input_size=SIZE, limits=LIMITS)
    assert (photo.width, photo.height) == size
    assert photo.pixels.shape == (*SIZE, 3)
    assert (photo.phash, photo.sharpness) == (bytes(8), 0.0)


def test_what_is_no_photo_is_a_photo_error() -> None:
    with pytest.raises(PhotoError, match="text"):
        decode_photo(b"<html>", input_size=SIZE, limits=LIMITS)


def test_the_sha256_of_a_file_is_taken_where_it_is_asked_for() -> None:
    assert digest_file(b"abc").sha256 is None
    assert digest_file(b"abc", sha256=True).sha256 == hashlib.sha256(b"abc").digest()


# Measures


def naive_hash(image: Image.Image) -> bytes:
    grey = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC).convert("L"), float)
    means = np.array(
        [[grey[y : y + 8, x : x + 8].mean() for x in range(0, 256, 8)] for y in range(0, 256, 8)]
    )
    place = np.arange(32)
    block = [
        [
            2
            / 32
            * (
                means
                * np.outer(np.cos(np.pi * (2 * place + 1) * v / 64), np.cos(np.pi * (2 * place + 1) * u / 64))
            ).sum()
            for u in range(1, 9)
        ]
        for v in range(1, 9)
    ]
    values = np.round(np.array(block).ravel(), 3)
    return int("".join("1" if value > np.median(values) else "0" for value in values), 2).to_bytes(8)


def naive_sharpness(image: Image.Image) -> float:
    grey = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC).convert("L"), float)
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return float(laplacian.var())


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_what_its_definition_says(seed: int) -> None:
    image = scene(400, 300, seed)
    assert perceptual_hash(image) == naive_hash(image)


@pytest.mark.parametrize("seed", range(5))
def test_copies_share_their_hash_and_other_pictures_do_not(seed: int) -> None:
    image = scene(1600, 1200, seed)
    copies = [
        Image.open(io.BytesIO(encode(image, quality=40))),
        image.resize((400, 300)),
        image.resize((3000, 2250)),
        image.point([min(255, int(value * 1.1)) for value in range(256)] * 3),
    ]
    assert max(distance(perceptual_hash(image), perceptual_hash(copy.convert("RGB"))) for copy in copies) <= 8
    other = scene(1600, 1200, seed + 100)
    assert distance(perceptual_hash(image), perceptual_hash(other)) > 16


def test_a_flat_picture_hashes_to_zeros() -> None:
    for value in (0, 77, 255):
        assert perceptual_hash(Image.new("RGB", (300, 200), (value,) * 3)) == bytes(8)


def test_blur_lowers_sharpness_and_size_hardly_changes_it() -> None:
    rng = np.random.default_rng(SEED)
    image = Image.fromarray(rng.integers(0, 256, (1500, 2048, 3), dtype=np.uint8)).filter(
        ImageFilter.GaussianBlur(1.5)
    )
    blurred = [sharpness(image.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 2, 5, 10)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[-1] < blurred[0] / 4
    assert sharpness(image.reduce(2)) == pytest.approx(blurred[0], rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_sharpness_is_the_variance_of_the_laplacian(seed: int) -> None:
    rng = np.random.default_rng([SEED, seed])
    image = Image.fromarray(rng.integers(0, 256, (90, 70 + seed, 3), dtype=np.uint8))
    assert sharpness(image) == pytest.approx(naive_sharpness(image), rel=1e-12)


# Reading


def test_a_file_as_the_crawl_saw_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"abc" * 1000)
    assert read_file(os.fsencode(file), seen(file)) == b"abc" * 1000


def reading_fails(path: Path | str, expected: Seen) -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        read_file(os.fsencode(path), expected)
    assert caught.value.stage == "read"
    return caught.value


def test_a_file_that_changed_since_the_crawl_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"abc")
    before = seen(file)
    for content, later in ((b"abcd", before.mtime_ns), (b"abd", before.mtime_ns + 1)):
        file.write_bytes(content)
        os.utime(file, ns=(later, later))
        error = reading_fails(file, before)
        assert (error.code, error.transient) == ("changed", True)


def test_a_file_that_vanished_is_recorded_as_vanished(tmp_path: Path) -> None:
    error = reading_fails(tmp_path / "gone.jpg", Seen(3, 0))
    assert (error.code, error.transient) == ("vanished", True)


def test_a_fifo_in_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert reading_fails(tmp_path / "a.jpg", Seen(0, 0)).code == "not-a-file"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that gives I/O errors")
def test_an_io_error_is_tried_again_and_then_recorded() -> None:
    # Address 0 is not mapped, and reading it from this file is an I/O error.
    start = time.monotonic()
    error = reading_fails("/proc/self/mem", Seen(0, 0))
    assert (error.code, error.transient) == ("io-error", True)
    assert 0.2 < time.monotonic() - start < 5
