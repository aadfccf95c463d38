"""Colours: whatever profile a photo is stored with, it is the sRGB picture that is looked at."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from birdsearch.model.images.color import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB_CURVE,
    is_srgb,
    matrix_profile,
    source_profile,
)
from birdsearch.model.images.photo import load_photo, open_photo, upright_rgb
from birdsearch.model.images.resizing import resize_loaded
from birdsearch.model.images.scaling import Need

SEED = 20261130
D65, D50 = (0.3127, 0.3290), (0.34567, 0.35850)
REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
PROPHOTO = matrix_profile(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), D50), (1.8,))
WIDE = {"adobe": ADOBE_RGB, "p3": DISPLAY_P3, "prophoto": PROPHOTO}


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if name == "HEIF":
        pillow_heif.from_pillow(image).save(file, quality=-1, chroma=444, **options)
    else:
        exact: dict[str, dict[str, Any]] = {
            "JPEG": {"quality": 100, "subsampling": 0},
            "WEBP": {"lossless": True, "exact": True},
            "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        }
        image.save(file, name, **exact.get(name, {}), **options)
    return file.getvalue()


def picture(width: int = 96, height: int = 64, seed: int = SEED) -> Image.Image:
    """A smooth picture of muted colours, which every one of the profiles can hold."""
    rng = np.random.default_rng(seed)
    small = rng.integers(50, 200, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def stored_in(image: Image.Image, profile: bytes) -> Image.Image:
    """An sRGB picture as a file with a profile stores it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    assert converted is not None
    converted.info.clear()
    return converted


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def png(*rows: list[tuple[int, int, int]], extra: bytes = b"") -> bytes:
    """A PNG of RGB rows with chunks before its pixels."""
    raw = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# Colours that are published: red of sRGB in Display P3, green of sRGB in Adobe RGB.
@pytest.mark.parametrize(
    ("profile", "stored", "expected"),
    [
        (DISPLAY_P3, (234, 51, 35), (255, 0, 0)),
        (DISPLAY_P3, (255, 255, 255), (255, 255, 255)),
        (DISPLAY_P3, (128, 128, 128), (128, 128, 128)),
        (ADOBE_RGB, (144, 255, 60), (0, 255, 0)),
        (ADOBE_RGB, (219, 0, 0), (255, 0, 0)),
        (ADOBE_RGB, (0, 0, 0), (0, 0, 0)),
    ],
)
def test_known_colours_come_out_as_they_are(
    profile: bytes, stored: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    data = encode(Image.new("RGB", (3, 3), stored), "PNG", icc_profile=profile)
    assert np.abs(pixels(open_photo(data))[1, 1] - expected).max() <= 1


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("profile", WIDE)
def test_every_format_with_a_profile_gives_the_srgb_picture(profile: str, name: str) -> None:
    original = picture()
    stored = stored_in(original, WIDE[profile])
    data = encode(stored, name, icc_profile=WIDE[profile])
    assert np.abs(pixels(stored) - pixels(original)).mean() > 3
    shown = open_photo(data)
    # Eight bits of ProPhoto are coarser than those of sRGB.
    assert np.abs(pixels(shown) - pixels(original)).mean() < 1.5
    assert "icc_profile" not in shown.info


def table_curve() -> bytes:
    values = [round(65535 * to_linear(step / 1023)) for step in range(1024)]
    return b"curv" + struct.pack(">4xI1024H", 1024, *values)


def to_linear(value: float) -> float:
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)


def with_curve(profile: bytes, curve: bytes) -> bytes:
    """A profile whose three curves are another."""
    count = struct.unpack_from(">I", profile, 128)[0]
    table = bytearray(profile[132 : 132 + 12 * count])
    for number in range(count):
        if table[12 * number + 1 : 12 * number + 4] == b"TRC":
            table[12 * number + 4 : 12 * number + 12] = struct.pack(">II", len(profile), len(curve))
    whole = bytearray(profile[:132] + bytes(table) + profile[132 + len(table) :] + curve)
    whole[:4] = struct.pack(">I", len(whole))
    return bytes(whole)


