"""The image data of JPEG files.

Sources: ITU-T T.81, annex B; T.872 (JFIF and the Adobe marker), section 6.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from birdsearch.model.images.image_data import ImageData, MalformedError, checked_ranges

__all__ = ["jpeg_data"]

_SOF = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_SOS, _EOI, _COM, _APP0, _APP14 = 0xDA, 0xD9, 0xFE, 0xE0, 0xEE
_APPLICATION = range(0xE0, 0xF0)
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
# Segments and scans of one file; a progressive one has about ten scans.
_MOST_SEGMENTS, _MOST_FILL = 4096, 256
# So much coded data is looked at together: it stays in the processor's cache.
_LOOK = 1 << 17


def jpeg_data(data: bytes) -> ImageData:
    """Return the tables, headers and scans of the first picture, up to its end marker.

    Application segments and comments are left out, and so is all that follows the end marker: further pictures of
    an MPO, the film of a live photo, padding. What of the segments decides the colours is a fact: whether the
    components are RGB, YCbCr, CMYK or YCCK, as decoders take it from JFIF, Adobe and the names of the components.
    Two files that differ in nothing else than having been written by programs that add a JFIF segment are one.
    """
    ranges: list[tuple[int, int]] = []
    jfif, adobe, components = False, None, b""
    for marker, start, end in _segments(data):
        if marker == _APP0:
            jfif = jfif or data[start + 4 : start + 9] == b"JFIF\0"
        elif marker == _APP14 and data[start + 4 : start + 9] == b"Adobe" and end - start >= 16:
            adobe = data[start + 15]
        elif marker not in _APPLICATION and marker != _COM:
            ranges.append((start, end))
            if marker in _SOF and not components:
                # (id, sampling, table) of each component, behind precision, height, width and their number
                components = data[start + 10 : end : 3]
    if not components:
        raise MalformedError
    return ImageData("JPEG", checked_ranges(ranges, len(data)), _colours(components, adobe, jfif=jfif))


def _colours(components: bytes, adobe: int | None, *, jfif: bool) -> bytes:
    """Return how decoders take the components, by the rules of the Independent JPEG Group's library."""
    if len(components) == 3:
        if jfif:
            return b"YCC"
        if adobe is not None:
            return b"RGB" if adobe == 0 else b"YCC"
        return b"RGB" if components == b"RGB" else b"YCC"
    if len(components) == 4:
        # Adobe's programs store the inks inverted.
        return b"CMYK" if adobe is None else b"CMYK inverted" if adobe == 0 else b"YCCK inverted"
    return b""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, those of scans with the coded data that follows."""
    at, scans = 2, 0
    for _ in range(_MOST_SEGMENTS):
        # As decoders do: what is between segments and is no marker is passed over.
        start = at = data.find(b"\xff", at)
        if at < 0:
            raise MalformedError
        # A marker may be filled up with 0xFF before it.
        while data[at] == 0xFF:
            at += 1
            if at - start > _MOST_FILL:
                raise MalformedError
        marker, start = data[at], at - 1
        at += 1
        if marker == 0x00:
            continue
        if marker == _EOI:
            if not scans:
                raise MalformedError
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        end = at + length
        if length < 2 or end > len(data):
            raise MalformedError
        if marker == _SOS:
            scans += 1
            end = _next_marker(data, end)
        yield marker, start, end
        at = end
    raise MalformedError


def _next_marker(data: bytes, start: int) -> int:
    """Return the offset of the marker that ends coded data; restart markers belong to it."""
    values = np.frombuffer(data, np.uint8)
    while start < len(data) - 1:
        # One byte more, so that no marker is cut in two.
        some = values[start : start + _LOOK + 1]
        offsets = np.flatnonzero(some[:-1] == 0xFF)
        after = some[offsets + 1]
        # 0x00 follows a 0xFF that is data, 0xFF one that only fills up.
        ends = (after != 0x00) & ((after < 0xD0) | (after > 0xD7)) & (after != 0xFF)
        if ends.any():
            return start + int(offsets[int(ends.argmax())])
        start += _LOOK
    raise MalformedError
