"""Digests of a photo: of its picture, which is what it is, and of its file, which is how it is stored.

The picture's digest is taken of the image data alone. Editing the EXIF, XMP or IPTC of a file, its keywords,
comments or thumbnail leaves it, any change of a pixel changes it. Two things that decide how the data is shown are
left out as well, since programs edit or drop them as they do metadata: the orientation and the colour profile.
They are no part of which picture it is, and a part of what is embedded; see `birdsearch.model.images.rendering`.

The file's digest is made of the picture's and of everything else, so that no byte is hashed twice. It is not the
SHA-256 of the file.

Containers are parsed in Python, by lengths that are checked against the file's: bytes that break the rules of their
container give no image data, and the picture is then the whole file.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from birdsearch.model.images import formats
from birdsearch.model.images.image_data import ImageData, MalformedError
from birdsearch.model.images.image_data_chunks import gif_data, png_data, webp_data
from birdsearch.model.images.image_data_iso import iso_data
from birdsearch.model.images.image_data_jpeg import jpeg_data
from birdsearch.model.images.image_data_raw import raw_data
from birdsearch.model.images.image_data_tiff import tiff_data

__all__ = ["PhotoDigests", "image_data", "is_file", "is_photo", "photo_digests"]

_PICTURE, _FILE = b"birdsearch picture 1\0", b"birdsearch file 1\0"
# In front of a file's digest; those of catalogs made before there were two are SHA-256, with nothing in front.
_FILE_PREFIX = b"\x01"
_SHA256_BYTES = 32
# BMP files have nothing but the picture.
_PARSERS: Mapping[str, Callable[[bytes], ImageData]] = MappingProxyType(
    {
        "JPEG": jpeg_data,
        "PNG": png_data,
        "WEBP": webp_data,
        "GIF": gif_data,
        "TIFF": tiff_data,
        "HEIF": iso_data,
        "AVIF": iso_data,
        "RAW": raw_data,
    }
)


@dataclass(frozen=True, slots=True)
class PhotoDigests:
    """What a photo and its file are known by.

    Attributes:
        picture: 32 bytes: the same for all files with this image data.
        file: 33 bytes: the same for files of the same bytes only.
        turn: How the container itself says that the picture is turned (HEIF and AVIF), or empty.
    """

    picture: bytes
    file: bytes
    turn: str = ""


def photo_digests(data: bytes) -> PhotoDigests:
    """Return the digests of a photo.

    Args:
        data: The whole file; it need not be a photo.
    """
    found = image_data(data)
    view = memoryview(data)
    picture = hashlib.sha256(_PICTURE)
    picture.update(_framed(found.kind.encode(), found.facts))
    for start, end in found.ranges:
        picture.update(view[start:end])
    content = picture.digest()
    rest = _rest(found.ranges, len(data))
    file = hashlib.sha256(_FILE)
    file.update(_framed(content, b""))
    file.update(_numbers([bound for each in found.ranges for bound in each]))
    file.update(_numbers([end - start for start, end in rest]))
    for start, end in rest:
        file.update(view[start:end])
    return PhotoDigests(content, _FILE_PREFIX + file.digest(), found.turn)


def is_photo(data: bytes, digest: bytes) -> bool:
    """Return whether a file shows a picture.

    Args:
        data: The whole file.
        digest: The picture's digest, or the SHA-256 of a whole file that showed it.
    """
    return photo_digests(data).picture == digest or hashlib.sha256(data).digest() == digest


def is_file(data: bytes, digest: bytes) -> bool:
    """Return whether a file is still the one with a digest.

    Args:
        data: The whole file.
        digest: A file's digest as `photo_digests` gives it, or its SHA-256.
    """
    if len(digest) == _SHA256_BYTES:
        return hashlib.sha256(data).digest() == digest
    return photo_digests(data).file == digest


def image_data(data: bytes) -> ImageData:
    """Return where in a file its picture is; the whole file where the container does not say."""
    # Camera RAW files that only their names tell from other TIFFs are parsed as these.
    parser = _PARSERS.get(formats.sniff(data))
    if parser is not None:
        try:
            found = parser(data)
        except (MalformedError, IndexError):
            pass
        else:
            return found
    return ImageData("bytes", ((0, len(data)),))


def _rest(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the ranges of a file outside the given ones."""
    rest, at = [], 0
    for start, end in sorted(ranges):
        if start > at:
            rest.append((at, start))
        at = max(at, end)
    if at < size:
        rest.append((at, size))
    return rest


def _framed(*parts: bytes) -> bytes:
    return b"".join(_numbers([len(part)]) + part for part in parts)


def _numbers(values: Sequence[int]) -> bytes:
    numbers = array("Q", [len(values), *values])
    if numbers.itemsize != 8:
        raise OverflowError("this Python has no integers of 8 bytes")
    return numbers.tobytes()
