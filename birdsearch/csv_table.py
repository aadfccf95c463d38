"""Tables that people hand over as CSV, however their spreadsheet wrote them: the one way in for all of them.

Separators are commas, semicolons, tabs or bars, or what a first line `sep=;` says. The text is UTF-8 or UTF-16,
with or without a byte order mark, else Windows-1252, which is said. Titles are compared by their letters and digits
alone, so that `Relative Path`, `relative_path` and `RelativePath` are one column.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from birdsearch.errors import InvalidInputError

__all__ = ["CsvRow", "CsvTable", "column_key", "decoded_table", "shown_columns", "table_bytes"]

MAX_TABLE_BYTES = 1 << 28
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark its own begins with.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_SEP_LINE = re.compile(r'\s*"?sep=(?:"([^"])"|(.))"?[,;\t|]*\s*?(?:\r\n|\r|\n|$)', re.IGNORECASE)
# What Excel writes to keep "0012" a text; and what we write ourselves so that nothing is run as a formula.
_TEXT_FORMULA = re.compile(r'="(.*)"', re.DOTALL)
_GUARDED = re.compile(r"'(?=[=+\-@\t\r])")
_LOOKED_AT, _SHOWN = 4096, 12


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A row with something in it.

    Attributes:
        line: Where it begins, from 1.
        values: By the key of the column (see `column_key`), without the space around them; empty ones are left out.
        problem: Why it cannot be used, or empty.
    """

    line: int
    values: Mapping[str, str]
    problem: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CsvTable:
    """A table that was read.

    Attributes:
        source: Where it is from, for messages.
        titles: The titles of its columns, as they are written.
        rows: Its rows, in order.
        how: How it was read, such as `as UTF-8 with commas`.
        notes: For a person, such as that the encoding is a guess.
    """

    source: str
    titles: tuple[str, ...]
    rows: tuple[CsvRow, ...]
    how: str
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of_file(cls, path: Path, known: Sequence[str]) -> CsvTable:
        """Read a file; see `of_bytes`.

        Raises:
            InvalidInputError: It cannot be read or is too large, or as `of_bytes`.
        """
        return cls.of_bytes(table_bytes(path), str(path), known)

    @classmethod
    def of_bytes(cls, data: bytes, source: str, known: Sequence[str]) -> CsvTable:
        """Read the content of a file.

        Args:
            data: The content.
            source: Where it is from, for messages.
            known: Titles that count, by which the separator is found.

        Raises:
            InvalidInputError: It is no text, or no CSV.
        """
        text, encoding, notes = decoded_table(data, source)
        return cls.of_text(text, source, known, encoding=encoding, notes=notes)

    @classmethod
    def of_text(
        cls, text: str, source: str, known: Sequence[str], *, encoding: str = "", notes: Sequence[str] = ()
    ) -> CsvTable:
        """Read a text; see `of_bytes`.

        Args:
            text: The text.
            source: Where it is from, for messages.
            known: Titles that count.
            encoding: What it was decoded from, for messages.
            notes: Notes for the person who gave the table.
        """
        text = text.removeprefix("\ufeff")
        before = 0
        separator = None
        if said := _SEP_LINE.match(text):
            separator = said[1] or said[2]
            before, text = 1, text[said.end() :]
        keys = {column_key(title) for title in known}
        separator = separator or _separator(text, keys)
        name = _SEPARATORS.get(separator, repr(separator))
        how = f"{f'as {encoding} ' if encoding else ''}with {name} between values"
        titles, rows = _parsed(text, source, separator, before)
        return cls(source, titles, rows, how, tuple(notes))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its columns."""
        return tuple(column_key(title) for title in self.titles)

    def column(self, names: Sequence[str]) -> str | None:
        """Return the key of the first of some columns that the table has, or None.

        Raises:
            InvalidInputError: It is there twice.
        """
        for name in names:
            count = self.keys.count(column_key(name))
            if count > 1:
                raise InvalidInputError(f"{self.source} has two columns {name!r}; leave one of them out")
            if count:
                return column_key(name)
        return None

    def without(self, what: str, advice: str = "") -> InvalidInputError:
        """Make the error for a missing column, which names the columns that there are.

        Args:
            what: Such as `no column that names photos (path, photo_id or sha256)`.
            advice: What to do, if there is more than to rename a column.
        """
        end = f"; {advice}" if advice else ""
        return InvalidInputError(
            f"{self.source} has {what}. It was read {self.how}; its columns: {shown_columns(self.titles)}{end}"
        )


def column_key(title: str) -> str:
    """Return the letters and digits of a title in lower case, or the title itself if it has none."""
    key = "".join(sign for sign in title.casefold() if sign.isalnum())
    return key or title.strip()


def shown_columns(titles: Sequence[str]) -> str:
    """List the titles of columns for a message."""
    shown = ", ".join(title if title.isprintable() and title else repr(title) for title in titles[:_SHOWN])
    more = f" and {len(titles) - _SHOWN} more" if len(titles) > _SHOWN else ""
    return f"{shown[:400]}{more}" if shown else "none"


def table_bytes(path: Path, limit: int = MAX_TABLE_BYTES) -> bytes:
    """Read the bytes of a table's file.

    Raises:
        InvalidInputError: It cannot be read, or has more bytes than the limit.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise InvalidInputError(
                    f"{path} has {size} bytes and the limit is {limit}; cut it into parts"
                )
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InvalidInputError(f"{path} cannot be read: {reason or error}") from error
    if len(data) > limit:
        raise InvalidInputError(f"{path} has more than {limit} bytes, the limit; cut it into parts")
    return data


