"""Tables are read as spreadsheets write them: every separator, encoding and way of quoting gives the same rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import pytest

from birdsearch.csv_table import CsvTable, column_key, decoded_table
from birdsearch.errors import InvalidInputError

KNOWN = ("path", "common_name", "note")
ROWS = [
    {"path": "a/1.jpg", "commonname": "Rüppell's vulture", "note": 'said "sure", twice'},
    {"path": "b\\2;x.jpg", "commonname": "Mönchsgrasmücke", "note": "two\nlines"},
    {"path": "c,3.jpg", "note": "a\ttab | a bar"},
]
ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252",
    "latin-1": "Windows-1252",
}


def written(separator: str, quoting: Literal[0, 1, 2, 3], ending: str, *, sep_line: bool) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, quoting=quoting, lineterminator=ending)
    if sep_line:
        buffer.write(f"sep={separator}{ending}")
    writer.writerow([" Path ", "Common Name", "NOTE", "other"])
    for row in ROWS:
        writer.writerow([row.get("path"), row.get("commonname"), row.get("note"), ""])
    writer.writerow(["", "", "", ""])
    return buffer.getvalue()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_separator_encoding_and_quoting_gives_the_same_rows(separator: str, encoding: str) -> None:
    quotings: tuple[Literal[0, 1, 2, 3], ...] = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    for quoting in quotings:
        # Python quotes no line feed where lines end in another sign.
        for ending in ("\r\n", "\n", "\r")[: 2 + (quoting == csv.QUOTE_ALL)]:
            for sep_line in (False, True):
                text = written(separator, quoting, ending, sep_line=sep_line)
                table = CsvTable.of_bytes(text.encode(encoding), "t.csv", KNOWN)
                assert [dict(row.values) for row in table.rows] == ROWS
                assert not any(row.problem for row in table.rows)
                assert table.titles == ("Path", "Common Name", "NOTE", "other")
                assert table.column(("common_name",)) == "commonname"
                assert table.how.startswith(f"as {ENCODINGS[encoding]} with ")
                assert bool(table.notes) == (ENCODINGS[encoding] == "Windows-1252")
                assert table.rows[0].line == 2 + sep_line


def test_a_guess_at_the_encoding_is_said_with_the_line() -> None:
    _, encoding, (note,) = decoded_table("path\na\nGrünfink\n".encode("cp1252"), "t.csv")
    assert encoding == "Windows-1252"
    assert note.startswith(
        "t.csv is not UTF-8 in line 3 and was read as Windows-1252 (Western European): 'Grünfink'"
    )


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", "sep=\t", "sep=#"])
def test_a_line_may_tell_the_separator(line: str) -> None:
    separator = line.strip('"')[4]
    table = CsvTable.of_text(f"{line}\r\npath{separator}note\r\n1,5{separator}x\r\n", "t.csv", KNOWN)
    assert [dict(row.values) for row in table.rows] == [{"path": "1,5", "note": "x"}]


def test_the_separator_is_that_of_the_known_titles_whatever_is_in_them() -> None:
    table = CsvTable.of_text("path;note, if any, of the day;common_name\na,b,c;x;y\n", "t.csv", KNOWN)
    assert dict(table.rows[0].values) == {"path": "a,b,c", "noteifanyoftheday": "x", "commonname": "y"}
    assert CsvTable.of_text("a;b;c\n1;2;3\n", "t.csv", KNOWN).titles == ("a", "b", "c")


def test_what_spreadsheets_put_around_a_text_is_taken_off() -> None:
    text = 'path,note\n"=""0012""",\'-1\n\'quoted,"=""say """"hi"""""""\n'
    rows = [dict(row.values) for row in CsvTable.of_text(text, "t.csv", KNOWN).rows]
    assert rows == [{"path": "0012", "note": "-1"}, {"path": "'quoted", "note": 'say "hi"'}]


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    table = CsvTable.of_bytes("Foto;Art\n1;2\n".encode("utf-16"), "t.csv", KNOWN)
    assert str(table.without("no column 'path'", "rename one")) == (
        "t.csv has no column 'path'. It was read as UTF-16 with semicolons between values; its columns: Foto, Art; "
        "rename one"
    )
    assert table.column(("path", "Art")) == "art"
    with pytest.raises(InvalidInputError, match="has two columns 'path'"):
        CsvTable.of_text("path,PATH\n", "t.csv", KNOWN).column(("path",))


def test_titles_are_compared_by_letters_and_digits() -> None:
    assert {
        column_key(title) for title in ("Relative Path", "relative_path", "RelativePath", " relative-path ")
    } == {"relativepath"}
    assert column_key("?") == "?"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04xlsx", "is a spreadsheet or an archive and no CSV; save it as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0xls", "is a spreadsheet or an archive"),
        (b"\xff\xfea", "is UTF-16-LE by its first bytes and broken at byte 2"),
        (b"\x00\x01\x02\x00\x00\x00", "is no text"),
        (b'path,note\n"a"b,c\n', "is not CSV after line 1: .*; check its quotes"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CsvTable.of_bytes(data, "t.csv", KNOWN)


def test_a_row_that_is_too_long_says_so_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,note\na,b,c\nd,e,,\n\nf\n")
    table = CsvTable.of_file(path, KNOWN)
    assert [(row.line, row.problem) for row in table.rows] == [
        (2, "it has 3 values and the header 2; check its separators and quotes"),
        (3, ""),
        (5, ""),
    ]
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        CsvTable.of_file(tmp_path / "none.csv", KNOWN)
