"""Groups of copies as one web page, to look at before anything is moved."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.files import write_whole
from birdsearch.model.images.box import Box
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.export.page import data_uri, whole_page
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name
from birdsearch.search.query.hits import Hit

__all__ = ["write_copies_sheet"]

_SIDE = 220
_STYLE = """
:root { --page: #f6f7f9; --card: #fff; --well: #e7eaef; --line: #d9dee4; --text: #1c2127; --soft: #5d6773;
  --keep: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2126; --well: #262b32; --line: #343b44;
  --text: #e6e9ed; --soft: #9aa5b1; --keep: #3fb950; } }
body { margin: 0; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; }
section { border-top: 1px solid var(--line); padding: 1.25rem 0; }
h2 { font-size: 1rem; margin: 0 0 .75rem; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, 240px); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
li.keep { border: 2px solid var(--keep); }
.well { height: 220px; background: var(--well); display: grid; place-items: center; }
.well img { display: block; max-width: 100%; max-height: 220px; }
.none, .soft { color: var(--soft); font-size: .85rem; margin: 0; overflow-wrap: anywhere; }
.none { padding: 1rem; text-align: center; }
.note { padding: .6rem .75rem .75rem; font-size: .9rem; overflow-wrap: anywhere; }
.keep b { color: var(--keep); }
"""
_WORDS = {"keep": "keep", "move": "copy", "reference": "reference", "linked": "hard link"}


def write_copies_sheet(path: str | os.PathLike[str], groups: Sequence[CopyGroup]) -> None:
    """Write a page with a section for each group, the kept file first.

    Photos are shown small, without their metadata. The file appears whole or not at all.

    Args:
        path: Where to write; the suffix has to be `.html`.
        groups: The groups.

    Raises:
        InvalidInputError: The suffix is another, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".html":
        raise InvalidInputError(f"a sheet of copies is written as .html, not {target.name!r}")
    pictures = Pictures(_SIDE)
    title = f"{len(groups)} group{'' if len(groups) == 1 else 's'} of copies"
    body = "\n".join(_section(number, group, pictures) for number, group in enumerate(groups, 1))
    try:
        write_whole(target, whole_page(title, _STYLE, body).encode())
    except OSError as error:
        raise InvalidInputError(
            f"{target}: the sheet cannot be written ({error.strerror or error})"
        ) from error


def _section(number: int, group: CopyGroup, pictures: Pictures) -> str:
    files = "".join(_file(file, pictures) for file in group.files)
    return f"<section><h2>Group {number}</h2><ul>{files}</ul></section>"


def _file(file: CopyFile, pictures: Pictures) -> str:
    path = display_path(file.path)
    alike = "" if file.role == "keep" else f", {int(file.similarity * 100)} % alike"
    return (
        f'<li class="{file.role}"><div class="well">{_picture(file, path, pictures)}</div><div class="note">'
        f"<b>{_WORDS[file.role]}</b>{alike}<br>{escape(file.reason)}"
        f'<p class="soft">{file.width} x {file.height}, {file.size / 1e6:.3g} MB</p>'
        f'<p class="soft">{escape(path)}</p></div></li>'
    )


def _picture(file: CopyFile, path: str, pictures: Pictures) -> str:
    made = pictures.hit(_as_hit(file, path))
    if made.image is None:
        return f'<p class="none">Not shown: {escape(made.problem)}</p>'
    return f'<img src="{_jpeg(made)}" alt="{escape(file_name(path))}" loading="lazy">'


def _as_hit(file: CopyFile, path: str) -> Hit:
    nothing = (None,) * 6
    return Hit(1, file.similarity, path, file.photo_id, 0, "whole", Box(), *nothing, file=file.path)


def _jpeg(made: Thumbnail) -> str:
    buffer = io.BytesIO()
    if made.image is not None:
        made.image.save(buffer, format="JPEG", quality=84)
    return data_uri(buffer.getvalue(), "jpeg")
