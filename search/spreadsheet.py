"""Tables as spreadsheet programs write them, and as they may safely read them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence

from birdsearch.errors import InvalidInputError

__all__ = ["csv_cell", "csv_delimiter", "decoded_csv"]

# What spreadsheets take for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = ",;\t"


def csv_cell(value: object) -> object:
    """A value as it is written into CSV: text that a spreadsheet would run as a formula gets a leading apostrophe.

    Truth values are `true` and `false`, the parts of a sequence stand side by side with spaces between.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(str(part) for part in value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def decoded_csv(data: bytes, source: object) -> str:
    """The text of a table: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Args:
        data: The file.
        source: Where it is from, for the message.

    Raises:
        InvalidInputError: It is in another encoding; the message names the line.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInputError(
            f"{source} is not {encoding[:6].upper().rstrip('-')} in line {line}; save it as CSV UTF-8"
        ) from error


def csv_delimiter(text: str, is_known: Callable[[str], bool]) -> str:
    """The delimiter (comma, semicolon or tab) that makes most sense of a table's header; of equal ones the first.

    Args:
        text: The table, its header in the first line.
        is_known: Whether the title of a column is one that counts.
    """
    head = text.splitlines()[0] if text.strip() else ""

    def known(delimiter: str) -> int:
        return sum(is_known(title) for title in next(csv.reader([head], delimiter=delimiter), []))

    return max(_DELIMITERS, key=known)
