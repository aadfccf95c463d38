"""Thumbnails: what they show and do not tell, their formats, the cache, and decoders that crash and hang."""

from __future__ import annotations

import http.client
import io
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from birdsearch.errors import BirdsearchError, PhotoError
from birdsearch.indexer.catalog.photo_content import PhotoContent
from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import digest_file
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.search.service.negotiation import choose_encoding
from birdsearch.search.service.thumb_makers import ThumbMakers, ThumbMakersBusyError
from birdsearch.search.service.thumb_worker import make_thumbnail, thumbnail_size
from birdsearch.search.service.thumbs import ThumbCache

LIMITS = PhotoLimits()
SECRET = b"47.123456N"


def photo_file(path: Path, photo_id: int = 1, root: Path | None = None) -> PhotoContent:
    content = path.read_bytes()
    roots = (os.fsencode(path.parent if root is None else root),)
    return PhotoContent(
        photo_id, digest_file(content).picture, len(content), "JPEG", (os.fsencode(path),), roots
    )


def picture(size: tuple[int, int] = (400, 300), seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def makers() -> Iterator[ThumbMakers]:
    with ThumbMakers(2) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path, makers: ThumbMakers) -> ThumbCache:
    """A cache that shares the processes of the module; it is not closed, as they would be."""
    return ThumbCache(tmp_path / "thumbs", 10_000_000, makers)


def kept(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "thumbs").rglob("*") if path.is_file())


# -- what they show --------------------------------------------------------------------------------------------


def with_everything(image: Image.Image) -> dict[str, bytes]:
    """One picture in several formats, each with what it takes of EXIF with a place, XMP and comments."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x8825] = {1: "N", 2: (47.0, 7.0, 24.4416), 3: "E", 4: (8.0, 30.0, 0.0), 29: SECRET.decode()}
    xmp = b"<x:xmpmeta><exif:GPSLatitude>" + SECRET + b"</exif:GPSLatitude></x:xmpmeta>"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + SECRET
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    text.add_text("Comment", SECRET.decode())
    made = {}
    for name, options in (
        ("JPEG", {"exif": exif, "xmp": xmp, "comment": SECRET, "icc_profile": profile}),
        ("PNG", {"exif": exif, "pnginfo": text, "icc_profile": profile}),
        ("WEBP", {"exif": exif.tobytes(), "xmp": xmp, "icc_profile": profile, "lossless": True}),
        ("TIFF", {"description": SECRET.decode(), "icc_profile": profile}),
        ("AVIF", {"exif": exif, "xmp": xmp, "icc_profile": profile}),
        ("GIF", {"comment": SECRET}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        made[name] = buffer.getvalue()
        assert SECRET in made[name] or name == "PNG"
    return made


@pytest.mark.parametrize("encoding", ["JPEG", "WEBP", "AVIF"])
def test_fault_75_thumbnails_carry_no_metadata(cache: ThumbCache, tmp_path: Path, encoding: str) -> None:
    for name, content in with_everything(picture()).items():
        path = tmp_path / f"a.{name.lower()}"
        path.write_bytes(content)
        thumb = cache.get(photo_file(path), 160, encoding)
        assert thumb is not None
        assert SECRET not in thumb
        for mark in (b"Exif", b"EXIF", b"XMP ", b"adobe", b"ICC_PROFILE", b"ICCP", b"http"):
            assert mark not in thumb, (name, mark)
        assert encoding != "JPEG" or b"\xff\xfe" not in thumb
        shown = Image.open(io.BytesIO(thumb))
        assert (shown.format, shown.size, shown.mode) == (encoding, (160, 120), "RGB")
        assert not dict(shown.getexif())
        assert not {"exif", "xmp", "comment", "icc_profile"} & {
            key for key, value in shown.info.items() if value
        }


def test_photos_are_turned_upright(cache: ThumbCache, tmp_path: Path) -> None:
    upright = Image.new("RGB", (300, 200), "white")
    upright.paste((200, 0, 0), (0, 0, 150, 100))
    for orientation, turn in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(jpeg(upright.transpose(turn), exif=exif))
        thumb = cache.get(photo_file(path), 160, "JPEG")
        assert thumb is not None
        shown = Image.open(io.BytesIO(thumb)).convert("RGB")
        assert shown.size == (160, 107)
        pixels = np.asarray(shown)
        assert np.abs(pixels[20, 20].astype(int) - (200, 0, 0)).max() < 20, orientation
        assert pixels[90, 140].min() > 240


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float = 2.2) -> bytes:
    """An ICC v2 matrix profile of some primaries (x, y), D50 white."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    tags = {b"wtpt": b"XYZ " + bytes(4) + b"".join(fixed(value) for value in white)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True):
        tags[name] = b"XYZ " + bytes(4) + b"".join(fixed(value) for value in column)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        tags[name] = b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(gamma * 256))
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", 2) + b"w\0" + bytes(78)
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0" + bytes(3)
    table, data, at = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(data), len(content))
        data += padded
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I4sI", 128 + len(body), b"lcms", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + b"".join(fixed(value) for value in white)
    return head.ljust(128, b"\0") + body