SRGB: Mapping[str, Callable[[], bytes]] = {
    "of the library": srgb_profile,
    "of a formula": lambda: matrix_profile(REC709, SRGB_CURVE),
    "of a table": lambda: with_curve(matrix_profile(REC709, SRGB_CURVE), table_curve()),
}
BROKEN: Mapping[str, Callable[[], bytes]] = {
    "noise": lambda: random.Random(SEED).randbytes(700),
    "a letter": lambda: b"x",
    "cut short": lambda: DISPLAY_P3[:300],
    "of no size": lambda: DISPLAY_P3[:128] + bytes(200),
    "for another kind of colours": lambda: DISPLAY_P3[:16] + b"CMYK" + DISPLAY_P3[20:],
    "too large": lambda: DISPLAY_P3 + bytes(5 << 20),
}


@pytest.mark.parametrize("profile", SRGB)
def test_srgb_is_known_whoever_wrote_its_profile(profile: str) -> None:
    assert is_srgb(SRGB[profile]())


def test_what_is_nearly_srgb_is_not_taken_for_it() -> None:
    assert not is_srgb(matrix_profile(REC709, (2.2,)))
    assert not is_srgb(matrix_profile(REC709, (1.0,)))
    assert not any(is_srgb(profile) for profile in WIDE.values())


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("profile", [None, *SRGB, *BROKEN])
def test_without_a_profile_with_that_of_srgb_or_a_broken_one_pixels_stay_as_they_are(
    profile: str | None, name: str
) -> None:
    if (name, profile) == ("PNG", "too large"):
        # What unpacks to that much is no profile but a bomb, and is refused as one.
        return
    made = {**SRGB, **BROKEN}
    options = {} if profile is None else {"icc_profile": made[profile]()}
    data = encode(picture(), name, **options)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(open_photo(data)), expected)


def exif(space: int, index: str | None) -> Image.Exif:
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        tags.get_ifd(0x8769)[0xA005] = {1: index}
    return tags


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "AVIF"])
def test_a_camera_that_says_adobe_rgb_in_exif_alone_is_believed(name: str) -> None:
    original = picture()
    stored = stored_in(original, ADOBE_RGB)
    says = open_photo(encode(stored, name, exif=exif(0xFFFF, "R03").tobytes()))
    assert np.abs(pixels(says) - pixels(original)).mean() < 1.2
    for tags in (exif(0xFFFF, "R98"), exif(0xFFFF, None), exif(1, "R03")):
        plain = open_photo(encode(stored, name, exif=tags.tobytes()))
        assert np.abs(pixels(plain) - pixels(stored)).mean() < 1.2
    # A profile knows better.
    embedded = encode(original, name, exif=exif(0xFFFF, "R03").tobytes(), icc_profile=srgb_profile())
    assert np.abs(pixels(open_photo(embedded)) - pixels(original)).mean() < 1.2


GAMMA, SRGB_GAMMA = chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"gAMA", struct.pack(">I", 45_455))
P3_POINTS = chunk(b"cHRM", struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000))
SRGB_POINTS = chunk(
    b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
)


