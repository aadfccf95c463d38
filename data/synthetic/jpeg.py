"""Files as cameras and people make them: JPEG with EXIF, edited copies, broken files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from PIL import Image, ImageEnhance, ImageOps
from PIL.TiffImagePlugin import IFDRational

__all__ = ["CORRUPTIONS", "EDITS", "Box", "Shot", "corrupt", "edit", "encode"]

Box = tuple[float, float, float, float]

_IFD_EXIF, _IFD_GPS = 0x8769, 0x8825


@dataclass(frozen=True, slots=True)
class Shot:
    """What a camera writes beside the picture.

    Attributes:
        make, model, serial, lens: The camera.
        captured_at: Local time with its offset; whole milliseconds.
        fraction_digits: Digits of the second's fraction that it writes.
        position: Latitude and longitude in degrees, or None if it has no GPS.
        orientation: EXIF orientation, 1, 6 or 8: the picture is stored turned.
        iso: Sensitivity.
        quality: JPEG quality.
    """

    make: str
    model: str
    serial: str
    lens: str
    captured_at: datetime
    fraction_digits: int
    position: tuple[float, float] | None
    orientation: int
    iso: int
    quality: int


def encode(image: Image.Image, shot: Shot) -> bytes:
    """Encode an upright RGB picture as the JPEG file that its camera writes."""
    turned = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(shot.orientation)
    stored = image if turned is None else image.transpose(turned)
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=shot.quality, exif=_exif(shot, shot.orientation))
    return buffer.getvalue()


def _exif(shot: Shot, orientation: int) -> Image.Exif:
    exif = Image.Exif()
    stamp = shot.captured_at.strftime("%Y:%m:%d %H:%M:%S")
    offset = shot.captured_at.strftime("%z")
    offset = f"{offset[:3]}:{offset[3:]}"
    fraction = f"{shot.captured_at.microsecond // 1000:03d}"[: shot.fraction_digits]
    exif[271], exif[272], exif[274] = shot.make, shot.model, orientation
    exif[306] = stamp
    details = exif.get_ifd(_IFD_EXIF)
    details[36867] = details[36868] = stamp
    details[36880] = details[36881] = details[36882] = offset
    details[37520] = details[37521] = details[37522] = fraction
    details[34855] = shot.iso
    details[42033], details[42036] = shot.serial, shot.lens
    if shot.position is not None:
        gps = exif.get_ifd(_IFD_GPS)
        latitude, longitude = shot.position
        gps[0] = b"\x02\x03\x00\x00"
        gps[1], gps[2] = "S" if latitude < 0 else "N", _degrees(latitude)
        gps[3], gps[4] = "W" if longitude < 0 else "E", _degrees(longitude)
    return exif


def _degrees(value: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and seconds; the seconds to a ten-thousandth (3 mm)."""
    total = round(abs(value) * 3600 * 10_000)
    minutes, seconds = divmod(total, 60 * 10_000)
    degrees, minutes = divmod(minutes, 60)
    return IFDRational(degrees, 1), IFDRational(minutes, 1), IFDRational(seconds, 10_000)


def _resize(longer: int) -> Callable[[Image.Image], Image.Image]:
    def run(image: Image.Image) -> Image.Image:
        scale = longer / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS)

    return run


def _crop(image: Image.Image) -> Image.Image:
    w, h = image.size
    return image.crop((round(w * _CROP[0]), round(h * _CROP[1]), round(w * _CROP[2]), round(h * _CROP[3])))


_CROP = (0.06, 0.05, 0.96, 0.95)

# Name -> (what is done, JPEG quality, whether EXIF is kept).
EDITS: dict[str, tuple[tuple[Callable[[Image.Image], Image.Image], ...], int, bool]] = {
    "resize-50": ((lambda image: _resize(max(1, max(image.size) // 2))(image),), 90, True),
    "reencode-q50": ((), 50, True),
    "crop-90": ((_crop,), 92, True),
    "brighter": ((lambda image: ImageEnhance.Brightness(image).enhance(1.22),), 92, True),
    "darker-contrast": (
        (
            lambda image: ImageEnhance.Brightness(image).enhance(0.84),
            lambda image: ImageEnhance.Contrast(image).enhance(1.15),
        ),
        92,
        True,
    ),
    "mirror": ((ImageOps.mirror,), 92, False),
    "messenger": ((lambda image: _resize(max(1, max(image.size) * 2 // 5))(image),), 62, False),
    "grey": ((lambda image: ImageOps.grayscale(image).convert("RGB"),), 90, False),
}


def edit(name: str, original: bytes, shot: Shot, box: Box | None) -> tuple[bytes, Box | None]:
    """Make an edited copy of a camera's file.

    Args:
        name: A key of `EDITS`.
        original: The camera's file.
        shot: What the camera wrote beside it.
        box: Where the bird is on the upright picture.

    Returns:
        The new file, upright (orientation 1), and where the bird is on it.
    """
    steps, quality, keeps_exif = EDITS[name]
    with Image.open(io.BytesIO(original)) as opened:
        image = ImageOps.exif_transpose(opened)
    for step in steps:
        image = step(image)
    buffer = io.BytesIO()
    if keeps_exif:
        image.save(buffer, "JPEG", quality=quality, exif=_exif(shot, 1))
    else:
        # A picture that Pillow has turned still remembers its EXIF: start from bare pixels.
        Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), _moved(name, box)


def _moved(name: str, box: Box | None) -> Box | None:
    if box is None or name not in ("mirror", "crop-90"):
        return box
    left, top, width, height = box
    if name == "mirror":
        return 1 - left - width, top, width, height
    x0, y0, x1, y1 = _CROP
    a, b = max(0.0, (left - x0) / (x1 - x0)), max(0.0, (top - y0) / (y1 - y0))
    c, d = min(1.0, (left + width - x0) / (x1 - x0)), min(1.0, (top + height - y0) / (y1 - y0))
    return a, b, c - a, d - b


CORRUPTIONS = ("truncated", "empty-file", "html", "header-only", "text")


def corrupt(name: str, original: bytes) -> bytes:
    """Break a good file; `name` is one of `CORRUPTIONS`."""
    if name == "truncated":
        return original[: len(original) * 3 // 5]
    if name == "header-only":
        return original[:200]
    if name == "html":
        return (
            b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
        )
    if name == "text":
        return b"This card was full. See the other card for the rest of the morning.\n"
    return b""
