"""Show paths to people."""

from __future__ import annotations

import unicodedata

__all__ = ["display_path"]


def display_path(path: bytes) -> str:
    r"""Return a path as people read it: safe to print on a terminal and to write to a file of lines.

    Bytes that are not UTF-8 become `\xNN`; control characters, line ends, characters that change the
    direction of the text and others that do not print become `\xNN`, `\uNNNN` or `\UNNNNNNNN`.

    Args:
        path: A path as the file system has it.

    Returns:
        Printable text. A path that needs no escape is unchanged.
    """
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character
