"""What a command says when it is interrupted: what is kept, and what the next run does."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from birdsearch.cli.interruption import kept_by
from birdsearch.indexer.catalog.predictions import last_predictions
from birdsearch.indexer.catalog.records import Prediction
from birdsearch.indexer.catalog.store import CatalogStore

MakePhoto = Callable[..., Path]

# The command line, with a function in which it stays until it is interrupted.
PROGRAM = """
import importlib, sys, time
module, name, *sys.argv[1:] = sys.argv[1:]

def stay(*_arguments, **_options):
    print("here", flush=True)
    time.sleep(120)

# A run that does not end when it is told to is given less time than a real one.
importlib.import_module("birdsearch.indexer.watch").STOP_S = 1.0
setattr(importlib.import_module(module), name, stay)
from birdsearch.cli import main
main()
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, make_photo: MakePhoto) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    for number in range(4):
        make_photo(folder / "archive" / f"{number}.png", number)
    options = ["--weights", str(tiny_weights), "--catalog", str(folder / "catalog")]
    command = [sys.executable, "-m", "birdsearch", "index", str(folder / "archive"), *options]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    return folder / "catalog"


def _interrupt(
    place: tuple[str, str], *arguments: str, number: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *place, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize(
    ("command", "place", "said"),
    [
        ("label", ("birdsearch.search.labels.predict", "predict"), "those of the last whole run stay"),
        ("dedup", ("birdsearch.search.dedup.find", "find_copies"), "the next run goes on"),
        ("sightings", ("birdsearch.search.sightings.find", "find_sightings"), "the last whole run stay"),
        ("check", ("birdsearch.indexer.verify", "check_catalog"), "nothing is lost"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_says_what_is_kept(
    command: str, place: tuple[str, str], said: str, number: signal.Signals, catalog: Path
) -> None:
    status, errors = _interrupt(place, command, "--catalog", str(catalog), number=number)
    assert status == (130 if number == signal.SIGINT else 143), errors
    word = "Interrupted." if number == signal.SIGINT else "Terminated."
    # Whatever else it said comes before.
    line = errors.strip().splitlines()[-1]
    assert line.startswith(f"{word} ")
    assert said in line


def test_labels_of_a_run_that_was_interrupted_do_not_count(catalog: Path) -> None:
    command = [sys.executable, "-m", "birdsearch", "label", "--catalog", str(catalog), "--format", "json"]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    before = _labels(catalog)
    status, _ = _interrupt(("birdsearch.search.labels.predict", "predict"), *command[3:])
    assert status == 130
    assert len(before) == 4
    assert _labels(catalog) == before


def _labels(catalog: Path) -> list[Prediction]:
    with CatalogStore.open(catalog) as store:
        return list(last_predictions(store))


def test_an_index_that_is_interrupted_before_anything_is_written_says_so(
    tmp_path: Path, tiny_weights: Path, make_photo: MakePhoto
) -> None:
    make_photo(tmp_path / "archive" / "a.png", 1)
    options = ["--weights", str(tiny_weights), "--catalog", str(tmp_path / "catalog")]
    place = ("birdsearch.indexer.plan", "register_roots")
    status, errors = _interrupt(place, "index", str(tmp_path / "archive"), *options)
    assert status == 130, errors
    expected = (
        f"Interrupted. Kept in {tmp_path / 'catalog'}: 0 photos; of this run: none yet. The next run goes on"
    )
    assert expected in errors


@pytest.mark.parametrize(
    "command",
    ["label", "dedup", "sightings", "cluster", "eval", "probe", "check", "rebuild", "annotate", "demo"],
)
def test_every_command_that_may_take_long_has_something_to_say(command: str) -> None:
    assert kept_by([command, "--catalog", "there"])


def test_a_command_that_keeps_nothing_says_nothing_of_it() -> None:
    assert kept_by(["status"]) == kept_by(["query", "a.jpg"]) == kept_by([]) == ""
