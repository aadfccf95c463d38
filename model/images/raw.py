"""Camera RAW files, through LibRaw (`rawpy`), where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from birdsearch.errors import PhotoError
from birdsearch.first_use import first_use
from birdsearch.model.images.file_io import PhotoLimits
from birdsearch.model.images.formats import raw_ends_early
from birdsearch.model.images.preview import decode_preview
from birdsearch.model.images.scaling import Need

__all__ = ["DevelopedRaw", "load_raw", "raw_facts"]

# From this many pixels on each side, half the resolution is far more than the network looks at.
_HALF_FROM = 1024
# How LibRaw says that a picture is turned.
_TURNS = {0: None, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}
_QUARTER_FLIPS = (4, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class DevelopedRaw:
    """A picture from a RAW file.

    Attributes:
        image: RGB, upright.
        size: (width, height) of the whole upright picture.
        frame: Where in `image` the picture lies: left, top, right and bottom in its pixels.
        scale: By how much a preview was reduced by means while it was decoded; 1 else.
        decoded: `full`, `scaled 1/2` or `preview`.
        lens: Model of the lens as LibRaw knows it, or None.
        taken: When the photo was taken, in seconds of this machine's clock, or None.
    """

    image: Image.Image
    size: tuple[int, int]
    frame: tuple[float, float, float, float]
    scale: int
    decoded: str
    lens: str | None = None
    taken: int | None = None


def load_raw(
    data: bytes,
    check_size: Callable[[tuple[int, int]], None],
    need: Need | None,
    limits: PhotoLimits,
) -> DevelopedRaw:
    """Develop a RAW file with the camera's white balance.

    Pictures of 1024 or more pixels on both sides are developed at half their size, which needs no demosaicing.
    The preview inside the file is not used unless that is asked for: it can be small, or cropped and edited.

    Args:
        data: The whole file.
        check_size: Called with (width, height) before anything is developed; raises to refuse.
        need: What it is decoded for, or None for the whole picture.
        limits: What a preview may cost.

    Returns:
        The picture.

    Raises:
        PhotoError: `rawpy` is not installed (`needs-extra`), or LibRaw does not know or cannot read the file.
    """
    try:
        with first_use("rawpy"):
            import rawpy
    except ImportError as error:
        from birdsearch.model.images.formats import missing_extra

        raise missing_extra("camera RAW", "raw") from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            size = (int(raw.sizes.raw_width), int(raw.sizes.raw_height))
            check_size(size)
            stored = (int(raw.sizes.width), int(raw.sizes.height))
            whole = stored[::-1] if raw.sizes.flip in _QUARTER_FLIPS else stored
            if need is not None and need.mode == "preview" and need.is_whole and not raw_ends_early(data):
                preview = _preview(raw, stored, need, limits)
                if preview is not None:
                    return DevelopedRaw(preview[0], whole, *preview[1:], "preview", *_facts(raw))
            half = min(size) >= _HALF_FROM
            pixels = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half)
            facts = _facts(raw)
    except rawpy.LibRawFileUnsupportedError as error:
        reason = f"LibRaw does not know this camera's files: {_text(error)}"
        raise PhotoError("format", "unsupported-format", reason) from error
    except rawpy.LibRawIOError as error:
        raise PhotoError("decode", "truncated", f"the RAW file ends early: {_text(error)}") from error
    except (rawpy.LibRawUnsufficientMemoryError, rawpy.LibRawTooBigError) as error:
        reason = f"not enough memory to develop this RAW file: {_text(error)}"
        raise PhotoError("decode", "out-of-memory", reason) from error
    except rawpy.LibRawError as error:
        raise PhotoError("decode", "corrupt", f"the RAW file is damaged: {_text(error)}") from error
    image = Image.fromarray(pixels)
    return DevelopedRaw(image, whole, (0, 0, *image.size), 1, "scaled 1/2" if half else "full", *facts)


def raw_facts(data: bytes) -> tuple[str | None, int | None]:
    """Return the lens and the time that LibRaw finds in a RAW file, without developing it.

    Args:
        data: The whole file.

    Returns:
        As `DevelopedRaw.lens` and `taken`; None where LibRaw is not installed or does not say.
    """
    try:
        with first_use("rawpy"):
            import rawpy
        with rawpy.imread(io.BytesIO(data)) as raw:
            return _facts(raw)
    except Exception:
        # Metadata of a photo that is known already: what the file itself says is enough.
        return None, None


def _facts(raw: Any) -> tuple[str | None, int | None]:
    """Return the lens and the time that LibRaw found, None where it does not say."""
    try:
        return str(raw.lens.model).strip() or None, int(raw.other.timestamp) or None
    except Exception:
        # Releases before 0.25 do not tell.
        return None, None


def _preview(
    raw: Any, stored: tuple[int, int], need: Need, limits: PhotoLimits
) -> tuple[Image.Image, tuple[float, float, float, float], int] | None:
    if raw.sizes.flip not in _TURNS:
        return None
    try:
        content = raw.extract_thumb().data
    except Exception:
        # None there, of a kind that LibRaw does not take out, or damaged: the photo itself is still there.
        return None
    turn = _TURNS[raw.sizes.flip]
    return decode_preview(content, stored, turn, need, limits) if isinstance(content, bytes) else None


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
