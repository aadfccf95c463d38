"""How fast photos are decoded for the network, each way, beside Pillow alone.

    python benchmarks/decode.py PHOTOS... [--count 48] [--runs 5] [--workers 0] [--out FOLDER]

For each folder, in one process and in turn: what an index run does with a photo's bytes besides the network (hash,
decode, resize, measure, EXIF), scaled, in full and from previews; and the least that a script would do, Pillow's
decoding and resizing, in full and with `draft`. With --workers, the same through that many decoder processes, which
also read the files, as an index run has it.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from timing import interleaved, report

from birdsearch.model.images.decode import decode_photo, digest_file
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.scaling import DECODE_MODES
from birdsearch.model.images.worker.pool import Decoded, DecodePool, DecodeTask

_SIZE = (256, 256)
_SUFFIXES = {".jpg", ".jpeg"}


def ours(photos: list[bytes], decode: str) -> Callable[[], None]:
    def run() -> None:
        for data in photos:
            digest_file(data)
            decode_photo(data, input_size=_SIZE, decode=decode)

    return run


def plain(photos: list[bytes], *, draft: bool) -> Callable[[], None]:
    def run() -> None:
        for data in photos:
            image = Image.open(io.BytesIO(data))
            if draft:
                image.draft("RGB", _SIZE)
            np.asarray(image.convert("RGB").resize(_SIZE, Image.Resampling.BICUBIC))

    return run


def pooled(pool: DecodePool, paths: list[Path]) -> Callable[[], None]:
    tasks = []
    for path in paths:
        status = path.stat()
        tasks.append(DecodeTask(path, os.fsencode(path), status.st_size, status.st_mtime_ns))

    def run() -> None:
        done = sum(isinstance(result, Decoded) for result in pool.run(tasks))
        if done != len(tasks):
            raise SystemExit(f"{len(tasks) - done} of {len(tasks)} photos could not be decoded")

    return run


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=48, help="photos of each folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args(arguments)
    for folder in options.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)[
            : options.count
        ]
        photos = [path.read_bytes() for path in paths]
        megabytes = sum(map(len, photos)) / len(photos) / 1e6
        print(f"\n{folder}: {len(paths)} photos of {megabytes:.2f} MB")
        candidates = {mode: ours(photos, mode) for mode in DECODE_MODES}
        candidates["Pillow, in full"] = plain(photos, draft=False)
        candidates["Pillow, draft to 256 or more"] = plain(photos, draft=True)
        report(
            f"decode {folder.name}", interleaved(candidates, options.runs), len(paths), "photos", options.out
        )
        if options.workers:
            pools = {
                mode: DecodePool(options.workers, _SIZE, PhotoLimits(), decode=mode) for mode in DECODE_MODES
            }
            try:
                candidates = {mode: pooled(pool.__enter__(), paths) for mode, pool in pools.items()}
                seconds = interleaved(candidates, options.runs)
            finally:
                for pool in pools.values():
                    pool.close()
            title = f"decode {folder.name} with {options.workers} workers"
            report(title, seconds, len(paths), "photos", options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
