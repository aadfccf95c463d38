from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from birdsearch.model.images.photo import load_photo, open_photo

SEED = 20240615
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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


def plain(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + png_chunk(b"IEND", b"")


# Modes


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_a_plain_jpeg_gives_exactly_what_pillow_gives(options: dict[str, Any]) -> None:
    data = encode(noise(333, 217).resize((640, 480)), "JPEG", **options)
    np.testing.assert_array_equal(np.asarray(open_photo(data)), plain(data))


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (noise(channels=1), "JPEG"),
        (noise(channels=4).convert("RGB").convert("CMYK"), "JPEG"),
        (noise(channels=4).convert("RGB").convert("CMYK"), "TIFF"),
        (noise().convert("P"), "PNG"),
        (noise().quantize(16), "PNG"),
        (noise().convert("1"), "PNG"),
        (noise().convert("1"), "TIFF"),
        (noise().convert("YCbCr"), "TIFF"),
        (noise().convert("P"), "GIF"),
        (noise(), "BMP"),
        (noise(), "WEBP"),
        (noise(), "AVIF"),
    ],
)
def test_other_modes_give_what_pillow_gives(image: Image.Image, name: str) -> None:
    data = encode(image, name)
    np.testing.assert_array_equal(np.asarray(open_photo(data)), plain(data))


def test_heic_gives_what_the_plugin_gives() -> None:
    data = encode(noise(), "HEIF")
    expected = np.asarray(pillow_heif.open_heif(data).to_pillow().convert("RGB"))
    np.testing.assert_array_equal(np.asarray(open_photo(data)), expected)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(name: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65534, 65535]], np.uint16)
    pixels = np.asarray(open_photo(encode(Image.fromarray(values), name)))
    expected = [0, 0, 1, 1, 128, 255, 255]
    for channel in range(3):
        assert pixels[0, :, channel].tolist() == expected


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    row = struct.pack(">6H", 0x1234, 0xFFFF, 0x8000, 0x00FF, 0x7F01, 0xA0B0)
    assert np.asarray(open_photo(png(2, 1, 16, 2, b"\0" + row))).tolist() == [
        [[0x12, 0xFF, 0x80], [0x00, 0x7F, 0xA0]]
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 8, 200]], np.float32), [0, 8, 200]),
        (np.array([[-1, 0, 3]], np.float32), [0, 64, 255]),
        (np.array([[np.nan, np.inf, 1]], np.float32), [0, 0, 255]),
        (np.array([[-5, -5, -5]], np.float32), [0, 0, 0]),
    ],
)
def test_32_bit_grey_is_scaled_by_what_it_holds(values: np.ndarray, expected: list[int]) -> None:
    pixels = np.asarray(open_photo(encode(Image.fromarray(values), "TIFF")))
    assert pixels[0, :, 1].tolist() == expected


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_put_on_white(name: str) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (0, 255, 0, 0), (0, 0, 0, 127)])
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    pixels = np.asarray(open_photo(encode(image, name, **options)))
    assert pixels.tolist() == [[[255, 0, 0], [255, 255, 255], [128, 128, 128]]]


def test_grey_with_transparency_is_put_on_white() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(10, 255), (10, 0)])
    assert np.asarray(open_photo(encode(image, "PNG"))).tolist() == [[[10] * 3, [255] * 3]]


def test_a_palette_with_transparency_is_put_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    for name in ("PNG", "GIF"):
        data = encode(image, name, transparency=1)
        assert np.asarray(open_photo(data)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    image = noise().convert("RGBA")
    np.testing.assert_array_equal(np.asarray(open_photo(encode(image, "PNG"))), np.asarray(noise()))


def test_lab_is_converted_by_its_colours() -> None:
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (4, 4), (200, 30, 60)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    pixels = np.asarray(open_photo(encode(lab, "TIFF"))).astype(int)
    assert np.abs(pixels - [200, 30, 60]).max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_extreme_sizes_are_read(size: tuple[int, int], name: str) -> None:
    assert open_photo(encode(noise(*size), name)).size == size


# Orientation and EXIF


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photo_is_turned_upright(name: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    image = noise(40, 24)
    expected = Image.fromarray(plain(encode(image, name, **options)))
    if orientation in TURNS:
        expected = expected.transpose(TURNS[orientation])
    upright = open_photo(encode(image, name, exif=exif(orientation), **options))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["HEIF", "AVIF"])
def test_a_photo_that_its_container_turns_is_not_turned_twice(name: str, orientation: int) -> None:
    # Four flat quarters survive the compression.
    quarters = np.zeros((64, 96, 3), np.uint8)
    quarters[:32, 48:] = (250, 20, 20)
    quarters[32:, :48] = (20, 250, 20)
    quarters[32:, 48:] = (240, 240, 240)
    image = Image.fromarray(quarters)
    expected = image.transpose(TURNS[orientation]) if orientation in TURNS else image
    upright = open_photo(encode(image, name, exif=exif(orientation), quality=95))
    assert upright.size == expected.size
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(expected)).mean() < 8


@pytest.mark.parametrize(
    "broken",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(200)),
        b"Exif\0\0" + bytes(range(256)),
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0",
    ],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_lose_the_photo(name: str, broken: bytes) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    image = noise(32, 16)
    pixels = np.asarray(open_photo(encode(image, name, exif=broken, **options)))
    np.testing.assert_array_equal(pixels, plain(encode(image, name, **options)))


# More than one picture in a file


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_many_frames_the_first_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (32, 16), colour) for colour in ((200, 10, 10), (10, 200, 10), (10, 10, 200))]
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    loaded = load_photo(data)
    assert loaded.format == ("JPEG" if name == "MPO" else name)
    assert np.abs(np.asarray(loaded.image).astype(int) - [200, 10, 10]).max() <= 3


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0, (200, 100, 50)), (255, (200, 100, 50)), (51, (244, 224, 214))]
)
def test_the_alpha_of_a_bmp_that_is_zero_everywhere_means_nothing(
    alpha: int, expected: tuple[int, int, int]
) -> None:
    pixels = bytes((50, 100, 200, alpha)) * 6
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 3, 2, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + bytes(52)
    start = 14 + len(header)
    data = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels
    assert np.asarray(open_photo(data)).reshape(-1, 3).tolist() == [list(expected)] * 6