def decoded_table(data: bytes, source: object) -> tuple[str, str, tuple[str, ...]]:
    """Decode the text of a table's file.

    Args:
        data: The file.
        source: Where it is from, for messages.

    Returns:
        The text, the name of its encoding, and notes for a person.

    Raises:
        InvalidInputError: It is no text.
    """
    if data.startswith(_SPREADSHEETS):
        raise InvalidInputError(
            f"{source} is a spreadsheet or an archive and no CSV; save it as CSV UTF-8 in the program that made it"
        )
    notes: tuple[str, ...] = ()
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InvalidInputError(
                f"{source} is {encoding.upper()} by its first bytes and broken at byte {error.start}; "
                "save it as CSV UTF-8"
            ) from error
        line = data[: error.start].count(b"\n") + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        row = _western(data[start : start + 60]).splitlines()[0].strip()
        text, encoding = _western(data), "Windows-1252"
        note = (
            f"{source} is not UTF-8 in line {line} and was read as {encoding} (Western European): {row!r}; "
            "if that is wrong, save it as CSV UTF-8"
        )
        notes = (note,)
    head = text[:_LOOKED_AT]
    if head.count("\0") > len(head) // 8:
        raise InvalidInputError(f"{source} is no text: it has NULs in it; save it as CSV UTF-8")
    return text, encoding.removesuffix("-le").removesuffix("-be").replace("utf", "UTF"), notes


def _unmarked(data: bytes) -> str:
    """Guess the encoding of a text without a byte order mark: in UTF-16 every second byte of Western text is 0."""
    head = data[:_LOOKED_AT]
    half = len(head) // 2
    if half and head[1::2].count(0) > half // 2 and head[::2].count(0) < half // 8:
        return "utf-16-le"
    if half and head[::2].count(0) > half // 2 and head[1::2].count(0) < half // 8:
        return "utf-16-be"
    return "utf-8"


def _western(data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        # Five bytes mean nothing in Windows-1252.
        return data.decode("latin-1")


def _separator(text: str, known: set[str]) -> str:
    """Choose the separator by which the header has most of the known titles, else most titles."""

    def found(separator: str) -> tuple[int, int]:
        try:
            header = next(_filled(csv.reader(io.StringIO(text, newline=""), delimiter=separator)), [])
        except csv.Error:
            return 0, 0
        return sum(column_key(title) in known for title in header), len(header)

    return max(_SEPARATORS, key=found)


def _filled(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    return (cells for cells in reader if any(cell.strip() for cell in cells))


def _parsed(
    text: str, source: str, separator: str, before: int
) -> tuple[tuple[str, ...], tuple[CsvRow, ...]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[CsvRow] = []
    titles: tuple[str, ...] = ()
    keys: list[str] = []
    line = 0
    try:
        for cells in reader:
            start, line = line + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not titles:
                titles = tuple(cell.strip() for cell in cells)
                keys = [column_key(title) for title in titles]
                continue
            rows.append(_row(start + before, keys, cells))
    except csv.Error as error:
        raise InvalidInputError(
            f"{source} is not CSV after line {line + before}: {error}; check its quotes"
        ) from error
    return titles, tuple(rows)


def _row(line: int, keys: Sequence[str], cells: Sequence[str]) -> CsvRow:
    problem = ""
    if any(cell.strip() for cell in cells[len(keys) :]):
        problem = f"it has {len(cells)} values and the header {len(keys)}; check its separators and quotes"
    values: dict[str, str] = {}
    for key, cell in zip(keys, cells, strict=False):
        value = _plain(cell.strip())
        if value:
            values.setdefault(key, value)
    return CsvRow(line, values, problem)


def _plain(cell: str) -> str:
    """Undo a spreadsheet's quoting: `="0012"` is the text 0012, and `'-x` was guarded against being run."""
    formula = _TEXT_FORMULA.fullmatch(cell)
    if formula is not None:
        return formula[1].replace('""', '"').strip()
    return _GUARDED.sub("", cell, count=1) if _GUARDED.match(cell) else cell
