"""A picture's digest stays whatever is done to its metadata, and changes with every change of a pixel."""

from __future__ import annotations

import io
import os
import random
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin, features

from birdsearch.model.images.digest import image_data, is_file, is_photo, photo_digests

SEED = int(os.environ.get("BIRDSEARCH_TEST_SEED", "20240501"))


def picture(seed: int = 1, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def exif(taken: str, turn: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[272], tags[274], tags[33432] = "D90", turn, "Ann"
    tags.get_ifd(0x8769)[36867] = taken
    return tags


def same_picture(one: bytes, other: bytes) -> None:
    first, second = photo_digests(one), photo_digests(other)
    assert first.picture == second.picture
    assert (first.file == second.file) == (one == other)


def other_picture(one: bytes, other: bytes) -> None:
    assert photo_digests(one).picture != photo_digests(other).picture


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# What metadata does


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_times_orientation_comments_and_profiles_are_no_part_of_a_picture(name: str) -> None:
    options = {"quality": 90} if name in ("JPEG", "WEBP") else {}
    plain = saved(picture(), name, **options)
    dressed = saved(picture(), name, exif=exif("2023:05:01 06:30:00"), icc_profile=SRGB, **options)
    edited = saved(picture(), name, exif=exif("2024:01:02 03:04:05", turn=6), **options)
    assert image_data(plain).kind == name
    same_picture(plain, dressed)
    same_picture(dressed, edited)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True}]
)
def test_a_jpeg_ends_at_its_end_marker(options: dict[str, object]) -> None:
    jpeg = saved(picture(size=(160, 120)), "JPEG", **options)
    assert image_data(jpeg).kind == "JPEG"
    same_picture(jpeg, jpeg + b"\0" * 100)
    same_picture(jpeg, jpeg + saved(picture(2), "JPEG"))
    same_picture(jpeg, jpeg[:2] + b"\xff\xfe\x00\x07abcde" + jpeg[2:])
    # Decoders pass over what stands between segments, as a tool that counts wrongly leaves it there.
    at = jpeg.index(b"\xff\xdb")
    odd = jpeg[:at] + b"?>\xff\x00\xff" + jpeg[at:]
    assert Image.open(io.BytesIO(odd)).tobytes() == Image.open(io.BytesIO(jpeg)).tobytes()
    same_picture(jpeg, odd)


def test_the_first_picture_of_an_mpo_is_its_picture() -> None:
    buffer = io.BytesIO()
    picture(1).save(buffer, "MPO", save_all=True, append_images=[picture(2)])
    alone = saved(picture(1), "JPEG")
    assert photo_digests(buffer.getvalue()).picture == photo_digests(alone).picture


def test_what_decides_the_colours_of_a_jpeg_is_a_part_of_its_picture() -> None:
    rgb = saved(picture(), "JPEG", keep_rgb=True)
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    assert adobe + b"\x00" in rgb
    as_ycc = rgb.replace(adobe + b"\x00", adobe + b"\x01")
    assert Image.open(io.BytesIO(rgb)).tobytes() != Image.open(io.BytesIO(as_ycc)).tobytes()
    other_picture(rgb, as_ycc)
    # Without JFIF and Adobe, decoders take three components for YCbCr: the same picture as with JFIF.
    jpeg = saved(picture(), "JPEG")
    assert jpeg[2:4] == b"\xff\xe0"
    without = jpeg[:2] + jpeg[4 + struct.unpack(">H", jpeg[4:6])[0] :]
    same_picture(jpeg, without)


def test_text_and_times_of_a_png_are_no_part_of_its_picture() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", "a duck", zip=True)
    text.add_itxt("XML:com.adobe.xmp", "<x/>")
    text.add(b"tIME", b"\x07\xe7\x05\x01\x06\x1e\x00")
    same_picture(saved(picture(), "PNG"), saved(picture(), "PNG", pnginfo=text))
    palette = picture().quantize(8)
    assert (
        photo_digests(saved(palette, "PNG")).picture
        != photo_digests(saved(palette, "PNG", transparency=1)).picture
    )


def test_comments_and_loops_of_a_gif_are_no_part_of_its_picture() -> None:
    plain = saved(picture(mode="P"), "GIF")
    same_picture(plain, saved(picture(mode="P"), "GIF", comment=b"a duck"))
    assert image_data(plain).kind == "GIF"


def test_a_tiff_is_its_strips_and_how_they_are_decoded() -> None:
    grey = picture(mode="L")
    plain = saved(grey, "TIFF")
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[306] = "a long description of a duck", "2023:05:01 06:30:00"
    same_picture(plain, saved(grey, "TIFF", tiffinfo=tags))
    at = plain.index(struct.pack("<HHI", 262, 3, 1)) + 8
    negative = plain[:at] + bytes([1 - plain[at]]) + plain[at + 1 :]
    other_picture(plain, negative)


