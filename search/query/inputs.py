"""Inputs of queries: a file, an image or a photo id, a region of it, and the network's pixels."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import digest_file, need_of, see_photo
from birdsearch.model.images.photo import PhotoLimits, load_photo, read_photo, upright_rgb
from birdsearch.model.images.resizing import resize, resize_loaded
from birdsearch.search.query.hits import QueryPhoto

__all__ = [
    "Photo",
    "ReadPhoto",
    "check_box",
    "crop",
    "find_photo",
    "id_or_path",
    "network_input",
    "parse_box",
    "photo_name",
    "read_file",
    "region_of",
]

Photo = str | os.PathLike[str] | Image.Image | int
"""A photo: its path, a Pillow image, or the id of a photo in the catalog (`12` or `"#12"`)."""

_PHOTO_ID = re.compile(r"#(\d{1,18})", re.ASCII)
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class ReadPhoto:
    """A query photo that was found.

    Attributes:
        query: How it is called, and its id if its content is in the catalog.
        content: The bytes of its file, a Pillow image, or None where only the catalog was asked so far.
    """

    query: QueryPhoto
    content: bytes | Image.Image | None


def parse_box(text: str) -> Box:
    """Parse `x,y,w,h`: the left top corner, the width and the height of a region.

    Raises:
        InvalidInputError: It is not four numbers, or not a region of the frame.
    """
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise InvalidInputError(
            f"box {text!r} must be numbers X,Y,W,H in parts of the upright photo, such as 0.25,0.1,0.5,0.5"
        ) from None
    return check_box(Box(x, y, w, h))


def check_box(box: Box) -> Box:
    """Verify that a region lies in the frame.

    Args:
        box: Relative to the upright frame.

    Returns:
        The box, cut to the frame where rounding made it reach out by up to 1e-6.

    Raises:
        InvalidInputError: It reaches out of the frame, has no area, or is not finite.
    """
    shown = f"box {box.x:g},{box.y:g},{box.w:g},{box.h:g}"
    if not all(math.isfinite(value) for value in (box.x, box.y, box.w, box.h)):
        raise InvalidInputError(f"{shown}: every number must be finite")
    if box.w <= 0 or box.h <= 0:
        raise InvalidInputError(f"{shown}: the width and the height must be more than 0")
    right, bottom = box.x + box.w, box.y + box.h
    if min(box.x, box.y) < -_ROUNDING or max(right, bottom) > 1 + _ROUNDING:
        raise InvalidInputError(
            f"{shown} reaches out of the photo: x, y, x + w and y + h must be within 0 to 1, in parts of the "
            "upright photo's width and height; divide pixels by them"
        )
    x, y = max(box.x, 0.0), max(box.y, 0.0)
    return Box(x, y, min(box.w, 1.0 - x), min(box.h, 1.0 - y))


def region_of(box: Box | Sequence[float] | None) -> Box | None:
    """Return a checked region, or None for the whole frame.

    Raises:
        InvalidInputError: It is not four numbers, or not a region of the frame.
    """
    if box is None:
        return None
    if not isinstance(box, Box):
        try:
            x, y, w, h = (float(value) for value in box)
        except (TypeError, ValueError):
            raise InvalidInputError(f"box must be four numbers x, y, w, h, got {box!r}") from None
        box = Box(x, y, w, h)
    checked = check_box(box)
    return None if checked.is_whole else checked


def crop(image: Image.Image, box: Box) -> Image.Image:
    """Cut a region out of an upright photo.

    Args:
        image: An upright photo.
        box: A region of it, as `check_box` returns it.

    Returns:
        The region, at the photo's own resolution.
    """
    return image.crop(box.corners(image.size))


def find_photo(store: CatalogStore, photo: Photo, box: Box | None, limits: PhotoLimits) -> ReadPhoto:
    """Find a query photo, and whether the catalog holds its content.

    Args:
        store: The catalog.
        photo: The photo; text of the form `#12` is an id, `./#12` a file of that name.
        box: The region that is asked about, or None for the whole frame.
        limits: What the photo may cost.

    Returns:
        The photo. Its content is read, unless it was named by id.

    Raises:
        PhotoError: It cannot be read, or there is no photo of this id.
        InvalidInputError: It is none of what a photo can be.
    """
    if isinstance(photo, Image.Image):
        return ReadPhoto(QueryPhoto(photo_name(photo), None, box), photo)
    file = id_or_path(photo)
    if isinstance(file, int):
        return _by_id(store, file, box)
    content = read_file(file, limits)
    photo_id = _known_photo(store, content, os.fsdecode(file), limits)
    return ReadPhoto(QueryPhoto(display_path(file), photo_id, box, file), content)


def _known_photo(store: CatalogStore, content: bytes, name: str, limits: PhotoLimits) -> int | None:
    """Return the photo of a file's picture, if it is shown in the file as it was embedded."""
    digests = digest_file(content, sha256=True)
    wanted = [digest for digest in (digests.picture, digests.sha256) if digest is not None]
    found = store.photo_ids(digests=wanted)
    photo_id = found.get(digests.picture) or next(iter(found.values()), None)
    rendering = None if photo_id is None else store.rendering(photo_id)
    if rendering is None:
        return photo_id
    try:
        seen = see_photo(content, limits, os.path.splitext(name)[1])  # noqa: PTH122
    except PhotoError:
        # It need not be read: what is stored of it is enough.
        return photo_id
    return photo_id if seen.rendering == rendering else None


