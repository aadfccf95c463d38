"""How well near-copies are found, beside the hashes of `imagededup`, on edited copies of a folder's photos.

    python benchmarks/copies.py FOLDER... [--weights FILE] [--share 0.5] [--seed 0]

A share of a folder's photos gets one copy each, by one edit after the other; everything else stays as it is, to be
told apart. Pairs count: a pair of an original and its copy is to be found, any other is not. Where a folder has
files thumb_X, they are the copies, and none are made. Of a rendered archive (with a truth.csv) the frames are used
as they are, and none is a copy of another.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from birdsearch.data.synthetic.truth import TRUTH_FILE, read_truth
from birdsearch.errors import PhotoError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model import load_model
from birdsearch.model.images.decode import decode_photo
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.search.dedup.copies import (
    CopyRules,
    candidate_pairs,
    copy_groups,
    missing_pairs,
    verify_pairs,
)
from birdsearch.search.dedup.fingerprint import Fingerprint, fingerprint

Pair = tuple[int, int]
Edit = Callable[[Image.Image, np.random.Generator], Image.Image]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_BATCH = 32


def _resized(factor: float) -> Edit:
    def edit(image: Image.Image, _rng: np.random.Generator) -> Image.Image:
        size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)

    return edit


def _cropped(share: float) -> Edit:
    """`share` of each side is cut off, at a random position."""

    def edit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def _border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    colour = tuple(int(value) for value in rng.choice([0, 255], 1).repeat(3))
    return ImageOps.expand(image, max(2, round(0.04 * min(image.size))), fill=colour)


def _exposed(stops: float) -> Edit:
    return lambda image, _rng: Image.fromarray(
        np.clip(np.asarray(image, np.float32) * 2**stops, 0, 255).astype(np.uint8)
    )


def _white_balance(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    warm = 1.15 if rng.random() < 0.5 else 0.87
    gains = np.array([warm, 1.0, 1 / warm], np.float32)
    return Image.fromarray(np.clip(np.asarray(image, np.float32) * gains, 0, 255).astype(np.uint8))


def _caption(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    made = image.copy()
    height = max(10, round(0.09 * made.height))
    draw = ImageDraw.Draw(made)
    draw.rectangle((0, made.height - height, made.width, made.height), fill=(0, 0, 0))
    text = f"Site {rng.integers(1, 40)}  2024-0{rng.integers(1, 10)}-1{rng.integers(0, 10)}"
    draw.text((4, made.height - height), text, fill=(255, 255, 255), font_size=max(8, height - 4))
    return made


def _same(image: Image.Image, _rng: np.random.Generator) -> Image.Image:
    return image


EDITS: Mapping[str, tuple[Edit, int]] = {
    # name: what is done, and the JPEG quality
    "quality 30": (_same, 30),
    "quality 60": (_same, 60),
    "quality 95": (_same, 95),
    "25 %": (_resized(0.25), 90),
    "50 %": (_resized(0.5), 90),
    "200 %": (_resized(2.0), 90),
    "crop 5 %": (_cropped(0.05), 90),
    "crop 10 %": (_cropped(0.10), 90),
    "crop 15 %": (_cropped(0.15), 90),
    "border": (_border, 90),
    "+1 EV": (_exposed(1.0), 90),
    "-1 EV": (_exposed(-1.0), 90),
    "white balance": (_white_balance, 90),
    "grey": (lambda image, _rng: ImageOps.grayscale(image).convert("RGB"), 90),
    "sharpened": (lambda image, _rng: image.filter(ImageFilter.UnsharpMask(2, 120, 2)), 90),
    "contrast": (lambda image, _rng: ImageEnhance.Contrast(image).enhance(1.3), 90),
    "caption": (_caption, 90),
}
TURNS: Mapping[str, tuple[Edit, int]] = {
    "turned 90": (lambda image, _rng: image.transpose(Image.Transpose.ROTATE_270), 90),
    "turned 180": (lambda image, _rng: image.transpose(Image.Transpose.ROTATE_180), 90),
    "turned 270": (lambda image, _rng: image.transpose(Image.Transpose.ROTATE_90), 90),
    "mirrored": (lambda image, _rng: ImageOps.mirror(image), 90),
}


@dataclass(frozen=True)
class Files:
    """Files to compare: which picture each is of, and by what edit it was made ("" for an original)."""

    paths: list[Path]
    pictures: list[int]
    edits: list[str]

    def true_pairs(self) -> set[Pair]:
        """The pairs to be found."""
        by_picture: dict[int, list[int]] = {}
        for index, picture in enumerate(self.pictures):
            by_picture.setdefault(picture, []).append(index)
        return {
            (one, other)
            for indices in by_picture.values()
            for at, one in enumerate(indices)
            for other in indices[at + 1 :]
        }


def photos_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def edited(folder: Path, out: Path, edits: Mapping[str, tuple[Edit, int]], share: float, seed: int) -> Files:
    """Return the folder's photos, and a copy by each edit of a share of them, one edit a photo in turn."""
    rng = np.random.default_rng(seed)
    originals = photos_under(folder)
    chosen = np.sort(rng.permutation(len(originals))[: max(1, round(share * len(originals)))])
    files = Files(list(originals), list(range(len(originals))), [""] * len(originals))
    names = list(edits)
    for number, index in enumerate(rng.permutation(chosen).tolist()):
        name = names[number % len(names)]
        change, quality = edits[name]
        try:
            with Image.open(originals[index]) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, SyntaxError, ValueError):
            continue
        path = out / f"{number:05d}.jpg"
        change(image, rng).save(path, quality=quality)
        files.paths.append(path)
        files.pictures.append(index)
        files.edits.append(name)
    return files


