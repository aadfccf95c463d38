"""When photos that are indexed already are read again: because this version reads more of them, or reads it better.

Each file's row says by which reading it was last read, each photo's row by which one its vector, hash and sharpness
were made. The next `birdsearch index` reads again what is not current, file by file, each committed as it is done,
so that a run that was cut short goes on. Reading again always takes the digests and the metadata; the picture is
only decoded and embedded where `embeds_again` says so, or where the photo is to be shown in another way than it was
embedded.

To have photos read again: raise `READING_VERSION` and add a line to its history; say in `embeds_again` which photos
the new reading makes other pixels of.
"""

from __future__ import annotations

from birdsearch.model.images.decode import SeenPhoto
from birdsearch.model.images.rendering import has_profile

__all__ = ["READING_VERSION", "embeds_again", "is_current"]

READING_VERSION = 1
"""What this birdsearch reads of a photo.

History:
    0: A photo is the bytes of its file. Photos of catalogs made before schema 5.
    1: A photo is its picture; files have a digest of their own, metadata and rendering of their own. Pictures with
        a colour profile are embedded as they look, so they are embedded again; so are the kinds of TIFF and BMP
        files that came out as noise, as negatives, or white. Camera RAW files of every maker tell time and camera.
"""


def is_current(reading: int) -> bool:
    """Return whether a file need not be read again while it is unchanged, be it indexed or not readable.

    Args:
        reading: The reading that it was last read by.
    """
    return reading >= READING_VERSION


def embeds_again(reading: int, seen: SeenPhoto) -> bool:
    """Return whether a photo has to be embedded again though its picture and rendering are unchanged.

    Args:
        reading: The reading that its vector was made by.
        seen: What its file says, by this reading.
    """
    return reading < 1 and (has_profile(seen.rendering) or seen.was_misread)
