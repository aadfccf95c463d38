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
from datetime import datetime, timedelta
from typing import Any

from PIL import Image

from birdsearch.model.images.photo import pillow_is_quiet

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
_DATE = re.compile(
    r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d?)(?::(\d\d?)(?:[.,](\d+))?)?"
    r"(?:\s*([AP])\.?\s?M\b)?\s*(Z|[+-]\d\d?:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
_OFFSET = re.compile(r"([+-])(\d\d?):?(\d\d)$", re.ASCII)
# There was no photo before, and clocks of another calendar than ours (Buddhist years) come out later.
_FIRST_YEAR, _LAST_YEAR = 1826, 2199
# What a clock says that was never set: the zero of Unix, of HFS and of FAT. A trail camera whose clock was reset
# to 2000-01-01 and runs on keeps its times: they say in what order its photos were taken.
_UNIX_ZERO = datetime(1970, 1, 1)
_ZEROS = frozenset({datetime(1904, 1, 1), datetime(1980, 1, 1)})


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

    The time is `DateTimeOriginal`, else `DateTimeDigitized`, else `DateTime`; what a clock says that was never set
    (1970-01-01 00:00:00, year 1) is no time. Its offset is its own, else that of another of them that says the same
    second. A position needs both coordinates with their hemispheres; exactly 0, 0 is what cameras write without a
    fix, and is no position.

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
    found: list[tuple[datetime, int | None]] = []
    loose: list[int] = []
    for date_tag, fraction_tag, offset_tag in _DATE_TAGS:
        tags = base if date_tag == _DATE_TIME else details
        offset = _offset(_text(details.get(offset_tag)))
        moment = _moment(_text(tags.get(date_tag)), _text(details.get(fraction_tag)))
        if moment is not None:
            found.append((moment[0], moment[1] if offset is None else offset))
        elif offset is not None:
            loose.append(offset)
    if not found:
        return None, None
    taken, offset = found[0]
    if offset is None:
        # The offset of another tag holds if its clock says the same second, or nothing at all. The time of a later
        # edit is on the clock of another computer, maybe of another country.
        second = taken.replace(microsecond=0)
        same = [other for moment, other in found[1:] if moment.replace(microsecond=0) == second]
        offset = next((other for other in (*same, *loose) if other is not None), None)
    return taken.isoformat(), offset


def _moment(text: str | None, fraction: str | None) -> tuple[datetime, int | None] | None:
    """Return a wall-clock time, and the offset that its text may end with; None if it cannot be trusted."""
    match = _DATE.match(_ascii_digits(text or ""))
    if match is None:
        return None
    *numbers, own_fraction, half, own_offset = match.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in numbers)
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    # 18:30 PM is half past six as well; 12:30 AM is half past midnight.
    if half is not None and hour <= 12:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    fraction = _ascii_digits(fraction or "")
    digits = fraction if fraction.isascii() and fraction.isdigit() else own_fraction or ""
    try:
        moment = datetime(year, month, day, hour, minute, second, int(digits[:6].ljust(6, "0")))
    except ValueError:
        return None
    return None if _is_zero(moment) else (moment, _offset(own_offset))


def _is_zero(moment: datetime) -> bool:
    """Return whether a clock that says this was never set; that of Unix may be shown in any time zone."""
    moment = moment.replace(microsecond=0)
    if moment in _ZEROS:
        return True
    minutes, rest = divmod(moment - _UNIX_ZERO, timedelta(minutes=15))
    return not rest and abs(minutes * 15) <= _MAX_OFFSET_MINUTES


def _ascii_digits(text: str) -> str:
    # Phones write their own script's digits in some countries.
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(sign, sign)) for sign in text)


def _offset(text: str | None) -> int | None:
    text = _ascii_digits(text or "")
    if text in ("Z", "z"):
        return 0
    match = _OFFSET.match(text)
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
    """Return degrees, minutes, seconds and the hemisphere's letter as signed degrees."""
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
    """Return one line of printable text of bounded length, or None."""
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
