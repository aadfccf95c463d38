"""A contact sheet as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from birdsearch.errors import InvalidInputError
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name, hit_note, shorten_middle
from birdsearch.search.query.hits import Hit, LabelEstimate, QueryResult

__all__ = ["draw_sheet"]

_WIDTH = 1600
_MARGIN = 36
_ASIDE = 340
_GUTTER = 36
_COLUMNS = 5
_GAP = 18
_TILE = (_WIDTH - 2 * _MARGIN - _ASIDE - _GUTTER - (_COLUMNS - 1) * _GAP) // _COLUMNS
_PAD = 10
# Height of the text below a hit: with and without a line for the time.
_NOTE, _UNDATED_NOTE = 98, 77
# A PNG of more rows is refused by common viewers, and takes more memory than it is worth.
_MAX_HEIGHT = 32_000

_PAPER, _CARD, _WELL, _LINE = (246, 247, 249), (255, 255, 255), (231, 234, 239), (217, 222, 228)
_TEXT, _SOFT, _ACCENT = (28, 33, 39), (93, 103, 115), (31, 111, 235)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_sheet(results: Sequence[QueryResult]) -> Image.Image:
    """Draw a section for each query photo: the photo and its labels to the left of its hits.

    Args:
        results: The answers.

    Returns:
        RGB, 1600 pixels wide.

    Raises:
        InvalidInputError: It would be more than 32,000 pixels high.
    """
    painter = _Painter()
    queries, hits = Pictures(_ASIDE), Pictures(_TILE)
    heights = [_section_height(result, queries.query(result.query)) for result in results]
    height = _MARGIN + sum(tall + 2 * _MARGIN for tall in heights)
    if height > _MAX_HEIGHT:
        raise InvalidInputError(
            f"the contact sheet of {len(results)} photos would be {height} pixels high, more than "
            f"{_MAX_HEIGHT}; write it as .html, ask about fewer photos, or ask for fewer hits with -k"
        )
    sheet = Image.new("RGB", (_WIDTH, max(height, 2 * _MARGIN)), _PAPER)
    painter.begin(sheet)
    top = _MARGIN
    for index, (result, tall) in enumerate(zip(results, heights, strict=True)):
        if index:
            painter.draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_LINE, width=2)
            top += _MARGIN
        painter.section(result, top, queries, hits)
        top += tall + _MARGIN
    return sheet.crop((0, 0, _WIDTH, top))


def _section_height(result: QueryResult, picture: Thumbnail) -> int:
    rows = math.ceil(len(result.hits) / _COLUMNS)
    row = _row_height(result)
    tall = _ASIDE if picture.image is None else picture.image.height
    aside = tall + 76 + 26 * len(result.warnings) + 48 * len(result.labels)
    return max(aside, rows * row - _GAP)


def _row_height(result: QueryResult) -> int:
    is_dated = any(hit.captured_at is not None for hit in result.hits)
    return _TILE + (_NOTE if is_dated else _UNDATED_NOTE) + _GAP


class _Painter:
    """Draws on one sheet."""

    def __init__(self) -> None:
        self.sheet = Image.new("RGB", (1, 1))
        self.draw = ImageDraw.Draw(self.sheet)
        self.title: _Font = ImageFont.load_default(21)
        self.body: _Font = ImageFont.load_default(17)
        self.small: _Font = ImageFont.load_default(15)

    def begin(self, sheet: Image.Image) -> None:
        self.sheet = sheet
        self.draw = ImageDraw.Draw(sheet)

    def text(
        self, corner: tuple[float, float], text: str, width: float, font: _Font, fill: tuple[int, int, int]
    ) -> None:
        """Draw one line, its middle left out where it is wider than `width`."""
        fitting = shorten_middle(text, lambda part: font.getlength(part) <= width)
        self.draw.text(corner, fitting, font=font, fill=fill)

    def right(self, edge: float, top: float, text: str, font: _Font, *, is_bold: bool = False) -> float:
        """Draw one line that ends at `edge`, and return where it begins."""
        left = edge - font.getlength(text)
        # The default font has one weight: a thin outline of the same colour makes the heavier one.
        self.draw.text((left, top), text, font=font, fill=_TEXT, stroke_width=0.4 if is_bold else 0)
        return left

    def section(self, result: QueryResult, top: int, queries: Pictures, hits: Pictures) -> None:
        self.aside(result, top, queries.query(result.query))
        left = _MARGIN + _ASIDE + _GUTTER
        if not result.hits:
            self.text((left, top), "No similar photos were found.", _TILE * _COLUMNS, self.body, _SOFT)
        tall = _row_height(result)
        for index, hit in enumerate(result.hits):
            row, column = divmod(index, _COLUMNS)
            corner = (left + column * (_TILE + _GAP), top + row * tall)
            self.hit(hit, corner, tall - _GAP, hits.hit(hit))

    def aside(self, result: QueryResult, top: int, picture: Thumbnail) -> None:
        query = result.query
        if picture.image is None:
            self.well((_MARGIN, top), _ASIDE, picture)
            top += _ASIDE
        else:
            self.sheet.paste(picture.image, (_MARGIN, top))
            top += picture.image.height
        name = file_name(query.path)
        self.text((_MARGIN, top + 14), name, _ASIDE, self.title, _TEXT)
        about = "query photo" if query.photo_id is None else f"query photo, #{query.photo_id} of the catalog"
        if query.box is not None:
            about += ", marked region"
        top += 44
        for line in (about, *result.warnings):
            self.text((_MARGIN, top), line, _ASIDE, self.small, _SOFT)
            top += 26
        top += 6
        for label in result.labels:
            self.label(label, top)
            top += 48

    def label(self, label: LabelEstimate, top: int) -> None:
        begin = self.right(_MARGIN + _ASIDE, top, f"{label.probability:.1%}", self.body)
        self.text((_MARGIN, top), label.name, begin - _MARGIN - 12, self.body, _TEXT)
        bar = (_MARGIN, top + 26, _MARGIN + _ASIDE, top + 33)
        self.draw.rounded_rectangle(bar, 3, fill=_WELL)
        filled = round(_ASIDE * min(max(label.probability, 0.0), 1.0))
        if filled >= 1:
            self.draw.rounded_rectangle(
                (bar[0], bar[1], bar[0] + filled, bar[3]), min(3, filled // 2), fill=_ACCENT
            )

    def hit(self, hit: Hit, corner: tuple[int, int], tall: int, picture: Thumbnail) -> None:
        left, top = corner
        frame = (left - 1, top - 1, left + _TILE, top + tall)
        self.draw.rectangle(frame, fill=_CARD, outline=_LINE)
        self.well((left, top), _TILE, picture)
        inner, width = left + _PAD, _TILE - 2 * _PAD
        label, taken = hit_note(hit)
        line = top + _TILE + 7
        self.text((inner, line), str(hit.rank), width, self.body, _SOFT)
        self.right(left + _TILE - _PAD, line, f"{hit.similarity:.3f}", self.body, is_bold=True)
        for text, fill in ((label, _TEXT), (taken, _SOFT), (file_name(hit.path), _SOFT)):
            if text:
                line += 21
                self.text((inner, line), text, width, self.small, fill)

    def well(self, corner: tuple[int, int], side: int, picture: Thumbnail) -> None:
        """Draw a square with the photo in its middle, or with the reason why it is not there."""
        left, top = corner
        self.draw.rectangle((left, top, left + side - 1, top + side - 1), fill=_WELL)
        if picture.image is not None:
            width, height = picture.image.size
            self.sheet.paste(picture.image, (left + (side - width) // 2, top + (side - height) // 2))
            return
        lines = self.wrapped(f"Not shown: {picture.problem}", side - 4 * _PAD)
        line = top + (side - 20 * len(lines)) / 2
        for text in lines:
            shift = (side - self.small.getlength(text)) / 2
            self.draw.text((left + shift, line), text, font=self.small, fill=_SOFT)
            line += 20

    def wrapped(self, text: str, width: float) -> list[str]:
        """Break a text into at most seven lines of whole words; a word that is too long loses its middle."""
        lines: list[str] = []
        for word in text.split():
            fitting = shorten_middle(word, lambda part: self.small.getlength(part) <= width)
            joined = f"{lines[-1]} {fitting}" if lines else fitting
            if lines and self.small.getlength(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(fitting)
        return lines if len(lines) <= 7 else [*lines[:6], "…"]
