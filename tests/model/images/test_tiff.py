"""TIFFs of every layout: right, or refused by name."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch.errors import PhotoError
from birdsearch.model.images.color import DISPLAY_P3
from birdsearch.model.images.photo import load_photo, open_photo

SEED = 20261130
HEIGHT, WIDTH = 20, 24
GREY_ZERO_WHITE, GREY, RGB, CMYK, YCBCR, LAB = 0, 1, 2, 5, 6, 8
IGNORED, PREMULTIPLIED, ALPHA = 0, 1, 2


def ramps(channels: int) -> NDArray[np.float64]:
    """(20, 24, channels) in 0..1, each channel another ramp."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    across, down = x / (WIDTH - 1), y / (HEIGHT - 1)
    return np.stack([across, down, (across + down) / 2, 1 - across, 1 - down][:channels], axis=-1)


def tiff(
    values: NDArray[np.float64],
    photometric: int,
    bits: int = 8,
    *,
    planar: bool = False,
    extra: Sequence[int] = (),
    order: str = "<",
    is_float: bool = False,
    tile: int | None = None,
    deflated: bool = False,
    compression: int | None = None,
    big: bool = False,
    profile: bytes = b"",
) -> bytes:
    """A TIFF of values in 0..1, (H, W, C)."""
    height, width, channels = values.shape
    kind = f"{order}f{bits // 8}" if is_float else f"{order}u{bits // 8}"
    scaled = values if is_float else np.rint(values * (2**bits - 1))
    planes = [scaled[:, :, [channel]] for channel in range(channels)] if planar else [scaled]
    blocks = []
    for plane in planes:
        side = (tile, tile) if tile else (height // 2, width)
        for top in range(0, height, side[0]):
            for left in range(0, width, side[1]):
                part = plane[top : top + side[0], left : left + side[1]]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)))
                blocks.append(part.astype(kind).tobytes())
    if deflated:
        blocks = [zlib.compress(block) for block in blocks]
    head = 16 if big else 8
    starts = [head + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [compression or (8 if deflated else 1)]),
        262: ("H", [photometric]),
        277: ("H", [channels]),
        284: ("H", [2 if planar else 1]),
        324 if tile else 273: ("I", starts),
        325 if tile else 279: ("I", [len(block) for block in blocks]),
        339: ("H", [3 if is_float else 1] * channels),
        **({322: ("I", [tile]), 323: ("I", [tile])} if tile else {278: ("I", [height // 2])}),
        **({338: ("H", extra)} if extra else {}),
        **({34675: ("B", profile)} if profile else {}),
    }
    data = b"".join(blocks)
    at = head + len(data)
    wide, long, rows = (8, "Q", "HHQ") if big else (4, "I", "HHI")
    behind = at + (8 if big else 2) + len(tags) * (20 if big else 12) + wide
    table, far = b"", b""
    for tag in sorted(tags):
        code, content = tags[tag]
        value = struct.pack(f"{order}{len(content)}{code}", *content)
        if len(value) > wide:
            value, far = struct.pack(order + long, behind + len(far)), far + value
        table += struct.pack(order + rows, tag, {"B": 7, "H": 3, "I": 4}[code], len(content)) + value.ljust(
            wide, b"\0"
        )
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    magic += struct.pack(order + "HHQ", 8, 0, at) if big else struct.pack(order + "I", at)
    return magic + data + struct.pack(order + ("Q" if big else "H"), len(tags)) + table + bytes(wide) + far


def expected(values: NDArray[np.float64], photometric: int, extra: Sequence[int]) -> NDArray[np.float64]:
    colours = {RGB: 3, CMYK: 4}.get(photometric, 1)
    colour, alpha = values[..., :colours], values[..., colours:]
    if photometric == CMYK:
        return 255 * (1 - colour[..., :3]) * (1 - colour[..., 3:])
    if photometric == GREY_ZERO_WHITE:
        colour = 1 - colour
    if tuple(extra[:1]) == (ALPHA,):
        colour = colour * alpha + 1 - alpha
    if tuple(extra[:1]) == (PREMULTIPLIED,):
        colour = np.minimum(colour, alpha) + 1 - alpha
    return np.broadcast_to(255 * colour, (HEIGHT, WIDTH, 3))


LAYOUTS = [
    (RGB, 3, ()),
    (RGB, 4, (ALPHA,)),
    (RGB, 4, (PREMULTIPLIED,)),
    (RGB, 4, (IGNORED,)),
    (CMYK, 4, ()),
    (GREY, 2, (ALPHA,)),
]


@pytest.mark.parametrize("stored", [{}, {"tile": 16}, {"deflated": True}, {"order": ">"}, {"big": True}])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("photometric", "channels", "extra"), LAYOUTS)
def test_separate_planes_are_joined(
    photometric: int, channels: int, extra: Sequence[int], bits: int, stored: dict[str, object]
) -> None:
    values = ramps(channels)
    data = tiff(values, photometric, bits, planar=True, extra=extra, **stored)  # type: ignore[arg-type]
    pixels = np.asarray(open_photo(data))
    assert np.abs(pixels - expected(values, photometric, extra)).max() <= 2


@pytest.mark.parametrize("extra", [(), (IGNORED,), (ALPHA,)])
def test_planes_have_the_colours_of_the_profile_of_their_file(extra: Sequence[int]) -> None:
    # Red of sRGB in Display P3.
    values = np.ones((HEIGHT, WIDTH, 3 + len(extra)))
    values[..., :3] = np.array((234, 51, 35)) / 255
    data = tiff(values, RGB, 16, planar=True, extra=extra, profile=DISPLAY_P3)
    assert np.abs(np.asarray(open_photo(data))[5, 5].astype(int) - (255, 0, 0)).max() <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("photometric", "channels", "extra"), LAYOUTS[:-1])
def test_interleaved_samples_are_read(
    photometric: int, channels: int, extra: Sequence[int], bits: int, order: str
) -> None:
    values = ramps(channels)
    pixels = np.asarray(open_photo(tiff(values, photometric, bits, extra=extra, order=order)))
    # Pillow rounds a premultiplied colour twice.
    assert np.abs(pixels - expected(values, photometric, extra)).max() <= 2.5


@pytest.mark.parametrize("stored", [{}, {"tile": 16}, {"deflated": True}, {"order": ">"}, {"big": True}])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_grey_whose_white_is_zero_is_no_negative(bits: int, stored: dict[str, object]) -> None:
    values = ramps(1)
    for is_float in (False, True) if bits == 32 and "order" not in stored else (False,):
        data = tiff(values, GREY_ZERO_WHITE, bits, is_float=is_float, **stored)  # type: ignore[arg-type]
        if bits == 32 and stored.get("order") == ">":
            assert "32-bit grey" in refused(data)
            continue
        pixels = np.asarray(open_photo(data))
        assert np.abs(pixels - expected(values, GREY_ZERO_WHITE, ())).max() <= 1


def test_32_bit_grey_has_no_sign_unless_it_says_so() -> None:
    pixels = np.asarray(open_photo(tiff(ramps(1), GREY, 32)))
    assert np.abs(pixels - expected(ramps(1), GREY, ())).max() <= 1


def refused(data: bytes) -> str:
    with pytest.raises(PhotoError) as caught:
        open_photo(data)
    assert (caught.value.stage, caught.value.code) == ("format", "unsupported-format")
    return caught.value.reason


def test_what_cannot_be_read_is_not_called_damaged() -> None:
    assert "32-bit RGB" in refused(tiff(ramps(3), RGB, 32))
    assert "32-bit RGB in separate planes" in refused(tiff(ramps(3), RGB, 32, planar=True))
    assert "32-bit floating-point RGB" in refused(tiff(ramps(3), RGB, 32, is_float=True))
    assert "16-bit floating-point grey" in refused(tiff(ramps(1), GREY, 16, is_float=True))
    assert "64-bit floating-point grey" in refused(tiff(ramps(1), GREY, 64, is_float=True))
    assert "16-bit CIELAB" in refused(tiff(ramps(3), LAB, 16))
    assert "8-bit CIELAB in separate planes" in refused(tiff(ramps(3), LAB, planar=True))
    assert "8-bit YCbCr in separate planes" in refused(tiff(ramps(3), YCBCR, planar=True))
    assert "16-bit grey and further channels" in refused(tiff(ramps(2), GREY, 16, extra=[ALPHA]))
    assert "JPEG 2000" in refused(tiff(ramps(3), RGB, compression=34712))
    assert "WebP" in refused(tiff(ramps(3), RGB, compression=50001))
    assert "save it as TIFF of 8 or 16 bits" in refused(tiff(ramps(3), RGB, 32))


def test_the_metadata_of_a_file_in_planes_is_kept() -> None:
    data = tiff(ramps(3), RGB, 16, planar=True)
    loaded = load_photo(data)
    assert (loaded.format, loaded.size) == ("TIFF", (WIDTH, HEIGHT))
    assert loaded.exif is not None
    assert loaded.exif.get(256) == WIDTH


@pytest.mark.parametrize("big", [False, True])
def test_damaged_planes_only_ever_end_in_a_photo_error(big: bool) -> None:
    generator = random.Random(SEED)
    whole = tiff(ramps(4), RGB, 16, planar=True, extra=[ALPHA], big=big, deflated=big)
    directory = len(whole) - 330
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 2, 6))):
            at = (
                generator.randrange(directory, len(data))
                if generator.random() < 0.8
                else generator.randrange(16)
            )
            data[at] = generator.choice((0, 1, 2, 255, generator.randrange(256)))
        if generator.random() < 0.2:
            del data[generator.randrange(len(data)) :]
        with contextlib.suppress(PhotoError):
            assert open_photo(bytes(data)).mode == "RGB"
