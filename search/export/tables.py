"""Tables as files for spreadsheets and programs: the formats, the columns, and the guard against formulas.

`birdsearch.csv_table` reads what is written here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdsearch.errors import InvalidInputError
from birdsearch.search.export.write import write_file

__all__ = ["check_table_path", "csv_text", "is_table_path", "suffixes", "write_table"]

Rows = Sequence[Mapping[str, object]]

_TYPES: Mapping[str, str] = {
    "bursts": "int64",
    "camera": "string",
    "cameras": "int64",
    "captured_at": "string",
    "cluster_id": "int64",
    "ended_at": "string",
    "event": "int64",
    "events": "int64",
    "frames": "int64",
    "group": "int64",
    "is_coarse": "bool",
    "label": "string",
    "latitude": "float64",
    "longitude": "float64",
    "name": "string",
    "number": "string",
    "path": "string",
    "photo_id": "int64",
    "photos": "int64",
    "probability": "float64",
    "rank": "string",
    "sightings": "list<string>",
    "site": "string",
    "species": "string",
    "started_at": "string",
    "strength": "float64",
    "unknown": "float64",
    "verified": "bool",
}
"""Every column that a table file may have, and its Arrow type: the same name means the same in every table."""

# What spreadsheets take for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def suffixes() -> str:
    """Return the suffixes of the formats as text, such as `.csv, .parquet or .json`."""
    *others, last = _FORMATS
    return f"{', '.join(others)} or {last}"


def is_table_path(path: Path) -> bool:
    """Return whether a suffix names a format of tables."""
    return path.suffix.lower() in _FORMATS


def check_table_path(path: Path) -> None:
    """Check that a table can be written in the format that a suffix names, before the work that makes it.

    Raises:
        InvalidInputError: The suffix is of no format, or the format's library is not installed.
    """
    if not is_table_path(path):
        raise InvalidInputError(f"a table is written as {suffixes()}, not {path.name!r}")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(path: Path, rows: Rows, columns: Sequence[str]) -> None:
    """Write rows to a file, which appears whole or not at all.

    Args:
        path: Where to write; the suffix names the format, see `suffixes`.
        rows: Values by column.
        columns: Which columns, in order.

    Raises:
        InvalidInputError: The suffix is of no format, the format's library is not installed, or the file cannot
            be written.
    """
    check_table_path(path)
    content = _FORMATS[path.suffix.lower()](rows, columns)
    write_file(path, content)


def csv_text(rows: Rows, columns: Sequence[str]) -> str:
    """Return rows as CSV below a header; text that a spreadsheet would run as a formula gets an apostrophe.

    Args:
        rows: Values by column; a missing one is empty.
        columns: Which columns, in order.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(str(part) for part in value)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def _csv(rows: Rows, columns: Sequence[str]) -> bytes:
    return csv_text(rows, columns).encode("utf-8", "backslashreplace")


def _json(rows: Rows, columns: Sequence[str]) -> bytes:
    chosen = [{column: row[column] for column in columns} for row in rows]
    text = json.dumps(chosen, ensure_ascii=False, indent=1, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _parquet(rows: Rows, columns: Sequence[str]) -> bytes:
    pyarrow, parquet = _pyarrow()
    arrays = {
        column: pyarrow.array([row[column] for row in rows], _arrow_type(pyarrow, _TYPES[column]))
        for column in columns
    }
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays), buffer)
    return buffer.getvalue()


def _arrow_type(pyarrow: Any, name: str) -> Any:
    is_list = name.startswith("list<")
    return pyarrow.list_(pyarrow.string()) if is_list else pyarrow.type_for_alias(name)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInputError(
            'writing Parquet needs pyarrow, which is not here: pip install "birdsearch[parquet]", or write .csv'
        ) from error
    return pyarrow, parquet


_FORMATS: Mapping[str, Callable[[Rows, Sequence[str]], bytes]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
}
