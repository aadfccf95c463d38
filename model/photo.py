"""Open one photo: bytes in, an upright RGB picture out, or one kind of error.

Photos are input that nobody checked. Whatever the bytes hold, the result is a picture or a `PhotoError`
that says what was wrong with them; the number of pixels is checked before any are decoded.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from birdsearch.errors import PhotoError
from birdsearch.model import formats
from birdsearch.model.formats import SUFFIXES, UNREAD_SUFFIXES
from birdsearch.model.pixels import to_rgb
from birdsearch.model.scaling import Need, jpeg_scale

__all__ = [
    "SUFFIXES",
    "UNREAD_SUFFIXES",
    "LoadedPhoto",
    "PhotoLimits",
    "load_photo",
    "missing_extra",
    "open_photo",
    "open_photo_file",
    "pillow_is_quiet",
    "read_error",
    "read_photo",
    "read_regular_file",
    "upright_rgb",
]

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_READ_BLOCK = 1 << 20
# A scan of a progressive JPEG can be a few bytes and still cost a pass over the whole picture, so the decoder
# is fed in small pieces: the deadline is looked at between them.
_PROGRESSIVE_BLOCK = 2048
_TAG_ORIENTATION, _TAG_BITS = 274, 258
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Turns that swap width and height, and those that bring the right or the lower edge to the left or to the top.
_QUARTER_TURNS = frozenset(_TURNS[number] for number in (5, 6, 7, 8))
_FROM_RIGHT = frozenset(_TURNS[number] for number in (2, 3, 6, 7))
_FROM_BELOW = frozenset(_TURNS[number] for number in (3, 4, 7, 8))


@dataclass(frozen=True, slots=True)
class PhotoLimits:
    """What one photo may cost.

    Attributes:
        max_pixels: Width times height that is decoded at most.
        max_bytes: Size of a file that is read at most, in bytes.
        deadline_s: Seconds that decoding may take.
    """

    max_pixels: int = 250_000_000
    max_bytes: int = 1 << 30
    deadline_s: float = 20.0


@dataclass(frozen=True, slots=True)
class LoadedPhoto:
    """A decoded photo.

    Attributes:
        image: The picture, in full or reduced: mode RGB, upright, in memory, first frame.
        format: Format of the file: a value of `SUFFIXES`.
        exif: The file's EXIF as Pillow holds it, or None where there is none that can be parsed.
        size: (width, height) of the whole upright picture in pixels.
        frame: Where in `image` the picture lies: left, top, right, bottom in its pixels. A reduced picture
            ends within its outermost pixels where the whole size is no multiple of the scale.
        scale: By how much the picture was reduced by means while it was decoded; 1 where it was not.
        decoded: What was decoded: `full`, `scaled 1/2` to `scaled 1/8`, or `preview`.
    """

    image: Image.Image
    format: str
    exif: Image.Exif | None
    size: tuple[int, int]
    frame: tuple[float, float, float, float]
    scale: int = 1
    decoded: str = "full"


class _DeadlineError(Exception):
    """Decoding took too long."""


class _Source(io.BytesIO):
    """The bytes of a photo as a file whose reads end when the deadline has passed."""

    def __init__(self, data: bytes, deadline: float) -> None:
        super().__init__(data)
        self.deadline = deadline
        self.expired = False

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self.deadline:
            self.expired = True
            raise _DeadlineError
        return super().read(size)


def open_photo(data: bytes, limits: PhotoLimits = PhotoLimits(), *, suffix: str = "") -> Image.Image:
    """Decode a photo.

    Args:
        data: The whole file.
        limits: What it may cost.
        suffix: Suffix of the file's name, such as `.nef`. It tells camera RAW files from other TIFFs and is
            not looked at otherwise.

    Returns:
        The picture: mode RGB, turned upright by its EXIF orientation, in memory, first frame. A plain RGB
        file gives exactly the pixels of `PIL.Image.open(file).convert("RGB")`.

    Raises:
        PhotoError: With stage `format` (`empty`, `not-a-picture`, `unsupported-format`, `needs-extra`) or
            `decode` (`too-many-pixels`, `truncated`, `corrupt`, `text-bomb`, `deadline`, `out-of-memory`).
    """
    image = load_photo(data, limits, suffix=suffix).image
    # A plain image, free of the file behind it.
    return image.copy() if isinstance(image, ImageFile.ImageFile) else image


def load_photo(
    data: bytes, limits: PhotoLimits = PhotoLimits(), *, suffix: str = "", need: Need | None = None
) -> LoadedPhoto:
    """Decode a photo and keep its format and EXIF; see `open_photo`.

    Args:
        data: The whole file.
        limits: What it may cost; the number of pixels is that of the whole picture.
        suffix: Suffix of the file's name.
        need: What it is decoded for, so that it may be reduced; None for the whole picture.
    """
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    name = _readable_format(data, suffix.lower())
    source = _Source(data, time.monotonic() + limits.deadline_s)
    try:
        with pillow_is_quiet:
            if name == "RAW":
                from birdsearch.model.raw import load_raw

                image, size = load_raw(data, lambda size: _check_pixels(size, limits))
                return LoadedPhoto(image, name, _raw_exif(data), size, (0, 0, *image.size))
            return _decode(data, name, source, limits, need)
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


def _decode(data: bytes, name: str, source: _Source, limits: PhotoLimits, need: Need | None) -> LoadedPhoto:
    if name == "WEBP":
        _check_pixels(formats.webp_canvas(data) or (0, 0), limits)
    image = _OPENERS[name](source)
    width, height = image.size
    _check_pixels((width, height), limits)
    if image.info.get("progressive"):
        image.decodermaxblock = _PROGRESSIVE_BLOCK
    scale = 1
    if need is not None and need.mode != "full" and isinstance(image, JpegImagePlugin.JpegImageFile):
        scale = _reduce(image, need)
    rgb, exif, turn = _upright(image)
    if scale == 1:
        return LoadedPhoto(rgb, name, exif, rgb.size, (0, 0, *rgb.size))
    size = (height, width) if turn in _QUARTER_TURNS else (width, height)
    frame = _turned_frame((width / scale, height / scale), rgb.size, turn)
    return LoadedPhoto(rgb, name, exif, size, frame, scale, f"scaled 1/{scale}")


def _reduce(image: JpegImagePlugin.JpegImageFile, need: Need) -> int:
    """Have a JPEG decoded at the smallest size that is enough; returns by how much it is reduced."""
    width, height = image.size
    exif = _exif(image)
    turn = None if exif is None else _orientation(exif)
    scale = jpeg_scale(need, *((height, width) if turn in _QUARTER_TURNS else (width, height)))
    # Only the size: the mode stays what it is in the file.
    if scale == 1 or image.draft(None, (width // scale, height // scale)) is None:
        return 1
    return scale


def _turned_frame(
    end: tuple[float, float], size: tuple[int, int], turn: Image.Transpose | None
) -> tuple[float, float, float, float]:
    """Where a picture lies in its turned image, if it began at 0, 0 and ended at `end` before."""
    width, height = end[::-1] if turn in _QUARTER_TURNS else end
    left = size[0] - width if turn in _FROM_RIGHT else 0.0
    top = size[1] - height if turn in _FROM_BELOW else 0.0
    return left, top, left + width, top + height


def upright_rgb(image: Image.Image) -> Image.Image:
    """Turn an image that Pillow opened or made into what `open_photo` gives for the file it came from.

    Args:
        image: An image of any mode.

    Returns:
        Mode RGB, turned upright by the image's EXIF orientation, in memory. It may be `image` itself.

    Raises:
        PhotoError: The image cannot be loaded (`corrupt`).
    """
    try:
        return _upright(image)[0]
    except Exception as error:
        raise PhotoError("decode", "corrupt", f"the image could not be loaded: {error}") from error


def _upright(image: Image.Image) -> tuple[Image.Image, Image.Exif | None, Image.Transpose | None]:
    # Pillow drops these when a TIFF is loaded.
    bits = image.tag_v2.get(_TAG_BITS) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    image.load()
    exif = _exif(image)
    turn = None if exif is None else _orientation(exif)
    rgb = to_rgb(image, bits[0] if isinstance(bits, tuple) and bits and isinstance(bits[0], int) else None)
    return (rgb if turn is None else rgb.transpose(turn)), exif, turn


def _check_pixels(size: tuple[int, int], limits: PhotoLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        reason = (
            f"the picture is {width} x {height} = {width * height} pixels, more than the limit of"
            f" {limits.max_pixels}; raise the limit or make the picture smaller"
        )
        raise PhotoError("decode", "too-many-pixels", reason)


def _exif(image: Image.Image) -> Image.Exif | None:
    try:
        return image.getexif()
    except Exception:
        # Broken metadata is no reason to lose the picture.
        return None


def _raw_exif(data: bytes) -> Image.Exif | None:
    if data[:4] not in (b"II\x2a\x00", b"MM\x00\x2a"):
        return None
    exif = Image.Exif()
    try:
        exif.load(data)
    except Exception:
        return None
    return exif


def _orientation(exif: Image.Exif) -> Image.Transpose | None:
    try:
        value = exif.get(_TAG_ORIENTATION)
        return _TURNS.get(value) if isinstance(value, int) else None
    except Exception:
        return None


def _open_heif(source: _Source) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise missing_extra("HEIF", "heic") from error
    image: ImageFile.ImageFile = HeifImageFile(source)
    return image


def _open_avif(source: _Source) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        reason = "the installed Pillow cannot read AVIF; install a Pillow that was built with libavif"
        raise PhotoError("format", "needs-extra", reason, transient=True)
    return AvifImagePlugin.AvifImageFile(source)


# The plugins themselves, not `Image.open`: no other format can ever be tried, and Pillow's own limit on
# pixels, a warning that depends on a global, is not in the way of ours. An MPO opens as its first picture.
_OPENERS: dict[str, Callable[[_Source], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "HEIF": _open_heif,
    "AVIF": _open_avif,
}


def missing_extra(name: str, extra: str) -> PhotoError:
    """The error for a format that needs an optional dependency."""
    reason = f"{name} pictures need an optional part: pip install 'birdsearch[{extra}]'"
    return PhotoError("format", "needs-extra", reason, transient=True)


def _translate(error: Exception, data: bytes, name: str, source: _Source, limits: PhotoLimits) -> PhotoError:
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


class _Quiet:
    """Ignore the warnings of Pillow's modules, and of no others, while any thread is inside.

    `warnings.catch_warnings` swaps the filters of the whole process and loses changes when threads overlap,
    so one filter is put in by the first thread and taken out by the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._filter = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif)\."), 0)

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                cast("list[object]", warnings.filters).insert(0, self._filter)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                # Somebody else's `catch_warnings` may have taken it out already.
                with contextlib.suppress(ValueError):
                    cast("list[object]", warnings.filters).remove(self._filter)