def test_the_thumbnail_of_a_tiff_is_no_part_of_its_picture() -> None:
    def tiff(*, thumbnail: bytes) -> bytes:
        # One directory of a reduced picture in front, as cameras have it, and the picture in a sub-directory.
        data = b"sensor data" * 20
        first, second = 8, 8 + 2 + 12 * 4 + 4
        pieces = second + 2 + 12 * 4 + 4
        entries = [(254, 4, 1, 1), (273, 4, 1, pieces), (279, 4, 1, len(thumbnail)), (330, 4, 1, second)]
        sub = [(254, 4, 1, 0), (256, 4, 1, 20), (273, 4, 1, pieces + len(thumbnail)), (279, 4, 1, len(data))]
        ifds = b"".join(
            struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *entry) for entry in each) + bytes(4)
            for each in (entries, sub)
        )
        return b"II\x2a\0" + struct.pack("<I", first) + ifds + thumbnail + data

    one, other = tiff(thumbnail=b"small picture"), tiff(thumbnail=b"another one, longer")
    assert image_data(one).kind == "TIFF"
    assert photo_digests(one).picture == photo_digests(other).picture


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def heif(
    *, exif_item: bytes = b"", coded: bytes = b"coded picture", angle: int | None = None, grid: int = 1
) -> bytes:
    """A HEIF file as far as its boxes go: one picture, and an Exif item if there is any."""

    def made(start: int) -> bytes:
        items = [(1, b"hvc1", start, len(coded))]
        if exif_item:
            items.append((2, b"Exif", start + len(coded), len(exif_item)))
        infos = [
            box(b"infe", b"\x02\0\0\0", struct.pack(">HH", item, 0), kind, b"\0")
            for item, kind, _, _ in items
        ]
        places = b"".join(struct.pack(">HHHII", item, 0, 1, at, size) for item, _, at, size in items)
        properties = [
            box(b"hvcC", b"how to decode"),
            box(b"ispe", bytes(4), struct.pack(">II", 64 * grid, 48)),
        ]
        if angle is not None:
            properties.append(box(b"irot", bytes([angle])))
        has = bytes([1 + number for number in range(len(properties))])
        meta = box(
            b"meta",
            bytes(4),
            box(b"pitm", bytes(4), struct.pack(">H", 1)),
            box(b"iinf", bytes(4), struct.pack(">H", len(items)), *infos),
            box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(items)), places),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", bytes(4), struct.pack(">IHB", 1, 1, len(has)), has),
            ),
        )
        return (
            box(b"ftyp", b"heic", bytes(4), b"heicmif1")
            + meta
            + struct.pack(">I", 8 + len(coded + exif_item))
            + b"mdat"
        )

    return made(len(made(0))) + coded + exif_item


def test_a_heif_is_its_pictures_and_their_properties() -> None:
    plain = heif()
    assert image_data(plain).kind == "HEIF"
    same_picture(plain, heif(exif_item=b"Exif\0\0MM\0*"))
    same_picture(heif(exif_item=b"Exif\0\0MM\0*"), heif(exif_item=b"another and longer Exif"))
    turned = heif(angle=3)
    same_picture(plain, turned)
    assert (photo_digests(plain).turn, photo_digests(turned).turn) == ("", "irot3")
    other_picture(plain, heif(coded=b"coded Picture"))
    other_picture(plain, heif(grid=2))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_the_exif_of_an_avif_is_no_part_of_its_picture() -> None:
    plain = saved(picture(), "AVIF", quality=80)
    assert image_data(plain).kind == "HEIF"
    same_picture(plain, saved(picture(), "AVIF", quality=80, exif=exif("2023:05:01 06:30:00")))


def test_the_metadata_of_other_raw_files_is_no_part_of_their_picture() -> None:
    def raf(preview: bytes) -> bytes:
        header, sensor = b"sensor header", b"sensor data" * 30
        at = 108 + len(preview)
        places = struct.pack(">6I", 108, len(preview), at, len(header), at + len(header), len(sensor))
        return b"FUJIFILMCCD-RAW".ljust(84, b"\0") + places + preview + header + sensor

    same_picture(raf(b"preview with EXIF"), raf(b"preview with other EXIF"))
    cr3 = [
        box(b"ftyp", b"crx ", bytes(4), b"crx isom") + box(b"moov", metadata) + box(b"mdat", b"sensor data")
        for metadata in (b"CMT1", b"CMT1 of another time")
    ]
    same_picture(cr3[0], cr3[1])


