"""`birdsearch demo` as a newcomer runs it."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from tests.command import birdsearch


def test_the_demo_shows_its_commands_and_ends_with_scores_and_pictures(
    tmp_path: Path, tiny_weights: Path
) -> None:
    arguments = ("demo", "here", "--weights", tiny_weights, "--photos", "32")
    done = birdsearch(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^\$ birdsearch (\w+)", done.stdout, re.MULTILINE)
    assert shown[:3] == ["index", "status", "query"]
    assert shown[-1] == "check"
    assert "0 problems" in done.stdout
    scores = done.stdout.partition("Scores against the truth")[2]
    assert re.search(r"recall@1 .* known species +(0\.\d+|1\.0+) +\d+", scores)
    reported = re.search(r"corrupt files reported +(\d+) of (\d+)", scores)
    assert reported is not None
    assert reported[1] == reported[2] != "0"
    with Image.open(tmp_path / "here" / "known.png") as sheet:
        assert sheet.width > 400
    # Again, on what is there: nothing is rendered or embedded twice.
    again = birdsearch(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "Rendered" not in again.stdout
    assert "0 photos embedded" in again.stdout
    assert again.stdout.partition("Scores")[2] == done.stdout.partition("Scores")[2]
