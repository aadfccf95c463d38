"""Output of commands: tables for people, JSON and CSV for programs; and the options that they share."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from birdsearch.search.export.tables import check_table_path, csv_text, is_table_path, suffixes

__all__ = [
    "Column",
    "catalog_option",
    "emit",
    "format_option",
    "printable",
    "table_file_option",
    "write_json",
    "write_rows",
]

Column = tuple[str, str]
"""Key of a value in a row, and the title of its column."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

_GAP = "  "
_NARROWEST = 8


def _default_catalog() -> Path:
    from birdsearch.settings import Settings

    return Settings.from_environment().catalog


def catalog_option(command: _Command) -> _Command:
    """Add `--catalog DIR`, passed as `catalog`, a `Path`."""
    return click.option(
        "--catalog",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="BIRDSEARCH_CATALOG",
        show_envvar=True,
        default=_default_catalog,
        show_default="the user's data folder",
        metavar="DIR",
        help="Folder of the catalog.",
    )(command)


def format_option(command: _Command) -> _Command:
    """Add `--format table|json|csv`, passed as `fmt`."""
    return click.option(
        "--format",
        "fmt",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="How results are printed.",
    )(command)


def table_file_option(what: str) -> Callable[[_Command], _Command]:
    """Add `--out FILE`, passed as `out`, a `Path` whose format can be written, or None.

    Args:
        what: What is written there, for the help.
    """

    def check(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
        if value is not None:
            if not is_table_path(value):
                raise click.UsageError(f"--out takes a {suffixes()}, not {value.name!r}")
            check_table_path(value)
        return value

    return click.option(
        "--out",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=check,
        help=f"Also write {what}: {suffixes()}.",
    )


def write_rows(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], fmt: str) -> None:
    """Print rows on stdout.

    - `table`: aligned by display width, numbers to the right with four significant digits, characters that do
      not print escaped. On a terminal, long texts lose their middle so that a row fits on a line.
    - `json`: an array of objects.
    - `csv`: with a header of keys. Text that a spreadsheet would run as a formula gets a leading apostrophe.

    Args:
        rows: Values by key; a missing one is empty.
        columns: What is printed, in order.
        fmt: `table`, `json` or `csv`.
    """
    if fmt == "json":
        write_json([{key: row.get(key) for key, _ in columns} for row in rows])
    elif fmt == "csv":
        emit(csv_text(rows, [key for key, _ in columns]), newline=False)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        emit(table(rows, columns, width))


def write_json(value: object) -> None:
    """Print a value as indented JSON on stdout; NaN and infinity are refused."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    emit(json.dumps(value, ensure_ascii=not is_unicode, indent=2, allow_nan=False))


def emit(text: str, *, newline: bool = True) -> None:
    """Print text on stdout; what its encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=newline)


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], width: int | None = None) -> str:
    """Lay out rows as aligned lines, the titles first.

    Args:
        rows: Values by key.
        columns: What is shown, in order.
        width: Columns of the terminal, or None for no limit.

    Returns:
        The lines, without a line end after the last.
    """
    cells = [[title for _, title in columns]]
    cells += [[_shown(row.get(key)) for key, _ in columns] for row in rows]
    is_number = [
        any(_is_number(row.get(key)) for row in rows)
        and all(row.get(key) is None or _is_number(row.get(key)) for row in rows)
        for key, _ in columns
    ]
    widths = [max(display_width(line[index]) for line in cells) for index in range(len(columns))]
    if width is not None:
        _shrink(widths, width - len(_GAP) * (len(widths) - 1))
    return "\n".join(
        _GAP.join(
            _padded(shorten(cell, limit), limit, to_right=right)
            for cell, limit, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in cells
    )


def _shrink(widths: list[int], available: int) -> None:
    """Narrow the widest columns until they fit, or all are as narrow as may be."""
    while sum(widths) > available:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_shown(part) for part in value)
    return printable(str(value))


def printable(text: str) -> str:
    """Escape what does not print: control characters, line ends, direction marks."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def display_width(text: str) -> int:
    """Count the columns of a text on a terminal: East Asian wide characters take two, combining ones none."""
    return sum(_sign_width(sign) for sign in text)


def _sign_width(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def shorten(text: str, width: int) -> str:
    """Replace the middle of a text by an ellipsis, so that it takes at most `width` columns."""
    if display_width(text) <= width:
        return text
    tail_width = (width - 1) // 2
    head = _prefix(text, width - 1 - tail_width)
    tail = _prefix(text[::-1], tail_width)[::-1]
    # A combining mark without its letter would sit on the ellipsis.
    while tail and unicodedata.combining(tail[0]):
        tail = tail[1:]
    return f"{head}…{tail}"


def _prefix(text: str, width: int) -> str:
    taken = 0
    for index, sign in enumerate(text):
        taken += _sign_width(sign)
        if taken > width:
            return text[:index]
    return text


def _padded(text: str, width: int, *, to_right: bool) -> str:
    space = " " * (width - display_width(text))
    return space + text if to_right else text + space
