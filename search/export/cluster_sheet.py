"""A contact sheet of one cluster as a picture."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.clusters import OUTLIER
from birdsearch.search.clusters.report import ClusterRow, Overview, picks
from birdsearch.search.export.cluster_page import thumbnail
from birdsearch.search.export.sheet_photos import Pictures, file_name, shorten_middle

__all__ = ["draw_cluster"]

_COLUMNS, _TILE, _GAP, _MARGIN, _NOTE, _HEAD = 6, 236, 16, 32, 68, 78
_WIDTH = 2 * _MARGIN + _COLUMNS * _TILE + (_COLUMNS - 1) * _GAP
_PAPER, _CARD, _WELL, _LINE = (246, 247, 249), (255, 255, 255), (231, 234, 239), (217, 222, 228)
_TEXT, _SOFT, _WARN = (28, 33, 39), (93, 103, 115), (154, 91, 0)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_cluster(found: Overview, row: ClusterRow, most: int) -> Image.Image:
    """Draw the members of a cluster, strongest first; the weakest have an edge of another colour.

    Args:
        found: The clusters.
        row: The one.
        most: How many photos are shown.

    Returns:
        RGB, without metadata.
    """
    state, members = found.state, found.members
    in_cluster = np.flatnonzero(state.cluster_ids == (OUTLIER if row.id is None else row.id))
    chosen = picks(members.order[in_cluster], members.events[in_cluster], most)
    tall = _TILE + _NOTE
    rows = math.ceil(len(chosen) / _COLUMNS)
    sheet = Image.new("RGB", (_WIDTH, _MARGIN + _HEAD + rows * (tall + _GAP) + _MARGIN - _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(24), ImageFont.load_default(15)
    head = "Outliers" if row.id is None else f"Cluster {row.id} {row.name}".strip()
    _line(draw, (_MARGIN, _MARGIN - 6), head, _WIDTH - 2 * _MARGIN, title, _TEXT)
    about = f"{len(chosen)} of {row.photos:,} photos, {row.events:,} events, strength {row.strength:.2f}"
    if row.label is not None:
        about += f"; {row.label} {row.label_share or 0:.0%}{' of verified' if row.verified else ''}"
    # Where all fit equally well, and among outliers, none is weaker than another.
    has_weak = row.id is not None and float(np.ptp(state.strengths[in_cluster])) > 0
    if has_weak and any(is_weak for _, is_weak in chosen):
        about += "; the weakest have a brown edge"
    _line(draw, (_MARGIN, _MARGIN + 32), about, _WIDTH - 2 * _MARGIN, small, _SOFT)
    pictures = Pictures(_TILE)
    for number, (pick, is_weak) in enumerate(chosen):
        member = int(in_cluster[pick])
        down, across = divmod(number, _COLUMNS)
        left, top = _MARGIN + across * (_TILE + _GAP), _MARGIN + _HEAD + down * (tall + _GAP)
        edge = _WARN if is_weak and has_weak else _LINE
        draw.rectangle(
            (left - 2, top - 2, left + _TILE + 1, top + tall + 1),
            fill=_CARD,
            outline=edge,
            width=2 if edge is _WARN else 1,
        )
        draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), fill=_WELL)
        shown = thumbnail(pictures, members.files[member])
        if shown.image is not None:
            width, height = shown.image.size
            sheet.paste(shown.image, (left + (_TILE - width) // 2, top + (_TILE - height) // 2))
        else:
            _line(draw, (left + 8, top + _TILE // 2 - 8), shown.problem, _TILE - 16, small, _SOFT)
        taken = (members.captured_at[member] or "")[:16].replace("T", " ")
        facts = f"{state.strengths[member]:.2f}  #{members.photo_ids[member]}  {taken}"
        lines = (facts, members.label(member) or "", file_name(display_path(members.files[member])))
        for line, (text, fill) in enumerate(zip(lines, (_TEXT, _SOFT, _SOFT), strict=True)):
            _line(draw, (left + 8, top + _TILE + 5 + 20 * line), text, _TILE - 16, small, fill)
    return sheet


def _line(
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    width: float,
    font: _Font,
    fill: tuple[int, int, int],
) -> None:
    text = text.encode("utf-8", "backslashreplace").decode()
    draw.text(corner, shorten_middle(text, lambda part: font.getlength(part) <= width), font=font, fill=fill)
