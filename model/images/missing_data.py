"""Whether a JPEG file holds all of its picture: it may have been cut short and closed again.

Where a marker comes before the last block, libjpeg fills the rest with one colour and only counts a warning, which
Pillow does not pass on. A picture of which the end of the last row is one colour is therefore decoded again, with
other bytes put before the end of the file: a decoder that has all of its blocks passes over them, one that lacks
some takes them for blocks.

A progressive picture that was cut between its passes is whole but coarse: bits that a pass announced were never
sent. What lacks in its last pass only, the lowest bits of some rows, is not noticed.

Source: ITU-T T.81, B.2.3 (scan header), F.2.2.5 and G.1.1.1.
"""

from __future__ import annotations

import re
import struct

from PIL import Image, ImageChops, JpegImagePlugin

from birdsearch.model.images.file_io import TimedSource

__all__ = ["lacks_data"]

# Any marker but a stuffed byte, a restart and a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
# What is put before the end: bytes that are no marker, and some more after each of the restarts, since a decoder
# that waits for one passes over the rest.
_BYTES = bytes((37 * number + 91) % 251 for number in range(1 << 10))
_FILLING = _BYTES + b"".join(bytes((0xFF, 0xD0 + number % 8)) + _BYTES for number in range(16))
# Of the last row this much has to be of one colour before a picture is looked at again.
_SHARE = 4


def lacks_data(image: JpegImagePlugin.JpegImageFile, data: bytes, deadline: float) -> bool:
    """Say whether image data is missing in a file that has an end.

    Args:
        image: The picture, loaded, in full or by `draft` reduced.
        data: The file that it came from.
        deadline: When to stop, by `time.monotonic`.
    """
    if image.info.get("progressive") and _is_coarse(data):
        return True
    if not _ends_in_one_colour(image):
        return False
    end = _end_of_picture(data)
    if end is None:
        return False
    source = TimedSource(data[:end] + _FILLING + _END, deadline)
    try:
        again = JpegImagePlugin.JpegImageFile(source)
        scale = round(again.size[0] / image.size[0])
        if scale > 1:
            again.draft(None, (again.size[0] // scale, again.size[1] // scale))
        again.load()
    except Exception:
        # What was put there was taken for blocks, and is none.
        return not source.expired
    return ImageChops.difference(image, again).getbbox() is not None


def _ends_in_one_colour(image: Image.Image) -> bool:
    width, height = image.size
    least = width - -(-width // _SHARE)
    # Few pixels say no for nearly every photo.
    pixel = image.load()
    if pixel is None:
        return False
    last = pixel[width - 1, height - 1]
    if any(pixel[x, height - 1] != last for x in range(least, width, max(1, (width - least) // 8))):
        return False
    row = image.crop((least, height - 1, width, height))
    return len(row.getcolors(row.size[0]) or ()) == 1


def _scans(data: bytes) -> list[int]:
    """Return the offsets of scan headers, behind the segments that come before the first."""
    at, found = 2, []
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _SCAN:
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        if len(data) < at + 4:
            return []
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    at = data.find(_SCAN, at)
    while at >= 0:
        found.append(at)
        at = data.find(_SCAN, at + 2)
    return found


def _end_of_picture(data: bytes) -> int | None:
    """Return the offset of the marker that ends the last scan, if there is one."""
    scans = _scans(data)
    if not scans:
        return None
    at = scans[0]
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            return None
        at = found.start()
        if data[at : at + 2] == _END:
            return at
        if len(data) < at + 4:
            return None
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _is_coarse(data: bytes) -> bool:
    """Say whether a progressive file announces bits of coefficients that no scan sends."""
    # Lowest bit sent so far, by component and by whether it is of the mean or of the rest.
    lowest: dict[tuple[int, int], int] = {}
    for at in _scans(data):
        if len(data) < at + 5:
            continue
        (length,), count = struct.unpack_from(">H", data, at + 2), data[at + 4]
        # (length, count) tells a scan header from the same bytes in a table.
        if not 1 <= count <= 4 or length != 6 + 2 * count or len(data) < at + 2 + length:
            continue
        first, last, bits = data[at + 5 + 2 * count : at + 8 + 2 * count]
        for number in range(count):
            component = data[at + 5 + 2 * number]
            for coefficient in (first, last):
                lowest[component, coefficient] = bits & 0x0F
            if first:
                for known in [key for key in lowest if key[0] == component and first <= key[1] <= last]:
                    lowest[known] = bits & 0x0F
    return any(lowest.values())