def test_a_colour_profile_is_applied() -> None:
    # Wide gamut (Adobe Wide, about): its green is far more than sRGB can show, its grey is grey.
    profile = rgb_profile(((0.7347, 0.2653), (0.1152, 0.8264), (0.1566, 0.0177)))
    for colour in ((120, 180, 120), (128, 128, 128)):
        data = jpeg(Image.new("RGB", (64, 64), colour), icc_profile=profile, subsampling=0)
        shown = np.array(make_thumbnail(data, LIMITS, side=160))[32, 32].astype(int)
        reference = ImageCms.profileToProfile(
            Image.new("RGB", (1, 1), colour),
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
        )
        assert reference is not None
        assert np.abs(shown - np.array(reference)[0, 0]).max() <= 3
        moved = np.abs(shown - colour).max()
        assert moved > 20 if len(set(colour)) > 1 else moved < 6


@pytest.mark.parametrize("profile", [b"x", b"\0" * 200, b"acsp" * 100])
def test_a_broken_colour_profile_is_left_out(profile: bytes) -> None:
    data = jpeg(Image.new("RGB", (64, 64), (10, 200, 30)), icc_profile=profile)
    assert (
        np.abs(np.array(make_thumbnail(data, LIMITS, side=160))[5, 5].astype(int) - (10, 200, 30)).max() <= 4
    )


def test_sizes_are_of_the_longer_side_and_never_enlarged() -> None:
    assert thumbnail_size(4000, 3000, 320) == (320, 240)
    assert thumbnail_size(3000, 4000, 320) == (240, 320)
    assert thumbnail_size(10_000, 3, 160) == (160, 1)
    assert thumbnail_size(100, 50, 320) == (100, 50)
    data = jpeg(picture((100, 50)))
    assert make_thumbnail(data, LIMITS, side=1280).size == (100, 50)
    assert make_thumbnail(jpeg(picture((900, 1350))), LIMITS, side=640).size == (427, 640)


def test_a_thumbnail_is_next_to_the_whole_photo_made_small() -> None:
    image = picture((3000, 2000))
    for side in (160, 320, 640):
        got = np.asarray(make_thumbnail(jpeg(image), LIMITS, side=side), np.float64)
        expected = np.asarray(
            image.resize((got.shape[1], got.shape[0]), Image.Resampling.BICUBIC), np.float64
        )
        assert np.abs(got - expected).mean() < 2


def test_a_region_is_cut_from_the_upright_photo(cache: ThumbCache, tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 200), "white")
    image.paste((0, 0, 200), (200, 100, 400, 200))
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(image))
    thumb = cache.get(photo_file(path), 160, "JPEG", Box(0.5, 0.5, 0.5, 0.5))
    assert thumb is not None
    shown = np.asarray(Image.open(io.BytesIO(thumb)).convert("RGB"))
    assert shown.shape == (80, 160, 3)
    assert np.abs(shown[10:-10, 10:-10].astype(int) - (0, 0, 200)).max() < 12
    assert kept(tmp_path) == []


