"""Negotiation of the picture format: what a client's Accept header likes best (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re

__all__ = ["MEDIA_TYPES", "choose_encoding"]

MEDIA_TYPES = {"JPEG": "image/jpeg", "WEBP": "image/webp", "AVIF": "image/avif"}
"""Format of a thumbnail -> its media type."""

# Longer headers are cut: no client that shows pictures has so much to say.
_LONGEST = 2048
_QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?", re.ASCII)
# Of what is liked equally: what is smaller, if the client names it, and else what every program opens.
_NAMED, _UNNAMED = ("AVIF", "WEBP", "JPEG"), ("JPEG", "WEBP", "AVIF")


def choose_encoding(accept: str | None, available: tuple[str, ...] = ("JPEG", "WEBP", "AVIF")) -> str | None:
    """Return the format to send.

    Formats newer than JPEG are sent only to clients that like them better, or that name them: a client that takes
    anything gets JPEG.

    Args:
        accept: The Accept header, or None.
        available: Formats that can be sent.

    Returns:
        A key of `MEDIA_TYPES`, or None if the client takes none of them.
    """
    if accept is None or not accept.strip():
        return "JPEG"
    qualities = _qualities(accept[:_LONGEST])
    liked = {encoding: _quality(qualities, MEDIA_TYPES[encoding]) for encoding in available}
    best = max(liked.values())
    if best <= 0:
        return None
    equal = [encoding for encoding in available if liked[encoding] == best]
    named = [encoding for encoding in _NAMED if encoding in equal and MEDIA_TYPES[encoding] in qualities]
    return named[0] if named else next(encoding for encoding in _UNNAMED if encoding in equal)


def _quality(qualities: dict[str, float], media_type: str) -> float:
    """Return the quality of the most specific range that has the type."""
    return next((qualities[one] for one in (media_type, "image/*", "*/*") if one in qualities), 0.0)


def _qualities(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                text = value.strip()
                # What is no weight is not understood, so nothing is read into it.
                quality = float(text) if _QUALITY.fullmatch(text) else 0.0
        if name:
            found[name] = max(quality, found.get(name, 0.0))
    return found
