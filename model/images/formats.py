"""Which picture formats are read, and how the bytes of a file say which one it is.

A format is recognised by content, never by name: photos come with wrong suffixes, and web pages are saved as
`.jpg`. The suffix only decides which files of an archive are looked at, and marks camera RAW files, whose
content is TIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType

from birdsearch.errors import PhotoError

__all__ = [
    "SUFFIXES",
    "UNREAD_SUFFIXES",
    "is_cut_short",
    "missing_extra",
    "raw_ends_early",
    "sniff",
    "webp_canvas",
]

RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
        **dict.fromkeys((".png", ".apng"), "PNG"),
        ".webp": "WEBP",
        **dict.fromkeys((".tif", ".tiff"), "TIFF"),
        **dict.fromkeys((".bmp", ".dib"), "BMP"),
        ".gif": "GIF",
        **dict.fromkeys((".heic", ".heif", ".hif", ".heics", ".heifs"), "HEIF"),
        **dict.fromkeys((".avif", ".avifs"), "AVIF"),
        **dict.fromkeys(RAW_SUFFIXES, "RAW"),
    }
)
"""Lower-case suffix -> format that it stands for: what is read, HEIF and RAW with their extras."""

UNREAD_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"), "JPEG 2000"),
        **dict.fromkeys((".psd", ".psb"), "Photoshop"),
        **dict.fromkeys((".svg", ".svgz"), "SVG"),
        **dict.fromkeys((".eps", ".ps", ".ai"), "PostScript"),
        **dict.fromkeys((".ico", ".cur"), "icon"),
        **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PNM"),
        ".jxl": "JPEG XL",
        ".jxr": "JPEG XR",
        ".tga": "Targa",
        ".pcx": "PCX",
        ".exr": "OpenEXR",
        ".hdr": "Radiance HDR",
        ".xcf": "GIMP",
    }
)
"""Lower-case suffix -> name of a picture format that is known and not read; such files are reported."""

# Start of the file -> format. Formats that are not read are here so that the reason can name them.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"IIRO", "RAW"),
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\x00", "RAW"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"\x00MRM", "RAW"),
    (b"FOVb", "RAW"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),
    (b"MM\x00\x2b", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"BM", "BMP"),
)

_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")
)
# Of the IFDs of one file, and the key of the next one's offset among the tags of one.
_MOST_IFDS, _NEXT_IFD = 64, -1
_TAG_NEW_SUBFILE_TYPE, _TAG_MAKE, _TAG_SUB_IFDS, _TAG_DNG_VERSION = 254, 271, 330, 50706


def sniff(data: bytes, suffix: str = "") -> str:
    """Return the format of a file, from its first bytes.

    Args:
        data: The whole file.
        suffix: Lower-case suffix of the file's name; only used to tell camera RAW files from other TIFFs.

    Returns:
        A format name: one of the values of `SUFFIXES` or `UNREAD_SUFFIXES`, `PDF`, `ZIP archive`, `text`,
        or the empty string for anything else.
    """
    if data[4:8] == b"ftyp":
        return _sniff_iso(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for magic, name in _MAGIC:
        if data.startswith(magic):
            if name == "TIFF" and (SUFFIXES.get(suffix) == "RAW" or _is_tiff_raw(data)):
                return "RAW"
            return name
    if data[6:14] == b"HEAPCCDR":
        return "RAW"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] == b"<":
        return "SVG" if b"<svg" in head.lower() else "text"
    if head and not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "text"
    return ""


def _sniff_iso(data: bytes) -> str:
    size = struct.unpack(">I", data[:4])[0]
    major = data[8:12]
    brands = {data[at : at + 4] for at in range(16, min(size, len(data), 4096) - 3, 4)}
    if major in (b"avif", b"avis"):
        return "AVIF"
    if major == b"crx ":
        return "RAW"
    if major in _HEIF_BRANDS:
        # A file of the general brand is AVIF if it says so further on and does not claim HEVC as well.
        is_avif = major[:3] in (b"mif", b"msf") and b"avif" in brands and not brands & {b"heic", b"heix"}
        return "AVIF" if is_avif else "HEIF"
    return "HEIF" if brands & {b"heic", b"heix", b"mif1"} else "video"


def _is_tiff_raw(data: bytes) -> bool:
    if data[8:10] == b"CR":
        return True
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or struct.unpack(order + "H", data[2:4])[0] != 42:
        return False
    (offset,) = struct.unpack(order + "I", data[4:8])
    if offset + 2 > len(data):
        return False
    (count,) = struct.unpack(order + "H", data[offset : offset + 2])
    tags: dict[int, int] = {}
    for at in range(offset + 2, min(offset + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, _, value = struct.unpack(order + "HHII", data[at : at + 12])
        tags[tag] = value >> 16 if order == ">" and kind == 3 else value
    if _TAG_DNG_VERSION in tags:
        return True
    # Cameras put a reduced picture first and the sensor's data in a sub-IFD.
    return tags.get(_TAG_NEW_SUBFILE_TYPE) == 1 and _TAG_SUB_IFDS in tags and _TAG_MAKE in tags


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the canvas that a WebP file asks for, or None where its header is broken.

    The decoder allocates the canvas as soon as it is made, so the size has to be known before.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def is_cut_short(data: bytes, name: str) -> bool:
    """Return whether the container's own lengths say that the end of the file is missing.

    Args:
        data: The whole file.
        name: Its format, from `sniff`.

    Returns:
        True if a chunk, box or end marker that the format requires lies beyond the end. False means only
        that the container does not say so.
    """
    if name == "JPEG":
        return b"\xff\xd9" not in data[-65536:]
    if name == "PNG":
        return _png_ends_early(data)
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name in ("HEIF", "AVIF"):
        return _iso_ends_early(data)
    if name == "GIF":
        return not data.rstrip(b"\x00").endswith(b";")
    if name == "BMP":
        return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)
    if name == "TIFF":
        return _tiff_ends_early(data)
    return False


def _png_ends_early(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return True


def _iso_ends_early(data: bytes) -> bool:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:
            return False
        if size < 8:
            return at + 8 > len(data)
        at += size
    return at > len(data)


def raw_ends_early(data: bytes) -> bool:
    """Return whether a camera RAW file's directories reach past its end; True if it has none."""
    if data[4:8] == b"ftyp":
        return _iso_ends_early(data)
    if data[:4] not in (b"II\x2a\0", b"MM\0\x2a"):
        return True
    return _tiff_ends_early(data, every=True)


