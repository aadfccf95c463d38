"""Photos as large as those of today's cameras, made from smaller ones, to time an archive of them.

    python benchmarks/large_photos.py SOURCE OUT [--count 200] [--seed 0] [--processes 2]

SOURCE is a folder of photos. Each photo written is a random part of one of them, enlarged to 24 to 45 megapixels
and sharpened, with a sensor's noise on it, so that its file takes a camera's bytes and time to decode: JPEG
of quality 90 to 95, colour at half the resolution across or both ways, EXIF with a time, a camera and an
orientation. Half of them carry a preview as cameras embed it: a reduced picture behind the photo, named by an
MPF segment (CIPA DC-007). What they show is no finer than SOURCE was: they are for timing and for comparing two
ways to decode one file, not for comparing photos.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import struct
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

_SUFFIXES = {".jpg", ".jpeg", ".png"}
# (width, height) of sensors of 24, 20, 33, 24, 26 and 45 megapixels, and the weight of each.
_SENSORS = ((6000, 4000), (5472, 3648), (7008, 4672), (6048, 4024), (6240, 4160), (8256, 5504))
_WEIGHTS = (0.3, 0.1, 0.25, 0.15, 0.1, 0.1)
_TILE = 1024
_PREVIEW = (1620, 1080)


def make_photo(source: Path, target: Path, seed: tuple[int, int]) -> None:
    """Write one photo; the same seed and source give the same file."""
    rng = np.random.default_rng(seed)
    sensor = _SENSORS[int(rng.choice(len(_SENSORS), p=_WEIGHTS))]
    with Image.open(source) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    upright = picture.height > picture.width
    size = sensor[::-1] if upright else sensor
    picture = _noisy(_part(picture, size, rng), rng)
    exif = _exif(rng, upright=upright)
    if upright:
        # The camera was turned: what its sensor saw lies on its side, and the EXIF says so.
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    body = io.BytesIO()
    quality, sampling = int(rng.integers(90, 96)), int(rng.choice((1, 2)))
    picture.save(body, "JPEG", quality=quality, subsampling=sampling, exif=exif)
    content = body.getvalue()
    if rng.random() < 0.5:
        preview = io.BytesIO()
        picture.resize(_preview_size(picture.size), Image.Resampling.BOX).save(preview, "JPEG", quality=85)
        content = with_preview(content, preview.getvalue())
    target.write_bytes(content)


def _part(picture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    ratio = size[0] / size[1]
    width = min(picture.width, picture.height * ratio) * rng.uniform(0.6, 1.0)
    height = width / ratio
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    large = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        large = ImageOps.mirror(large)
    return large.filter(ImageFilter.Kernel((3, 3), (-1, -2, -1, -2, 20, -2, -1, -2, -1), 8))


def _noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Noise of 2 to 6 grey levels, a little correlated between neighbours as after demosaicing."""
    grain = rng.normal(0, 1, (_TILE + 1, _TILE + 1, 3)).astype(np.float32)
    grain = grain[1:, 1:] + 0.5 * (grain[:-1, 1:] + grain[1:, :-1])
    grain = 0.6 * grain + 0.4 * grain.mean(axis=2, keepdims=True)
    grain = np.rint(grain * (rng.uniform(2, 6) / grain.std())).astype(np.int16)
    pixels = np.array(picture)
    for top in range(0, pixels.shape[0], _TILE):
        for left in range(0, pixels.shape[1], _TILE):
            block = pixels[top : top + _TILE, left : left + _TILE]
            # The same grain at another place, so that tiles differ.
            rolled = np.roll(grain, rng.integers(0, _TILE, 2), axis=(0, 1))
            block[:] = np.clip(block + rolled[: block.shape[0], : block.shape[1]], 0, 255)
    return Image.fromarray(pixels)


def _exif(rng: np.random.Generator, *, upright: bool) -> Image.Exif:
    exif = Image.Exif()
    moment = datetime(2024, 1, 1) + timedelta(seconds=int(rng.integers(0, 365 * 86400)))
    exif[271], exif[272], exif[274] = "Acme", "Acme Bench", 6 if upright else 1
    exif.get_ifd(0x8769)[36867] = moment.strftime("%Y:%m:%d %H:%M:%S")
    return exif


def _preview_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = max(_PREVIEW) / max(size)
    return round(size[0] * scale), round(size[1] * scale)


def with_preview(photo: bytes, preview: bytes) -> bytes:
    """Put a reduced picture behind a JPEG and name it in an MPF segment, as cameras do.

    Source: CIPA DC-007-2009, sections 5.2.2 and 5.2.3.
    """
    # A segment's length counts itself; the offsets count from the byte order mark in it.
    head = 2 if photo[2:4] != b"\xff\xe1" else 4 + int.from_bytes(photo[4:6], "big")
    entries = 8 + 2 + 3 * 12 + 4
    body = entries + 2 * 16
    total = len(photo) + 2 + 2 + 4 + body
    # Where the second picture lies, counted from the byte order mark.
    offset = total - (head + 8)
    directory = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHII", 0xB002, 7, 32, entries)
    first = struct.pack("<IIIHH", 0x20030000, total, 0, 0, 0)
    second = struct.pack("<IIIHH", 0x00010002, len(preview), offset, 0, 0)
    segment = b"MPF\0" + b"II\x2a\0" + struct.pack("<IH", 8, 3) + directory + bytes(4) + first + second
    marked = b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment
    return photo[:head] + marked + photo[head:] + preview


def make_photos(source: Path, out: Path, count: int, seed: int = 0, processes: int = 2) -> list[Path]:
    """Write `count` photos made from those of a folder into another."""
    sources = sorted(path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not sources:
        raise SystemExit(f"{source} has no photos")
    out.mkdir(parents=True, exist_ok=True)
    targets = [out / f"{number:05d}.jpg" for number in range(count)]
    work = [
        (sources[number % len(sources)], target, (seed, number))
        for number, target in enumerate(targets)
        if not target.exists()
    ]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(make_photo, work, chunksize=1)
    return targets


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("source", type=Path, help="a folder of photos")
    parser.add_argument("out", type=Path, help="where the large ones go")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    written = make_photos(given.source, given.out, given.count, given.seed, given.processes)
    size = sum(path.stat().st_size for path in written)
    print(f"{len(written)} photos, {size / len(written) / 1e6:.1f} MB each, in {given.out}")
