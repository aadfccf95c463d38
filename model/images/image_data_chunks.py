"""The image data of PNG, WebP and GIF files.

Sources: PNG (third edition), sections 5 and 11; RFC 9649 (WebP), section 2.7; GIF89a, sections 18 to 26.
"""

from __future__ import annotations

from collections.abc import Iterator

from birdsearch.model.images.image_data import MOST_RANGES, ImageData, MalformedError, checked_ranges

__all__ = ["gif_data", "png_data", "webp_data"]

_PNG_PICTURE = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"CgBI", b"acTL", b"fcTL", b"fdAT"))
_WEBP_PICTURE = frozenset((b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"))


def png_data(data: bytes) -> ImageData:
    """Return the header, palette, transparency and compressed data, without text, times and profiles."""
    ranges: list[tuple[int, int]] = []
    at = 8
    for _ in range(MOST_RANGES):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if len(kind) != 4 or end > len(data):
            raise MalformedError
        if kind == b"IEND":
            return ImageData("PNG", checked_ranges(ranges, len(data)))
        if kind in _PNG_PICTURE:
            ranges.append((at, end))
        at = end
    raise MalformedError


def webp_data(data: bytes) -> ImageData:
    """Return the frames, and of the extended header the canvas alone: its rest says which metadata there is."""
    ranges: list[tuple[int, int]] = []
    canvas, is_animated = b"", False
    end_of_file = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    at = 12
    for _ in range(MOST_RANGES):
        if at + 8 > end_of_file:
            break
        kind = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size
        if end > len(data):
            raise MalformedError
        if kind == b"VP8X":
            canvas = data[at + 12 : at + 18]
        elif kind in _WEBP_PICTURE:
            is_animated |= kind == b"ANMF"
            ranges.append((at, end))
        # Chunks of odd size are followed by a byte that fills up.
        at = end + (size & 1)
    else:
        raise MalformedError
    return ImageData("WEBP", checked_ranges(ranges, len(data)), canvas if is_animated else b"")


def gif_data(data: bytes) -> ImageData:
    """Return the screen, the colour tables and the frames, without comments and what applications add."""
    return ImageData("GIF", checked_ranges(_gif_ranges(data), len(data)))


def _gif_ranges(data: bytes) -> Iterator[tuple[int, int]]:
    at = 13 + _table_size(data[10])
    # Not the version before it: adding a comment raises that.
    yield 6, at
    for _ in range(MOST_RANGES):
        # Some files end without their end mark.
        if at >= len(data) or data[at] == 0x3B:
            return
        start, kind = at, data[at]
        if kind == 0x21:
            label = data[at + 1]
            at = _after_blocks(data, at + 2)
            if label == 0xF9:
                yield start, at
        elif kind == 0x2C:
            # Behind the descriptor and its colour table, one byte of the code size.
            at = _after_blocks(data, at + 10 + _table_size(data[at + 9]) + 1)
            yield start, at
        else:
            raise MalformedError
    raise MalformedError


def _table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1
