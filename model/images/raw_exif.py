"""The EXIF of camera RAW files, wherever their containers keep it.

Files that are plain TIFF (NEF, ARW, CR2, DNG and most others) are their own EXIF. The rest keep one or more small
TIFFs inside: CR3 in boxes of an ISO base media file, RAF in the JPEG of its preview, MRW in a block, X3F in the
JPEGs among its sections; RW2 and ORF are TIFFs of another magic number. CRW and old X3F files have no EXIF: their
own records of time, camera and serial number are put into its tags.

Nothing here raises: a container that is damaged gives what could be read of it, or None.

Sources: ISO/IEC 14496-12:2022, section 4.2 (boxes); CIPA DC-008-2023 (Exif 3.0), section 4.6; Canon CIFF
specification 1.0 rev. 4 (1997); Foveon "X3F raw file format" (2003).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from PIL import Image

__all__ = ["raw_exif"]

_IFD_EXIF, _IFD_GPS = 0x8769, 0x8825
_MAKE, _MODEL, _DATE_TIME = 271, 272, 306
_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED, _BODY_SERIAL, _LENS_MODEL = 36867, 36868, 42033, 42036
_JPEG_FROM_RAW = 0x002E
_TIME = "%Y:%m:%d %H:%M:%S"
_MOST_BOXES = _MOST_BLOCKS = _MOST_ENTRIES = 256
_MOST_PROPERTIES, _LONGEST_PROPERTY = 1024, 256
# Magic numbers of RW2 (Panasonic, Leica) and ORF (Olympus, OM System), which are TIFF otherwise.
_OTHER_TIFFS = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR")
_CANON_BOX = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")


def raw_exif(data: bytes, lens: str | None = None, taken: int | None = None) -> Image.Exif | None:
    """Read the EXIF of a camera RAW file.

    Args:
        data: The whole file.
        lens: Model of the lens as LibRaw knows it, for files whose EXIF does not name it.
        taken: When LibRaw says that the photo was taken, in seconds of this machine's clock, likewise.

    Returns:
        The EXIF, or None where there is none that can be read.
    """
    exif = _read(data)
    if not lens and not taken:
        return exif
    try:
        return _completed(Image.Exif() if exif is None else exif, lens, taken)
    except Exception:
        return exif


def _read(data: bytes) -> Image.Exif | None:
    read = next((read for is_of, read in _READERS if is_of(data)), None)
    try:
        return None if read is None else read(data)
    except Exception:
        # Broken metadata is no reason to lose the picture.
        return None


def _completed(exif: Image.Exif, lens: str | None, taken: int | None) -> Image.Exif:
    details = exif.get_ifd(_IFD_EXIF)
    if lens:
        details.setdefault(_LENS_MODEL, lens)
    is_dated = _DATE_TIME in exif or _DATE_TIME_ORIGINAL in details or _DATE_TIME_DIGITIZED in details
    if taken is not None and taken > 0 and not is_dated:
        # LibRaw takes the camera's wall-clock time for a local time of this machine.
        details[_DATE_TIME_ORIGINAL] = datetime.fromtimestamp(taken).strftime(_TIME)
    return exif


def _tiff(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif


def _jpeg_exif(data: bytes) -> bytes | None:
    """Return the EXIF segment of a JPEG file, if it has one."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xDA:
            return None
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 4 : at + 2 + length]
        at += 2 + length
    return None


def _other_tiff(data: bytes) -> Image.Exif:
    order = data[:2]
    exif = _tiff(order + (b"\x2a\0" if order == b"II" else b"\0\x2a") + data[4:])
    preview = exif.get(_JPEG_FROM_RAW)
    # What Panasonic writes beside the sensor's data is little; the preview has it all.
    if isinstance(preview, bytes):
        segment = _jpeg_exif(preview)
        if segment is not None:
            _fill(exif, segment)
    return exif


def _fill(exif: Image.Exif, segment: bytes) -> None:
    """Put in what another EXIF says and this one does not."""
    try:
        other = _tiff(segment)
        base = {tag: other.get(tag) for tag in (_MAKE, _MODEL, _DATE_TIME)}
        parts = {ifd: dict(other.get_ifd(ifd)) for ifd in (_IFD_EXIF, _IFD_GPS)}
    except Exception:
        return
    for tag, value in base.items():
        if value is not None and tag not in exif:
            exif[tag] = value
    for ifd, tags in parts.items():
        own = exif.get_ifd(ifd)
        for tag, value in tags.items():
            own.setdefault(tag, value)


def _cr3(data: bytes) -> Image.Exif | None:
    for kind, moov in _boxes(data):
        if kind != b"moov":
            continue
        for inner, body in _boxes(moov):
            if inner == b"uuid" and body[:16] == _CANON_BOX:
                blocks = dict(_boxes(body[16:]))
                return _canon(blocks)
    return None


def _canon(blocks: dict[bytes, bytes]) -> Image.Exif:
    """Return one EXIF of the blocks that Canon parts it into: IFD 0, the Exif IFD, and that of GPS."""
    exif = _tiff(blocks[b"CMT1"]) if b"CMT1" in blocks else Image.Exif()
    for name, ifd in ((b"CMT2", _IFD_EXIF), (b"CMT4", _IFD_GPS)):
        if name in blocks:
            try:
                exif.get_ifd(ifd).update(dict(_tiff(blocks[name])))
            except Exception:  # noqa: S112 the other blocks may be sound
                continue
    return exif


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes that lie whole in `data`, in order."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            return
        # The sensor's data would only be copied.
        yield kind, b"" if kind == b"mdat" else data[at + head : at + size]
        at += size


