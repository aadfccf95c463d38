"""Camera RAW files, through LibRaw (`rawpy`), where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image

from birdsearch.errors import PhotoError

__all__ = ["load_raw"]

# From this many pixels on each side, half the resolution is far more than the network looks at.
_HALF_FROM = 1024
_QUARTER_FLIPS = (4, 5, 6, 7)


def load_raw(
    data: bytes, check_size: Callable[[tuple[int, int]], None]
) -> tuple[Image.Image, tuple[int, int]]:
    """Develop a RAW file with the camera's white balance.

    The preview inside the file is not used: it can be small, or cropped and edited. Pictures of 1024 or more
    pixels on both sides are developed at half their size, which needs no demosaicing.

    Args:
        data: The whole file.
        check_size: Called with (width, height) before anything is developed; raises to refuse.

    Returns:
        The picture, mode RGB, upright; and (width, height) of the whole one, upright.

    Raises:
        PhotoError: `rawpy` is not installed (`needs-extra`), or LibRaw does not know or cannot read the file.
    """
    try:
        import rawpy
    except ImportError as error:
        from birdsearch.model.photo import missing_extra

        raise missing_extra("camera RAW", "raw") from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            size = (int(raw.sizes.raw_width), int(raw.sizes.raw_height))
            check_size(size)
            half = min(size) >= _HALF_FROM
            whole = (int(raw.sizes.width), int(raw.sizes.height))
            turned = whole[::-1] if raw.sizes.flip in _QUARTER_FLIPS else whole
            pixels = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half)
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
    return Image.fromarray(pixels), turned


def _text(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
