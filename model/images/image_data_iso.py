"""The image data of HEIF and AVIF files, and of others made of the boxes of ISO base media files.

Sources: ISO/IEC 14496-12, sections 4.2, 8.11; ISO/IEC 23008-12 (HEIF), sections 6 and 9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from birdsearch.model.images.image_data import MOST_RANGES, ImageData, MalformedError, checked_ranges

__all__ = ["film_data", "iso_data"]

_Range = tuple[int, int]

_PICTURES = frozenset(
    (b"hvc1", b"hev1", b"av01", b"grid", b"iovl", b"iden", b"jpeg", b"avc1", b"vvc1", b"unci", b"j2k1")
)
_ROTATION, _MIRROR, _COLOUR = b"irot", b"imir", b"colr"
_PROFILES = (b"prof", b"rICC")
_IN_FILE, _IN_DATA_BOX = 0, 1
_MOST_PROPERTIES = 1 << 16


@dataclass(slots=True)
class _Meta:
    """What the `meta` box says of the items.

    Attributes:
        primary: The item that is shown.
        kinds: What each item is.
        extents: Where the content of each item is.
        properties: Range of each property box's content, by number from 1, with its type.
        has: Numbers of the properties of each item, in order.
        thumbnails: Items that are thumbnails of others.
    """

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[_Range]] = field(default_factory=dict)
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    has: dict[int, list[int]] = field(default_factory=dict)
    thumbnails: set[int] = field(default_factory=set)


def iso_data(data: bytes) -> ImageData:
    """Return the coded pictures and their properties, without Exif, XMP and thumbnails.

    Rotation and mirroring of the primary item are its `turn`; they and an ICC profile are no part of the picture.
    """
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            return _pictures(data, _read_meta(data, start + 4, end))
    raise MalformedError


def film_data(data: bytes) -> ImageData:
    """Return the content of the `mdat` boxes: all frames of a CR3 or a film, whose metadata is elsewhere."""
    ranges = [(start, end) for kind, start, end in _boxes(data, 0, len(data)) if kind == b"mdat"]
    return ImageData("mdat", checked_ranges(ranges, len(data)))


def _pictures(data: bytes, meta: _Meta) -> ImageData:
    ranges: list[_Range] = []
    facts: list[bytes] = []
    turns: list[str] = []
    hashed = 0
    for item in sorted(meta.extents):
        kind = meta.kinds.get(item)
        if kind not in _PICTURES or item in meta.thumbnails:
            continue
        ranges += meta.extents[item]
        size = sum(end - start for start, end in meta.extents[item])
        facts.append(kind + struct.pack("<?Q", item == meta.primary, size))
        for number in meta.has.get(item, ()):
            if not 0 < number <= len(meta.properties):
                raise MalformedError
            name, start, end = meta.properties[number - 1]
            is_profile = name == _COLOUR and data[start : start + 4] in _PROFILES
            if item == meta.primary and name in (_ROTATION, _MIRROR):
                turns.append(f"{name.decode()}{data[start]}")
            if name in (_ROTATION, _MIRROR) or is_profile:
                continue
            hashed += end - start + 8
            if hashed > len(data):
                raise MalformedError
            facts.append(name + struct.pack("<I", end - start) + data[start:end])
    if meta.primary not in meta.kinds:
        raise MalformedError
    return ImageData("HEIF", checked_ranges(ranges, len(data)), b"".join(facts), " ".join(turns))


def _read_meta(data: bytes, start: int, end: int) -> _Meta:
    meta = _Meta()
    extents = None
    data_box = (0, 0)
    for kind, at, stop in _boxes(data, start, end):
        if kind == b"pitm":
            meta.primary = _number(data, at + 4, 4 if data[at] else 2, stop)
        elif kind == b"iinf":
            _read_kinds(data, at, stop, meta)
        elif kind == b"iloc":
            extents = (at, stop)
        elif kind == b"idat":
            data_box = (at, stop)
        elif kind == b"iprp":
            _read_properties(data, at, stop, meta)
        elif kind == b"iref":
            _read_thumbnails(data, at, stop, meta)
    if extents is None:
        raise MalformedError
    _read_extents(data, *extents, data_box, meta)
    return meta


def _read_kinds(data: bytes, at: int, stop: int, meta: _Meta) -> None:
    start = at + (8 if data[at] else 6)
    for kind, begin, end in _boxes(data, start, stop):
        if kind == b"infe" and data[begin] >= 2:
            width = 2 if data[begin] == 2 else 4
            item = _number(data, begin + 4, width, end)
            # behind the id, the index of its protection
            meta.kinds[item] = data[begin + 6 + width : begin + 10 + width]


def _read_properties(data: bytes, start: int, stop: int, meta: _Meta) -> None:
    for kind, at, end in _boxes(data, start, stop):
        if kind == b"ipco":
            meta.properties += _boxes(data, at, end)
            if len(meta.properties) > _MOST_PROPERTIES:
                raise MalformedError
        elif kind == b"ipma":
            wide_id, wide_number = data[at] >= 1, data[at + 3] & 1
            count = _number(data, at + 4, 4, end)
            at += 8
            for _ in range(min(count, MOST_RANGES)):
                item = _number(data, at, 4 if wide_id else 2, end)
                at += 4 if wide_id else 2
                numbers = []
                at += 1
                for _ in range(_number(data, at - 1, 1, end)):
                    width = 2 if wide_number else 1
                    # without the bit that says whether a reader must know the property
                    numbers.append(_number(data, at, width, end) & (0x7FFF if wide_number else 0x7F))
                    at += width
                meta.has[item] = [number for number in numbers if number]


def _read_thumbnails(data: bytes, at: int, stop: int, meta: _Meta) -> None:
    width = 4 if data[at] else 2
    for kind, begin, end in _boxes(data, at + 4, stop):
        if kind == b"thmb":
            meta.thumbnails.add(_number(data, begin, width, end))


def _read_extents(data: bytes, at: int, stop: int, data_box: _Range, meta: _Meta) -> None:
    version = data[at]
    offset_size, length_size = data[at + 4] >> 4, data[at + 4] & 15
    base_size, index_size = data[at + 5] >> 4, data[at + 5] & 15 if version in (1, 2) else 0
    id_size = 4 if version == 2 else 2
    count = _number(data, at + 6, id_size, stop)
    at += 6 + id_size
    total = 0
    for _ in range(count):
        item = _number(data, at, id_size, stop)
        at += id_size
        method = _IN_FILE
        if version in (1, 2):
            method = _number(data, at, 2, stop) & 15
            at += 2
        at += 2
        base = _number(data, at, base_size, stop)
        at += base_size
        extents = _number(data, at, 2, stop)
        at += 2
        found: list[_Range] = []
        total += extents
        if total > MOST_RANGES:
            raise MalformedError
        for _ in range(extents):
            at += index_size
            offset = _number(data, at, offset_size, stop)
            length = _number(data, at + offset_size, length_size, stop)
            at += offset_size + length_size
            begin = base + offset + (data_box[0] if method == _IN_DATA_BOX else 0)
            # No length: all that there is.
            last = data_box[1] if method == _IN_DATA_BOX else len(data)
            found.append((begin, begin + length if length_size and length else last))
        if method in (_IN_FILE, _IN_DATA_BOX):
            meta.extents[item] = found


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, and start and end of the content, of the boxes in a part of the file."""
    at = start
    for _ in range(MOST_RANGES):
        if at + 8 > stop:
            return
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = _number(data, at + 8, 8, stop), 16
        elif size == 0:
            size = stop - at
        if size < head or at + size > stop:
            raise MalformedError
        yield kind, at + head, at + size
        at += size
    raise MalformedError


def _number(data: bytes, at: int, size: int, stop: int) -> int:
    if at + size > stop:
        raise MalformedError
    return int.from_bytes(data[at : at + size], "big")
