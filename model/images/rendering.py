"""What beside its image data decides how a photo looks: how it is turned upright, and its colour profile.

Neither is a part of which picture it is: programs edit and drop them as they do other metadata. A photo whose
rendering changes is the same photo with another embedding.
"""

from __future__ import annotations

import hashlib

from PIL import Image

from birdsearch.model.images.digest import image_data
from birdsearch.model.images.orientation import orientation_number

__all__ = ["PLAIN", "has_profile", "rendering_of"]

PLAIN = "1"
"""The rendering of a picture that is stored upright and has no profile."""

_TURNED_BY_CONTAINER = frozenset(("HEIF", "AVIF"))
_PROFILE_DIGITS = 16


def rendering_of(name: str, data: bytes, exif: Image.Exif | None, profile: bytes | None) -> str:
    """Return the rendering of a photo, one short line that compares.

    Args:
        name: Format of the file.
        data: The whole file.
        exif: Its EXIF, if any.
        profile: The colour profile that is applied to it, if any.
    """
    turn = image_data(data).turn if name in _TURNED_BY_CONTAINER else str(orientation_number(exif))
    if profile is not None:
        return f"{turn or PLAIN} #{hashlib.sha256(profile).hexdigest()[:_PROFILE_DIGITS]}"
    return turn or PLAIN


def has_profile(rendering: str) -> bool:
    """Return whether a rendering applies a colour profile."""
    return " #" in rendering
