"""Pictures that were cut short and closed again: an end marker, an end chunk, a length that fits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import PhotoError
from birdsearch.model.images.photo import load_photo
from birdsearch.model.images.scaling import Need

END = b"\xff\xd9"
WAYS: dict[str, dict[str, Any]] = {
    "4:2:0": {"quality": 90},
    "4:4:4": {"quality": 90, "subsampling": 0},
    "restarts": {"quality": 85, "restart_marker_rows": 1},
    "short restarts": {"quality": 85, "restart_marker_blocks": 3},
    "progressive": {"quality": 90, "progressive": True},
    "optimised": {"quality": 75, "optimize": True},
}
MODES = {"full": Need((32, 32), "full"), "scaled": Need((32, 32))}


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return coarse.resize((600, 440), Image.Resampling.BICUBIC).convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("way", "share"),
    # Nothing but lowest bits lacks in a progressive picture that was cut in its last pass.
    [(way, share) for way in WAYS for share in (0.33, 0.6, 0.9) if (way, share) != ("progressive", 0.9)],
)
def test_a_jpeg_that_was_cut_and_given_an_end_is_truncated(way: str, mode: str, share: float) -> None:
    whole = jpeg(picture(), **WAYS[way])
    assert load_photo(whole, need=MODES[mode]).size == (600, 440)
    with pytest.raises(PhotoError) as caught:
        load_photo(whole[: int(len(whole) * share)] + END, need=MODES[mode])
    assert (caught.value.stage, caught.value.code) == ("decode", "truncated")


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_pictures_without_three_colours_are_cut_likewise(mode: str) -> None:
    whole = jpeg(picture(mode), quality=90)
    load_photo(whole)
    with pytest.raises(PhotoError, match="cut short"):
        load_photo(whole[: len(whole) // 2] + END)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("colour", ["white", "black", "gray", (12, 200, 31)])
def test_a_picture_that_ends_in_one_colour_is_whole(way: str, colour: Any) -> None:
    framed = Image.new("RGB", (640, 512), colour)
    framed.paste(picture(), (0, 0))
    for image in (framed, Image.new("RGB", (640, 512), colour), Image.new("RGB", (17, 1), colour)):
        whole = jpeg(image, **WAYS[way])
        for need in MODES.values():
            assert load_photo(whole, need=need).size == image.size
            # What cameras put behind the end: other pictures, zeros, words.
            for tail in (bytes(3000), jpeg(picture(seed=3)), b"trailer \xff\xda\x00"):
                assert load_photo(whole + tail, need=need).size == image.size


def test_a_png_that_was_cut_and_given_its_end_is_truncated() -> None:
    stream = io.BytesIO()
    picture().save(stream, "PNG")
    data = stream.getvalue()
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    pixels = b"".join(content for kind, content in chunks if kind == b"IDAT")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    cut = data[:8] + chunk(*chunks[0]) + chunk(b"IDAT", pixels[: len(pixels) // 3]) + chunk(b"IEND", b"")
    with pytest.raises(PhotoError) as caught:
        load_photo(cut)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("options", [{"quality": 80}, {"lossless": True}], ids=["lossy", "lossless"])
def test_a_webp_that_was_cut_and_whose_lengths_fit_is_refused(options: dict[str, Any]) -> None:
    stream = io.BytesIO()
    picture().save(stream, "WEBP", **options)
    data = stream.getvalue()
    kept = len(data) // 3 & ~1
    cut = b"RIFF" + struct.pack("<I", kept - 8) + data[8:16] + struct.pack("<I", kept - 20) + data[20:kept]
    with pytest.raises(PhotoError) as caught:
        load_photo(cut)
    assert caught.value.stage == "decode"


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_tiff_whose_strips_were_cut_is_refused(compression: str) -> None:
    stream = io.BytesIO()
    picture().save(stream, "TIFF", compression=compression)
    data = bytearray(stream.getvalue())
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length, place = struct.unpack_from("<HHII", data, entry)
        if tag == 279 and length > 1:
            size = {3: 2, 4: 4}[kind]
            data[place + length // 3 * size : place + length * size] = bytes((length - length // 3) * size)
            break
    with pytest.raises(PhotoError) as caught:
        load_photo(bytes(data))
    assert caught.value.stage == "decode"