pillow_is_quiet = _Quiet()
"""Context manager for code that makes Pillow parse what nobody checked."""


def read_photo(path: _Path, limits: PhotoLimits = PhotoLimits()) -> bytes:
    """Read the bytes of a photo file.

    Args:
        path: The file.
        limits: `max_bytes` is the most that is read.

    Returns:
        The file's content.

    Raises:
        PhotoError: With stage `read`: `vanished`, `unreadable`, `not-a-file`, `too-many-bytes`, `io-error`.
    """
    try:
        return read_regular_file(path, limits)[0]
    except OSError as error:
        raise read_error(error) from error


def open_photo_file(path: str | os.PathLike[str], limits: PhotoLimits = PhotoLimits()) -> Image.Image:
    """Read and decode a photo file; see `read_photo` and `open_photo`.

    Raises:
        PhotoError: As those do; the reason begins with the path.
    """
    try:
        suffix = os.path.splitext(path)[1]  # noqa: PTH122
        return open_photo(read_photo(path, limits), limits, suffix=suffix)
    except PhotoError as error:
        raise error.named(os.fspath(path)) from error


def read_regular_file(path: _Path, limits: PhotoLimits) -> tuple[bytes, os.stat_result, os.stat_result]:
    """Read a file that must be a regular one, without ever waiting for a FIFO or a device.

    Args:
        path: The file.
        limits: `max_bytes` is the most that is read.

    Returns:
        The content, and the file's status before and after reading.

    Raises:
        PhotoError: It is no regular file (`not-a-file`) or too large (`too-many-bytes`).
        OSError: The operating system could not open or read it; see `read_error`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_NOCTTY", 0))
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise PhotoError("read", "not-a-file", "it is not a regular file, so it is not read")
        if before.st_size > limits.max_bytes:
            raise _too_many_bytes(before.st_size, limits)
        blocks, total = [], 0
        while block := os.read(descriptor, _READ_BLOCK):
            blocks.append(block)
            total += len(block)
            if total > limits.max_bytes:
                raise _too_many_bytes(total, limits)
        return b"".join(blocks), before, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_error(error: OSError) -> PhotoError:
    """Say as a `PhotoError` why the operating system did not read a file; all of these may pass."""
    text = error.strerror or type(error).__name__
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PhotoError("read", "vanished", "the file is not there any more", transient=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PhotoError("read", "unreadable", f"the file may not be read: {text}", transient=True)
    if error.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return PhotoError("read", "not-a-file", f"it is not a regular file, so it is not read: {text}")
    return PhotoError("read", "io-error", f"the file could not be read: {text}", transient=True)


def _too_many_bytes(size: int, limits: PhotoLimits) -> PhotoError:
    reason = (
        f"the file is {size} bytes, more than the limit of {limits.max_bytes}; raise the limit to read it"
    )
    return PhotoError("read", "too-many-bytes", reason)