def id_or_path(photo: str | os.PathLike[str] | int) -> int | bytes:
    """Return the id that names a photo, or its path.

    Raises:
        InvalidInputError: It is neither an id nor a path.
    """
    if isinstance(photo, int) and not isinstance(photo, bool):
        return photo
    if not isinstance(photo, str | os.PathLike):
        raise InvalidInputError(
            f"a photo must be a path, a Pillow image or a photo id, got {type(photo).__name__}"
        )
    match = _PHOTO_ID.fullmatch(photo) if isinstance(photo, str) else None
    return os.fsencode(photo) if match is None else int(match.group(1))


def photo_name(image: Image.Image) -> str:
    """Return the name of a Pillow image: the path of its file, escaped for people, or `image`."""
    name = getattr(image, "filename", "")
    return display_path(os.fsencode(name)) if name else "image"


def _by_id(store: CatalogStore, photo_id: int, box: Box | None) -> ReadPhoto:
    if abs(photo_id) < 1 << 63:
        photo_id = store.current_id(photo_id)
    record = store.photos([photo_id]).get(photo_id) if abs(photo_id) < 1 << 63 else None
    if record is None:
        reason = (
            f"#{photo_id}: the catalog has no photo of this id; `birdsearch query --format json` shows ids"
        )
        raise PhotoError("read", "unknown-photo", reason)
    return ReadPhoto(QueryPhoto(display_path(record.path), record.id, box, record.path), None)


def network_input(
    found: ReadPhoto, size: tuple[int, int], limits: PhotoLimits, decode: str = "scaled"
) -> NDArray[np.uint8]:
    """Decode a query photo, cut its region out and resize that.

    Args:
        found: The photo.
        size: (height, width) that the network takes.
        limits: What it may cost.
        decode: One of `birdsearch.model.images.scaling.DECODE_MODES`. Of a region, as many pixels are kept as of a
            whole frame.

    Returns:
        (H, W, 3) uint8.

    Raises:
        PhotoError: It cannot be read or decoded; the reason names it.
        InvalidInputError: There is no such way to decode.
    """
    query, content = found.query, found.content
    box = query.box
    need = need_of(size, decode, box)
    file = query.file or b""
    if content is None:
        content = read_file(file, limits)
    try:
        if isinstance(content, Image.Image):
            image = upright_rgb(content)
            return resize(image if box is None else crop(image, box), size)
        suffix = os.path.splitext(os.fsdecode(file))[1]  # noqa: PTH122
        loaded = load_photo(content, limits, suffix=suffix, need=need)
    except PhotoError as error:
        raise error.named(query.path) from error
    region = None if box is None else box.corners(loaded.size)
    return np.array(resize_loaded(loaded, size, region, exact=decode == "full"))


def read_file(file: bytes, limits: PhotoLimits) -> bytes:
    """Read a query photo's file.

    Raises:
        PhotoError: It cannot be read; the reason names it.
    """
    try:
        return read_photo(file, limits)
    except PhotoError as error:
        if error.code == "vanished":
            error = PhotoError(error.stage, error.code, "there is no such file", transient=True)
        raise error.named(display_path(file)) from error
