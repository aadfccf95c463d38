from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from birdsearch.errors import PhotoError
from birdsearch.model.images.photo import (
    SUFFIXES,
    UNREAD_SUFFIXES,
    PhotoLimits,
    load_photo,
    open_photo,
    read_photo,
)

SEED = 20240611
LIMITS = PhotoLimits()


def noise(width: int = 96, height: int = 64, channels: int = 3, seed: int = SEED) -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if name == "HEIF":
        pillow_heif.from_pillow(image).save(file, **options)
    else:
        image.save(file, name, **options)
    return file.getvalue()


def failure(data: bytes, limits: PhotoLimits = LIMITS, suffix: str = "") -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        open_photo(data, limits, suffix=suffix)
    return caught.value


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + png_chunk(b"IEND", b"")


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG in which one scan, a few bytes for the whole picture, comes again and again."""
    data = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + data[-2:]


def webp_of_size(width: int, height: int) -> bytes:
    """A lossless WebP of one colour: its pixels take no bits, so any size fits the same bytes."""
    data = bytearray(encode(Image.new("RGB", (16, 16), (9, 120, 200)), "WEBP", lossless=True, exact=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") & ~0xFFFFFFF
    data[at : at + 4] = (bits | (width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def dng(width: int = 64, height: int = 48, orientation: int = 1) -> bytes:
    """A small uncompressed DNG with a sensor mosaic, red light falling off to the right."""
    red = [60000 - 50000 * x // width for x in range(width)]
    rows = [[red[x] if (x % 2, y % 2) == (0, 0) else 9000 for x in range(width)] for y in range(height)]
    mosaic = b"".join(struct.pack(f"<{width}H", *row) for row in rows)
    identity = [part for at in range(9) for part in (1 if at % 4 == 0 else 0, 1)]
    entries: list[tuple[int, int, str, list[int] | bytes]] = [
        (254, 4, "I", [0]),
        (256, 4, "I", [width]),
        (257, 4, "I", [height]),
        (258, 3, "H", [16]),
        (259, 3, "H", [1]),
        (262, 3, "H", [32803]),
        (271, 2, "", b"Acme\0"),
        (272, 2, "", b"Acme One\0"),
        (273, 4, "I", [0]),
        (274, 3, "H", [orientation]),
        (277, 3, "H", [1]),
        (278, 4, "I", [height]),
        (279, 4, "I", [len(mosaic)]),
        (306, 2, "", b"2024:05:06 07:08:09\0"),
        (33421, 3, "H", [2, 2]),
        (33422, 1, "B", [0, 1, 1, 2]),
        (50706, 1, "B", [1, 4, 0, 0]),
        (50708, 2, "", b"Acme One\0"),
        (50717, 4, "I", [65535]),
        (50721, 10, "i", identity),
        (50728, 5, "I", [1, 1] * 3),
    ]
    table, extra = b"", b""
    base = 8 + 2 + 12 * len(entries) + 4
    packed = [
        values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{code}", *values)
        for _, _, code, values in entries
    ]
    end = base + sum(len(content) for content in packed if len(content) > 4)
    for (tag, kind, _, values), content in zip(entries, packed, strict=True):
        count = len(values) // 2 if kind in (5, 10) else len(values)
        if tag == 273:
            content = struct.pack("<I", end)
        if len(content) > 4:
            content, extra = struct.pack("<I", base + len(extra)), extra + content
        table += struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4) + extra + mosaic


# What is no picture


def test_an_empty_file_is_recorded_as_empty() -> None:
    error = failure(b"")
    assert (error.stage, error.code, error.transient) == ("format", "empty", False)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404 not found</body></html>",
        b"\n\n  <html>",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\xc5\xd0\xd3\xc6" + bytes(40),
        b"just some words",
        b"\0" * 100,
        b"\x7fELF" + bytes(range(200)),
        b"%PDF-1.7\n",
        struct.pack(">I", 24) + b"ftypmp42" + bytes(12),
    ],
)
def test_what_is_no_picture_is_refused_by_its_content(content: bytes) -> None:
    error = failure(content, suffix=".jpg")
    assert (error.stage, error.code) == ("format", "not-a-picture")


def test_an_eps_file_named_jpg_starts_no_interpreter() -> None:
    eps = encode(Image.new("RGB", (8, 8)), "EPS")
    assert failure(eps, suffix=".jpg").code == "not-a-picture"


def test_a_known_format_that_is_not_read_is_named() -> None:
    error = failure(encode(noise(), "JPEG2000"), suffix=".jp2")
    assert (error.stage, error.code) == ("format", "unsupported-format")
    assert "JPEG 2000" in error.reason


def test_a_suffix_stands_for_one_format() -> None:
    assert not set(SUFFIXES) & set(UNREAD_SUFFIXES)
    assert all(
        suffix == suffix.lower() and suffix.startswith(".") for suffix in {**SUFFIXES, **UNREAD_SUFFIXES}
    )


# Damage

FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "HEIF", "AVIF"]


@pytest.mark.parametrize("share", [0.4, 0.9])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_early_is_recorded_as_truncated(name: str, share: float) -> None:
    data = encode(noise(), name)
    assert open_photo(data).size == (96, 64)
    error = failure(data[: int(len(data) * share)])
    assert (error.stage, error.code) == ("decode", "truncated")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_compressed_tiff_that_ends_early_is_recorded_as_truncated(compression: str) -> None:
    data = encode(noise(), "TIFF", compression=compression)
    assert open_photo(data).size == (96, 64)
    assert failure(data[: len(data) // 2]).code == "truncated"


def test_a_damaged_checksum_is_recorded_as_corrupt() -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[20] ^= 1
    assert failure(bytes(data)).code == "corrupt"


@pytest.mark.parametrize("name", [*FORMATS, "DNG"])
def test_random_damage_only_ever_ends_in_a_photo_error(name: str) -> None:
    pristine = dng(16, 16) if name == "DNG" else encode(noise(24, 16), name)
    limits = PhotoLimits(max_pixels=1_000_000, deadline_s=5)
    rng = random.Random(f"{SEED} {name}")
    print(f"seed {SEED} {name}")
    for _ in range(120):
        data = bytearray(pristine)
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            # Headers are where the damage does most.
            data[rng.randrange(min(len(data), rng.choice([64, 512, len(data)])))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        with contextlib.suppress(PhotoError):
            assert open_photo(bytes(data), limits).mode == "RGB"


# Bombs


def test_more_pixels_than_the_limit_are_refused_before_decoding() -> None:
    data = encode(noise(100, 80), "PNG")
    assert open_photo(data, PhotoLimits(max_pixels=8000)).size == (100, 80)
    error = failure(data, PhotoLimits(max_pixels=7999))
    assert (error.stage, error.code) == ("decode", "too-many-pixels")
    assert "100 x 80 = 8000" in error.reason
    assert "7999" in error.reason


@pytest.mark.parametrize("times", [0.5, 1.5, 2.5])
def test_the_limit_on_pixels_does_not_depend_on_pillows_own(times: float) -> None:
    pillows = Image.MAX_IMAGE_PIXELS
    assert pillows is not None
    side = int((times * pillows) ** 0.5)
    data = png(side, side, 1, 0, b"")
    limits = PhotoLimits(max_pixels=side * side - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert failure(data, limits).code == "too-many-pixels"
        # Within the limit the size is no objection, and that there are no pixels is.
        assert failure(data, PhotoLimits(max_pixels=side * side)).code == "truncated"
    assert pillows == Image.MAX_IMAGE_PIXELS


def test_a_tiny_webp_with_a_huge_canvas_is_refused() -> None:
    assert open_photo(webp_of_size(640, 480)).getextrema() == ((9, 9), (120, 120), (200, 200))
    bomb = webp_of_size(16383, 16383)
    assert len(bomb) < 1000
    assert failure(bomb).code == "too-many-pixels"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not hold to the limit on address space")
def test_a_huge_canvas_is_refused_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.webp"
    bomb.write_bytes(webp_of_size(12000, 12000))
    code = """
