"""The rows of a checklist: where a species occurs, in which months; see `checklist` for the columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from birdsearch.csv_table import CsvTable, column_key
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filters import parse_bbox
from birdsearch.model.taxonomy import name_key

__all__ = ["ALL_YEAR", "KNOWN", "ChecklistRow", "Listing", "checklist_rows", "parse_months"]

ALL_YEAR = frozenset(range(1, 13))
"""Numbers of the months."""

_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_NAMES = ("species", "taxon", "common_name", "scientific_name")
_BOX = ("south", "west", "north", "east")
_COUNTING = (*_NAMES, *_BOX, *_MONTHS, "months", "status")
KNOWN = (*_COUNTING, *(month[:3] for month in _MONTHS))
"""Titles that count."""

_OWN_NAMES = {column_key(name): name for name in _COUNTING}
_RARITY = re.compile(r"\b(rare|vagrant|accidental|casual)\b")
_FREQUENCY = re.compile(r"(\d+([.,]\d*)?|[.,]\d+)(e-?\d+)?\s*%?", re.ASCII | re.IGNORECASE)
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry of a species in the list.

    Attributes:
        months: When it occurs, 1..12.
        box: (south, west, north, east) in degrees where it does, or None for everywhere.
        is_rare: True if it is a rarity then and there.
    """

    months: frozenset[int]
    box: tuple[float, float, float, float] | None = None
    is_rare: bool = False

    def holds(self, latitude: float, longitude: float) -> bool:
        """Return whether a place is in the box, borders included; 180 and -180 are one meridian."""
        if self.box is None:
            return True
        south, west, north, east = self.box
        if not south <= latitude <= north:
            return False
        return _spans(west, east, longitude) or (abs(longitude) == 180 and _spans(west, east, -longitude))


def _spans(west: float, east: float, longitude: float) -> bool:
    if west <= east:
        return west <= longitude <= east
    return longitude >= west or longitude <= east


@dataclass(frozen=True, slots=True)
class ChecklistRow:
    """A row that says something.

    Attributes:
        line: Where it begins, from 1.
        names: The species, in one or more ways; never without one.
        listing: What is said of it.
    """

    line: int
    names: tuple[str, ...]
    listing: Listing


def checklist_rows(table: CsvTable) -> Iterator[ChecklistRow]:
    """Read a table in the form that the docstring of `checklist` describes.

    Args:
        table: The table.

    Yields:
        The rows that name at least one month, in their order.

    Raises:
        InvalidInputError: A column is missing or is there twice, or a cell makes no sense.
    """
    columns = {key: _column(title) for key, title in zip(table.keys, table.titles, strict=True)}
    _check_columns([_column(title) for title in table.titles], table)
    for one in table.rows:
        where = f"{table.source}, line {one.line}"
        if one.problem:
            raise InvalidInputError(f"{where}: {one.problem}")
        row = {columns[key]: value for key, value in one.values.items()}
        try:
            names = _row_names(row)
            listing = _listing(row)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from error
        if listing.months:
            yield ChecklistRow(one.line, names, listing)


def _column(title: str) -> str:
    """Return the name of the column here; of a month its full name."""
    key = column_key(title)
    month = _month(key)
    return _OWN_NAMES.get(key, key) if month is None else _MONTHS[month - 1]


