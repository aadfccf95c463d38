"""The image data of TIFF files and of the camera files that are made like them: DNG, NEF, CR2, ARW, ORF, RW2, PEF.

Sources: TIFF 6.0, sections 2 and 8 to 22; Adobe TIFF Technical Note 1 (sub-IFDs); DNG 1.7, chapters 3 and 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from birdsearch.model.images.image_data import MOST_RANGES, ImageData, MalformedError, checked_ranges

__all__ = ["tiff_data"]

_SUBFILE_TYPE, _SUB_IFDS, _JPEG_TABLES = 254, 330, 347
# (offsets, lengths) of strips, of tiles
_PIECES = ((273, 279), (324, 325))
_REDUCED = 1
# Size, depth, compression, meaning, planes, prediction, colour table; then what DNG makes levels of.
_DECODING = frozenset(
    (
        *(256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339),
        *(_JPEG_TABLES, 512, 519, 520, 521, 529, 530, 532, 33421, 33422),
        *(50710, 50711, 50712, 50713, 50714, 50715, 50716, 50717, 50718, 50719, 50720, 50829, 51008, 51009),
    )
)
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_IFDS, _MOST_ENTRIES = 256, 4096


@dataclass(frozen=True, slots=True)
class _Layout:
    """Byte order, and the widths of a classic or a big TIFF."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")


@dataclass(frozen=True, slots=True)
class _Value:
    kind: int
    count: int
    start: int
    end: int


def tiff_data(data: bytes) -> ImageData:
    """Return the strips and tiles of all pictures but reduced ones, and the tags that say how to decode them.

    Cameras put reduced pictures beside the sensor's data; programs make them anew or take them away.
    """
    order = "<" if data[:2] == b"II" else ">"
    layout = _Layout(order, _number(data, 2, order + "H") == 43)
    start = _number(data, 8 if layout.is_big else 4, layout.offset)
    ranges: list[tuple[int, int]] = []
    facts: list[bytes] = [data[:2]]
    hashed = 0
    for entries in _ifds(data, start, layout):
        kind = _integers(data, entries.get(_SUBFILE_TYPE), layout)
        if kind and kind[0] & _REDUCED:
            continue
        pieces = [piece for pair in _PIECES for piece in _pieces(data, entries, pair, layout)]
        if not pieces:
            continue
        if len(ranges) + len(pieces) > MOST_RANGES:
            raise MalformedError
        ranges += pieces
        lengths = [end - start for start, end in pieces]
        facts.append(struct.pack(f"<Q{len(lengths)}Q", len(lengths), *lengths))
        for tag in sorted(_DECODING & entries.keys()):
            value = entries[tag]
            hashed += value.end - value.start
            if hashed > len(data):
                raise MalformedError
            facts.append(struct.pack("<HHQ", tag, value.kind, value.count) + data[value.start : value.end])
    return ImageData("TIFF", checked_ranges(ranges, len(data)), b"".join(facts))


def _ifds(data: bytes, first: int, layout: _Layout) -> Iterator[dict[int, _Value]]:
    """Yield the entries of each directory by tag, in a fixed order."""
    waiting, seen = [first], set[int]()
    while waiting:
        start = waiting.pop()
        if start in seen or not start:
            continue
        if len(seen) >= _MOST_IFDS:
            raise MalformedError
        seen.add(start)
        entries, following = _entries(data, start, layout)
        yield entries
        waiting.append(following)
        waiting += reversed(_integers(data, entries.get(_SUB_IFDS), layout, _MOST_IFDS))


def _entries(data: bytes, start: int, layout: _Layout) -> tuple[dict[int, _Value], int]:
    """Return the entries of a directory, and the offset of the next one."""
    count = _number(data, start, layout.count)
    if count > _MOST_ENTRIES:
        raise MalformedError
    at = start + struct.calcsize(layout.count)
    size, inline = (20, 8) if layout.is_big else (12, 4)
    head = layout.order + ("HHQ" if layout.is_big else "HHI")
    entries = {}
    for _ in range(count):
        if at + size > len(data):
            raise MalformedError
        tag, kind, length = struct.unpack_from(head, data, at)
        offset = at + size - inline
        width = _SIZES.get(kind, 0) * length
        if width > inline:
            offset = _number(data, offset, layout.offset)
        if offset + width > len(data):
            if tag in _DECODING or tag in (273, 279, 324, 325, _SUB_IFDS):
                raise MalformedError
        elif width:
            entries[tag] = _Value(kind, length, offset, offset + width)
        at += size
    # Some writers leave the last directory's end out.
    following = _number(data, at, layout.offset) if at + struct.calcsize(layout.offset) <= len(data) else 0
    return entries, following


def _pieces(
    data: bytes, entries: dict[int, _Value], pair: tuple[int, int], layout: _Layout
) -> list[tuple[int, int]]:
    offsets, lengths = (_integers(data, entries.get(tag), layout) for tag in pair)
    if len(offsets) != len(lengths):
        raise MalformedError
    return [(offset, offset + length) for offset, length in zip(offsets, lengths, strict=True)]


def _integers(data: bytes, value: _Value | None, layout: _Layout, most: int = MOST_RANGES) -> list[int]:
    if value is None or value.kind not in _INTEGERS:
        return []
    if value.count > most:
        raise MalformedError
    return list(struct.unpack_from(f"{layout.order}{value.count}{_INTEGERS[value.kind]}", data, value.start))


def _number(data: bytes, at: int, code: str) -> int:
    if at + struct.calcsize(code) > len(data):
        raise MalformedError
    return int(struct.unpack_from(code, data, at)[0])
