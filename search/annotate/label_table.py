"""Tables of labels: the names of their columns, and what each row says. No catalog is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birdsearch.csv_table import CsvRow, CsvTable, column_key
from birdsearch.errors import InvalidInputError

__all__ = ["NAME_COLUMNS", "LabelTable", "TableColumns", "TableRow", "read_table"]

NAME_COLUMNS = ("taxon", "species", "common_name", "scientific_name", "label")
# What other programs call these columns; the first that is there counts.
_ALIASES = {
    "sha256": ("sha256",),
    "photo_id": ("photo_id",),
    # `filePath` is Camtrap DP's, `SourceFile` exiftool's.
    "path": ("path", "filePath", "SourceFile", "photo", "image", "photo_path", "image_path", "full_path"),
    "taxon": ("taxon",),
    "species": ("species", "species_name"),
    "common_name": ("common_name", "vernacularName", "english_name"),
    "scientific_name": ("scientific_name", "scientificName", "binomial"),
    "label": ("label", "species_guess"),
    "verdict": ("verdict",),
    "who": ("who", "classifiedBy", "identifiedBy"),
    # Camtrap DP: what a program classified is no verified label.
    "method": ("classificationMethod",),
}
# A folder and a name in it: Timelapse, digiKam, exiftool, Lightroom.
_FOLDER_COLUMNS = ("RelativePath", "Directory", "Folder", "Folder_Path", "Album", "Album_Path")
_FILE_COLUMNS = ("File", "FileName", "File_Name")
# Beside a folder alone: elsewhere it is the bird's.
_NAME_COLUMN = "Name"
_KNOWN = (
    *(name for names in _ALIASES.values() for name in names),
    *_FOLDER_COLUMNS,
    *_FILE_COLUMNS,
    _NAME_COLUMN,
)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table of labels.

    Attributes:
        where: Where it is, such as `line 3`.
        values: What the columns that count hold, without the space around it; empty ones are left out. Of those
            that name taxa, `taxon` alone counts if there is one, and `label` only if there is no other, since
            results of a query have the network's guess there.
        problem: Why the row cannot be used, or empty.
    """

    where: str
    values: dict[str, str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table of labels.

    Attributes:
        rows: The rows, in their order.
        notes: For a person: how it was read, where that is a guess.
    """

    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The titles of columns that a person named.

    Attributes:
        path: That of the paths, or None to find it.
        taxon: That of the taxa, or None.
    """

    path: str | None = None
    taxon: str | None = None


def read_table(path: Path, chosen: TableColumns | None = None) -> LabelTable:
    """Read a table of labels: Parquet if its name ends in `.parquet`, else CSV (see `CsvTable`).

    Columns are found by their names in any spelling, ours or those of Timelapse, Camtrap DP, digiKam, Lightroom,
    exiftool and iNaturalist; others are not looked at. A folder and a file name in two columns are a path. Rows
    without any value are left out.

    Args:
        path: The file.
        chosen: Columns that are named, and not to be found.

    Raises:
        InvalidInputError: It cannot be read, lacks a column that is needed, or Parquet is to be read and pyarrow
            is not installed.
    """
    chosen = chosen or TableColumns()
    notes: tuple[str, ...] = ()
    named = tuple(title for title in (chosen.path, chosen.taxon) if title is not None)
    if path.suffix.lower() in (".parquet", ".pq"):
        table, word = _parquet_table(path, named), "row"
    else:
        table, word = CsvTable.of_file(path, (*_KNOWN, *named)), "line"
        if chosen.path is None:
            table, notes = _with_media(table, path)
    columns, join = _counting_columns(table, chosen)
    rows = tuple(
        TableRow(f"{word} {row.line}", values, row.problem)
        for row in table.rows
        if (values := _label_values(row, columns, join)) or row.problem
    )
    return LabelTable(rows, (*table.notes, *notes))


def _with_media(table: CsvTable, path: Path) -> tuple[CsvTable, tuple[str, ...]]:
    """Join the observations of a Camtrap DP with the paths of its `media.csv`; return any other table as it is."""
    media_id, kind = column_key("mediaID"), column_key("observationType")
    beside = path.with_name("media.csv")
    if not {media_id, kind} <= set(table.keys) or column_key("filePath") in table.keys or not beside.exists():
        return table, ()
    media = CsvTable.of_file(beside, ("mediaID", "filePath"))
    files = {
        row.values[media_id]: row.values[column_key("filePath")]
        for row in media.rows
        if media_id in row.values and column_key("filePath") in row.values
    }
    animals = [row for row in table.rows if row.values.get(kind, "").casefold() == "animal"]
    joined = tuple(
        replace(row, values={**row.values, column_key("filePath"): files[row.values[media_id]]})
        if row.values.get(media_id) in files
        else row
        for row in animals
    )
    others = len(table.rows) - len(animals)
    plural = "" if others == 1 else "s"
    notes = (f"{others} observation{plural} of no animal passed over",) if others else ()
    return replace(table, titles=(*table.titles, "filePath"), rows=joined), notes


def _counting_columns(table: CsvTable, chosen: TableColumns) -> tuple[dict[str, str], tuple[str, str] | None]:
    """Return the keys of the columns that are read, by our names, and those of a folder and a file or None."""
    columns = {}
    for ours, names in _ALIASES.items():
        key = table.column(names)
        if key is not None:
            columns[ours] = key
    for ours, title in (("path", chosen.path), ("taxon", chosen.taxon)):
        if title is not None:
            key = table.column((title,))
            if key is None:
                raise table.without(f"no column {title!r}")
            columns[ours] = key
    join = None
    if not columns.keys() & {"sha256", "photo_id", "path"}:
        folder = table.column(_FOLDER_COLUMNS)
        file = table.column(_FILE_COLUMNS if folder is None else (*_FILE_COLUMNS, _NAME_COLUMN))
        join = None if file is None else (folder or "", file)
    if join is None and not columns.keys() & {"sha256", "photo_id", "path"}:
        raise table.without(
            "no column that names photos: path, photo_id or sha256, or a folder and a file (RelativePath and File)",
            "--path-column TITLE names the one that does",
        )
    used: list[str] = []
    for group in (NAME_COLUMNS[:1], NAME_COLUMNS[1:-1], NAME_COLUMNS[-1:]):
        used = used or [name for name in group if name in columns]
    if not used:
        raise table.without(
            f"no column that names taxa: {', '.join(NAME_COLUMNS)}",
            "--taxon-column TITLE names the one that does",
        )
    kept = {ours: key for ours, key in columns.items() if ours in used or ours not in NAME_COLUMNS}
    return kept, join


def _label_values(row: CsvRow, columns: Mapping[str, str], join: tuple[str, str] | None) -> dict[str, str]:
    values = {ours: row.values[key] for ours, key in columns.items() if key in row.values}
    if join is not None and join[1] in row.values:
        folder = row.values.get(join[0], "").replace("\\", "/").strip("/") if join[0] else ""
        # Not stripped where it is absolute.
        lead = "/" if row.values.get(join[0], "").startswith("/") else ""
        values["path"] = f"{lead}{folder}/{row.values[join[1]]}" if folder else row.values[join[1]]
    return values


def _parquet_table(path: Path, named: Sequence[str]) -> CsvTable:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInputError(
            f"{path}: Parquet is read by pyarrow, which is not installed; "
            'run pip install "birdsearch[parquet]", or save the table as CSV'
        ) from error
    rows: list[CsvRow] = []
    try:
        with parquet.ParquetFile(path) as table:
            titles = tuple(table.schema_arrow.names)
            keys = {column_key(title) for title in (*_KNOWN, *named)}
            wanted = [title for title in titles if column_key(title) in keys]
            for batch in table.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    values = {column_key(title): _cell(value) for title, value in row.items()}
                    filled = {key: value for key, value in values.items() if value}
                    rows.append(CsvRow(len(rows) + 1, filled))
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInputError(f"{path} is no Parquet file that can be read: {error}") from error
    return CsvTable(str(path), titles, tuple(rows), "as Parquet")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        # A hash; a path whose bytes are no text.
        return value.hex() if len(value) == 32 else os.fsdecode(value)
    if isinstance(value, float):
        # A column of whole numbers with gaps comes as floats, its gaps as NaN.
        return "" if value != value else f"{value:.0f}" if value.is_integer() else str(value)
    return str(value).strip()
