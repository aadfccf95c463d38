"""The camera's own preview: taken if it will do, and never trusted."""

from __future__ import annotations

import io
import struct
import types
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from birdsearch.errors import PhotoError
from birdsearch.model.images.color import DISPLAY_P3
from birdsearch.model.images.photo import LoadedPhoto, PhotoLimits, load_photo
from birdsearch.model.images.preview import decode_preview
from birdsearch.model.images.raw import _preview
from birdsearch.model.images.resizing import resize, resize_loaded
from birdsearch.model.images.scaling import Need

SEED = 20261128
SIZE = (64, 64)
LIMITS = PhotoLimits()
# "Large thumbnail, VGA" and "undefined" (CIPA DC-007, table 4).
THUMBNAIL, UNDEFINED = 0x00010001, 0x00000000
WIDTH, HEIGHT = 1200, 800
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(width: int = WIDTH, height: int = HEIGHT, red: int = 40) -> Image.Image:
    rng = np.random.default_rng(SEED)
    small = rng.integers(0, 200, (9, 13, 3), dtype=np.uint8)
    small[..., 0] = red
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, orientation: int | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    tags = Image.Exif()
    if orientation is not None:
        tags[274] = orientation
    image.save(file, "JPEG", **{"quality": 90, "exif": tags, **options})
    return file.getvalue()