def thumbnails(folder: Path) -> Files:
    paths = photos_under(folder)
    number: dict[tuple[Path, str], int] = {}
    pictures = [
        number.setdefault((path.parent, path.stem.removeprefix("thumb_")), len(number)) for path in paths
    ]
    return Files(paths, pictures, ["thumbnail" if p.name.startswith("thumb_") else "" for p in paths])


def frames(folder: Path) -> Files:
    paths = [folder / row.path for row in read_truth(folder) if row.kind in ("photo", "empty")]
    return Files(paths, list(range(len(paths))), [""] * len(paths))


@dataclass(frozen=True)
class Seen:
    """What the indexer would know of the files that can be read, and their small pictures."""

    files: Files
    unit: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    prints: list[Fingerprint]


def look_at(files: Files, weights: str) -> Seen:
    model = load_model(weights)
    kept, vectors, hashes, prints = [], [], [], []
    waiting: list[NDArray[np.uint8]] = []

    def flush() -> None:
        if waiting:
            vectors.append(model.infer_pixels(np.stack(waiting)).embeddings)
            waiting.clear()

    for index, path in enumerate(files.paths):
        try:
            photo = decode_photo(
                path.read_bytes(), input_size=model.input_size, limits=PhotoLimits(), suffix=path.suffix
            )
        except PhotoError:
            continue
        kept.append(index)
        hashes.append(int.from_bytes(photo.phash))
        prints.append(fingerprint(photo.pixels, photo.width, photo.height))
        waiting.append(photo.pixels)
        if len(waiting) == _BATCH:
            flush()
    flush()
    chosen = Files(
        *([getattr(files, name)[index] for index in kept] for name in ("paths", "pictures", "edits"))
    )
    unit = normalised(np.concatenate(vectors))
    return Seen(chosen, unit, np.array(hashes, np.uint64), prints)


def scores(found: set[Pair], true: set[Pair]) -> tuple[float, float, float]:
    right = len(found & true)
    precision = right / len(found) if found else 1.0
    recall = right / len(true) if true else 1.0
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-12)


def show(name: str, found: set[Pair], true: set[Pair], extra: str = "") -> None:
    precision, recall, f1 = scores(found, true)
    wrong = len(found - true)
    print(f"  {name:34s} {precision:9.4f} {recall:8.4f} {f1:7.4f} {wrong:7d} {extra}", flush=True)


