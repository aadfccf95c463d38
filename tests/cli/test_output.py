"""How commands print."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from birdsearch.cli.output import catalog_option, display_width, shorten, table, write_json, write_rows

COLUMNS = [("name", "Name"), ("count", "Count"), ("share", "Share")]


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    rows = [{"name": "wren", "count": 5, "share": 0.123456}, {"name": "crow", "count": 1200, "share": None}]
    assert table(rows, COLUMNS).splitlines() == [
        "Name  Count   Share",
        "wren      5  0.1235",
        "crow   1200",
    ]


def test_wide_and_combining_characters_take_the_columns_that_they_take() -> None:
    assert display_width("カラス") == 6
    assert display_width("e\u0301") == 1
    lines = table([{"name": "カラス", "count": 1}, {"name": "e\u0301", "count": 2}], COLUMNS[:2]).splitlines()
    assert [display_width(line) for line in lines] == [13, 13, 13]


def test_a_table_without_rows_is_its_titles() -> None:
    assert table([], COLUMNS) == "Name  Count  Share"


def test_long_texts_lose_their_middle_so_that_rows_fit_the_terminal() -> None:
    rows = [{"name": "/archive/2023/a very long folder name/IMG_0001.jpg", "count": 12345, "share": 0.5}]
    lines = table(rows, COLUMNS, width=40).splitlines()
    assert max(map(len, lines)) == 40
    assert lines[1].startswith("/archive/")
    assert "…" in lines[1]
    assert "_0001.jpg  12345    0.5" in lines[1]
    # Too narrow for any table: columns keep a width that can be read.
    assert max(map(len, table(rows, COLUMNS, width=5).splitlines())) <= 8 + 2 + 8 + 2 + 8


@pytest.mark.parametrize("width", range(1, 12))
def test_a_shortened_text_never_takes_more_columns_than_it_may(width: int) -> None:
    for text in ("abcdefghijkl", "カラスカラスカラス", "e\u0301" * 12, "aカ" * 5):
        assert display_width(shorten(text, width)) <= width
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdefgh", 5) == "ab…gh"


def test_what_does_not_print_is_escaped_in_a_table() -> None:
    rows = [{"name": "a\x1b[31mred\nline\u202e"}]
    assert table(rows, COLUMNS[:1]).splitlines() == ["Name", r"a\x1b[31mred\nline\u202e"]


def test_csv_can_be_read_back_and_runs_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["=cmd()", "+1", "-1", "@x", "\tx", "a,b", 'say "hi"', "two\nlines", "plain", ""]
    rows: list[dict[str, object]] = [{"name": text, "count": -5, "share": -0.25} for text in texts]
    write_rows(rows, COLUMNS, "csv")
    read = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert read[0] == ["name", "count", "share"]
    assert [row[0] for row in read[1:6]] == ["'=cmd()", "'+1", "'-1", "'@x", "'\tx"]
    assert [row[0] for row in read[6:]] == texts[5:]
    # Numbers stay numbers, the negative ones too.
    assert {tuple(row[1:]) for row in read[1:]} == {("-5", "-0.25")}


def test_json_has_the_columns_and_full_precision(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows([{"name": "カラス", "count": 1, "share": 0.1234567890123, "other": 3}], COLUMNS, "json")
    text = capsys.readouterr().out
    assert json.loads(text) == [{"name": "カラス", "count": 1, "share": 0.1234567890123}]
    assert "カラス" in text
    write_rows([], COLUMNS, "json")
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(ValueError, match="JSON"):
        write_json(float("nan"))


def test_a_terminal_that_knows_few_characters_gets_escapes() -> None:
    program = (
        "from birdsearch.cli.output import write_rows\n"
        "for fmt in ('table', 'csv', 'json'): write_rows([{'name': 'カé'}], [('name', 'Name')], fmt)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={"PYTHONIOENCODING": "latin-1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.decode("latin-1").split() == [
        "Name", "\\u30abé", "name", "\\u30abé", "[", "{", '"name":', '"\\u30ab\\u00e9"', "}", "]"
    ]  # fmt: skip


def test_the_catalog_is_taken_from_the_option_then_the_environment(tmp_path: Path) -> None:
    @click.command()
    @catalog_option
    def command(catalog: Path) -> None:
        click.echo(str(catalog))

    runner = CliRunner()
    environment = {"BIRDSEARCH_CATALOG": str(tmp_path / "environment")}
    given = runner.invoke(command, ["--catalog", str(tmp_path / "option")], env=environment)
    assert given.output.strip() == str(tmp_path / "option")
    assert runner.invoke(command, env=environment).output.strip() == str(tmp_path / "environment")
    unset = runner.invoke(command, env={"BIRDSEARCH_CATALOG": None, "XDG_DATA_HOME": str(tmp_path)})
    assert unset.output.strip().endswith("catalog")
    help_text = runner.invoke(command, ["--help"]).output
    assert "BIRDSEARCH_CATALOG" in help_text
    assert str(tmp_path) not in help_text
