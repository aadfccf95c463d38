"""Colours as sRGB, whatever profile a photo is stored with.

The network was trained on sRGB pictures. A photo in Adobe RGB, Display P3 or ProPhoto RGB has other numbers for the
same colours; taken for sRGB it looks dull, and its embedding is another bird's. What describes the colours of a
file is, in this order: in PNG its `cICP` chunk; a profile; EXIF that says "Adobe RGB" as cameras do (DCF, without a
profile); the colour box of HEIC and AVIF; `gAMA` and `cHRM` of PNG. Where that is sRGB, or nothing, pixels stay
exactly as they are stored.

Colours are converted by relative colorimetric intent with black point compensation: what is inside of sRGB keeps
its colour (a picture that was sRGB before comes back as it was), white stays white, and the black of a print
becomes black. For profiles of three primaries, which nearly all photos have, the perceptual intent is the same.

Sources: ICC.1:2022; IEC 61966-2-1 (sRGB); Adobe RGB (1998) Color Image Encoding, 2005-05; ITU-T H.273 (2024),
tables 2 and 3; W3C PNG (Third Edition), sections 4.3 and 11.3.2; CIPA DC-008-2023 (Exif 3.0), section 4.6.7.
"""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.first_use import first_use
from birdsearch.model.images.pixels import to_rgb
from birdsearch.model.images.tiff import PlanarTiff

if TYPE_CHECKING:
    from PIL import ImageCms

__all__ = ["ADOBE_RGB", "DISPLAY_P3", "SRGB_CURVE", "is_srgb", "matrix_profile", "source_profile", "to_srgb"]

_Curve = tuple[float, ...]
_Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]

