"""The image data of camera RAW files.

Most are made like TIFF, CR3 like HEIF. Fujifilm's and Minolta's have headers of their own. Of kinds that are not
known here (CRW, X3F) the whole file is the picture.
"""

from __future__ import annotations

from birdsearch.model.images.image_data import ImageData, MalformedError, checked_ranges
from birdsearch.model.images.image_data_iso import film_data
from birdsearch.model.images.image_data_tiff import tiff_data

__all__ = ["raw_data"]

_TIFF_LIKE = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
# Offset and length of the sensor's header and of its data, big-endian; the preview before them holds the EXIF.
_RAF_PARTS = (92, 100)


def raw_data(data: bytes) -> ImageData:
    """Return where the sensor's data is.

    Raises:
        MalformedError: The file is damaged, or of a kind that is not known.
    """
    if data.startswith(_TIFF_LIKE):
        return tiff_data(data)
    if data[4:8] == b"ftyp":
        return film_data(data)
    if data.startswith(b"FUJIFILMCCD-RAW"):
        if len(data) < 108:
            raise MalformedError
        parts = [
            (int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big"))
            for at in _RAF_PARTS
        ]
        return ImageData("RAF", checked_ranges([(at, at + size) for at, size in parts], len(data)))
    if data.startswith(b"\0MRM"):
        # What comes before the sensor's data is all header.
        start = 8 + int.from_bytes(data[4:8], "big")
        return ImageData("MRW", checked_ranges([(start, len(data))], len(data)))
    raise MalformedError
