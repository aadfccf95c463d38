from __future__ import annotations

import io
import random
import struct
import warnings
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from birdsearch.errors import PhotoError
from birdsearch.model.images.exif import Capture, read_exif
from birdsearch.model.images.photo import load_photo

SEED = 20240612
EXIF_IFD, GPS_IFD = 0x8769, 0x8825


def exif(
    base: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
) -> Image.Exif:
    tags = Image.Exif()
    tags.update(base or {})
    tags.get_ifd(EXIF_IFD).update(details or {})
    tags.get_ifd(GPS_IFD).update(gps or {})
    return tags


FULL = exif(
    {271: "NIKON CORPORATION", 272: "NIKON Z 9", 306: "2024:01:01 00:00:00"},
    {
        36867: "2023:05:06 07:08:09",
        37521: "25",
        36881: "+09:30",
        42036: "NIKKOR Z 600mm f/4",
        42033: "3001234",
    },
    {
        1: "S",
        2: (IFDRational(34), IFDRational(30), IFDRational(36)),
        3: "E",
        4: (IFDRational(150), IFDRational(15), IFDRational(0)),
        5: b"\x01",
        6: IFDRational(25, 2),
    },
)
EXPECTED = Capture(
    captured_at="2023-05-06T07:08:09.250000",
    offset_minutes=570,
    latitude=-(34 + 30 / 60 + 36 / 3600),
    longitude=150.25,
    altitude_m=-12.5,
    camera="NIKON Z 9",
    lens="NIKKOR Z 600mm f/4",
    serial="3001234",
)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_tells_the_same(name: str) -> None:
    image, file = Image.new("RGB", (64, 48)), io.BytesIO()
    if name == "HEIF":
        pillow_heif.from_pillow(image).save(file, exif=FULL.tobytes())
    else:
        image.save(file, name, exif=FULL.tobytes())
    loaded = load_photo(file.getvalue())
    assert loaded.format == name
    assert read_exif(loaded.exif) == EXPECTED
    if name != "HEIF":
        assert read_exif(Image.open(io.BytesIO(file.getvalue()))) == EXPECTED


def test_no_exif_gives_empty_fields() -> None:
    assert read_exif(None) == Capture()
    assert read_exif(Image.new("RGB", (1, 1))) == Capture()
    assert read_exif(Image.Exif()) == Capture()


def when(base: dict[int, Any] | None = None, details: dict[int, Any] | None = None) -> str | None:
    return read_exif(exif(base, details)).captured_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023:05:06 07:08:09", "2023-05-06T07:08:09"),
        ("2023-05-06T07:08:09", "2023-05-06T07:08:09"),
        ("2023:05:06 07:08:09\0junk", "2023-05-06T07:08:09"),
        ("2023/5/6 7:08", "2023-05-06T07:08:00"),
        (b"2023:05:06 07:08:09\0", "2023-05-06T07:08:09"),
        ("0000:00:00 00:00:00", None),
        ("2023:13:06 07:08:09", None),
        ("2023:02:30 07:08:09", None),
        ("2023:05:06 24:08:09", None),
        ("2023:05:06 24:00:00", None),
        ("2023:05:06 06:30:00 PM", "2023-05-06T18:30:00"),
        ("2023:05:06 06:30:00PM", "2023-05-06T18:30:00"),
        ("2023:05:06 6:30 p.m.", "2023-05-06T18:30:00"),
        ("2023:05:06 06:30:00 AM", "2023-05-06T06:30:00"),
        ("2023:05:06 12:30:00 AM", "2023-05-06T00:30:00"),
        ("2023:05:06 12:30:00 PM", "2023-05-06T12:30:00"),
        ("2023:05:06 18:30:00 PM", "2023-05-06T18:30:00"),
        ("2023:05:06 00:30:00 AM", "2023-05-06T00:30:00"),
        ("2023:05:06 07:08:09.25", "2023-05-06T07:08:09.250000"),
        ("٢٠٢٣:٠٥:٠٦ ٠٧:٠٨:٠٩".encode(), "2023-05-06T07:08:09"),
        ("0001:01:01 00:00:00", None),
        ("1601:01:01 00:00:00", None),
        ("2566:05:06 07:08:09", None),
        ("1905:05:06 07:08:09", "1905-05-06T07:08:09"),
        ("1904:01:01 00:00:00", None),
        ("1970:01:01 00:00:00", None),
        ("1970:01:01 01:00:00", None),
        ("1969:12:31 19:00:00", None),
        ("1970:01:01 00:12:31", "1970-01-01T00:12:31"),
        ("1980:01:01 00:00:00", None),
        ("1980:01:01 00:03:00", "1980-01-01T00:03:00"),
        ("2000:01:01 00:00:00", "2000-01-01T00:00:00"),
        ("    :  :     :  :  ", None),
        ("", None),
        ("yesterday", None),
        (20230506, None),
        ((1, 2, 3), None),
    ],
)
def test_a_time_is_read_or_left_empty(text: object, expected: str | None) -> None:
    assert when(details={36867: text}) == expected