SRGB_CURVE: _Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""Parameters of the curve of sRGB, as an ICC parametric curve of type 3 has them: g, a, b, c, d."""

_D65 = (0.3127, 0.3290)
# Red, green, blue and white, x and y.
_SRGB: _Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_ADOBE: _Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
_P3: _Primaries = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65)
_BT2020: _Primaries = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65)
# Code points of H.273 that photos are found with. Those of television are shown as sRGB, as everybody does; those
# of high dynamic range (16, 18) need more than a profile, and stay as they are.
_CICP_PRIMARIES: Mapping[int, _Primaries] = MappingProxyType({1: _SRGB, 9: _BT2020, 11: _P3, 12: _P3})
_CICP_CURVES: Mapping[int, _Curve] = MappingProxyType(
    {**dict.fromkeys((1, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)}
)

# Kind of colours that a profile has to be for, by mode; RGB for those that are not here.
_SPACES: Mapping[str, bytes] = MappingProxyType(
    {"CMYK": b"CMYK", "LAB": b"Lab ", **dict.fromkeys(("1", "L", "LA", "La", "I", "F"), b"GRAY")}
)
_IFD_EXIF, _IFD_INTEROPERABILITY = 0x8769, 0xA005
_COLOR_SPACE, _IS_SRGB = 0xA001, 1
# Those of presses have up to 3 MB.
_LARGEST_PROFILE = 4 << 20
_COLOUR_BOX_WITHIN = 1 << 16
# How far the matrix of a profile, and its curves on the scale of stored values, may be off and still be sRGB.
_MATRIX_TOLERANCE, _CURVE_TOLERANCE = 0.003, 0.75 / 255
_GAMMA_TOLERANCE = 0.05
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


def source_profile(image: Image.Image, exif: Image.Exif | None = None, data: bytes = b"") -> bytes | None:
    """Return the ICC profile that describes a picture's colours, if they are not those of sRGB.

    Args:
        image: The picture as Pillow opened it; it need not be loaded.
        exif: Its EXIF.
        data: Its whole file, as far as it is at hand: some formats say more than Pillow tells.

    Returns:
        A profile of the image's own kind of colours, embedded in the file or made for what it says; None where the
        stored values are sRGB or nothing says otherwise, and where the profile is broken.
    """
    try:
        found = _described(image, exif, data)
        return None if found is None or is_srgb(found) else found
    except Exception:
        # Whatever is wrong with it, it describes no colours.
        return None


def _described(image: Image.Image, exif: Image.Exif | None, data: bytes) -> bytes | None:
    mode = image.joined_mode if isinstance(image, PlanarTiff) else image.mode.split(";")[0]
    space = _SPACES.get(mode, b"RGB ")
    if image.format == "PNG" and space == b"RGB ":
        coded = _png_cicp(data)
        if coded is not None:
            return _cicp_profile(*coded)
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and profile:
        return profile if len(profile) <= _LARGEST_PROFILE and profile[16:20] == space else None
    if space != b"RGB ":
        return None
    if _says_adobe_rgb(exif):
        return ADOBE_RGB
    if image.format in ("HEIF", "AVIF"):
        at = data.find(b"colrnclx", 0, _COLOUR_BOX_WITHIN)
        return None if at < 0 else _cicp_profile(*struct.unpack_from(">HH", data, at + 8))
    return _png_profile(image.info) if image.format == "PNG" else None


def _says_adobe_rgb(exif: Image.Exif | None) -> bool:
    if exif is None:
        return False
    space = exif.get_ifd(_IFD_EXIF).get(_COLOR_SPACE)
    if space in (None, _IS_SRGB):
        return False
    index = exif.get_ifd(_IFD_INTEROPERABILITY).get(1)
    return str(index).rstrip("\0").strip() == "R03"


def _png_cicp(data: bytes) -> tuple[int, int] | None:
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"cICP" and size == 4:
            return data[at + 8], data[at + 9]
        if kind == b"IDAT":
            return None
        at += 12 + size
    return None


def _cicp_profile(primaries: int, transfer: int) -> bytes | None:
    if primaries not in _CICP_PRIMARIES or transfer not in _CICP_CURVES:
        return None
    return matrix_profile(_CICP_PRIMARIES[primaries], _CICP_CURVES[transfer])


def _png_profile(info: Mapping[Any, Any]) -> bytes | None:
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not isinstance(gamma, float) or not 0.1 <= gamma <= 2:
        return None
    primaries = _SRGB
    if isinstance(points, tuple) and len(points) == 8:
        white, red, green, blue = zip(points[::2], points[1::2], strict=True)
        primaries = (red, green, blue, white)
    # What programs write that mean sRGB.
    is_usual = abs(gamma * 2.2 - 1) < _GAMMA_TOLERANCE
    return matrix_profile(primaries, SRGB_CURVE if is_usual else (1 / gamma,))


@functools.lru_cache(maxsize=32)
def matrix_profile(primaries: _Primaries, curve: _Curve) -> bytes:
    """Make an ICC profile of three primaries and a curve.

    Args:
        primaries: x and y of red, green, blue and white.
        curve: A gamma, or the five parameters g, a, b, c, d of `SRGB_CURVE`.

    Returns:
        A display profile, ICC version 4.

    Raises:
        ValueError: The primaries span no colours.
    """
    matrix = _to_d50(primaries)
    kind = 0 if len(curve) == 1 else 3
    packed = b"para" + struct.pack(f">4xHxx{len(curve)}i", kind, *(round(value * 65536) for value in curve))
    tags: dict[bytes, bytes] = {b"wtpt": _xyz(_D50)}
    for column, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = _xyz(matrix[:, column])
        tags[name + b"TRC"] = packed
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content.ljust(-(-len(content) // 4) * 4, b"\0")
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s3i", start + len(body), b"", 0x04400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp",
        bytes(28), *(round(value * 65536) for value in _D50),
    )  # fmt: skip
    return header.ljust(128, b"\0") + table + body


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(float(value) * 65536) for value in values))


def _to_d50(primaries: _Primaries) -> NDArray[np.float64]:
    """Return the (3, 3) matrix from linear red, green and blue to XYZ of D50 (ICC.1:2022, annex E)."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    white = columns[:, 3]
    matrix = columns[:, :3] * np.linalg.solve(columns[:, :3], white)
    if not np.isfinite(matrix).all():
        raise ValueError("the primaries span no colours")
    adapted = np.linalg.solve(_BRADFORD, np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD)
    return np.asarray(adapted @ matrix)


