"""Change bytes of a catalog, one at a time, and see whether an answer changes without a word.

    python benchmarks/damage.py                      300 changes, about 10 minutes on two cores
    python benchmarks/damage.py --changes 25 --photos 12

A catalog is made with photos, copies, labels, clusters, deployments and sightings. Then, on a copy each time, one
byte of one of its files is changed, `birdsearch check` is run, and the same questions are asked again. A change may
leave every answer as it was, end in an error or a warning, or be reported by `check`. If it does none of these, the
script exits 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from birdsearch.cli import cli
from birdsearch.errors import BirdsearchError
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.xcit import XCiT

# The last is sensitive: its place is coarsened by the label alone.
SPECIES = ("Mallard", "Great tit", "Barn owl", "House sparrow", "Common buzzard")
_EVALUATED = 45
# What of an answer is another every time.
_NOT_ANSWERS = ("run_id", "run", "seconds", "bytes", "at")


@dataclass(frozen=True)
class Said:
    """What a command wrote, and how it ended; `crashed` if that was no error for people."""

    code: int
    out: str
    err: str
    crashed: bool = False


def birdsearch(*arguments: str | Path) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    code, crashed = 0, False
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(one) for one in arguments], standalone_mode=False)
        except (click.ClickException, BirdsearchError) as error:
            err.write(f"Error: {error}")
            code = 1
        except SystemExit as error:
            code = int(error.code or 0)
        except Exception as error:
            err.write(f"{type(error).__name__}: {error}")
            code, crashed = 1, True
    return Said(code, out.getvalue(), err.getvalue(), crashed)


def make_catalog(folder: Path, photos: int) -> Path:
    """Make photos under `folder` and a catalog of them that has something of everything."""
    rng = np.random.default_rng(0)
    network = XCiT(variant("xcit_nano12_p16"), len(SPECIES))
    network.initialise(1)
    stats = RgbStats(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    save_checkpoint(folder / "weights.pt", network, list(SPECIES), (32, 32), stats)
    archive = folder / "archive"
    looks = rng.integers(0, 256, (len(SPECIES), 6, 8, 3))
    for number in range(photos):
        kind = number % len(SPECIES)
        noise = rng.integers(-140, 140, (6, 8, 3))
        picture = Image.fromarray(np.clip(looks[kind] + noise, 0, 255).astype(np.uint8))
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Maker", f"Camera {kind}"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:{1 + number // 4:02d} 06:{number % 60:02d}:00"
        exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, float(number)), 3: "E", 4: (7.0, 10.0, 5.0)})
        path = archive / SPECIES[kind] / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((96, 72), Image.Resampling.BICUBIC).save(path, exif=exif, quality=92)
        if number % 7 == 0:
            shutil.copy(path, path.with_name(f"{number:03d} copy.jpg"))
    catalog = ("--catalog", folder / "catalog")
    for arguments in (
        ("index", archive, "--weights", folder / "weights.pt", "--workers", "1", *catalog),
        ("annotate", "folders", archive, *catalog),
        ("deployments", "--from-folders", "1", *catalog),
        ("label", "--fit", *catalog),
        ("sightings", *catalog),
        ("cluster", "--method", "kmeans", "--clusters", "4", *catalog),
        ("label", *catalog),
    ):
        said = birdsearch(*arguments)
        if said.code:
            sys.exit(f"{' '.join(map(str, arguments))}: {said.err}")
    return folder / "catalog"


def questions(catalog: Path, archive: Path) -> list[tuple[str, ...]]:
    """The commands whose answers must not change."""
    known = sorted(str(path) for path in archive.rglob("*.jpg"))
    end = ("--format", "json", "--catalog", str(catalog))
    # What `eval` needs at the least.
    enough = len(known) >= _EVALUATED
    return [
        ("status", *end),
        ("query", known[0], known[-1], "-k", "5", *end),
        ("label", *end),
        ("annotate", "list", "--history", *end),
        ("deployments", "list", *end),
        ("sightings", "--dry-run", "--exact-places", *end),
        ("cluster", "list", *end),
        ("dedup", *end),
        *([("eval", *end)] if enough else []),
    ]


def plain(text: str) -> object:
    """An answer without what is another every time."""

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {key: strip(one) for key, one in value.items() if key not in _NOT_ANSWERS}
        if isinstance(value, list):
            return [strip(one) for one in value]
        return value

    try:
        return strip(json.loads(text))
    except ValueError:
        return text


def judge(catalog: Path, asked: Sequence[tuple[str, ...]], right: Sequence[object]) -> tuple[str, str]:
    """What became of a change: its kind, and what was said or changed."""
    checked = birdsearch("check", "--catalog", catalog)
    if checked.crashed:
        return "CRASH", f"check: {checked.err}"
    if checked.code:
        # Known to be damaged; whatever is asked still has to end in an answer or an error for people.
        for question in asked[:2]:
            said = birdsearch(*question)
            if said.crashed:
                return "CRASH", f"{question[0]}: {said.err}"
        return "check reports it", " ".join((checked.out + checked.err).split())
    kind, note = "same answers", ""
    for question, expected in zip(asked, right, strict=True):
        said = birdsearch(*question)
        if said.crashed:
            return "CRASH", f"{question[0]}: {said.err}"
        if said.code or "damaged" in said.err or "made again" in said.err:
            kind, note = "error or warning", said.err
        elif plain(said.out) != expected:
            return "SILENT", f"{question[0]}: {said.out[:2000]}"
    return kind, note


def main() -> None:
    """Run the experiment and print what became of the changes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=300)
    parser.add_argument("--photos", type=int, default=45)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="Also print what every change led to.")
    options = parser.parse_args()
    for name, value in (("CATALOG", "catalog"), ("CACHE", "cache"), ("RUNTIME", "torch")):
        os.environ.setdefault(f"BIRDSEARCH_{name}", value)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["BIRDSEARCH_CACHE"] = str(folder / "cache")
        catalog = make_catalog(folder, options.photos)
        kept = folder / "kept"
        shutil.copytree(catalog, kept)
        asked = questions(catalog, folder / "archive")

        def restore() -> None:
            shutil.rmtree(catalog)
            shutil.copytree(kept, catalog)

        restore()
        right = []
        for question in asked:
            said = birdsearch(*question)
            if said.code:
                sys.exit(f"{' '.join(question)}: {said.err}")
            right.append(plain(said.out))
        restore()
        if judge(catalog, asked, right)[0] != "same answers":
            sys.exit(f"an unchanged catalog does not answer the same: {judge(catalog, asked, right)}")
        files = [path for path in sorted(kept.rglob("*")) if path.is_file() and path.stat().st_size]
        sizes = np.array([path.stat().st_size for path in files])
        rng = np.random.default_rng(options.seed)
        found: Counter[tuple[str, str]] = Counter()
        for number in range(options.changes):
            place = int(rng.integers(sizes.sum()))
            which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
            offset = place - int(sizes[:which].sum())
            restore()
            path = catalog / files[which].relative_to(kept)
            content = bytearray(path.read_bytes())
            before = content[offset]
            content[offset] ^= 1 << int(rng.integers(8)) if number % 2 else int(rng.integers(1, 256))
            path.write_bytes(content)
            kind, note = judge(catalog, asked, right)
            found[path.name, kind] += 1
            if options.verbose or kind.isupper():
                print(
                    f"{number}: {path.name} byte {offset}: {before:#x} -> {content[offset]:#x}: {kind}: {note}"
                )
    print(f"\n{options.changes} changed bytes")
    for (name, kind), count in sorted(found.items()):
        print(f"{count:5}  {name:32} {kind}")
    failed = sum(count for (_, kind), count in found.items() if kind.isupper())
    print(f"{failed} changed an answer without a word, or crashed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