import resource, sys
from birdsearch.errors import PhotoError
from birdsearch.model.images.photo import PhotoLimits, open_photo, read_photo
resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
try:
    open_photo(read_photo(sys.argv[1]), PhotoLimits(max_pixels=100_000_000))
except PhotoError as error:
    print(error.code)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "too-many-pixels\n"


def test_a_header_that_declares_65500_by_65500_is_refused() -> None:
    data = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    assert failure(bytes(data)).code == "too-many-pixels"
    assert failure(bytes(data[: at + 20])).code in ("too-many-pixels", "truncated")


def test_a_scan_bomb_ends_at_the_deadline() -> None:
    bomb = scan_bomb(2000, 40_000)
    assert len(bomb) < 2_000_000
    start = time.monotonic()
    error = failure(bomb, PhotoLimits(deadline_s=0.4))
    assert (error.stage, error.code) == ("decode", "deadline")
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_that_unpacks_to_too_much_is_refused(kind: bytes) -> None:
    packed = zlib.compress(bytes(8_000_000), 9)
    between = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
    data = png(4, 4, 8, 0, bytes(5) * 4, png_chunk(kind, between + packed))
    assert failure(data).code == "text-bomb"


# Extras


def test_heic_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(noise(), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = failure(data)
    assert (error.stage, error.code, error.transient) == ("format", "needs-extra", True)
    assert "pip install 'birdsearch[heic]'" in error.reason


def test_raw_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for data, suffix in ((dng(), ""), (encode(noise(), "TIFF"), ".nef")):
        error = failure(data, suffix=suffix)
        assert (error.stage, error.code, error.transient) == ("format", "needs-extra", True)
        assert "pip install 'birdsearch[raw]'" in error.reason


def test_a_raw_file_is_developed_from_the_sensors_data() -> None:
    pytest.importorskip("rawpy")
    loaded = load_photo(dng())
    pixels = np.asarray(loaded.image).astype(int)
    assert (loaded.format, pixels.shape) == ("RAW", (48, 64, 3))
    assert pixels[:, 8, 0].mean() > pixels[:, 56, 0].mean() + 20
    assert open_photo(dng(orientation=6)).size == (48, 64)


def test_a_large_raw_file_is_developed_at_half_its_size() -> None:
    pytest.importorskip("rawpy")
    assert open_photo(dng(1200, 1024)).size == (600, 512)


def test_a_raw_file_is_bounded_and_may_end_early() -> None:
    pytest.importorskip("rawpy")
    assert failure(dng(), PhotoLimits(max_pixels=3000)).code == "too-many-pixels"
    assert failure(dng()[:4000]).code == "truncated"
    assert failure(encode(noise(), "TIFF"), suffix=".nef").code == "unsupported-format"


# What is left behind


def test_pillows_warnings_are_silent_and_the_filters_stay_as_they_were() -> None:
    # An animation of no frames: Pillow warns, and takes the picture.
    data = png(4, 4, 8, 0, bytes(5) * 4, png_chunk(b"acTL", bytes(8)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data)).close()
        assert len(seen) == 1
        before = list(warnings.filters)
        threads = [threading.Thread(target=open_photo, args=(data,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before
    assert len(seen) == 1


def test_a_photo_keeps_no_file_behind_it() -> None:
    image = open_photo(encode(noise(), "PNG"))
    assert type(image) is Image.Image
    assert image.resize((5, 5)).size == (5, 5)


@pytest.mark.photos
def test_no_photo_of_a_real_collection_ends_in_anything_but_a_photo_error() -> None:
    folder = os.environ.get("BIRDSEARCH_TEST_PHOTOS")
    if not folder:
        pytest.skip("BIRDSEARCH_TEST_PHOTOS names no folder of photos")
    opened = failed = 0
    for name in ("hard", "heic", "camera", "orientation"):
        for file in sorted((Path(folder) / name).iterdir()):
            try:
                assert open_photo(read_photo(file), suffix=file.suffix).mode == "RGB"
                opened += 1
            except PhotoError:
                failed += 1
    assert opened > 300
    assert failed < opened / 5
