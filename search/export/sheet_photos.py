"""The photos of a contact sheet made small, and what is written under them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from birdsearch.errors import PhotoError
from birdsearch.model.images.box import Box
from birdsearch.model.images.photo import open_photo, read_photo
from birdsearch.search.query.hits import Hit, QueryPhoto

__all__ = ["Pictures", "Thumbnail", "file_name", "hit_note", "shorten_middle"]

_MARK = (255, 196, 0)
_MARK_EDGE = (40, 30, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """A photo made small, or why there is none.

    Attributes:
        image: RGB without metadata, or None.
        problem: Why there is none, or an empty string.
    """

    image: Image.Image | None
    problem: str = ""


class Pictures:
    """Thumbnails of photos, each photo decoded once.

    Args:
        side: Pixels of a thumbnail's longer side. A photo is enlarged to twice its size at most.
    """

    def __init__(self, side: int) -> None:
        self._side = side
        self._made: dict[tuple[bytes | None, Box | None], Thumbnail] = {}

    def query(self, query: QueryPhoto) -> Thumbnail:
        """Return the thumbnail of a query photo, its region marked."""
        return self._thumbnail(query.file, query.box)

    def hit(self, hit: Hit) -> Thumbnail:
        """Return the thumbnail of a hit, its view marked unless that is the whole frame."""
        return self._thumbnail(hit.file, None if hit.box.is_whole else hit.box)

    def _thumbnail(self, file: bytes | None, box: Box | None) -> Thumbnail:
        if (file, box) not in self._made:
            self._made[file, box] = _make_thumbnail(file, box, self._side)
        return self._made[file, box]


def _make_thumbnail(file: bytes | None, box: Box | None, side: int) -> Thumbnail:
    if file is None:
        return Thumbnail(None, "given as an image, not as a file")
    try:
        image = open_photo(read_photo(file), suffix=os.path.splitext(os.fsdecode(file))[1])  # noqa: PTH122
    except PhotoError as error:
        return Thumbnail(None, error.reason)
    scale = min(side / max(image.size), 2.0)
    width, height = (max(1, round(length * scale)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    # A new image: what the file carried beside its pixels stays behind.
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    if box is not None:
        _mark(clean, box)
    return Thumbnail(clean)


def _mark(image: Image.Image, box: Box) -> None:
    right, bottom = image.width - 1, image.height - 1
    left, top = round(box.x * right), round(box.y * bottom)
    corners = (
        left,
        top,
        max(left, round((box.x + box.w) * right)),
        max(top, round((box.y + box.h) * bottom)),
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle(corners, outline=_MARK_EDGE, width=4)
    draw.rectangle(corners, outline=_MARK, width=2)


def file_name(path: str) -> str:
    """Return the last part of a display path."""
    return path.rstrip("/").rsplit("/", 1)[-1] or path


def hit_note(hit: Hit) -> tuple[str, str]:
    """Return the caption of a hit: its label with the probability, and its time; empty if neither is known."""
    label = "" if hit.label is None else hit.label
    if hit.label is not None and hit.label_probability is not None:
        label = f"{hit.label} {hit.label_probability:.0%}"
    return label, "" if hit.captured_at is None else hit.captured_at[:16].replace("T", " ")


def shorten_middle(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest form of a text that fits: whole, or with its middle replaced by an ellipsis.

    Args:
        text: The text.
        fits: Whether a text fits.

    Returns:
        The text; the end, which tells photos of a series apart, keeps as much as the beginning.
    """
    if fits(text):
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_without_middle(text, middle)) else (low, middle - 1)
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"
