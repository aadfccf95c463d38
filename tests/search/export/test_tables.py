"""Tables as files: one set of formats, columns and guards for all of them."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.export.tables import csv_text, write_table

COLUMNS = ("photo_id", "name", "verified", "sightings", "strength")
ROWS: Sequence[Mapping[str, object]] = [
    {
        "photo_id": 1,
        "name": "=cmd()",
        "verified": True,
        "sightings": ["s1", "s2"],
        "strength": 0.5,
        "why": "x",
    },
    {"photo_id": 2, "name": None, "verified": False, "sightings": [], "strength": None, "why": "y"},
]


def test_every_format_holds_the_same_rows_in_the_chosen_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in (".csv", ".JSON", ".parquet"):
        write_table(tmp_path / f"t{suffix}", ROWS, COLUMNS)
    chosen = [{column: row[column] for column in COLUMNS} for row in ROWS]
    assert json.loads((tmp_path / "t.JSON").read_text(encoding="utf-8")) == chosen
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == chosen
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == list(COLUMNS)
    assert lines == [["1", "'=cmd()", "true", "s1 s2", "0.5"], ["2", "", "false", "", ""]]


def test_a_parquet_column_has_its_type_without_a_value_too(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "t.parquet", [dict.fromkeys(COLUMNS)], COLUMNS)
    schema = parquet.read_schema(tmp_path / "t.parquet")
    assert [str(field.type) for field in schema] == [
        "int64",
        "string",
        "bool",
        "list<element: string>",
        "double",
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    head, written = csv_text([{"name": text}], ["name"]).split("\n", 1)
    assert (head, written.strip('"\n')) == ("name", f"'{text}")


@pytest.mark.parametrize("value", [-1.5, -3])
def test_a_negative_number_stays_a_number(value: float) -> None:
    assert csv_text([{"strength": value}], ["strength"]) == f"strength\n{value}\n"


def test_a_suffix_without_a_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"written as \.csv, \.parquet or \.json, not 't\.xls'"):
        write_table(tmp_path / "t.xls", ROWS, COLUMNS)
    assert list(tmp_path.iterdir()) == []
