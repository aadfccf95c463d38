"""Open one photo: bytes in, an upright RGB picture out, or one kind of error.

Photos are unchecked input. Whatever the bytes hold, the result is a picture or a `PhotoError`
that says what was wrong with them; the number of pixels is checked before any are decoded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from birdsearch.errors import PhotoError
from birdsearch.first_use import first_use
from birdsearch.model.images import formats
from birdsearch.model.images.color import source_profile, to_srgb
from birdsearch.model.images.file_io import PhotoLimits, TimedSource, read_photo, too_many_bytes
from birdsearch.model.images.formats import SUFFIXES, UNREAD_SUFFIXES, missing_extra
from birdsearch.model.images.missing_data import lacks_data
from birdsearch.model.images.orientation import QUARTER_TURNS, orientation, turned_frame
from birdsearch.model.images.pillow_warnings import pillow_is_quiet
from birdsearch.model.images.pixels import to_rgb
from birdsearch.model.images.preview import decode_preview, jpeg_previews
from birdsearch.model.images.raw_exif import raw_exif
from birdsearch.model.images.scaling import Need, jpeg_scale, reduced_by
from birdsearch.model.images.tiff import PlanarTiff, open_tiff, sample_bits

__all__ = [
    "SUFFIXES",
    "UNREAD_SUFFIXES",
    "LoadedPhoto",
    "PhotoHeader",
    "PhotoLimits",
    "load_photo",
    "open_photo",
    "open_photo_file",
    "pillow_is_quiet",
    "read_header",
    "read_photo",
    "upright_rgb",
]

# A scan of a progressive JPEG can be a few bytes and still cost a pass over the whole picture, so the decoder
# is fed in small pieces: the deadline is looked at between them.
_PROGRESSIVE_BLOCK = 2048
_LIMITS = PhotoLimits()
# 32-bit grey without a sign, and BMP whose alpha may mean nothing.
_MISREAD = frozenset((("TIFF", "I"), ("BMP", "RGBA")))
# What of a JPEG's segments Pillow reads EXIF from: XMP has an orientation as well.
_EXIF_SOURCES = frozenset(("exif", "xmp", "XML:com.adobe.xmp"))


@dataclass(frozen=True, slots=True)
class LoadedPhoto:
    """A decoded photo.

    Attributes:
        image: The picture, in full or reduced: mode RGB, in sRGB, upright, in memory, first frame.
        format: Format of the file: a value of `SUFFIXES`.
        exif: The file's EXIF as Pillow holds it, or None where there is none that can be parsed.
        size: (width, height) of the whole upright picture in pixels.
        frame: Where in `image` the picture lies: left, top, right, bottom in its pixels. A reduced picture
            ends within its outermost pixels where the whole size is no multiple of the scale.
        scale: By how much the picture was reduced by means while it was decoded, or before its colours were
            converted; 1 where it was not.
        decoded: What was decoded: `full`, `scaled 1/2` to `scaled 1/8`, or `preview`.
        profile: The colour profile that was applied to it; None if it is stored in sRGB.
    """

    image: Image.Image
    format: str
    exif: Image.Exif | None
    size: tuple[int, int]
    frame: tuple[float, float, float, float]
    scale: int = 1
    decoded: str = "full"
    profile: bytes | None = None


@dataclass(frozen=True, slots=True)
class PhotoHeader:
    """What a photo's file says beside its picture.

    Attributes:
        format: Format of the file: a value of `SUFFIXES`.
        exif: Its EXIF as Pillow holds it, or None where there is none that can be parsed.
        profile: The colour profile that is applied to it; None if it is stored in sRGB.
        was_misread: True of the kinds of TIFF and BMP that came out as noise, as negatives or white before.
    """

    format: str
    exif: Image.Exif | None
    profile: bytes | None
    was_misread: bool = False


def open_photo(data: bytes, limits: PhotoLimits = _LIMITS, *, suffix: str = "") -> Image.Image:
    """Decode a photo.

    Args:
        data: The whole file.
        limits: What it may cost.
        suffix: Suffix of the file's name, such as `.nef`. It tells camera RAW files from other TIFFs and is
            not looked at otherwise.

    Returns:
        The picture: mode RGB, in sRGB, turned upright by its EXIF orientation, in memory, first frame. A plain RGB
        file that has no colour profile, or that of sRGB, gives exactly the pixels of
        `PIL.Image.open(file).convert("RGB")`.

    Raises:
        PhotoError: With stage `format` (`empty`, `not-a-picture`, `unsupported-format`, `needs-extra`) or
            `decode` (`too-many-pixels`, `truncated`, `corrupt`, `text-bomb`, `deadline`, `out-of-memory`).
    """
    image = load_photo(data, limits, suffix=suffix).image
    # A plain image, free of the file behind it.
    return image.copy() if isinstance(image, ImageFile.ImageFile) else image


def load_photo(
    data: bytes, limits: PhotoLimits = _LIMITS, *, suffix: str = "", need: Need | None = None
) -> LoadedPhoto:
    """Decode a photo and keep its format and EXIF; see `open_photo`.

    Args:
        data: The whole file.
        limits: What it may cost; the number of pixels is that of the whole picture.
        suffix: Suffix of the file's name.
        need: What it is decoded for, so that it may be reduced; None for the whole picture.
    """
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    name = _readable_format(data, suffix.lower())
    source = TimedSource(data, time.monotonic() + limits.deadline_s)
    try:
        with pillow_is_quiet:
            if name == "RAW":
                from birdsearch.model.images.raw import load_raw

                raw = load_raw(data, lambda size: _check_pixels(size, limits), need, limits)
                exif = raw_exif(data, raw.lens, raw.taken)
                return LoadedPhoto(raw.image, name, exif, raw.size, raw.frame, raw.scale, raw.decoded)
            return _decode(data, name, source, limits, need)
    except PhotoError:
        raise
    except Exception as error:
        raise _translate(error, data, name, source, limits) from error


def read_header(data: bytes, limits: PhotoLimits = _LIMITS, *, suffix: str = "") -> PhotoHeader:
    """Read what a photo's file says beside its picture, without decoding that.

    Args:
        data: The whole file.
        limits: What it may cost.
        suffix: Suffix of the file's name.

    Raises:
        PhotoError: As `open_photo`.
    """
    name = _readable_format(data, suffix.lower())
    source = TimedSource(data, time.monotonic() + limits.deadline_s)
    try:
        with pillow_is_quiet:
            if name == "RAW":
                from birdsearch.model.images.raw import raw_facts

                return PhotoHeader(name, raw_exif(data, *raw_facts(data)), None)
            if name == "WEBP":
                _check_pixels(formats.webp_canvas(data) or (0, 0), limits)
            image = _OPENERS[name](source)
            exif = _exif(image)
            was_misread = isinstance(image, PlanarTiff) or (name, image.mode) in _MISREAD
            return PhotoHeader(name, exif, source_profile(image, exif, data), was_misread)
    except PhotoError:
        raise
    except Exception as error:
        raise _translate(error, data, name, source, limits) from error


def _readable_format(data: bytes, suffix: str) -> str:
    if not data:
        raise PhotoError("format", "empty", "the file is empty")
    name = formats.sniff(data, suffix)
    if name in ("", "text", "SVG", "PostScript", "PDF", "ZIP archive", "video"):
        what = f"its content is {name}" if name else "its content is of no known picture format"
        raise PhotoError("format", "not-a-picture", f"the file is not a picture that can be read: {what}")
    if name != "RAW" and name not in _OPENERS:
        known = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, HEIF, camera RAW"
        reason = f"{name} pictures are not read (read are {known}); convert the file to one of these"
        raise PhotoError("format", "unsupported-format", reason)
    return name


def _decode(
    data: bytes, name: str, source: TimedSource, limits: PhotoLimits, need: Need | None
) -> LoadedPhoto:
    if name == "WEBP":
        _check_pixels(formats.webp_canvas(data) or (0, 0), limits)
    image = _OPENERS[name](source)
    width, height = image.size
    _check_pixels((width, height), limits)
    if image.info.get("progressive"):
        image.decodermaxblock = _PROGRESSIVE_BLOCK
    scale = 1
    if need is not None and need.mode != "full" and isinstance(image, JpegImagePlugin.JpegImageFile):
        exif = _exif(image)
        turn = orientation(exif)
        size = (height, width) if turn in QUARTER_TURNS else (width, height)
        scale = jpeg_scale(need, *size)
        if need.mode == "preview" and scale > 1 and need.is_whole and not formats.is_cut_short(data, name):
            profile = source_profile(image, exif, data)
            for content in jpeg_previews(data, image.info):
                preview = decode_preview(content, (width, height), turn, need, limits, profile)
                if preview is not None:
                    return LoadedPhoto(preview[0], name, exif, size, *preview[1:], "preview", profile)
        # Only the size: the mode stays what it is in the file.
        if scale > 1 and image.draft(None, (width // scale, height // scale)) is None:
            scale = 1
    # What is left of it has enough pixels, whichever way it is turned.
    left = (
        1.0
        if need is None or need.mode == "full"
        else min(need.left(width, height), need.left(height, width))
    )
    rgb, exif, turn, factor, profile = _upright(image, data, reduced_by(left / scale))
    decoded = "full" if scale == 1 else f"scaled 1/{scale}"
    scale *= factor
    if isinstance(image, JpegImagePlugin.JpegImageFile) and lacks_data(image, data, source.deadline):
        reason = "the JPEG file was cut short: part of its picture is missing, though the file has an end"
        raise PhotoError("decode", "truncated", reason)
    if scale == 1:
        return LoadedPhoto(rgb, name, exif, rgb.size, (0, 0, *rgb.size), profile=profile)
    size = (height, width) if turn in QUARTER_TURNS else (width, height)
    frame = turned_frame((width / scale, height / scale), rgb.size, turn)
    return LoadedPhoto(rgb, name, exif, size, frame, scale, decoded, profile)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image that Pillow opened or made into what `open_photo` gives for the file it came from.

    Args:
        image: An image of any mode.

    Returns:
        Mode RGB, in sRGB, turned upright by the image's EXIF orientation, in memory. It may be `image` itself.

    Raises:
        PhotoError: The image cannot be loaded (`corrupt`).
    """
    try:
        return _upright(image)[0]
    except Exception as error:
        raise PhotoError("decode", "corrupt", f"the image could not be loaded: {error}") from error


