"""When, where and with which camera a photo was taken, as its EXIF says.

Metadata is as unchecked as the rest of a file: tags have wrong types, zero denominators and dates of the
year 0. A field that cannot be trusted is None; nothing here raises.

Source of the tags: CIPA DC-008-2023 (Exif 3.0), sections 4.6.4 to 4.6.6.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from PIL import Image

from birdsearch.model.photo import pillow_is_quiet

__all__ = ["CAPTURE_FIELDS", "Capture", "read_exif"]

_IFD_EXIF, _IFD_GPS = 0x8769, 0x8825
_MAKE, _MODEL, _DATE_TIME, _CAMERA_SERIAL = 271, 272, 306, 50735
_LENS_MODEL, _BODY_SERIAL = 42036, 42033
# (date, fraction of its second, offset from UTC), most trusted first; all but DateTime are in the Exif IFD.
_DATE_TAGS = ((36867, 37521, 36881), (36868, 37522, 36882), (_DATE_TIME, 37520, 36880))
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = range(1, 7)
_MAX_TEXT = 120
_MAX_OFFSET_MINUTES = 14 * 60
_MAX_ALTITUDE_M = 100_000.0
_DATE = re.compile(r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d?)(?::(\d\d?))?", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d?):?(\d\d)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Capture:
    """What the EXIF of a photo says about how it was taken; None where it does not say.

    Attributes:
        captured_at: Wall-clock time at the place, ISO 8601 without an offset: `YYYY-MM-DDTHH:MM:SS`, with
            `.ffffff` if the camera gave a fraction.
        offset_minutes: Minutes that the wall clock is ahead of UTC.
        latitude: Degrees, north positive, -90..90.
        longitude: Degrees, east positive, -180..180.
        altitude_m: Metres above sea level.
        camera: Make and model, the make not repeated.
        lens: Model of the lens.
        serial: Serial number of the camera's body.
    """

    captured_at: str | None = None
    offset_minutes: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    camera: str | None = None
    lens: str | None = None
    serial: str | None = None


CAPTURE_FIELDS = tuple(field.name for field in fields(Capture))
"""Names of the fields of `Capture`."""


def read_exif(source: Image.Image | Image.Exif | None) -> Capture:
    """Read what an image's EXIF says about how it was taken.

    The time is `DateTimeOriginal`, else `DateTimeDigitized`, else `DateTime`. A position needs both
    coordinates with their hemispheres; exactly 0, 0 is what cameras write without a fix, and is no position.

    Args:
        source: An image as Pillow opened it, its EXIF, or None.

    Returns:
        The fields that can be trusted; all None where there is no EXIF or it is broken.
    """
    if source is None:
        return Capture()
    with pillow_is_quiet:
        main = _exif_of(source)
        if main is None:
            return Capture()
        base = _tags(main)
        details = _sub_ifd(main, _IFD_EXIF)
        gps = _sub_ifd(main, _IFD_GPS)
    captured_at, offset_minutes = _time(base, details)
    latitude, longitude = _position(gps)
    return Capture(
        captured_at=captured_at,
        offset_minutes=offset_minutes,
        latitude=latitude,
        longitude=longitude,
        altitude_m=_altitude(gps),
        camera=_camera(base),
        lens=_text(details.get(_LENS_MODEL)),
        serial=_text(details.get(_BODY_SERIAL)) or _text(base.get(_CAMERA_SERIAL)),
    )


def _exif_of(source: Image.Image | Image.Exif) -> Image.Exif | None:
    if isinstance(source, Image.Exif):
        return source
    try:
        return source.getexif()
    except Exception:
        return None


def _tags(exif: Image.Exif) -> dict[int, Any]:
    tags = {}
    for tag in (_MAKE, _MODEL, _DATE_TIME, _CAMERA_SERIAL):
        try:
            tags[tag] = exif.get(tag)
        except Exception:
            tags[tag] = None
    return tags


def _sub_ifd(exif: Image.Exif, tag: int) -> Mapping[int, Any]:
    try:
        ifd = exif.get_ifd(tag)
        return dict(ifd) if isinstance(ifd, Mapping) else {}
    except Exception:
        return {}


def _time(base: Mapping[int, Any], details: Mapping[int, Any]) -> tuple[str | None, int | None]:
    for date_tag, fraction_tag, offset_tag in _DATE_TAGS:
        tags = base if date_tag == _DATE_TIME else details
        moment = _moment(_text(tags.get(date_tag)), _text(details.get(fraction_tag)))
        if moment is not None:
            return moment, _offset(_text(details.get(offset_tag)))
    return None, None


def _moment(text: str | None, fraction: str | None) -> str | None:
    match = _DATE.match(text or "")
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    digits = fraction if fraction is not None and fraction.isascii() and fraction.isdigit() else ""
    try:
        return datetime(year, month, day, hour, minute, second, int(digits[:6].ljust(6, "0"))).isoformat()
    except ValueError:
        return None


def _offset(text: str | None) -> int | None:
    if text in ("Z", "z"):
        return 0
    match = _OFFSET.match(text or "")
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    value = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or value > _MAX_OFFSET_MINUTES:
        return None
    return -value if sign == "-" else value


def _position(gps: Mapping[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90.0)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180.0)
    if latitude is None or longitude is None or (latitude == 0.0 and longitude == 0.0):
        return None, None
    return latitude, longitude


def _degrees(value: object, ref: object, refs: str, limit: float) -> float | None:
    """Degrees, minutes, seconds and the hemisphere's letter as signed degrees."""
    hemisphere = (_text(ref) or " ")[0].upper()
    parts = [_number(part) for part in value] if isinstance(value, (tuple, list)) else [_number(value)]
    if hemisphere not in refs or not 1 <= len(parts) <= 3:
        return None
    total = 0.0
    for part, unit in zip(parts, (1.0, 60.0, 3600.0), strict=False):
        if part is None:
            return None
        total += part / unit
    if not 0.0 <= total <= limit:
        return None
    return -total if hemisphere == refs[1] else total


def _altitude(gps: Mapping[int, Any]) -> float | None:
    value = gps.get(_ALTITUDE)
    metres = _number(value[0] if isinstance(value, (tuple, list)) and value else value)
    if metres is None or abs(metres) > _MAX_ALTITUDE_M:
        return None
    # References 1 and 3 are below sea level and below the ellipsoid.
    return -metres if gps.get(_ALTITUDE_REF) in (1, 3, b"\x01", b"\x03") else metres


def _number(value: object) -> float | None:
    if isinstance(value, (bytes, str)) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _camera(base: Mapping[int, Any]) -> str | None:
    make, model = _text(base.get(_MAKE)), _text(base.get(_MODEL))
    if make is None or model is None:
        return model or make
    # "NIKON CORPORATION" and "NIKON D90": the model already has the maker's name.
    words = make.casefold().split()
    model_words = model.casefold().split()
    if model_words[0] in words or model_words[0].startswith(words[0]):
        return model
    return f"{make} {model}"[:_MAX_TEXT].rstrip()


def _text(value: object) -> str | None:
    """One line of printable text of bounded length, or None."""
    if isinstance(value, bytes):
        value = value[: 8 * _MAX_TEXT].decode("utf-8", "replace")
    elif isinstance(value, str):
        value = _as_utf8(value[: 8 * _MAX_TEXT])
    else:
        return None
    printable = "".join(
        " " if character.isspace() else character
        for character in value.split("\0")[0]
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return " ".join(printable.split())[:_MAX_TEXT].rstrip() or None


def _as_utf8(value: str) -> str:
    # Pillow reads text tags as Latin-1; cameras and programs also write UTF-8 into them.
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
