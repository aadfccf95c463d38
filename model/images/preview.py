"""The reduced pictures that cameras put into their files beside the photo itself.

They are input as unchecked as the rest. One is only taken if it is whole, large enough and of the same shape;
else the caller decodes the photo.

Sources: CIPA DC-007-2009 (Multi-Picture Format), section 5.2; CIPA DC-008-2023 (Exif 3.0), section 4.5.5.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image, JpegImagePlugin

from birdsearch.model.images.color import source_profile, to_srgb
from birdsearch.model.images.file_io import PhotoLimits, TimedSource
from birdsearch.model.images.missing_data import lacks_data
from birdsearch.model.images.orientation import QUARTER_TURNS, orientation, turned_frame
from birdsearch.model.images.pixels import to_rgb
from birdsearch.model.images.scaling import Need, jpeg_scale

__all__ = ["decode_preview", "jpeg_previews"]

_THUMBNAIL_AT, _THUMBNAIL_BYTES = 513, 514
_MP_ENTRIES, _MP_ENTRY_BYTES = 0xB002, 16
# Types "large thumbnail" of any class; others are other pictures, such as a second view or a depth map.
_MP_TYPE, _MP_LARGE_THUMBNAIL = 0xFF0000, 0x010000
_MOST_PICTURES = 16
# Pixels that a preview must have for each of the network's: how its camera reduced it is not known.
_LEFT = 1.75
_SHAPE = 0.01
# Of the time that a photo may take; the rest is for the photo itself if the preview is no good.
_SHARE_OF_DEADLINE = 0.25

_Preview = tuple[Image.Image, tuple[float, float, float, float], int]


def jpeg_previews(data: bytes, info: Mapping[Any, Any]) -> list[bytes]:
    """Return the previews in a JPEG file, smallest first; nothing of them is checked yet.

    Args:
        data: The whole file.
        info: What Pillow's JPEG plugin found in its segments.
    """
    return sorted([*_multi_pictures(data, info), *_thumbnails(info)], key=len)


def _multi_pictures(data: bytes, info: Mapping[Any, Any]) -> list[bytes]:
    index, start = info.get("mp"), info.get("mpoffset")
    if not isinstance(index, bytes) or not isinstance(start, int) or index[:2] not in (b"II", b"MM"):
        return []
    order = "<" if index[:2] == b"II" else ">"
    found = []
    try:
        (at,) = struct.unpack_from(order + "I", index, 4)
        (count,) = struct.unpack_from(order + "H", index, at)
        for number in range(min(count, 64)):
            tag, _, size, offset_of_entries = struct.unpack_from(order + "HHII", index, at + 2 + 12 * number)
            if tag != _MP_ENTRIES:
                continue
            for entry in range(1, min(size // _MP_ENTRY_BYTES, _MOST_PICTURES)):
                kind, length, offset = struct.unpack_from(
                    order + "III", index, offset_of_entries + _MP_ENTRY_BYTES * entry
                )
                if kind & _MP_TYPE == _MP_LARGE_THUMBNAIL and 0 < start + offset <= len(data) - length:
                    found.append(data[start + offset : start + offset + length])
    except struct.error:
        return found
    return found


def _thumbnails(info: Mapping[Any, Any]) -> list[bytes]:
    segment = info.get("exif")
    if not isinstance(segment, bytes) or segment[6:8] not in (b"II", b"MM"):
        return []
    # Offsets count from the byte order mark, behind "Exif\0\0".
    tiff = segment[6:]
    order = "<" if tiff[:2] == b"II" else ">"
    found: dict[int, int] = {}
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        # The second directory is the thumbnail's.
        (at,) = struct.unpack_from(order + "I", tiff, at + 2 + 12 * count)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for number in range(min(count, 64)):
            tag, _, _, value = struct.unpack_from(order + "HHII", tiff, at + 2 + 12 * number)
            found[tag] = value
    except struct.error:
        return []
    start, length = found.get(_THUMBNAIL_AT, 0), found.get(_THUMBNAIL_BYTES, 0)
    return [tiff[start : start + length]] if 0 < start <= len(tiff) - length and length else []


def decode_preview(
    content: bytes,
    size: tuple[int, int],
    turn: Image.Transpose | None,
    need: Need,
    limits: PhotoLimits,
    profile: bytes | None = None,
) -> _Preview | None:
    """Decode a preview, if it will do.

    Args:
        content: The preview, a JPEG file of its own.
        size: (width, height) of the photo as it is stored.
        turn: What turns the photo, and its preview, upright.
        need: What for; of the whole frame.
        limits: What it may cost.
        profile: What describes the colours of the photo, if they are not sRGB; a preview that says nothing of its
            own has the same.

    Returns:
        The picture (sRGB, upright), where in it the frame lies, and by how much it was reduced while it was
        decoded. None if it is damaged, too small, of another shape, or turned in another way than the photo.
    """
    try:
        source = TimedSource(content, time.monotonic() + _SHARE_OF_DEADLINE * limits.deadline_s)
        image = JpegImagePlugin.JpegImageFile(source)
        upright = image.size[::-1] if turn in QUARTER_TURNS else image.size
        if not _has_shape(image.size, size) or need.left(*upright) < _LEFT:
            return None
        exif = image.getexif()
        if image.size[0] * image.size[1] > limits.max_pixels or orientation(exif) not in (None, turn):
            return None
        width, height = image.size
        scale = jpeg_scale(need, *upright)
        if scale > 1:
            image.draft(None, (width // scale, height // scale))
        if image.info.get("progressive"):
            image.decodermaxblock = 2048
        image.load()
        if lacks_data(image, content, source.deadline):
            return None
        own = source_profile(image, exif, content)
        if "icc_profile" not in image.info:
            own = own or profile
        rgb = to_rgb(image) if own is None else to_srgb(image, own)
    except Exception:
        # Whatever is wrong with it: the photo itself is still there.
        return None
    rgb = rgb if turn is None else rgb.transpose(turn)
    return rgb, turned_frame((width / scale, height / scale), rgb.size, turn), scale


def _has_shape(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    # Rounded sizes differ by up to a pixel.
    width = whole[0] * size[1] / whole[1]
    return abs(size[0] - width) <= max(1.0, _SHAPE * width)