# What it is for


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_another_picture_has_another_digest(name: str) -> None:
    one = picture()
    other = one.copy()
    other.putpixel((40, 30), tuple(255 - value for value in one.getpixel((40, 30))))  # type: ignore[union-attr]
    options = (
        {"lossless": True} if name == "WEBP" else {"quality": 100, "subsampling": 0} if name == "JPEG" else {}
    )
    assert (
        photo_digests(saved(one, name, **options)).picture
        != photo_digests(saved(other, name, **options)).picture
    )


def test_digests_do_not_depend_on_the_machine() -> None:
    # A PNG of one grey pixel, byte by byte; the digests as they were when this was written.
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"tEXt", b"Comment\0a duck"),
        (b"IDAT", b"\x78\x01\x01\x02\x00\xfd\xff\x00\x80\x00\x82\x00\x81"),
        (b"IEND", b""),
    ]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    found = photo_digests(png)
    assert found.picture.hex() == PICTURE
    assert found.file.hex() == FILE


PICTURE = "aa6ed6f50ff916b85dd585a221c3aed9547b9306731d99f9c13db9cdff420a86"
FILE = "01c9409e103c43bd7c136b6a7b2954760e098bd7b586b1129fe94e3b1bab54e64d"


def test_a_file_is_told_by_its_digest_and_by_the_sha256_of_old_catalogs() -> None:
    import hashlib

    jpeg = saved(picture(), "JPEG")
    longer = jpeg + b"\0"
    digests = photo_digests(jpeg)
    sha256 = hashlib.sha256(jpeg).digest()
    assert is_file(jpeg, digests.file)
    assert is_file(jpeg, sha256)
    assert not is_file(longer, digests.file)
    assert not is_file(longer, sha256)
    assert is_photo(longer, digests.picture)
    assert is_photo(jpeg, sha256)
    assert not is_photo(longer, sha256)


# Hostile bytes


def makers() -> dict[str, Callable[[], bytes]]:
    made: dict[str, Callable[[], bytes]] = {
        "JPEG": lambda: saved(picture(), "JPEG", exif=exif("2023:05:01 06:30:00")),
        "progressive": lambda: saved(picture(size=(300, 200)), "JPEG", progressive=True),
        "PNG": lambda: saved(picture(), "PNG"),
        "WEBP": lambda: saved(picture(), "WEBP", exif=exif("2023:05:01 06:30:00")),
        "TIFF": lambda: saved(picture(), "TIFF", exif=exif("2023:05:01 06:30:00")),
        "GIF": lambda: saved(picture(mode="P"), "GIF"),
        "HEIF": lambda: heif(exif_item=b"Exif\0\0MM\0*"),
    }
    return made


@pytest.mark.parametrize("name", list(makers()))
def test_broken_containers_are_files_like_any_other(name: str) -> None:
    print("seed", SEED)
    generator = random.Random(f"{SEED} {name}")
    whole = makers()[name]()
    known = {photo_digests(whole).file: whole}
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 8))):
            place = generator.randrange(min(len(broken), 600) if generator.random() < 0.7 else len(broken))
            broken[place] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        if generator.random() < 0.3:
            del broken[generator.randrange(len(broken)) :]
        content = bytes(broken)
        digests = photo_digests(content)
        # Two files share a digest only if they are the same bytes.
        assert known.setdefault(digests.file, content) == content
        assert is_file(content, digests.file)


def test_no_container_takes_longer_than_its_size_warrants() -> None:
    size = 1 << 21
    ifd = struct.pack("<H", 4000) + b"".join(struct.pack("<HHII", 330, 4, 200_000, 8) for _ in range(4000))
    hostile = {
        "markers": b"\xff\xd8" + b"\xff\xe1\x00\x02" * (size // 4),
        "fill bytes": b"\xff\xd8" + b"\xff" * size,
        "scans": b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00"
        + b"\xff\xda\x00\x02ab" * (size // 6),
        "chunks": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IDAT\0\0\0\0" * (size // 12),
        "frames": b"GIF89a" + bytes(7) + b"\x2c" + bytes(9) + b"\x00" * size,
        "boxes": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
        + box(b"meta", bytes(4), b"\0\0\0\x08free" * (size // 8)),
        "directories": b"II\x2a\0\x08\0\0\0" + ifd + bytes(4),
        "overlapping strips": b"II\x2a\0\x08\0\0\0"
        + struct.pack("<H", 2)
        + struct.pack("<HHII", 273, 4, size // 16, 64)
        + struct.pack("<HHII", 279, 4, size // 16, 64)
        + bytes(4)
        + struct.pack("<I", size // 2) * (size // 4),
    }
    for name, content in hostile.items():
        began = time.process_time()
        photo_digests(content)
        # A quadratic parser takes minutes for these; this one some hundredths of a second.
        assert time.process_time() - began < 10, name