def test_the_most_trusted_time_that_is_valid_is_taken_with_its_own_offset() -> None:
    everything = {
        36867: "2001:01:01 01:01:01",
        36868: "2002:02:02 02:02:02",
        36881: "+01:00",
        36882: "-02:00",
    }
    base = {306: "2003:03:03 03:03:03"}
    assert when(base, everything) == "2001-01-01T01:01:01"
    digitized = read_exif(exif(base, {**everything, 36867: "0000:00:00 00:00:00"}))
    assert (digitized.captured_at, digitized.offset_minutes) == ("2002-02-02T02:02:02", -120)
    changed = read_exif(exif(base, {36880: "Z"}))
    assert (changed.captured_at, changed.offset_minutes) == ("2003-03-03T03:03:03", 0)


def test_an_offset_holds_for_a_time_that_lacks_one_if_it_is_of_the_same_clock() -> None:
    taken = "2023:05:06 07:08:09"
    # What phones write that know only one offset.
    alone = read_exif(exif({}, {36867: taken, 36880: "+02:00"}))
    assert (alone.captured_at, alone.offset_minutes) == ("2023-05-06T07:08:09", 120)
    same = read_exif(exif({306: taken}, {36867: taken, 37521: "5", 36880: "+02:00"}))
    assert (same.captured_at, same.offset_minutes) == ("2023-05-06T07:08:09.500000", 120)
    digitized = read_exif(exif({}, {36867: taken, 36868: taken, 36882: "-03:30"}))
    assert digitized.offset_minutes == -210
    # Edited at home, in another country.
    edited = read_exif(exif({306: "2023:06:01 20:00:00"}, {36867: taken, 36880: "+02:00"}))
    assert (edited.captured_at, edited.offset_minutes) == ("2023-05-06T07:08:09", None)
    own = read_exif(exif({306: taken}, {36867: taken, 36881: "+01:00", 36880: "+02:00"}))
    assert own.offset_minutes == 60
    within = read_exif(exif({}, {36867: "2023-05-06T07:08:09+09:30"}))
    assert (within.captured_at, within.offset_minutes) == ("2023-05-06T07:08:09", 570)


def test_a_clock_that_was_never_set_gives_way_to_a_tag_that_was() -> None:
    assert when({306: "2023:05:06 07:08:09"}, {36867: "1970:01:01 00:00:00"}) == "2023-05-06T07:08:09"
    assert when({306: "2023:05:06 07:08:09"}, {36867: "0001:01:01 00:00:00"}) == "2023-05-06T07:08:09"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("+00:00", 0), ("-03:30", -210), ("+14:00", 840), ("+14:01", None), ("+01:60", None), ("01:00", None)],
)
def test_an_offset_is_read_or_left_empty(text: str, expected: int | None) -> None:
    assert read_exif(exif({}, {36867: "2023:05:06 07:08:09", 36881: text})).offset_minutes == expected