def _raf(data: bytes) -> Image.Exif | None:
    start, length = struct.unpack_from(">II", data, 84)
    segment = _jpeg_exif(data[start : start + length])
    return None if segment is None else _tiff(segment)


def _mrw(data: bytes) -> Image.Exif | None:
    end = min(len(data), 8 + int(struct.unpack_from(">I", data, 4)[0]))
    at = 8
    for _ in range(_MOST_BLOCKS):
        if at + 8 > end:
            return None
        name, size = struct.unpack_from(">4sI", data, at)
        if name == b"\0TTW":
            return _tiff(data[at + 8 : at + 8 + size])
        at += 8 + size
    return None


def _x3f(data: bytes) -> Image.Exif | None:
    (at,) = struct.unpack_from("<I", data, len(data) - 4)
    name, _, count = struct.unpack_from("<4sII", data, at)
    if name != b"SECd":
        return None
    properties: dict[str, str] = {}
    segment = None
    for number in range(min(count, _MOST_ENTRIES)):
        start, length, kind = struct.unpack_from("<II4s", data, at + 12 + 12 * number)
        section = data[start : start + length]
        if kind == b"PROP":
            properties = _properties(section)
        elif kind in (b"IMAG", b"IMA2") and segment is None:
            # Behind the header of the section.
            segment = _jpeg_exif(section[28:])
    exif = Image.Exif() if segment is None else _tiff(segment)
    _put(exif, _MAKE, properties.get("CAMMANUF"))
    _put(exif, _MODEL, properties.get("CAMMODEL"))
    taken = properties.get("TIME", "")
    _describe(exif, int(taken) if taken.isdecimal() else None, properties.get("CAMSERIAL"))
    return exif


def _properties(section: bytes) -> dict[str, str]:
    """Return names and values of a property list of an X3F file."""
    name, _, count, kind, _, length = struct.unpack_from("<4sIIIII", section, 0)
    if name != b"SECp" or kind != 0:
        return {}
    count = min(count, _MOST_PROPERTIES)
    text = section[24 + 8 * count :][: 2 * length].decode("utf-16-le", "replace")

    def at(offset: int) -> str:
        return text[offset : offset + _LONGEST_PROPERTY].split("\0")[0]

    pairs = (struct.unpack_from("<II", section, 24 + 8 * number) for number in range(count))
    return {at(key): at(value) for key, value in pairs}


def _crw(data: bytes) -> Image.Exif | None:
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 2)
    exif = Image.Exif()
    taken: int | None = None
    serial: str | None = None
    for tag, content in _ciff(data[start:], order):
        if tag == 0x080A:
            make, _, model = content.partition(b"\0")
            _put(exif, _MAKE, make)
            _put(exif, _MODEL, model.split(b"\0")[0])
        elif tag == 0x180E and len(content) >= 4:
            (taken,) = struct.unpack_from(order + "I", content, 0)
        elif tag == 0x180B and len(content) >= 4:
            serial = str(struct.unpack_from(order + "I", content, 0)[0])
    _describe(exif, taken, serial)
    return exif


def _ciff(heap: bytes, order: str, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of the records of a CIFF heap and of the heaps in it, without long ones."""
    if len(heap) < 6 or depth > 4:
        return
    (at,) = struct.unpack_from(order + "I", heap, len(heap) - 4)
    (count,) = struct.unpack_from(order + "H", heap, at)
    for number in range(min(count, _MOST_ENTRIES)):
        tag, size, offset = struct.unpack_from(order + "HII", heap, at + 2 + 10 * number)
        if tag & 0xC000 == 0x4000:
            # The value is in the record itself.
            start = at + 2 + 10 * number + 2
            yield tag & 0x3FFF, heap[start : start + 8]
        elif tag & 0x3800 in (0x2800, 0x3000) and 0 < size < len(heap):
            yield from _ciff(heap[offset : offset + size], order, depth + 1)
        elif size < 1024:
            yield tag & 0x3FFF, heap[offset : offset + size]


def _describe(exif: Image.Exif, seconds: int | None, serial: str | None) -> None:
    """Put in a wall-clock time, counted in seconds from 1970, and a serial number, where there are none."""
    details = exif.get_ifd(_IFD_EXIF)
    if seconds and _DATE_TIME_ORIGINAL not in details:
        details[_DATE_TIME_ORIGINAL] = datetime.fromtimestamp(seconds, UTC).strftime(_TIME)
    if serial and serial != "0":
        details.setdefault(_BODY_SERIAL, serial)


def _put(exif: Image.Exif, tag: int, value: Any) -> None:
    if value and tag not in exif:
        exif[tag] = value


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Image.Exif | None]], ...] = (
    (lambda data: data[:4] in (b"II\x2a\0", b"MM\0\x2a"), _tiff),
    (lambda data: data[:4] in _OTHER_TIFFS, _other_tiff),
    (lambda data: data[4:12] == b"ftypcrx ", _cr3),
    (lambda data: data.startswith(b"FUJIFILMCCD-RAW"), _raf),
    (lambda data: data.startswith(b"\0MRM"), _mrw),
    (lambda data: data.startswith(b"FOVb"), _x3f),
    (lambda data: data[6:14] == b"HEAPCCDR", _crw),
)
