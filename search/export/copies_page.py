"""Groups of copies as one web page, to look at before anything is moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.model.images.box import Box
from birdsearch.search.dedup.groups import CopyFile, CopyGroup
from birdsearch.search.export.page import jpeg_uri, render
from birdsearch.search.export.sheet_photos import Pictures, file_name
from birdsearch.search.export.write import write_file
from birdsearch.search.query.hits import Hit
from birdsearch.size_text import size_text

__all__ = ["write_copies_sheet"]

_SIDE = 220
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
    shown = [[_file(file, pictures) for file in group.files] for group in groups]
    write_file(target, render("copies.html", title=title, groups=shown))


def _file(file: CopyFile, pictures: Pictures) -> dict[str, object]:
    path = display_path(file.path)
    made = pictures.hit(_as_hit(file, path))
    return {
        "role": file.role,
        "word": _WORDS[file.role],
        "alike": None if file.role == "keep" else int(file.similarity * 100),
        "reason": file.reason,
        "width": file.width,
        "height": file.height,
        "size": size_text(file.size),
        "path": path,
        "name": file_name(path),
        "uri": None if made.image is None else jpeg_uri(made.image),
        "problem": made.problem,
    }


def _as_hit(file: CopyFile, path: str) -> Hit:
    nothing = (None,) * 6
    return Hit(1, file.similarity, path, file.photo_id, 0, "whole", Box(), *nothing, file=file.path)