@pytest.mark.parametrize(
    ("extra", "stored", "expected"),
    [
        # Linear light: half of it is 188.
        (GAMMA, (128, 128, 128), (188, 188, 188)),
        (SRGB_GAMMA, (128, 64, 32), (128, 64, 32)),
        (SRGB_GAMMA + SRGB_POINTS, (128, 64, 32), (128, 64, 32)),
        (SRGB_GAMMA + P3_POINTS, (234, 51, 35), (255, 0, 0)),
        (P3_POINTS, (234, 51, 35), (234, 51, 35)),
        (chunk(b"sRGB", b"\0") + GAMMA, (128, 128, 128), (128, 128, 128)),
        (chunk(b"cICP", bytes((12, 13, 0, 1))), (234, 51, 35), (255, 0, 0)),
        (chunk(b"cICP", bytes((12, 13, 0, 1))) + chunk(b"sRGB", b"\0"), (234, 51, 35), (255, 0, 0)),
        (chunk(b"cICP", bytes((1, 13, 0, 1))), (234, 51, 35), (234, 51, 35)),
        (chunk(b"cICP", bytes((1, 8, 0, 1))), (128, 128, 128), (188, 188, 188)),
        # High dynamic range stays as it is stored.
        (chunk(b"cICP", bytes((9, 16, 0, 1))), (234, 51, 35), (234, 51, 35)),
        (chunk(b"gAMA", struct.pack(">I", 0)), (128, 64, 32), (128, 64, 32)),
        (GAMMA + chunk(b"cHRM", bytes(32)), (128, 64, 32), (128, 64, 32)),
    ],
)
def test_what_a_png_says_of_its_colours_is_heeded(
    extra: bytes, stored: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    shown = pixels(open_photo(png([stored] * 2, [stored] * 2, extra=extra)))
    assert np.abs(shown - expected).max() <= 1


@pytest.mark.parametrize("name", ["HEIF", "AVIF"])
def test_the_colour_box_of_heic_and_avif_is_heeded(name: str) -> None:
    data = encode(Image.new("RGB", (64, 64), (234, 51, 35)), name)
    at = data.index(b"colrnclx") + 8
    assert np.abs(pixels(open_photo(data))[32, 32] - (234, 51, 35)).max() <= 3
    for primaries, expected in ((12, (255, 0, 0)), (1, (234, 51, 35)), (2, (234, 51, 35))):
        changed = data[:at] + struct.pack(">HH", primaries, 13) + data[at + 4 :]
        assert np.abs(pixels(open_photo(changed))[32, 32] - expected).max() <= 4


# L*, a*, b* of each ink alone on white paper, and of two of them; black ink is far from black.
INKS: dict[tuple[int, ...], tuple[int, int, int]] = {
    (0, 0, 0, 0): (100, 0, 0),
    (1, 0, 0, 0): (58, -30, -42),
    (0, 1, 0, 0): (50, 65, -5),
    (0, 0, 1, 0): (88, -8, 75),
    (0, 0, 0, 1): (20, 0, 0),
}


def press_profile() -> bytes:
    """A CMYK profile of a table of two steps a channel: inks multiply on the way to their corner's colour."""
    table = b""
    for corner in range(16):
        ink = tuple(corner >> shift & 1 for shift in (3, 2, 1, 0))
        lab = np.array(INKS.get(ink, (30, 0, 0) if not ink[3] else (20, 0, 0)))
        table += bytes(np.rint([lab[0] * 2.55, lab[1] + 128, lab[2] + 128]).astype(np.uint8))
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if number % 4 == 0 else 0 for number in range(9)))
    lut = b"mft1" + struct.pack(">4x4B", 4, 3, 2, 0) + identity + ramp * 4 + table + ramp * 3
    white = b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    # The other way only black and white matter: from them the blackest black is found.
    inks = b"".join(bytes((0, 0, 0, 0 if corner >= 4 else 255)) for corner in range(8))
    back = b"mft1" + struct.pack(">4x4B", 3, 4, 2, 0) + identity + ramp * 3 + inks + ramp * 4
    start = 132 + 60
    rows = struct.pack(">4sII", b"wtpt", start, len(white))
    for name in (b"A2B0", b"A2B1"):
        rows += struct.pack(">4sII", name, start + len(white), len(lut))
    for name in (b"B2A0", b"B2A1"):
        rows += struct.pack(">4sII", name, start + len(white) + len(lut), len(back))
    lut += back
    size = start + len(white) + len(lut)
    head = (
        struct.pack(">I4sI", size, b"", 0x02400000)
        + b"prtrCMYKLab "
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + white[8:]
    )
    return head.ljust(128, b"\0") + struct.pack(">I", 5) + rows + white + lut


