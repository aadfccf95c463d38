"""The EXIF of camera RAW files, in containers that are made here."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from birdsearch.model.images.exif import Capture, read_exif
from birdsearch.model.images.formats import sniff
from birdsearch.model.images.photo import load_photo, pillow_is_quiet
from birdsearch.model.images.raw_exif import raw_exif

SEED = 20261130
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
BASE = {271: "Acme", 272: "Acme Z1", 306: "2024:05:06 07:08:09"}
DETAILS = {
    36867: "2024:05:06 07:08:09",
    37521: "25",
    36881: "+09:30",
    42033: "3001234",
    42036: "AF 600mm f/4",
}
GPS = {
    1: "S",
    2: (IFDRational(34), IFDRational(30), IFDRational(0)),
    3: "E",
    4: (IFDRational(150), IFDRational(15), IFDRational(0)),
}
EXPECTED = Capture(
    captured_at="2024-05-06T07:08:09.250000",
    offset_minutes=570,
    latitude=-34.5,
    longitude=150.25,
    camera="Acme Z1",
    lens="AF 600mm f/4",
    serial="3001234",
)


def tiff(
    base: Mapping[int, Any] = BASE,
    details: Mapping[int, Any] = DETAILS,
    gps: Mapping[int, Any] = GPS,
    *,
    order: bytes = b"II",
) -> bytes:
    tags = Image.Exif()
    tags.load(b"II\x2a\0\x08\0\0\0" + bytes(6) if order == b"II" else b"MM\0\x2a\0\0\0\x08" + bytes(6))
    tags.update(base)
    for ifd, values in ((EXIF_IFD, details), (GPS_IFD, gps)):
        if values:
            tags.get_ifd(ifd).update(values)
    return tags.tobytes().removeprefix(b"Exif\0\0")


def jpeg(block: bytes = b"") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "green").save(file, "JPEG", exif=b"Exif\0\0" + (block or tiff()))
    return file.getvalue()


def box(kind: bytes, content: bytes, *, is_long: bool = False) -> bytes:
    if is_long:
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


def cr3() -> bytes:
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    blocks = [
        box(b"CNCV", b"CanonCR3_001/01.09.00/00.00.00"),
        box(b"CMT1", tiff(details={}, gps={})),
        box(b"CMT2", tiff(DETAILS, {}, {})),
        box(b"CMT3", tiff({1: 0}, {}, {})),
        box(b"CMT4", tiff(GPS, {}, {})),
    ]
    moov = box(b"moov", box(b"uuid", canon + b"".join(blocks)) + box(b"mvhd", bytes(100)))
    media = box(b"mdat", bytes(512), is_long=True)
    return box(b"ftyp", b"crx \0\0\0\x01crx isom") + moov + media


def raf() -> bytes:
    preview = jpeg()
    head = b"FUJIFILMCCD-RAW 0201FF129502Acme Z1".ljust(84, b"\0")
    return head + struct.pack(">6I", 160, len(preview), 0, 0, 0, 0).ljust(76, b"\0") + preview + bytes(256)


def tiff_with(magic: bytes) -> bytes:
    return magic + tiff(order=magic[:2])[4:]


def rw2_with_preview() -> bytes:
    # Tag 46 holds the whole preview; the directory itself tells the camera alone.
    block = tiff({46: jpeg(), 271: "Acme", 272: "Acme Z1"}, {}, {})
    return b"IIU\0" + block[4:]


def mrw(base: Mapping[int, Any] = BASE, width: int = 96, height: int = 64) -> bytes:
    size = (height, width, height, width)
    sensor = struct.pack(">8s4H4B2H", b"27820001", *size, 16, 12, 0x52, 0, 0, 1)
    white = struct.pack(">4B4H", 2, 2, 2, 2, 400, 256, 256, 500)
    blocks = b"".join(
        struct.pack(">4sI", name, len(content)) + content
        for name, content in ((b"\0PRD", sensor), (b"\0TTW", tiff(base, order=b"MM")), (b"\0WBG", white))
    )
    mosaic = struct.pack(f">{width}H", *(x * 40 for x in range(width))) * height
    return struct.pack(">4sI", b"\0MRM", len(blocks)) + blocks + mosaic


def x3f(*sections: tuple[bytes, bytes]) -> bytes:
    data = struct.pack("<4sI", b"FOVb", 0x00020003).ljust(104, b"\0")
    entries = b""
    for kind, content in sections:
        entries += struct.pack("<II4s", len(data), len(content), kind)
        data += content
    directory = struct.pack("<4sII", b"SECd", 0x00020000, len(sections)) + entries
    return data + directory + struct.pack("<I", len(data))


def image_section() -> bytes:
    preview = jpeg()
    return struct.pack("<4s6I", b"SECi", 0x00020000, 2, 18, 64, 48, 0) + preview


def properties_section() -> bytes:
    names = {"CAMMANUF": "Acme", "CAMMODEL": "Acme Z1", "CAMSERIAL": "3001234", "TIME": "1714979289"}
    text, places = "", b""
    for pair in names.items():
        for part in pair:
            places += struct.pack("<I", len(text))
            text += part + "\0"
    return (
        struct.pack("<4s5I", b"SECp", 0x00020000, len(names), 0, 0, len(text))
        + places
        + text.encode("utf-16-le")
    )


def heap(*records: tuple[int, bytes]) -> bytes:
    data, entries = b"", b""
    for tag, content in records:
        if tag & 0xC000 == 0x4000:
            entries += struct.pack("<H8s", tag, content)
        else:
            entries += struct.pack("<HII", tag, len(content), len(data))
            data += content
    return data + struct.pack("<H", len(records)) + entries + struct.pack("<I", len(data))


def crw() -> bytes:
    inner = heap((0x080A, b"Acme\0Acme Z1\0"), (0x580B, struct.pack("<I4x", 3001234)))
    properties = heap((0x180E, struct.pack("<III", 1714979289, 0, 0)), (0x2807, inner))
    head = struct.pack("<2sI8sI", b"II", 26, b"HEAPCCDR", 0x00010002).ljust(26, b"\0")
    return head + heap((0x300A, properties), (0x2005, bytes(2000)))


# Those that keep all that is asked for as EXIF.
FULL: Mapping[str, Callable[[], bytes]] = {
    "plain": tiff,
    "plain-mm": lambda: tiff(order=b"MM"),
    "cr3": cr3,
    "raf": raf,
    "rw2": lambda: tiff_with(b"IIU\0"),
    "rw2-preview": rw2_with_preview,
    "orf-iiro": lambda: tiff_with(b"IIRO"),
    "orf-iirs": lambda: tiff_with(b"IIRS"),
    "orf-mmor": lambda: tiff_with(b"MMOR"),
    "mrw": mrw,
    "x3f": lambda: x3f((b"PROP", properties_section()), (b"IMA2", image_section())),
}
# Those that have records of their own.
SPARE: Mapping[str, Callable[[], bytes]] = {"x3f": lambda: x3f((b"PROP", properties_section())), "crw": crw}


@pytest.mark.parametrize("name", FULL)
def test_every_container_of_raw_files_tells_time_place_camera_and_lens(name: str) -> None:
    data = FULL[name]()
    if not name.startswith("plain"):
        assert sniff(data) == "RAW"
    assert read_exif(raw_exif(data)) == EXPECTED


def test_a_developed_file_keeps_the_exif_of_its_container() -> None:
    pytest.importorskip("rawpy")
    # A camera that LibRaw knows.
    loaded = load_photo(mrw({**BASE, 271: "Minolta", 272: "DiMAGE A2"}), suffix=".mrw")
    assert (loaded.format, loaded.size) == ("RAW", (96, 64))
    assert read_exif(loaded.exif) == replace(EXPECTED, camera="Minolta DiMAGE A2")


@pytest.mark.parametrize("name", SPARE)
def test_files_from_before_exif_tell_time_camera_and_serial_number(name: str) -> None:
    data = SPARE[name]()
    assert sniff(data) == "RAW"
    expected = Capture(captured_at="2024-05-06T07:08:09", camera="Acme Z1", serial="3001234")
    assert read_exif(raw_exif(data)) == expected


def test_what_libraw_knows_is_taken_where_the_file_does_not_say() -> None:
    bare = tiff({271: "Acme", 272: "Acme Z1"}, {}, {})
    moment = np.datetime64("2024-05-06T07:08:09").astype(object).timestamp()
    found = read_exif(raw_exif(bare, "50mm", int(moment)))
    assert (found.captured_at, found.lens, found.camera) == ("2024-05-06T07:08:09", "50mm", "Acme Z1")
    assert read_exif(raw_exif(b"no container", "50mm", int(moment))).captured_at == "2024-05-06T07:08:09"
    # What the file says counts more.
    assert read_exif(raw_exif(cr3(), "50mm", 5)) == EXPECTED


@pytest.mark.parametrize("name", [*FULL, *(f"spare-{name}" for name in SPARE)])
def test_damaged_containers_give_what_can_be_read_and_never_fail(name: str) -> None:
    generator = random.Random(f"{SEED} {name}")
    whole = SPARE[name.removeprefix("spare-")]() if name.startswith("spare-") else FULL[name]()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 2, 8, 40))):
            data[generator.randrange(len(data))] = generator.choice((0, 1, 255, generator.randrange(256)))
        cut = bytes(data[: generator.randrange(len(data))] if generator.random() < 0.3 else data)
        with pillow_is_quiet:
            exif = raw_exif(cut)
        assert isinstance(read_exif(exif), Capture)


def test_directories_that_hold_themselves_end() -> None:
    loop = bytearray(crw())
    # The heap within a heap is made the whole file, and its count the greatest there is.
    at = loop.index(struct.pack("<H", 0x2807))
    loop[at + 2 : at + 10] = struct.pack("<II", len(loop) - 27, 0)
    assert isinstance(read_exif(raw_exif(bytes(loop))), Capture)
    boxes = box(b"ftyp", b"crx \0\0\0\x01") + box(b"free", b"") * 100_000
    assert raw_exif(boxes) is None
