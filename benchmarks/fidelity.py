"""How near a way to decode and to run the network comes to the exact one: every pixel decoded, torch, float32.

    python benchmarks/fidelity.py PHOTOS... --weights FILE [--decode scaled] [--runtime torch]
        [--gallery FOLDER --query FOLDER]

For each folder of PHOTOS: the cosine between a photo's two embeddings (median, first percentile, least, and of
which photos), how often the likeliest class is the same, and what it does to the perceptual hash and the
sharpness. With a gallery and a query folder, whose subfolders are species: how often the nearest photo of the
gallery is of the query's species, exact and not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import PhotoError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model import load_model
from birdsearch.model.images.decode import DecodedPhoto, decode_photo
from birdsearch.model.images.photo import SUFFIXES
from birdsearch.model.images.scaling import DECODE_MODES
from birdsearch.model.inference import Model

_BATCH = 32
_SHOWN = 3
_FLAT = 2.0


@dataclass(frozen=True)
class Seen:
    """Photos that could be read, and what the network says about them."""

    paths: list[Path]
    photos: list[DecodedPhoto]
    unit: NDArray[np.float32]
    classes: NDArray[np.int64]


def photos_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def look_at(folder: Path, model: Model, decode: str) -> Seen:
    paths, photos, vectors, classes = [], [], [], []
    pixels: list[NDArray[np.uint8]] = []

    def flush() -> None:
        if pixels:
            out = model.infer_pixels(np.stack(pixels))
            vectors.append(out.embeddings)
            classes.append(out.logits.argmax(axis=1))
            pixels.clear()

    for path in photos_under(folder):
        try:
            photo = decode_photo(
                path.read_bytes(), input_size=model.input_size, suffix=path.suffix, decode=decode
            )
        except PhotoError:
            continue
        paths.append(path)
        photos.append(photo)
        pixels.append(photo.pixels)
        if len(pixels) == _BATCH:
            flush()
    flush()
    if not paths:
        raise SystemExit(f"{folder} has no photos that can be read")
    return Seen(paths, photos, normalised(np.concatenate(vectors)), np.concatenate(classes))


def compare(folder: Path, exact: Seen, other: Seen) -> None:
    kept = [exact.paths.index(path) for path in other.paths if path in set(exact.paths)]
    if len(kept) != len(exact.paths):
        print(f"  {len(exact.paths) - len(kept)} photos could be read in full only")
    cosines = np.einsum("ij,ij->i", exact.unit[kept], other.unit)
    ways = Counter(photo.decoded for photo in other.photos)
    # The hash and the sharpness of a picture that is all of one colour are its noise.
    pairs = [
        (exact.photos[place], photo)
        for place, photo in zip(kept, other.photos, strict=True)
        if exact.photos[place].pixels.std() >= _FLAT
    ]
    bits = [(int.from_bytes(one.phash) ^ int.from_bytes(two.phash)).bit_count() for one, two in pairs]
    ratios = [two.sharpness / one.sharpness for one, two in pairs]
    print(f"\n{folder}: {len(cosines)} photos ({', '.join(f'{ways[way]} {way}' for way in sorted(ways))})")
    print(
        f"  cosine: median {np.median(cosines):.6f}, 1st percentile {np.percentile(cosines, 1):.6f}, "
        f"least {cosines.min():.6f}"
    )
    for place in np.argsort(cosines)[:_SHOWN].tolist():
        photo = other.photos[place]
        print(
            f"    {cosines[place]:.6f}  {other.paths[place].name}: {photo.width} x {photo.height}, {photo.decoded}"
        )
    print(f"  likeliest class the same: {100 * np.mean(exact.classes[kept] == other.classes):.2f} %")
    if pairs:
        print(
            f"  perceptual hash: {np.mean(bits):.2f} of 64 bits differ, at most {max(bits)} ({len(pairs)} not flat)"
        )
        print(f"  sharpness: {np.median(ratios):.3f} times, {min(ratios):.3f} .. {max(ratios):.3f}")


def recall_at_1(gallery: Seen, query: Seen) -> float:
    nearest = (query.unit @ gallery.unit.T).argmax(axis=1)
    hits = [
        gallery.paths[at].parent.name == path.parent.name
        for path, at in zip(query.paths, nearest, strict=True)
    ]
    return 100 * float(np.mean(hits))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--decode", choices=DECODE_MODES, default="scaled")
    parser.add_argument("--runtime", default="torch")
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--query", type=Path)
    options = parser.parse_args(arguments)
    if not options.photos and not (options.gallery and options.query):
        parser.error("give folders of photos, or --gallery and --query")
    exact_model = load_model(options.weights, runtime="torch")
    model = (
        exact_model
        if options.runtime == "torch"
        else load_model(options.weights, device="auto", runtime=options.runtime)
    )
    print(f"decode {options.decode} and runtime {options.runtime}, against decode full and runtime torch")
    for folder in options.photos:
        compare(folder, look_at(folder, exact_model, "full"), look_at(folder, model, options.decode))
    if options.gallery and options.query:
        exact = recall_at_1(
            *(look_at(folder, exact_model, "full") for folder in (options.gallery, options.query))
        )
        other = recall_at_1(
            *(look_at(folder, model, options.decode) for folder in (options.gallery, options.query))
        )
        print(f"\nrecall@1, {options.query} in {options.gallery}: {other:.2f} % against {exact:.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