GOOD = {1: "N", 2: (10.0, 30.0, 0.0), 3: "W", 4: (20.0, 15.0, 0.0)}


def place(**changes: Any) -> tuple[float | None, float | None]:
    # `_2` stands for tag 2.
    gps = {**GOOD, **{int(tag[1:]): value for tag, value in changes.items()}}
    capture = read_exif(exif(gps=gps))
    return capture.latitude, capture.longitude


def test_a_position_has_the_signs_of_its_hemispheres() -> None:
    assert place() == (10.5, -20.25)
    assert place(_1="S", _3="E") == (-10.5, 20.25)
    assert place(_2=(10.5,), _4=(20.25,)) == (10.5, -20.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"_2": (IFDRational(10), IFDRational(1, 0), IFDRational(0))},
        {"_2": (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
        {"_2": (float("nan"), 0.0, 0.0)},
        {"_2": (90.0, 30.0, 0.0)},
        {"_4": (180.0, 0.0, 1.0)},
        {"_4": (-20.0, 0.0, 0.0)},
        {"_2": ()},
        {"_2": b"\0\0"},
        {"_2": "10"},
        {"_2": None},
        {"_1": "X"},
        {"_1": None},
        {"_3": 7},
        {"_2": (0.0, 0.0, 0.0), "_4": (0.0, 0.0, 0.0)},
    ],
)
def test_a_position_that_cannot_be_trusted_is_left_empty(changes: dict[str, Any]) -> None:
    assert place(**changes) == (None, None)


def test_a_place_on_the_equator_is_a_place() -> None:
    assert place(_2=(0.0, 0.0, 0.0)) == (0.0, -20.25)


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        (IFDRational(1234, 10), b"\x00", 123.4),
        (IFDRational(1234, 10), b"\x01", -123.4),
        (IFDRational(1, 0), b"\x00", None),
        (IFDRational(4294967295, 1), b"\x00", None),
        ((50.0,), None, 50.0),
        ("high", b"\x00", None),
    ],
)
def test_an_altitude_is_read_or_left_empty(value: object, reference: object, expected: float | None) -> None:
    assert read_exif(exif(gps={5: reference, 6: value})).altitude_m == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("EASTMAN KODAK COMPANY", "KODAK DX4330", "KODAK DX4330"),
        ("SONY", "ILCE-1", "SONY ILCE-1"),
        ("", "X100", "X100"),
        ("Apple", None, "Apple"),
        ("Apple\0\0", " iPhone  15 \r\n", "Apple iPhone 15"),
        ("A\x1b[31m", "\u202eB", "A[31m B"),
        (b"Acme", "Caf\xc3\xa9", "Acme Café"),
        ("x" * 5000, "y" * 5000, "x" * 120),
        (3, (4, 5), None),
    ],
)
def test_a_camera_is_one_clean_line(make: object, model: object, expected: str | None) -> None:
    assert read_exif(exif({271: make, 272: model})).camera == expected


def test_random_damage_never_raises_and_never_warns() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=FULL)
    pristine = file.getvalue()
    end = pristine.index(b"\xff\xdb")
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(600):
            data = bytearray(pristine)
            for _ in range(rng.choice([1, 2, 8, 40])):
                data[rng.randrange(30, end)] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
            try:
                capture = read_exif(load_photo(bytes(data)).exif)
            except PhotoError:
                continue
            assert capture.latitude is None or -90 <= capture.latitude <= 90
            assert capture.longitude is None or -180 <= capture.longitude <= 180


def test_a_loop_of_directories_ends() -> None:
    # The Exif directory is the main one again, and so is the GPS directory.
    entries = [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    content = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 8)
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=content)
    assert read_exif(load_photo(file.getvalue()).exif) == Capture()
