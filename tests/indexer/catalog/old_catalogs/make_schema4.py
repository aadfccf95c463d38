"""Make `schema4.zip`: a small catalog of schema 4, its photos, and what the code that made it answered.

Run it only with the code of commit 6fe1c9a, the last one that told photos by the bytes of their files:

    PYTHONPATH=. python tests/indexer/catalog/old_catalogs/make_schema4.py
    tests/indexer/catalog/old_catalogs/schema4.zip

The zip holds `catalog/`, `archive/` and `questions.json`: arguments of the command line (with `{archive}` and
`{catalog}` for the two folders), and the JSON that came of each. `files.json` has the times of the files, which
a zip rounds. Photo 1 is at two paths, photo 4 lost its only file before the last run, and `ducks/edited.jpg` is
`ducks/d2.jpg` with another time in its EXIF, which that code took for another photo.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from birdsearch.cli import cli
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.xcit import XCiT

CLASSES = ["Mallard", "Gadwall", "Eurasian wren", "European robin", "Grey heron"]
QUESTIONS = (
    ["query", "#1", "-k", "20", "--format", "json"],
    ["query", "#4", "-k", "20", "--format", "json"],
    ["query", "{archive}/ducks/d2.jpg", "-k", "5", "--format", "json"],
    ["query", "#7", "-k", "20", "--verified", "--format", "json"],
    ["query", "#7", "-k", "20", "--since", "2023-05-02", "--format", "json"],
    ["annotate", "list", "--format", "json"],
    ["annotate", "list", "--history", "--format", "json"],
    ["dedup", "--format", "json"],
    ["dedup", "rejected", "--format", "json"],
    ["sightings", "--dry-run", "--format", "json"],
    ["cluster", "list", "--format", "json"],
    ["deployments", "list", "--format", "json"],
    ["label", "--suggest", "5", "--format", "json"],
)


def write_weights(path: Path) -> None:
    network = XCiT(variant("xcit_nano12_p16"), len(CLASSES))
    network.initialise(4)
    save_checkpoint(path, network, CLASSES, (32, 32), RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def exif(taken: str | None, *, place: bool = False, turn: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[271], tags[272], tags[274] = "Nikon", "Nikon D90", turn
    if taken is not None:
        tags.get_ifd(0x8769).update({36867: taken, 42033: "2000123"})
    if place:
        tags.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    return tags


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC)


def with_time(content: bytes, old: str, new: str) -> bytes:
    assert len(old) == len(new)
    assert content.count(old.encode()) == 1
    return content.replace(old.encode(), new.encode())


def make_photos(archive: Path) -> None:
    for folder in ("ducks", "garden", "copies"):
        (archive / folder).mkdir(parents=True)
    for number in range(1, 7):
        taken = f"2023:05:01 06:30:{number:02d}"
        picture(number).save(archive / f"ducks/d{number}.jpg", exif=exif(taken, place=number < 3), quality=90)
    shutil.copy(archive / "ducks/d1.jpg", archive / "copies/d1.jpg")
    second = (archive / "ducks/d2.jpg").read_bytes()
    edited = with_time(second, "2023:05:01 06:30:02", "2023:05:01 07:30:02")
    (archive / "ducks/edited.jpg").write_bytes(edited)
    for number in range(11, 15):
        taken = f"2023:05:02 08:0{number - 10}:00"
        picture(number).save(
            archive / f"garden/g{number}.jpg", exif=exif(taken, turn=6 if number == 12 else 1)
        )
    picture(21).save(archive / "garden/plain.png")
    picture(22).save(archive / "garden/lossy.webp", exif=exif("2023:05:02 09:00:00"))
    picture(23).save(archive / "garden/flat.tif", exif=exif("2023:05:02 09:10:00"))
    picture(24).save(archive / "garden/old.gif")
    picture(11).resize((48, 36)).save(archive / "copies/g11-small.jpg", quality=80)
    (archive / "garden/broken.jpg").write_bytes(second[: len(second) // 2])


def run(arguments: list[str], *, code: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == code, (arguments, done.output, done.stderr)
    return done.stdout


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        archive, catalog, weights = base / "archive", base / "catalog", base / "tiny.pt"
        os.environ.update(
            BIRDSEARCH_CATALOG=str(catalog), BIRDSEARCH_CACHE=str(base / "cache"), BIRDSEARCH_RUNTIME="torch"
        )
        write_weights(weights)
        make_photos(archive)
        run(["index", str(archive), "--weights", str(weights), "--workers", "1"])
        where = {"archive": str(archive), "catalog": str(catalog)}
        ducks = [f"{archive}/ducks/d{number}.jpg" for number in range(1, 7)]
        run(["annotate", "set", ducks[0], ducks[1], ducks[2], "--as", "Gadwall", "--who", "ann"])
        run(["annotate", "set", ducks[0], ducks[3], "--as", "Mallard", "--who", "ben"])
        run(["annotate", "set", ducks[4], "--as", "Gadwall", "--verdict", "negative", "--who", "ben"])
        run(["annotate", "set", f"{archive}/ducks/edited.jpg", "--as", "Mallard", "--who", "ann"])
        run(["annotate", "set", f"{archive}/garden/g11.jpg", "--as", "European robin", "--who", "ann"])
        run(["annotate", "set", ducks[5], "--as", "Grey heron", "--verdict", "uncertain", "--who", "ann"])
        run(["dedup", "reject", ducks[0], f"{archive}/garden/g11.jpg", "--who", "ann"])
        run(["dedup", "reject", ducks[1], f"{archive}/ducks/edited.jpg", "--who", "ann"])
        run(["dedup"])
        (base / "deployments.csv").write_text(
            f"name,site,folder\ncard 1,pond,{archive}/ducks\ncard 2,hedge,{archive}/garden\n"
        )
        run(["deployments", "import", str(base / "deployments.csv")])
        run(["sightings"])
        run(["cluster", "--frames", "--method", "kmeans", "--clusters", "3"])
        listed = json.loads(run(["cluster", "list", "--format", "json"]))
        ids = [str(row["cluster_id"]) for row in listed["clusters"]]
        run(["cluster", "name", ids[0], "brown ones"])
        run(["cluster", "merge", ids[0], ids[1]])
        run(["label"])
        (archive / "ducks/d4.jpg").unlink()
        run(["index", str(archive), "--workers", "1"])
        questions = []
        for question in QUESTIONS:
            text = run([part.format(**where) for part in question])
            for name, path in where.items():
                text = text.replace(path, f"{{{name}}}")
            questions.append({"ask": list(question), "answer": json.loads(text)})
        files = {
            str(path.relative_to(archive)): path.stat().st_mtime_ns
            for path in sorted(archive.rglob("*"))
            if path.is_file()
        }
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr("questions.json", json.dumps(questions, indent=1))
            out.writestr("files.json", json.dumps({"root": str(archive), "mtime_ns": files}, indent=1))
            for file in sorted((*archive.rglob("*"), *catalog.rglob("*"))):
                if file.is_file() and file.name != "lock" and not file.name.endswith(("-shm", "-wal")):
                    out.write(file, file.relative_to(base))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