def by_birdsearch(seen: Seen, rotations: bool) -> tuple[set[Pair], set[Pair], str]:
    """Return pairs of one group, candidates, and how long it took."""
    rules = CopyRules(rotations=rotations)
    begun = time.perf_counter()
    pairs = candidate_pairs(seen.unit, seen.hashes, np.ones(len(seen.unit), bool), rules)
    listed = time.perf_counter()
    copies = verify_pairs(pairs, lambda index: seen.prints[index], rules)
    known = {(int(a), int(b)) for a, b in pairs}
    missing = [pair for pair in missing_pairs(len(seen.unit), copies).tolist() if tuple(pair) not in known]
    if missing:
        copies += verify_pairs(np.array(missing, np.int64), lambda index: seen.prints[index], rules)
    ended = time.perf_counter()
    groups = copy_groups(len(seen.unit), copies)
    found = {(a, b) for group in groups for at, a in enumerate(group) for b in group[at + 1 :]}
    rate = (len(pairs) + len(missing)) / max(ended - listed, 1e-9)
    return found, known, f"{len(pairs)} candidates in {listed - begun:.1f} s, {rate:.0f} pairs/s"


def by_imagededup(seen: Seen) -> Iterator[tuple[str, set[Pair]]]:
    try:
        from imagededup.methods import DHash, PHash, WHash
    except ImportError:
        print("  imagededup is not installed (pip install 'birdsearch[bench]'): no table of it")
        return
    for name, method in (("PHash", PHash), ("DHash", DHash), ("WHash", WHash)):
        hasher: Any = method(verbose=False)
        hashes = np.zeros(len(seen.files.paths), np.uint64)
        for index, path in enumerate(seen.files.paths):
            code = hasher.encode_image(image_file=str(path))
            hashes[index] = int(code, 16) if code else 0
        # The distances that its find_duplicates thresholds; all of them, since it keeps those up to a limit.
        bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
        left, right = np.triu_indices(len(hashes), 1)
        differing = bits[left, right]
        for limit in range(21):
            near = differing <= limit
            yield f"{name} <= {limit}", set(zip(left[near].tolist(), right[near].tolist(), strict=True))


def measure(title: str, files: Files, weights: str, rotations: tuple[bool, ...], peers: bool) -> None:
    seen = look_at(files, weights)
    true = seen.files.true_pairs()
    print(f"\n{title}: {len(seen.unit)} files, {len(true)} pairs of copies")
    print(f"  {'':34s} {'precision':>9s} {'recall':>8s} {'F1':>7s} {'wrong':>7s}")
    for turned in rotations:
        found, candidates, took = by_birdsearch(seen, turned)
        show("birdsearch, --rotations" if turned else "birdsearch", found, true, took)
        for edit in sorted({name for name in seen.files.edits if name}):
            own = {pair for pair in true if edit in (seen.files.edits[pair[0]], seen.files.edits[pair[1]])}
            near = len(own & candidates) / len(own)
            missed = sum(pair not in found for pair in own)
            if missed or near < 1:
                print(
                    f"      {edit:16s} {len(own) - missed:4d} of {len(own)} found, {near:.3f} were candidates"
                )
        for pair in sorted(found - true)[:5]:
            print(f"      wrong: {seen.files.paths[pair[0]]} and {seen.files.paths[pair[1]]}")
    if not peers:
        return
    best: dict[str, tuple[float, str, set[Pair]]] = {}
    for name, pairs in by_imagededup(seen):
        method = name.split()[0]
        f1 = scores(pairs, true)[2]
        if name.endswith("<= 10"):
            show(f"imagededup {name} (its default)", pairs, true)
        if method not in best or f1 > best[method][0]:
            best[method] = (f1, name, pairs)
    for _, name, pairs in best.values():
        show(f"imagededup {name} (its best here)", pairs, true)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args(arguments)
    for folder in options.folders:
        peers = not options.no_peers
        if (folder / TRUTH_FILE).exists():
            measure(f"{folder.name}, its frames", frames(folder), options.weights, (False, True), peers=False)
        elif any(path.name.startswith("thumb_") for path in photos_under(folder)):
            measure(f"{folder.name}, thumbnails", thumbnails(folder), options.weights, (False,), peers=peers)
        else:
            for name, edits, rotations in (
                ("edits", EDITS, False),
                ("edits and turns", {**EDITS, **TURNS}, True),
            ):
                with tempfile.TemporaryDirectory() as out:
                    files = edited(folder, Path(out), edits, options.share, options.seed)
                    title = f"{folder.name}, {name}"
                    measure(title, files, options.weights, (rotations,), peers=peers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