@functools.lru_cache(maxsize=8)
def is_srgb(profile: bytes) -> bool:
    """Return whether a profile describes sRGB: nothing is converted then.

    Args:
        profile: An ICC profile. It is sRGB if its three primaries and its curves are, whoever made it; a grey one
            if its curve is.
    """
    tags = _tags(profile)
    if b"A2B0" in tags or b"A2B1" in tags:
        return False
    if profile[16:20] == b"GRAY":
        return b"kTRC" in tags and _is_srgb_curve(tags[b"kTRC"])
    names = (b"r", b"g", b"b")
    if not all(name + part in tags for name in names for part in (b"XYZ", b"TRC")):
        return False
    matrix = np.array([struct.unpack_from(">3i", tags[name + b"XYZ"], 8) for name in names]).T / 65536
    if np.abs(matrix - _to_d50(_SRGB)).max() > _MATRIX_TOLERANCE:
        return False
    return all(_is_srgb_curve(tags[name + b"TRC"]) for name in names)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    rows = (struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(min(count, 100)))
    return {name: profile[start : start + size] for name, start, size in rows}


def _is_srgb_curve(tag: bytes) -> bool:
    curve = _curve(tag)
    if curve is None:
        return False
    steps = [number / 64 for number in range(65)]
    return all(abs(_stored(curve(step)) - step) <= _CURVE_TOLERANCE for step in steps)


def _stored(linear: float) -> float:
    """Return the value that sRGB stores for a linear one."""
    linear = min(max(linear, 0.0), 1.0)
    return linear * 12.92 if linear <= 0.0031308 else 1.055 * math.pow(linear, 1 / 2.4) - 0.055


def _curve(tag: bytes) -> Callable[[float], float] | None:
    """Return the function from a stored value to linear light that a curve of a profile describes."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = struct.unpack_from(f">{min(count, 4096)}H", tag, 12)
        if count == 0:
            return lambda value: value
        if count == 1:
            return lambda value: math.pow(value, values[0] / 256)
        table = np.array(values) / 65535
        return lambda value: float(np.interp(value * (len(table) - 1), np.arange(len(table)), table))
    # A type 4 whose offsets are zero is a type 3.
    if tag[:4] == b"para" and (tag[8:10] == b"\0\3" or (tag[8:10] == b"\0\4" and not any(tag[32:40]))):
        g, a, b, c, d = (number / 65536 for number in struct.unpack_from(">5i", tag, 12))
        return lambda value: math.pow(max(a * value + b, 0.0), g) if value >= d else c * value
    return None


def to_srgb(image: Image.Image, profile: bytes, bits: int | None = None, factor: int = 1) -> Image.Image:
    """Convert a picture to sRGB.

    Args:
        image: A loaded image; it stays as it is.
        profile: What `source_profile` gave for it.
        bits: Bits of a sample; see `birdsearch.model.images.pixels.to_rgb`.
        factor: Reduce the picture by means over squares of `factor` pixels a side before, which is faster.

    Returns:
        Mode RGB, without a profile, as sRGB pictures are that come without one. Converted as if it had none if the
        profile is broken.
    """
    plain = image if image.mode == "CMYK" else to_rgb(image, bits)
    if factor > 1:
        plain = plain.reduce(factor)
    try:
        converted = _transform(profile).apply(plain if profile[16:20] != b"GRAY" else plain.getchannel(0))
    except Exception:
        # A broken profile is no reason to lose the picture.
        converted = plain.convert("RGB")
    converted.info.pop("icc_profile", None)
    return converted


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform:
    with first_use("LittleCMS"):
        from PIL import ImageCms

    return ImageCms.ImageCmsTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        {b"CMYK": "CMYK", b"GRAY": "L"}.get(profile[16:20], "RGB"),
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


ADOBE_RGB = matrix_profile(_ADOBE, (2.19921875,))
"""A profile of Adobe RGB (1998)."""
DISPLAY_P3 = matrix_profile(_P3, SRGB_CURVE)
"""A profile of Display P3."""
