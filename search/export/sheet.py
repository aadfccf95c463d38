"""Contact sheets: query photos and their hits on one page, as a picture or as a self-contained web page."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from birdsearch.errors import InvalidInputError
from birdsearch.search.export.sheet_page import sheet_page
from birdsearch.search.export.sheet_png import draw_sheet
from birdsearch.search.export.write import write_file
from birdsearch.search.query.hits import QueryResult

__all__ = ["write_sheet"]


def write_sheet(path: str | os.PathLike[str], results: Sequence[QueryResult]) -> None:
    """Write a contact sheet of answers: a section for each query photo, with its labels and its hits.

    Photos are shown small, without their metadata; coordinates are not shown. A photo that cannot be read is
    a grey tile with the reason. The file appears whole or not at all.

    Args:
        path: Where to write; `.png` makes a picture, `.html` a page that needs nothing else.
        results: The answers.

    Raises:
        InvalidInputError: The suffix is another, the file cannot be written, or the picture is too high.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".png":
        picture = draw_sheet(results)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        write_file(target, buffer.getbuffer())
    elif suffix == ".html":
        write_file(target, sheet_page(results))
    else:
        raise InvalidInputError(f"a contact sheet is written as .png or .html, not {target.name!r}")
