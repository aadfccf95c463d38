"""The ground truth of a synthetic archive: one row for each file in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from birdsearch.errors import InvalidInputError

__all__ = ["KINDS", "TRUTH_FILE", "Truth", "read_truth", "write_truth"]

TRUTH_FILE = "truth.csv"

KINDS = ("photo", "empty", "copy", "near-copy", "thumbnail", "corrupt", "sidecar")


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known about one file. Fields that do not apply are empty.

    Attributes:
        path: Relative to the archive, with "/" between folders.
        kind: One of `KINDS`. `photo` and `empty` are frames as they left a camera, with and without a bird.
        species, common_name, genus, family, order: The bird's taxon.
        individual: Which bird it is.
        known: "1" if its species is one of those that a model of the world is trained on, "0" if held out.
        copy_of: Path of the frame that a copy, near-copy, thumbnail or truncated file was made from.
        edit: What was done to a near-copy, or what is wrong with a corrupt file.
        burst: Frames taken fractions of a second apart, three or more, share it.
        event: Frames of one camera with less than a minute between neighbours share it.
        sighting: All events of one individual on one visit to a site, from any camera, share it.
        site: Where it was taken.
        camera: Which camera took it.
        captured_at: Local time with milliseconds and offset from UTC (ISO 8601).
        latitude, longitude: Degrees (WGS 84), six decimals.
        exif: "1" if the file carries the time and the camera.
        gps: "1" if the file carries the position.
        orientation: EXIF orientation of the file, "1" to "8".
        box: Left, top, width and height of the bird, as parts of the upright picture, separated by spaces.
        pose: What the bird does: perch, stand, swim, cling or fly.
        background: What is behind it.
    """

    path: str
    kind: str
    species: str = ""
    common_name: str = ""
    genus: str = ""
    family: str = ""
    order: str = ""
    individual: str = ""
    known: str = ""
    copy_of: str = ""
    edit: str = ""
    burst: str = ""
    event: str = ""
    sighting: str = ""
    site: str = ""
    camera: str = ""
    captured_at: str = ""
    latitude: str = ""
    longitude: str = ""
    exif: str = ""
    gps: str = ""
    orientation: str = ""
    box: str = ""
    pose: str = ""
    background: str = ""


_COLUMNS = tuple(field.name for field in fields(Truth))


def write_truth(folder: Path, rows: Iterable[Truth]) -> Path:
    """Write `truth.csv` into an archive, sorted by path, in one step; the file's path comes back."""
    path = folder / TRUTH_FILE
    part = folder / (TRUTH_FILE + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows, key=lambda row: row.path))
    part.replace(path)
    return path


def read_truth(folder: Path | str) -> list[Truth]:
    """Read the `truth.csv` of an archive.

    Raises:
        InvalidInputError: There is none, or it lacks columns.
    """
    path = Path(folder) / TRUTH_FILE
    if not path.is_file():
        raise InvalidInputError(f"{folder} holds no {TRUTH_FILE}: it is no finished synthetic archive")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted(set(_COLUMNS) - set(reader.fieldnames or ()))
        if missing:
            raise InvalidInputError(f"{path} lacks the columns {', '.join(missing)}")
        return [Truth(**{name: row[name] for name in _COLUMNS}) for row in reader]
