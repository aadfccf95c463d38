"""From the bytes of one photo to what the catalog stores about it and what the network looks at."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.errors import PhotoError
from birdsearch.model.images.box import Box
from birdsearch.model.images.digest import photo_digests
from birdsearch.model.images.exif import Capture, read_exif
from birdsearch.model.images.file_io import read_error, read_regular_file
from birdsearch.model.images.photo import PhotoLimits, load_photo, read_header
from birdsearch.model.images.rendering import PLAIN, rendering_of
from birdsearch.model.images.resizing import resize_loaded
from birdsearch.model.images.scaling import Need, check_mode

__all__ = [
    "DecodedPhoto",
    "FileDigests",
    "SeenPhoto",
    "decode_photo",
    "digest_file",
    "need_of",
    "perceptual_hash",
    "read_file",
    "see_photo",
    "sharpness",
]

_LIMITS = PhotoLimits()
# What the hash and the sharpness are taken from: small enough that every way to decode gives it.
_MEASURED = (256, 256)
_HASH_SIDE, _HASH_FREQUENCIES = 32, 8
# Coefficients are rounded to this many decimals, so that a flat picture gives no hash of rounding errors.
_HASH_DECIMALS = 3
_RETRIED = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN})
_RETRY_PAUSES_S = (0.05, 0.2)
_READ_AHEAD_FROM = 1 << 18


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """A photo, ready to be embedded.

    Attributes:
        format: Format of the file, such as `JPEG`.
        width: Width of the upright picture in pixels.
        height: Height of the upright picture in pixels.
        pixels: What the network takes, (H, W, 3) uint8 of the asked size; it may be read-only.
        capture: What the EXIF says.
        phash: Perceptual hash, 8 bytes; see `perceptual_hash`.
        sharpness: Higher is sharper; see `sharpness`.
        decoded: What was decoded: `full`, `scaled 1/2` to `scaled 1/8`, or `preview`.
        rendering: How the file says that its picture is shown; see `birdsearch.model.images.rendering`.
    """

    format: str
    width: int
    height: int
    pixels: NDArray[np.uint8]
    capture: Capture
    phash: bytes
    sharpness: float
    decoded: str = "full"
    rendering: str = PLAIN


@dataclass(frozen=True, slots=True)
class SeenPhoto:
    """What a file says of a photo whose picture is known, so that it was not decoded.

    Attributes:
        format: Format of the file.
        capture: What the EXIF says.
        rendering: How the file says that its picture is shown.
        was_misread: True of the kinds of files that came out as other pictures before the first reading.
    """

    format: str
    capture: Capture
    rendering: str = PLAIN
    was_misread: bool = False


@dataclass(frozen=True, slots=True)
class FileDigests:
    """What the content of a file is known by.

    Attributes:
        picture: Digest of its picture; see `birdsearch.model.images.digest`.
        file: Digest of the file.
        sha256: SHA-256 of the file, where that was asked for.
    """

    picture: bytes
    file: bytes
    sha256: bytes | None = None


class FileStatus(Protocol):
    """What the crawl saw of a file."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    @property
    def mtime_ns(self) -> int:
        """Time of the last change of its content, in nanoseconds."""


def digest_file(data: bytes, *, sha256: bool = False) -> FileDigests:
    """Return the digests of a file.

    Args:
        data: The whole file.
        sha256: Take its SHA-256 too, by which catalogs before schema 5 know photos.
    """
    found = photo_digests(data)
    return FileDigests(found.picture, found.file, hashlib.sha256(data).digest() if sha256 else None)


def see_photo(data: bytes, limits: PhotoLimits = _LIMITS, suffix: str = "") -> SeenPhoto:
    """Read what a file says of a photo, without decoding it.

    Raises:
        PhotoError: It cannot be read.
    """
    header = read_header(data, limits, suffix=suffix)
    rendering = rendering_of(header.format, data, header.exif, header.profile)
    return SeenPhoto(header.format, read_exif(header.exif), rendering, header.was_misread)