def seen(lab: tuple[int, int, int]) -> NDArray[np.float64]:
    """L*, a*, b* of D50 as sRGB, the blackest ink being black (ICC.1:2022, annexes A and E; BPC of ISO 18619)."""
    lightness = (lab[0] + 16) / 116
    parts = np.array([lightness + lab[1] / 500, lightness, lightness - lab[2] / 200])
    relative = np.where(parts > 6 / 29, parts**3, 3 * (6 / 29) ** 2 * (parts - 4 / 29))
    black = ((INKS[0, 0, 0, 1][0] + 16) / 116) ** 3
    xyz = (relative - black) / (1 - black) * (0.9642, 1, 0.8249)
    to_xyz = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    linear = np.clip(np.linalg.solve(to_xyz, xyz), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_cmyk_is_seen_as_its_press_prints_it(name: str, ink: tuple[int, ...]) -> None:
    image = Image.new("CMYK", (32, 32), tuple(255 * part for part in ink))
    shown = pixels(open_photo(encode(image, name, icc_profile=press_profile())))[16, 16]
    assert np.abs(shown - seen(INKS[ink])).max() <= 4
    plain = pixels(open_photo(encode(image, name)))[16, 16]
    assert np.abs(plain - pixels(image.convert("RGB"))[16, 16]).max() <= 2


def grey_profile(gamma: float) -> bytes:
    curve = b"curv" + struct.pack(">4xIH2x", 1, round(gamma * 256))
    white = b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    rows = struct.pack(">4sII4sII", b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    size = 156 + len(white) + len(curve)
    head = (
        struct.pack(">I4sI", size, b"", 0x02400000)
        + b"mntrGRAYXYZ "
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + white[8:]
    )
    return head.ljust(128, b"\0") + struct.pack(">I", 2) + rows + white + curve


@pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG"])
def test_grey_with_a_profile_of_its_own_is_converted(name: str) -> None:
    image = Image.new("L", (16, 16), 128)
    shown = pixels(open_photo(encode(image, name, icc_profile=grey_profile(1.0))))
    assert np.abs(shown[8, 8] - 188).max() <= 1
    # One for other colours means nothing.
    assert pixels(open_photo(encode(image, name, icc_profile=DISPLAY_P3)))[8, 8].tolist() == [128] * 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_photo_that_is_reduced_first_shows_the_same(name: str, orientation: int) -> None:
    original = picture(1201, 801)
    tags = Image.Exif()
    tags[274] = orientation
    need = Need((128, 128))
    shown = []
    for image, options in ((original, {}), (stored_in(original, DISPLAY_P3), {"icc_profile": DISPLAY_P3})):
        loaded = load_photo(encode(image, name, exif=tags.tobytes(), **options), need=need)
        assert loaded.size == ((1201, 801) if orientation in (1, 3) else (801, 1201))
        shown.append(loaded)
    plain, wide = (pixels(resize_loaded(loaded, (128, 128), exact=False)) for loaded in shown)
    assert np.abs(plain - wide).mean() < 0.7
    # Far fewer pixels than there are have to be converted.
    assert shown[1].image.width * shown[1].image.height < 1201 * 801 / 3.9


def test_an_image_in_memory_is_taken_by_its_profile_too() -> None:
    original = picture()
    stored = stored_in(original, ADOBE_RGB)
    stored.info["icc_profile"] = ADOBE_RGB
    before = stored.tobytes()
    assert np.abs(pixels(upright_rgb(stored)) - pixels(original)).mean() < 1
    assert stored.tobytes() == before


@pytest.mark.parametrize("kind", ["matrix", "press"])
def test_a_damaged_profile_never_loses_the_picture(kind: str) -> None:
    generator = random.Random(SEED)
    whole = DISPLAY_P3 if kind == "matrix" else press_profile()
    image = picture(16, 16) if kind == "matrix" else Image.new("CMYK", (16, 16), (9, 80, 120, 30))
    # A table of a press takes long to prepare.
    for _ in range(150 if kind == "matrix" else 30):
        profile = bytearray(whole)
        for _ in range(generator.choice((1, 3, 20))):
            profile[generator.randrange(len(profile))] = generator.randrange(256)
        data = encode(image, "TIFF", icc_profile=bytes(profile))
        assert open_photo(data).size == (16, 16)


def test_a_profile_is_only_found_where_colours_are_other_than_srgb() -> None:
    image = picture()
    assert source_profile(image) is None
    for profile in (srgb_profile(), b"", b"x"):
        image.info["icc_profile"] = profile
        assert source_profile(image) is None
    image.info["icc_profile"] = ADOBE_RGB
    assert source_profile(image) == ADOBE_RGB