def _upright(
    image: Image.Image, data: bytes = b"", factor: int = 1
) -> tuple[Image.Image, Image.Exif | None, Image.Transpose | None, int, bytes | None]:
    """Load a picture as upright sRGB.

    Args:
        image: What was opened.
        data: Its whole file, if it is at hand.
        factor: By how much a picture may be reduced before its colours are converted.

    Returns:
        The picture, its EXIF, what turned it, by how much it was reduced, and the profile that was applied.
    """
    bits = sample_bits(image)
    loaded = image.pixels() if isinstance(image, PlanarTiff) else image
    loaded.load()
    exif = _exif(image)
    turn = orientation(exif)
    is_layered = isinstance(image, BmpImagePlugin.BmpImageFile) and image.mode == "RGBA"
    if is_layered and image.getchannel("A").getextrema() == (0, 0):
        # Programs that know no transparency leave its bytes at zero.
        loaded = image.convert("RGB")
    profile = source_profile(image, exif, data)
    if profile is None:
        factor = 1
        rgb = to_rgb(loaded, bits)
    else:
        rgb = to_srgb(loaded, profile, bits, factor)
    return (rgb if turn is None else rgb.transpose(turn)), exif, turn, factor, profile


def _check_pixels(size: tuple[int, int], limits: PhotoLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        reason = (
            f"the picture is {width} x {height} = {width * height} pixels, more than the limit of"
            f" {limits.max_pixels}; raise the limit or make the picture smaller"
        )
        raise PhotoError("decode", "too-many-pixels", reason)


def _exif(image: Image.Image) -> Image.Exif | None:
    if isinstance(image, JpegImagePlugin.JpegImageFile) and not _EXIF_SOURCES & image.info.keys():
        # Most small photos have none, and Pillow takes long to make an empty one.
        return None
    try:
        return image.getexif()
    except Exception:
        # Broken metadata is no reason to lose the picture.
        return None


def _open_heif(source: TimedSource) -> ImageFile.ImageFile:
    try:
        with first_use("pillow-heif"):
            from pillow_heif import HeifImageFile
    except ImportError as error:
        raise missing_extra("HEIF", "heic") from error
    image: ImageFile.ImageFile = HeifImageFile(source)
    return image


def _open_avif(source: TimedSource) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        reason = "the installed Pillow cannot read AVIF; install a Pillow that was built with libavif"
        raise PhotoError("format", "needs-extra", reason, transient=True)
    return AvifImagePlugin.AvifImageFile(source)


# The plugins themselves, not `Image.open`: no other format can ever be tried, and Pillow's own limit on
# pixels, a warning that depends on a global, is not in the way of ours. An MPO opens as its first picture.
_OPENERS: dict[str, Callable[[TimedSource], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": open_tiff,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "HEIF": _open_heif,
    "AVIF": _open_avif,
}


def _translate(
    error: Exception, data: bytes, name: str, source: TimedSource, limits: PhotoLimits
) -> PhotoError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if source.expired:
        reason = f"decoding took longer than {limits.deadline_s:g} s"
        return PhotoError("decode", "deadline", reason)
    if isinstance(error, MemoryError):
        return PhotoError("decode", "out-of-memory", f"not enough memory to decode this {name} file")
    if isinstance(error, Image.DecompressionBombError):
        return PhotoError("decode", "too-many-pixels", f"the picture has too many pixels: {text}")
    if "MAX_TEXT_" in text:
        return PhotoError(
            "decode", "text-bomb", f"a text or profile of the {name} file unpacks to too much: {text}"
        )
    if "truncated" in text.lower() or ("checksum" not in text and formats.is_cut_short(data, name)):
        return PhotoError("decode", "truncated", f"the {name} file ends early: {text}")
    return PhotoError("decode", "corrupt", f"the {name} file is damaged: {text}")


def open_photo_file(path: str | os.PathLike[str], limits: PhotoLimits = _LIMITS) -> Image.Image:
    """Read and decode a photo file; see `read_photo` and `open_photo`.

    Raises:
        PhotoError: As those do; the reason begins with the path.
    """
    try:
        suffix = os.path.splitext(path)[1]  # noqa: PTH122
        return open_photo(read_photo(path, limits), limits, suffix=suffix)
    except PhotoError as error:
        raise error.named(os.fspath(path)) from error