def read_file(path: bytes, expected: FileStatus, limits: PhotoLimits = _LIMITS) -> bytes:
    """Read a file that the crawl found, if it still is the file that the crawl saw.

    I/O errors are tried again twice, after short pauses.

    Args:
        path: Absolute path.
        expected: Size and time of change that the crawl saw.
        limits: `max_bytes` is the most that is read.

    Returns:
        The content.

    Raises:
        PhotoError: With stage `read`: `changed`, `vanished`, `unreadable`, `not-a-file`, `too-many-bytes`,
            `io-error`.
    """
    for pause in (*_RETRY_PAUSES_S, None):
        try:
            data, before, after = read_regular_file(path, limits)
            break
        except OSError as error:
            if pause is None or error.errno not in _RETRIED:
                raise read_error(error) from error
            time.sleep(pause)
    seen = (expected.size, expected.mtime_ns)
    statuses = [(status.st_size, status.st_mtime_ns) for status in (before, after)]
    if statuses != [seen, seen] or len(data) != expected.size:
        reason = "the file changed while it was read; the next run takes it up again"
        raise PhotoError("read", "changed", reason, transient=True)
    return data


def will_need(path: bytes, size: int) -> None:
    """Ask the system to read a file ahead, where it can be asked and the file is worth it; never fails."""
    if size < _READ_AHEAD_FROM or not hasattr(os, "posix_fadvise"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    except OSError:
        # A file system that does not know of it.
        pass
    finally:
        os.close(descriptor)


def decode_photo(
    data: bytes,
    *,
    input_size: tuple[int, int],
    limits: PhotoLimits = _LIMITS,
    suffix: str = "",
    decode: str = "scaled",
    box: Box | None = None,
) -> DecodedPhoto:
    """Decode a photo, or a region of it, and measure it.

    Args:
        data: The whole file.
        input_size: (height, width) that the network takes.
        limits: What the photo may cost.
        suffix: Suffix of the file's name; it tells camera RAW files from other TIFFs.
        decode: One of `birdsearch.model.images.scaling.DECODE_MODES`.
        box: What of the photo the pixels and the measures are of; None for the whole frame.

    Returns:
        The photo.

    Raises:
        PhotoError: With stage `format` or `decode`, as `birdsearch.model.images.photo.open_photo` says.
        InvalidInputError: There is no such way to decode.
    """
    loaded = load_photo(data, limits, suffix=suffix, need=need_of(input_size, decode, box))
    exact = decode == "full"
    region = None if box is None else box.corners(loaded.size)
    image = resize_loaded(loaded, input_size, region, exact=exact)
    measured = image if input_size == _MEASURED else resize_loaded(loaded, _MEASURED, region, exact=exact)
    grey = _grey(measured)
    return DecodedPhoto(
        format=loaded.format,
        width=loaded.size[0],
        height=loaded.size[1],
        pixels=np.asarray(image),
        capture=read_exif(loaded.exif),
        phash=_hash(grey),
        sharpness=_sharpness(grey),
        decoded=loaded.decoded,
        rendering=rendering_of(loaded.format, data, loaded.exif, loaded.profile),
    )


def need_of(input_size: tuple[int, int], decode: str, box: Box | None = None) -> Need:
    """Return what has to be decoded of a photo, so that a query compares with what was indexed.

    Args:
        input_size: (height, width) that the network takes.
        decode: One of `birdsearch.model.images.scaling.DECODE_MODES`.
        box: The region that is looked at, of which as many pixels are kept as of a whole frame.

    Raises:
        InvalidInputError: There is no such way to decode.
    """
    # Enough for the measures too, where the network takes less than they do.
    largest = (max(input_size[0], _MEASURED[0]), max(input_size[1], _MEASURED[1]))
    return Need(largest, check_mode(decode), (1.0, 1.0) if box is None else (box.w, box.h))


def perceptual_hash(image: Image.Image) -> bytes:
    """Return a 64-bit hash that copies of a picture share up to a few bits.

    The picture is resized to 256 x 256 (bicubic, antialiased, aspect not kept: what a network looks at), turned
    to grey (ITU-R 601-2 luma), reduced to 32 x 32 by means, and transformed by the orthonormal two-dimensional
    DCT-II. Of its coefficients the 8 x 8 block of rows and columns 1..8 (without the constant ones) is kept,
    each rounded to 3 decimals. A bit is 1 where the coefficient is greater than the median of the 64. Bits are
    row by row, the first being the highest bit of the first byte. A flat picture hashes to zeros.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section
    3.2.1.

    NOTE: the source blurs with a 7 x 7 mean before it shrinks; here the antialiased reduction does that.

    Args:
        image: A picture of mode RGB.

    Returns:
        8 bytes. The fewer bits differ, the more alike.
    """
    return _hash(_measured_grey(image))


def sharpness(image: Image.Image) -> float:
    """Return how sharp a picture is: the variance of its Laplacian, higher is sharper.

    The picture is resized to 256 x 256 (bicubic, antialiased, aspect not kept) and turned to grey (ITU-R 601-2
    luma, 0..255), so that values compare between pictures of one scene from different sizes, however they were
    decoded. The Laplacian is the 4-neighbour one (centre -4), taken where all neighbours exist.

    Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study",
    ICPR 2000.

    Args:
        image: A picture of mode RGB.

    Returns:
        The variance, at least 0.
    """
    return _sharpness(_measured_grey(image))


def _measured_grey(image: Image.Image) -> NDArray[np.uint8]:
    return _grey(image.resize(_MEASURED, Image.Resampling.BICUBIC))


def _grey(measured: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(measured.convert("L"))


@functools.cache
def _dct_rows() -> NDArray[np.float64]:
    """Return rows 1..8 of the orthonormal DCT-II of 32 values: (8, 32) float64."""
    frequency, position = np.mgrid[1 : 1 + _HASH_FREQUENCIES, 0:_HASH_SIDE]
    rows = np.cos(np.pi * frequency * (2 * position + 1) / (2 * _HASH_SIDE)) * np.sqrt(2 / _HASH_SIDE)
    return np.asarray(rows, np.float64)


def _hash(grey: NDArray[np.uint8]) -> bytes:
    side = _MEASURED[0] // _HASH_SIDE
    # (256, 256) -> (32, 8, 256) -> (32, 256) -> (32, 32, 8) -> (32, 32), sums that are exact
    sums = grey.reshape(_HASH_SIDE, side, -1).sum(1, dtype=np.int32)
    sums = sums.reshape(_HASH_SIDE, _HASH_SIDE, side).sum(2, dtype=np.int32)
    rows = _dct_rows()
    # einsum sums in one fixed order, whichever linear algebra library NumPy was built with.
    block = np.einsum("ux,xy->uy", rows, sums / side**2)
    values = np.round(np.einsum("uy,vy->uv", block, rows), _HASH_DECIMALS).ravel()
    ordered = np.sort(values)
    middle = values.size // 2
    bits: NDArray[Any] = values > (ordered[middle - 1] + ordered[middle]) / 2
    return np.packbits(bits).tobytes()


def _sharpness(grey: NDArray[np.uint8]) -> float:
    values = grey.astype(np.int16)
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1]
    laplacian += values[1:-1, :-2]
    laplacian += values[1:-1, 2:]
    laplacian -= values[1:-1, 1:-1] << 2
    count = laplacian.size
    # Whole numbers far below 2^53 (at most 1020^2 * 254^2), so that sums are exact in any order.
    flat = laplacian.ravel().astype(np.float64)
    return float((flat @ flat - flat.sum() ** 2 / count) / count)