def _check_columns(columns: Sequence[str], table: CsvTable) -> None:
    source = table.source
    counting = [one for one in columns if one in _COUNTING]
    twice = next((one for one in counting if counting.count(one) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"{source} has two columns {twice!r}; leave one of them out")
    if not any(one in counting for one in _NAMES):
        raise table.without(f"no column that names species: {', '.join(_NAMES)}")
    wide = [month for month in _MONTHS if month in counting]
    if wide and "months" in counting:
        raise InvalidInputError(f"{source} has a column 'months' and one {wide[0]!r}; leave one of them out")
    if wide and len(wide) < len(_MONTHS):
        missing = next(month for month in _MONTHS if month not in wide)
        raise InvalidInputError(
            f"{source} has a column {wide[0]!r} and none {missing!r}; give all twelve months, or a column 'months'"
        )
    boxed = [one for one in _BOX if one in counting]
    if boxed and len(boxed) < len(_BOX):
        missing = next(one for one in _BOX if one not in boxed)
        raise InvalidInputError(
            f"{source} has a column {boxed[0]!r} and none {missing!r}; a box needs all four"
        )


def _row_names(row: Mapping[str, str]) -> tuple[str, ...]:
    names = [" ".join(row[column].split()) for column in _NAMES if row.get(column)]
    if not any(name_key(name) for name in names):
        raise InvalidInputError(f"species is {_shown(' '.join(names))}; write a name")
    longest = max(names, key=len)
    if len(longest) > _LONGEST:
        raise InvalidInputError(
            f"species {_shown(longest)} has {len(longest)} characters; {_LONGEST} is the limit"
        )
    return tuple(name for name in names if name_key(name))


def _listing(row: Mapping[str, str]) -> Listing:
    if any(month in row for month in _MONTHS):
        cells = enumerate((row.get(month, "") for month in _MONTHS), start=1)
        months = frozenset(number for number, cell in cells if _occurs(_MONTHS[number - 1], cell))
    else:
        months = parse_months(row.get("months", ""))
    return Listing(months, _box(row), _RARITY.search(row.get("status", "").casefold()) is not None)


def _occurs(month: str, cell: str) -> bool:
    if cell in ("", "-"):
        return False
    if cell.casefold() == "x":
        return True
    if not _FREQUENCY.fullmatch(cell):
        raise InvalidInputError(f"{month} is {_shown(cell)}; it is 0, 1 or a frequency")
    return float(cell.rstrip("% ").replace(",", ".")) > 0


def _box(row: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    cells = {side: row.get(side, "") for side in _BOX}
    empty = [side for side, cell in cells.items() if not cell]
    if len(empty) == len(_BOX):
        return None
    if empty:
        raise InvalidInputError(f"{empty[0]} is empty; a box needs all of {', '.join(_BOX)}, or none")
    longest = max(cells.values(), key=len)
    if len(longest) > _LONGEST:
        raise InvalidInputError(f"{_shown(longest)} is no number of degrees")
    # Where decimals have a comma, other signs are between the values.
    return parse_bbox(",".join(cell.replace(",", ".") for cell in cells.values()))


def parse_months(text: str) -> frozenset[int]:
    """Parse months and ranges of them, such as `1-3,10-12`, `3;4;5`, `Nov-Feb` or `all`.

    Args:
        text: Numbers 1 to 12 or English names of three letters or more; a range includes both ends and may go over
            the end of the year. Empty is `all`.

    Returns:
        Numbers 1..12.

    Raises:
        InvalidInputError: A part is no month and no range of months.
    """
    plain = re.sub(r"\s*[-–—−]\s*", "-", text.strip().casefold())
    if plain in ("", "all"):
        return ALL_YEAR
    found: set[int] = set()
    for part in filter(None, re.split(r"[,;\s]+", plain)):
        ends = part.split("-")
        numbers = [_month(end) or _month_number(end) for end in ends]
        first, last = numbers[0], numbers[-1]
        if len(ends) > 2 or first is None or last is None:
            raise InvalidInputError(
                f"months is {_shown(text)} and {_shown(part)} no month; write such as 1-3,10-12, Nov-Feb or all"
            )
        # "1-3" opened by a spreadsheet comes back as 3-Jan, which would be eleven months.
        if ends[0].isdigit() != ends[-1].isdigit():
            raise InvalidInputError(
                f"months is {_shown(text)}, which is a number and a name, as when a spreadsheet made a date of it; "
                "write both as numbers or both as names"
            )
        found.update(range(first, last + 1) if first <= last else (*range(first, 13), *range(1, last + 1)))
    if not found:
        raise InvalidInputError(f"months is {_shown(text)}, which names none; write such as 1-3,10-12 or all")
    return frozenset(found)


def _month(text: str) -> int | None:
    """Return the number of a month by its name or its first letters, at least three."""
    name = text.removesuffix(".")
    if len(name) < 3:
        return None
    return next((number for number, month in enumerate(_MONTHS, start=1) if month.startswith(name)), None)


def _month_number(text: str) -> int | None:
    match = re.fullmatch(r"0?[1-9]|1[0-2]", text, re.ASCII)
    return None if match is None else int(match[0])


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:60]}...")
