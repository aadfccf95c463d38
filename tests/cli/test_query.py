"""`birdsearch query`, as it is typed."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from birdsearch.cli.query import query
from birdsearch.errors import CatalogError, InvalidInputError, ModelMismatchError

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

MakePhoto = Callable[..., Path]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, make_photo: MakePhoto) -> Path:
    folder = tmp_path_factory.mktemp("query") / "archive"
    for seed in range(6):
        exif = Image.Exif()
        exif[271] = "Nikon" if seed % 2 else "Canon"
        exif.get_ifd(0x8769)[36867] = f"2023:05:{seed + 1:02d} 06:30:00"
        gps = exif.get_ifd(0x8825)
        gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 52.0, 0.0), "E", (151.0 + seed, 12.0, 0.0)
        make_photo(folder / ("=a" if seed % 2 else "b") / f"{seed}.png", seed, exif=exif)
    (folder / "bad.jpg").write_bytes(b"<html>")
    return folder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, archive: Path, tiny_model: Model) -> Path:
    from birdsearch import Catalog

    folder = tmp_path_factory.mktemp("query") / "catalog"
    with Catalog.open(folder) as opened:
        opened.index([archive], model=tiny_model, workers=1)
    return folder


def run(catalog: Path, *arguments: object) -> Result:
    return CliRunner().invoke(query, ["--catalog", str(catalog), *map(str, arguments)])


def answers(catalog: Path, *arguments: object) -> Any:
    result = run(catalog, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def found(catalog: Path, *arguments: object) -> list[str]:
    return sorted(Path(hit["path"]).name for hit in answers(catalog, *arguments)[0]["hits"])


def test_the_table_has_a_header_a_photo_and_a_line_a_hit(catalog: Path, archive: Path) -> None:
    result = run(catalog, archive / "b" / "0.png", "#3", "-k", 2)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(archive / "b" / "0.png")
    # The network is not sure of anything, and nobody verified a photo.
    assert lines[1].startswith("  bird; of no known label: ")
    assert lines[2].startswith("  candidates: species ")
    assert lines[2].count("%") == 5
    assert lines[3] == "  by the network alone: no verified photo has a say"
    assert lines[4].startswith("  not calibrated: verify photos with `birdsearch annotate`")
    assert lines[5].split() == ["Rank", "Similarity", "Label", "Path", "Time", "Place"]
    assert lines[6].split()[0] == "1"
    assert "2023-05-0" in lines[6]
    assert "-33.8667, 15" in lines[6]
    assert len(lines) == 17
    assert lines[8] == ""
    assert result.stderr == ""


def test_the_first_label_is_as_sure_as_asked(catalog: Path) -> None:
    for confidence, rank in ((0, "species"), (1, "bird")):
        one = answers(catalog, "#1", "--confidence", confidence)[0]
        assert one["evidence"]["rank"] == rank
        line = run(catalog, "#1", "--confidence", confidence).stdout.splitlines()[1]
        sure = "" if rank == "bird" else f" {one['evidence']['probability']:.1%}"
        assert line == f"  {one['evidence']['name']}{sure}; of no known label: {one['unknown']:.1%}"


def test_json_is_an_array_with_one_object_a_photo(catalog: Path, archive: Path) -> None:
    both = answers(catalog, "#1", archive / "=a" / "1.png", "-k", 3)
    assert [list(one) for one in both] == [["query", "hits", "labels", "unknown", "warnings", "evidence"]] * 2
    assert list(both[0]["evidence"]) == [
        *("name", "rank", "probability", "lambda", "calibrated", "neighbours")
    ]
    assert both[0]["evidence"]["neighbours"] == []
    assert 0 < both[0]["unknown"] < 1
    assert both[1]["query"]["path"] == str(archive / "=a" / "1.png")
    assert [hit["rank"] for hit in both[0]["hits"]] == [1, 2, 3]
    assert both[0]["hits"][0]["lat"] == pytest.approx(-33.866667)


def test_csv_is_one_row_a_hit(catalog: Path) -> None:
    result = run(catalog, "#1", "#2", "-k", 2, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    assert len({row["query"] for row in rows}) == 2
    assert rows[0]["box"] == "0.0 0.0 1.0 1.0"
    assert rows[0]["lat"].startswith("-33.8")


# The photos are of May, at 33.9 S, from 151 E on, a degree apart.
CHECKLIST = (
    "species,months,south,west,north,east,status\n"
    "species a,11-6,-40,150,-30,153.5,rare\n"
    "species b,9-4,,,,,\n"
    "species c,all,-40,170,-30,-170,\n"
    "species d,May,-40,150,-30,160,resident\n"
)
FLAGS = {
    "species a": "rare",
    "species b": "out-of-season",
    "species c": "out-of-range",
    "species d": "",
    "species e": "not-on-list",
}


def unflagged(result: Any) -> Any:
    """A JSON answer without its flags."""
    if isinstance(result, dict):
        return {key: unflagged(value) for key, value in result.items() if key != "flag"}
    return [unflagged(one) for one in result] if isinstance(result, list) else result


def test_a_checklist_flags_labels_in_every_format(catalog: Path, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(CHECKLIST)
    first = archive / "b" / "0.png"
    for confidence in (0, 1):
        asked = (first, "--confidence", confidence)
        plain = answers(catalog, *asked)
        found = answers(catalog, *asked, "--checklist", path)
        assert unflagged(found) == plain
        labels = {label["name"]: label["flag"] for label in found[0]["labels"]}
        assert labels == FLAGS
        answer = found[0]["evidence"]
        assert answer["flag"] == (FLAGS[answer["name"]] if answer["rank"] == "species" else "")
        # Each hit by its own place: the east of the first box lies between them.
        for hit in found[0]["hits"]:
            is_out = hit["label"] == "species a" and hit["lon"] > 153.5
            assert hit["flag"] == ("out-of-range" if is_out else FLAGS[hit["label"]])
        text = run(catalog, *asked, "--checklist", path, "--format", "csv").stdout
        table = list(csv.DictReader(io.StringIO(text)))
        assert [row["flag"] for row in table] == [hit["flag"] for hit in found[0]["hits"]]
        assert list(table[0])[7:10] == ["label", "flag", "captured_at"]
        lines = run(catalog, *asked, "--checklist", path).stdout.splitlines()
        shown = f" [{answer['flag']}]" if answer["flag"] else ""
        assert lines[1].startswith(f"  {answer['name']}{shown}")
        assert "species c [out-of-range] " in lines[2]
        fits = next(label for label in found[0]["labels"] if label["flag"] == "")
        assert f"{fits['name']} {fits['probability']:.1%}" in lines[2]
        assert lines[5].split() == ["Rank", "Similarity", "Label", "Flag", "Path", "Time", "Place"]


def test_a_photo_that_is_not_in_the_catalog_is_judged_by_its_own_exif(
    catalog: Path, tmp_path: Path, make_photo: MakePhoto
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(CHECKLIST)
    exif = Image.Exif()
    exif[271] = "Nikon"
    exif.get_ifd(0x8769)[36867] = "2023:07:01 06:30:00"

    def flags(photo: Path) -> dict[str, str]:
        one = answers(catalog, photo, "-k", 1, "--checklist", path)[0]
        assert one["query"]["photo_id"] is None
        return {label["name"]: label["flag"] for label in one["labels"]}

    late, bare = make_photo(tmp_path / "late.png", 77, exif=exif), make_photo(tmp_path / "bare.png", 78)
    # Without a place only the season counts, and without either only whether the species is listed.
    assert flags(late) == {
        "species a": "out-of-season",
        "species b": "out-of-season",
        "species c": "",
        "species d": "out-of-season",
        "species e": "not-on-list",
    }
    assert flags(bare) == {**dict.fromkeys(FLAGS, ""), "species a": "rare", "species e": "not-on-list"}


def test_a_checklist_that_makes_no_sense_is_an_error(catalog: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("species,south,west,north,east\nspecies a,5,0,1,1\n")
    result = run(catalog, "#1", "--checklist", path)
    assert isinstance(result.exception, InvalidInputError)
    assert str(result.exception).startswith(f"{path}, line 2: bbox: the south 5 is above the north 1")
    path.write_text("species\nspecies a\nNobodys bird\n")
    result = run(catalog, "#1", "--checklist", path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Warning: {path}, line 3: 'Nobodys bird' is not the name of a taxon")


def test_conditions_are_those_of_the_python_api(catalog: Path, archive: Path) -> None:
    # The first photo asks; it is the one of day 1.
    assert found(catalog, "#1", "--include-self") == [f"{seed}.png" for seed in range(6)]
    first = str(answers(catalog, "#1")[0]["query"]["path"])
    others = [f"{seed}.png" for seed in range(6) if f"{seed}.png" != Path(first).name]
    assert found(catalog, "#1") == others
    assert found(catalog, "#1", "--include-self", "--since", "2023-05-03", "--until", "2023-05-04") == [
        "2.png", "3.png"
    ]  # fmt: skip
    assert found(catalog, "#1", "--include-self", "--camera", "NIKON") == ["1.png", "3.png", "5.png"]
    assert found(catalog, "#1", "--include-self", "--near", "-33.87,151.2,50") == ["0.png"]
    assert found(catalog, "#1", "--include-self", "--bbox", "-34,153,-33,155.5") == [
        "2.png",
        "3.png",
        "4.png",
    ]
    assert found(catalog, "#1", "--include-self", "--under", archive / "b") == ["0.png", "2.png", "4.png"]
    assert found(catalog, "#1", "--include-self", "--exclude-under", archive / "b", "--camera", "nik*") == [
        "1.png", "3.png", "5.png"
    ]  # fmt: skip


def test_nothing_that_meets_the_conditions_is_said_and_is_no_failure(catalog: Path) -> None:
    result = run(catalog, "#1", "--since", "2030")
    assert result.exit_code == 0
    assert "no photo meets the conditions" in result.stdout
    assert result.stderr == "Warning: no photo of the catalog meets the conditions\n"
    assert "no hits were asked for" in run(catalog, "#1", "-k", 0).stdout


def test_a_region_is_asked_about(catalog: Path, archive: Path) -> None:
    one = answers(catalog, archive / "b" / "0.png", "--box", "0.1,0.2,0.5,0.5")[0]
    assert one["query"]["box"] == [0.1, 0.2, 0.5, 0.5]
    assert len(one["hits"]) == 5


def test_one_bad_photo_is_reported_and_the_others_are_answered(catalog: Path, archive: Path) -> None:
    result = run(catalog, "#1", archive / "bad.jpg", archive / "none.jpg", "#2", "--format", "json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)) == 2
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"Error: {archive / 'bad.jpg'}: ")
    assert errors[1] == f"Error: {archive / 'none.jpg'}: there is no such file"


@pytest.mark.parametrize("name", ["sheet.png", "sheet.html"])
def test_a_contact_sheet_is_written_beside_the_answer(catalog: Path, tmp_path: Path, name: str) -> None:
    result = run(catalog, "#1", "-k", 2, "--sheet", tmp_path / name)
    assert result.exit_code == 0
    assert (tmp_path / name).stat().st_size > 1000
    assert f"wrote {tmp_path / name}" in result.stderr
    assert "wrote" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["#1", "-k", "-1"],
        ["#1", "-k", "many"],
        ["#1", "--sheet", "sheet.gif"],
        ["#1", "--format", "xml"],
        ["#1", "--confidence", "1.5"],
    ],
)
def test_a_wrong_use_is_told_apart_from_a_failure(catalog: Path, arguments: list[str]) -> None:
    result = run(catalog, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--box", "1,2"], InvalidInputError, "numbers X,Y,W,H"),
        (["--box", "0,0,2,2"], InvalidInputError, "reaches out of the photo"),
        (["--near", "1,2"], InvalidInputError, "LAT,LON,KM"),
        (["--bbox", "5,0,1,1"], InvalidInputError, "the south 5 is above the north 1"),
        (["--since", "soon"], InvalidInputError, "since 'soon' is not a time"),
        (["--taxon", "dodoo"], InvalidInputError, "is no species, genus, family or order"),
    ],
)
def test_a_value_outside_its_limits_is_an_error_that_says_what_is_right(
    catalog: Path, arguments: list[str], error: type[Exception], message: str
) -> None:
    result = run(catalog, "#1", *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_weights_of_another_model_are_refused(catalog: Path, other_weights: Path, tiny_weights: Path) -> None:
    assert isinstance(run(catalog, "#1", "--weights", other_weights).exception, ModelMismatchError)
    assert run(catalog, "#1", "--weights", tiny_weights).exit_code == 0


def test_there_must_be_a_catalog(tmp_path: Path) -> None:
    result = run(tmp_path / "none", "#1")
    assert isinstance(result.exception, CatalogError)
    assert "birdsearch index" in str(result.exception)
    assert not (tmp_path / "none").exists()


def test_a_stored_photo_is_answered_and_help_is_printed_without_torch(catalog: Path) -> None:
    program = (
        "import sys\n"
        "from birdsearch.cli import cli\n"
        "cli.main(['query', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'faiss', 'numpy', 'sqlalchemy'} & set(sys.modules)\n"
        f"cli.main(['query', '--catalog', {str(catalog)!r}, '#1', '-k', '1'], standalone_mode=False)\n"
        "assert not {'torch', 'numpy.ma'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Similarity" in done.stdout


def test_an_error_is_one_line_and_exit_1(catalog: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "birdsearch",
        "query",
        "--catalog",
        str(catalog),
        "#1",
        "--since",
        "soon",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: since 'soon' is not a time")
    assert len(done.stderr.splitlines()) == 1