def _tiff_ends_early(data: bytes, *, every: bool = False) -> bool:
    """Return whether an IFD, or a strip or tile that it lists, reaches past the end (classic TIFF only).

    Args:
        data: The whole file.
        every: Look at all IFDs and sub-IFDs; else at the first, which is all that is decoded of a TIFF.
    """
    if len(data) < 8:
        return True
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack(order + "H", data[2:4])[0] != 42:
        return False
    waiting, seen = list(struct.unpack(order + "I", data[4:8])), set[int]()
    while waiting and len(seen) < _MOST_IFDS:
        offset = waiting.pop()
        if offset in seen:
            continue
        seen.add(offset)
        entries = _tiff_entries(data, offset, order)
        if entries is None:
            return True
        for offsets, lengths in ((273, 279), (324, 325)):
            pairs = zip(entries.get(offsets, []), entries.get(lengths, []), strict=False)
            if any(start + length > len(data) for start, length in pairs):
                return True
        if not every:
            return False
        waiting += [*entries[_NEXT_IFD], *entries.get(_TAG_SUB_IFDS, [])]
    return False


def _tiff_entries(data: bytes, offset: int, order: str) -> dict[int, list[int]] | None:
    """Return where strips, tiles and further IFDs of an IFD lie; None if it reaches past the end."""
    if offset + 2 > len(data):
        return None
    (count,) = struct.unpack(order + "H", data[offset : offset + 2])
    end = offset + 2 + 12 * count
    if end > len(data):
        return None
    following = data[end : end + 4]
    after = struct.unpack(order + "I", following)[0] if len(following) == 4 else 0
    entries: dict[int, list[int]] = {_NEXT_IFD: [after] if after else []}
    for at in range(offset + 2, end, 12):
        tag, kind, length, value = struct.unpack(order + "HHII", data[at : at + 12])
        width = {3: 2, 4: 4, 13: 4}.get(kind)
        if tag not in (273, 279, 324, 325, _TAG_SUB_IFDS) or width is None:
            continue
        start = at + 8 if width * length <= 4 else value
        if start + width * length > len(data):
            return None
        code = f"{order}{length}{'H' if width == 2 else 'I'}"
        entries[tag] = list(struct.unpack(code, data[start : start + width * length]))
    return entries


def missing_extra(name: str, extra: str) -> PhotoError:
    """Return the error for a format that needs an optional dependency."""
    reason = f"{name} pictures need an optional part: pip install 'birdsearch[{extra}]'"
    return PhotoError("format", "needs-extra", reason, transient=True)