def with_preview(photo: bytes, preview: bytes, kind: int = THUMBNAIL) -> bytes:
    """A JPEG with another behind it that an MPF segment names."""
    entries = 8 + 2 + 3 * 12 + 4
    length = 4 + entries + 32
    total = len(photo) + 4 + length
    directory = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, 2)
    directory += struct.pack("<HHII", 0xB002, 7, 32, entries)
    # The byte order mark, from which offsets count, is 10 bytes into the file.
    places = struct.pack("<IIIHH", 0x20030000, total, 0, 0, 0)
    places += struct.pack("<IIIHH", kind, len(preview), total - 10, 0, 0)
    body = b"MPF\0II\x2a\0" + struct.pack("<IH", 8, 3) + directory + bytes(4) + places
    return photo[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + photo[2:] + preview


def loaded(data: bytes, limits: PhotoLimits = LIMITS, **need: Any) -> LoadedPhoto:
    return load_photo(data, limits, need=Need(SIZE, "preview", **need))


def redness(photo: LoadedPhoto) -> float:
    return float(np.asarray(resize_loaded(photo, SIZE, exact=False))[..., 0].mean())


# A preview of another red, so that it shows which of the two was decoded.
PREVIEW = jpeg(picture(360, 240, red=220))


def test_a_preview_that_will_do_is_decoded_instead() -> None:
    photo = loaded(with_preview(jpeg(picture()), PREVIEW))
    assert (photo.decoded, photo.size, photo.format) == ("preview", (WIDTH, HEIGHT), "JPEG")
    assert redness(photo) > 200


def test_only_who_asks_for_it_gets_it() -> None:
    data = with_preview(jpeg(picture()), PREVIEW)
    for mode in ("scaled", "full"):
        assert redness(load_photo(data, need=Need(SIZE, mode))) < 60
    assert redness(load_photo(data)) < 60


def test_a_preview_is_turned_as_the_photo_is() -> None:
    stored = picture().transpose(Image.Transpose.ROTATE_90)
    preview = jpeg(stored.resize((240, 360)))
    photo = loaded(with_preview(jpeg(stored, 6), preview))
    assert (photo.decoded, photo.size) == ("preview", (WIDTH, HEIGHT))
    whole = resize(picture(), SIZE).astype(float)
    assert np.abs(np.asarray(resize_loaded(photo, SIZE, exact=False), float) - whole).mean() < 3


def test_a_large_thumbnail_of_the_exif_is_a_preview_and_a_small_one_is_not() -> None:
    for width, height, way in ((360, 240, "preview"), (120, 80, "scaled 1/8")):
        thumbnail = jpeg(picture(width, height, red=220))
        first = struct.pack("<HHHIHH", 1, 274, 3, 1, 1, 0) + struct.pack("<I", 26)
        second = struct.pack("<HHHII", 2, 513, 4, 1, 56) + struct.pack("<HHII", 514, 4, 1, len(thumbnail))
        exif = b"Exif\0\0II\x2a\0" + struct.pack("<I", 8) + first + second + bytes(4)
        assert len(exif) == 6 + 56
        photo = loaded(jpeg(picture(), exif=exif + thumbnail))
        assert photo.decoded == way


@pytest.mark.parametrize(
    "preview",
    [
        jpeg(picture(90, 60)),
        jpeg(picture(320, 240)),
        jpeg(picture(240, 360)),
        jpeg(picture(360, 240), 3),
        PREVIEW[:-500],
        PREVIEW[: len(PREVIEW) // 2],
        b"\xff\xd8\xff" + b"x" * 500,
        b"",
    ],
    ids=["small", "another shape", "turned", "marked as turned", "cut", "half", "no picture", "empty"],
)
def test_for_a_preview_that_will_not_do_the_photo_is_decoded(preview: bytes) -> None:
    # The end of a JPEG has to be there at the end of the file.
    photo = loaded(with_preview(jpeg(picture()), preview) + b"\xff\xd9")
    assert photo.decoded == "scaled 1/8"
    assert redness(photo) < 60


def test_another_picture_of_the_file_is_no_preview() -> None:
    assert loaded(with_preview(jpeg(picture()), PREVIEW, UNDEFINED)).decoded == "scaled 1/8"


def test_a_region_is_never_cut_from_a_preview() -> None:
    data = with_preview(jpeg(picture()), PREVIEW)
    assert loaded(data, region=(0.9, 0.9)).decoded == "scaled 1/4"


def test_a_file_that_ends_early_is_truncated_whatever_its_preview() -> None:
    data = jpeg(picture(2000, 1333))
    thumbnail_first = with_preview(data, PREVIEW)
    for end in (len(data) // 2, len(data) - 200):
        with pytest.raises(PhotoError) as caught:
            loaded(thumbnail_first[:end])
        assert caught.value.code == "truncated"


def test_a_preview_that_is_a_bomb_costs_a_part_of_the_time() -> None:
    file = io.BytesIO()
    Image.new("L", (1500, 1000), 90).save(file, "JPEG", progressive=True)
    bomb = file.getvalue()
    start = bomb.rindex(b"\xff\xda")
    bomb = bomb[:start] + bomb[start:-2] * 30_000 + bomb[-2:]
    photo = loaded(with_preview(jpeg(picture()), bomb), PhotoLimits(deadline_s=2.0))
    assert photo.decoded == "scaled 1/8"


def test_a_preview_is_bounded_in_pixels() -> None:
    header = bytearray(jpeg(picture(360, 240)))
    at = header.index(b"\xff\xc0") + 5
    header[at : at + 4] = struct.pack(">HH", 43_000, 64_500)
    photo = loaded(with_preview(jpeg(picture()), bytes(header)))
    assert photo.decoded == "scaled 1/8"


def test_random_damage_ends_in_a_photo_or_a_photo_error() -> None:
    rng = np.random.default_rng(SEED)
    data = with_preview(jpeg(picture(), 6), PREVIEW)
    limits = PhotoLimits(max_pixels=2_000_000, deadline_s=5)
    ways = set()
    for _ in range(80):
        damaged = bytearray(data)
        # Most of it where the segments are, or in the preview.
        first = rng.integers(2, 700, 3)
        for place in [*first, len(data) - int(rng.integers(1, len(PREVIEW)))]:
            damaged[place] = int(rng.integers(0, 256))
        try:
            photo = loaded(bytes(damaged), limits)
            ways.add(photo.decoded)
            assert resize_loaded(photo, SIZE, exact=False).size == SIZE
        except PhotoError:
            pass
    assert "preview" in ways


@pytest.mark.parametrize(("flip", "size"), [(0, (360, 240)), (6, (240, 360)), (4, None)])
def test_the_preview_of_a_raw_file_is_turned_as_libraw_says(flip: int, size: tuple[int, int] | None) -> None:
    raw = types.SimpleNamespace(
        sizes=types.SimpleNamespace(flip=flip), extract_thumb=lambda: types.SimpleNamespace(data=PREVIEW)
    )
    found = _preview(raw, (WIDTH, HEIGHT), Need((32, 32), "preview"), LIMITS)
    assert (None if found is None else (found[2] * found[0].width, found[2] * found[0].height)) == size


def test_a_raw_file_without_a_preview_is_developed() -> None:
    def none_there() -> None:
        raise ValueError("no thumbnail")

    raw = types.SimpleNamespace(sizes=types.SimpleNamespace(flip=0), extract_thumb=none_there)
    assert _preview(raw, (WIDTH, HEIGHT), Need(SIZE, "preview"), LIMITS) is None
    # Where a preview is not a JPEG, LibRaw gives pixels.
    raw.extract_thumb = lambda: types.SimpleNamespace(data=np.zeros((240, 360, 3), np.uint8))
    assert _preview(raw, (WIDTH, HEIGHT), Need(SIZE, "preview"), LIMITS) is None
    assert decode_preview(PREVIEW, (WIDTH, HEIGHT), None, Need(SIZE, "preview"), LIMITS) is not None


def test_a_preview_has_the_colours_of_its_photo_unless_it_has_a_profile_of_its_own() -> None:
    pale = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 200))
    small = pale.resize((360, 240))

    def shown(profile: bytes | None, of_preview: bytes | None) -> list[int]:
        photo = jpeg(pale, icc_profile=profile, subsampling=0)
        found = loaded(with_preview(photo, jpeg(small, icc_profile=of_preview, subsampling=0)))
        assert found.decoded == "preview"
        assert "icc_profile" not in found.image.info or of_preview is not None
        return np.asarray(found.image)[60, 60].tolist()  # type: ignore[no-any-return]

    plain, wide = shown(None, None), shown(DISPLAY_P3, None)
    assert np.abs(np.array(plain) - (128, 128, 200)).max() <= 2
    assert wide[2] - plain[2] >= 4
    assert shown(None, DISPLAY_P3) == wide
    assert shown(DISPLAY_P3, SRGB) == plain