# -- which format ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        (None, "JPEG"),
        ("", "JPEG"),
        ("*/*", "JPEG"),
        ("image/*", "JPEG"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "AVIF"),
        ("image/webp,image/png,image/*;q=0.8,*/*;q=0.5", "WEBP"),
        ("image/webp;q=0.5,image/jpeg", "JPEG"),
        ("image/jpeg;q=0.4,image/webp;q=0.5", "WEBP"),
        ("IMAGE/WEBP ; Q=1.0", "WEBP"),
        ("image/avif;q=0,image/webp;q=0,*/*", "JPEG"),
        ("image/jpeg;q=0,image/*", "WEBP"),
        ("image/*;q=0.5,image/jpeg;q=0.2", "WEBP"),
        ("text/html", None),
        ("image/jpeg;q=0", None),
        ("image/jpeg;q=nonsense", None),
        ("image/png,*/*;q=0", None),
        ("x" * 100_000, None),
        ("image/webp," + "a/b;q=1," * 10_000, "WEBP"),
    ],
)
def test_the_format_that_the_client_likes_best(accept: str | None, encoding: str | None) -> None:
    assert choose_encoding(accept) == encoding


# -- the cache -------------------------------------------------------------------------------------------------


def test_a_thumbnail_is_made_once_and_kept(cache: ThumbCache, tmp_path: Path, makers: ThumbMakers) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    found = photo_file(path)
    first = cache.get(found, 320, "WEBP")
    (file,) = kept(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o077) != (0, 0)
    assert file.parent.parent.stat().st_mode & 0o077 == 0
    changed = file.stat().st_mtime_ns
    other = ThumbCache(tmp_path / "thumbs", 10_000_000, makers)
    assert other.get(found, 320, "WEBP") == first
    assert kept(tmp_path)[0].stat().st_mtime_ns == changed


