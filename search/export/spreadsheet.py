"""Tables as spreadsheet programs may safely read them; `birdsearch.csv_table` reads what they write."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["csv_cell"]

# What spreadsheets take for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


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