def test_what_was_damaged_is_made_again(cache: ThumbCache, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    first = cache.get(photo_file(path), 160, "JPEG")
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    for damaged in (b"", b"abc", whole[:-20], whole[:50] + b"x" + whole[51:]):
        file.write_bytes(damaged)
        assert cache.get(photo_file(path), 160, "JPEG") == first
        assert file.read_bytes() == whole


def test_a_file_that_left_or_changed_gives_nothing_though_it_was_kept(
    cache: ThumbCache, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    found = photo_file(path)
    assert cache.get(found, 160, "JPEG") is not None
    path.write_bytes(jpeg(picture(seed=5)))
    with pytest.raises(PhotoError, match="changed since") as caught:
        cache.get(found, 320, "JPEG")
    assert (caught.value.stage, caught.value.transient) == ("read", True)
    path.unlink()
    assert cache.get(found, 160, "JPEG") is None


class Counting(ThumbMakers):
    """Counts what it is asked for, and takes its time."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls = 0

    def make(self, *arguments: Any) -> bytes:
        self.calls += 1
        time.sleep(0.2)
        return super().make(*arguments)


def test_many_who_ask_for_one_thumbnail_have_it_made_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    found, made = photo_file(path), []
    with Counting() as makers:
        cache = ThumbCache(tmp_path / "thumbs", 10_000_000, makers)
        threads = [
            threading.Thread(target=lambda: made.append(cache.get(found, 160, "JPEG"))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert makers.calls == 1
    assert len(made) == 16
    assert len(set(made)) == 1


def test_the_cache_stays_within_its_limit_and_keeps_what_was_used_last(
    tmp_path: Path, makers: ThumbMakers
) -> None:
    photos = []
    for number in range(12):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(picture(seed=number)))
        photos.append(photo_file(path))
    big = ThumbCache(tmp_path / "thumbs", 10_000_000, makers)
    for found in photos:
        big.get(found, 160, "JPEG")
    sizes = [file.stat().st_size for file in kept(tmp_path)]
    limit = sum(sizes) // 2
    now = time.time()
    for number, found in enumerate(photos):
        # The first is used last.
        path = next(file for file in kept(tmp_path) if file.name.startswith(found.digest.hex()))
        os.utime(path, (now - 10_000 - number * 100,) * 2)
    two = [ThumbCache(tmp_path / "thumbs", limit, makers) for _ in range(2)]
    left = two[0].sweep()
    assert 0 < left <= limit
    names = {file.name.split("-")[0] for file in kept(tmp_path)}
    assert photos[0].digest.hex() in names
    assert photos[-1].digest.hex() not in names
    # Two processes on one folder.
    for number, found in enumerate(photos):
        assert two[number % 2].get(found, 160, "JPEG") is not None
        assert sum(file.stat().st_size for file in kept(tmp_path)) <= limit * 1.2
    leftover = kept(tmp_path)[0].with_name(".birdsearch-0.part")
    leftover.write_bytes(b"half")
    os.utime(leftover, (now - 10_000,) * 2)
    two[0].sweep()
    assert not leftover.exists()


def test_using_a_thumbnail_marks_it_as_used(cache: ThumbCache, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    cache.get(photo_file(path), 160, "JPEG")
    (file,) = kept(tmp_path)
    os.utime(file, (1e9, 1e9))
    cache.get(photo_file(path), 160, "JPEG")
    assert time.time() - file.stat().st_mtime < 100


def test_no_room_and_no_folder_only_mean_that_nothing_is_kept(tmp_path: Path, makers: ThumbMakers) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(picture()))
    (tmp_path / "file").write_bytes(b"")
    for cache in (
        ThumbCache(tmp_path / "thumbs", 0, makers),
        ThumbCache(tmp_path / "file" / "x", 1000, makers),
    ):
        assert cache.get(photo_file(path), 160, "JPEG") is not None
    assert kept(tmp_path) == []


# -- decoders that fail ----------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (bomb(), "too-many-pixels"),
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-a-picture"),
        (b"\xff\xd8\xff\xe0" + bytes(500), "corrupt"),
        (jpeg(picture())[:3000], "truncated"),
    ],
)
def test_what_cannot_be_decoded_says_why_and_the_next_one_can(
    cache: ThumbCache, tmp_path: Path, content: bytes, code: str
) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(PhotoError) as caught:
            cache.get(photo_file(path), 160, "JPEG")
        assert caught.value.code in (code, "truncated")
    good = tmp_path / "good.jpg"
    good.write_bytes(jpeg(picture()))
    assert cache.get(photo_file(good), 160, "JPEG") is not None


# A worker that behaves as the file says: it crashes, hangs, answers nonsense or half, or as it should.
_WORKER = """
import os, signal, socket, sys, time
from birdsearch.search.service import thumb_worker
real = thumb_worker.make_thumbnail
def make(data, *given, **named):
    if b"CRASH" in data: os.kill(os.getpid(), signal.SIGSEGV)
    if b"KILL" in data: os.kill(os.getpid(), signal.SIGKILL)
    if b"HANG" in data:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(600)
    if b"MEMORY" in data: raise MemoryError
    if b"NONSENSE" in data:
        os.write(int(sys.argv[1]), b"\\x00\\x00\\x00\\x04nope"); time.sleep(600)
    if b"HALF" in data:
        os.write(int(sys.argv[1]), b"\\x00\\x00\\x10\\x00{"); time.sleep(600)
    return real(data, *given, **named)
thumb_worker.make_thumbnail = make
sys.exit(thumb_worker.main(sys.argv[1:]))
"""


@pytest.fixture
def hostile() -> Iterator[ThumbMakers]:
    limits = PhotoLimits(deadline_s=1.0)
    with ThumbMakers(1, limits, command=(sys.executable, "-c", _WORKER), read_s=0.5) as made:
        yield made


@pytest.mark.parametrize(
    ("what", "code", "is_remembered"),
    [
        (b"CRASH", "crashed", True),
        (b"KILL", "crashed", False),
        (b"HANG", "deadline", True),
        (b"MEMORY", "out-of-memory", True),
        (b"NONSENSE", "crashed", False),
        (b"HALF", "crashed", False),
    ],
)
def test_a_decoder_that_fails_costs_one_photo(
    hostile: ThumbMakers, tmp_path: Path, what: bytes, code: str, is_remembered: bool
) -> None:
    cache = ThumbCache(tmp_path / "thumbs", 10_000_000, hostile)
    bad, good = tmp_path / "bad.jpg", tmp_path / "good.jpg"
    bad.write_bytes(jpeg(picture(seed=5), comment=what))
    good.write_bytes(jpeg(picture()))
    assert cache.get(photo_file(good), 160, "JPEG") is not None
    started = time.monotonic()
    with pytest.raises(PhotoError) as caught:
        cache.get(photo_file(bad), 160, "JPEG")
    assert time.monotonic() - started < 15
    assert caught.value.code == code
    assert cache.get(photo_file(good), 320, "JPEG") is not None
    if is_remembered:
        # It is not tried again, so that nobody else waits for it.
        started = time.monotonic()
        with pytest.raises(PhotoError):
            cache.get(photo_file(bad), 160, "JPEG")
        assert time.monotonic() - started < 0.5


def test_who_finds_all_busy_is_told_so(hostile: ThumbMakers, tmp_path: Path) -> None:
    cache = ThumbCache(tmp_path / "thumbs", 10_000_000, hostile)
    found, errors = [], []
    for number in range(4):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(picture(seed=number), comment=b"HANG"))
        found.append(photo_file(path))

    def ask(one: PhotoContent) -> None:
        try:
            cache.get(one, 160, "JPEG")
        except BirdsearchError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(one,)) for one in found]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 20
    assert len(errors) == 4
    assert any(isinstance(error, ThumbMakersBusyError) for error in errors)


def test_closing_ends_what_hangs_and_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(jpeg(picture(), comment=b"HANG"))
    makers = ThumbMakers(1, command=(sys.executable, "-c", _WORKER))
    cache = ThumbCache(tmp_path / "thumbs", 10_000_000, makers)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            cache.get(photo_file(path), 160, "JPEG")
        except BirdsearchError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 30
    while not makers.process_ids and time.monotonic() < deadline:
        time.sleep(0.01)
    (process_id,) = makers.process_ids
    cache.close()
    thread.join(20)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [BirdsearchError]
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
    cache.close()
    with pytest.raises(BirdsearchError, match="stopping"):
        cache.get(photo_file(path), 320, "JPEG")


# -- over HTTP -------------------------------------------------------------------------------------------------


def ask(server: Any, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    host, port = server.address
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request(
            "GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_thumbnail_over_http(server: Any) -> None:
    path = "/api/photos/1/thumb"
    etags = set()
    for accept, media_type in (
        ("image/webp", "image/webp"),
        ("*/*", "image/jpeg"),
        ("image/avif", "image/avif"),
    ):
        status, headers, body = ask(server, path, Accept=accept)
        assert (status, headers["content-type"], headers["vary"]) == (200, media_type, "Accept")
        assert headers["cache-control"] == "private, max-age=86400"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["etag"].startswith('"')
        shown = Image.open(io.BytesIO(body))
        assert Image.MIME[str(shown.format)] == media_type
        assert max(shown.size) <= 320
        etags.add(headers["etag"])
        for known in (headers["etag"], "W/" + headers["etag"], '"a", ' + headers["etag"], "*"):
            status, again, nothing = ask(server, path, Accept=accept, If_None_Match=known)
            assert (status, nothing, again["etag"], again["vary"]) == (304, b"", headers["etag"], "Accept")
        assert ask(server, path, Accept=accept, If_None_Match='"other"')[0] == 200
    etags.add(ask(server, path + "?size=160")[1]["etag"])
    etags.add(ask(server, path + "?box=0,0,0.5,0.5")[1]["etag"])
    assert len(etags) == 5
    assert ask(server, path, Accept="text/html")[0] == 406
    # AVIF takes long to make where it is large.
    assert ask(server, path + "?size=640", Accept="image/avif,image/webp")[1]["content-type"] == "image/webp"


@pytest.mark.parametrize(
    "query", ["size=200", "size=x", "size=-1", "box=1,2", "box=0,0,2,2", "box=nan,0,1,1"]
)
def test_what_no_thumbnail_has_is_422(server: Any, query: str) -> None:
    assert ask(server, f"/api/photos/1/thumb?{query}")[0] == 422


def test_many_ask_a_server_at_once(make_server: Callable[..., Any], catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True)
    ids = range(1, 13)
    found: list[tuple[int, bytes]] = []

    def some() -> None:
        for photo_id in ids:
            status, _, body = ask(server, f"/api/photos/{photo_id}/thumb?size=160", Accept="image/jpeg")
            found.append((photo_id, body if status == 200 else b""))

    threads = [threading.Thread(target=some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * 12
    assert len(set(found)) == 12
    assert all(body for _, body in found)
