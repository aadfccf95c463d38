"""`birdsearch index` on a folder of camera photos, or of small ones, against what one would use instead.

    python benchmarks/archive.py FOLDER WEIGHTS [--runs 3] [--decode scaled preview] [--title NAME]

Beside it, as whole commands in turn: `birder-predict --save-embeddings` with two workers at its defaults and with
the flags that were found fastest, and `peer_script.py`, what a user would write. FOLDER holds JPEGs directly. A
folder with one of its photos is run in turn too, so that rates can be given with the start-up of each command taken
off: photos a second are (N - 1) / (seconds of N - seconds of 1).

The bound is what these cores would reach if nothing but decoding and the network cost anything: the time of
decoding alone (the scaled path, one thread a core) plus that of the network alone (the runtime that `auto`
chooses).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from timing import machine, spread

from birdsearch.settings import Settings

_BIN = Path(sys.executable).parent
_FAST = ("--batch-size", "8", "--channels-last", "--fast-matmul")
_BFLOAT16 = ("--batch-size", "8", "--channels-last", "--model-dtype", "bfloat16")


class _Commands:
    """The candidates, each a whole command on a folder of photos."""

    def __init__(self, scratch: Path, weights: Path) -> None:
        self.scratch = scratch
        self.weights = scratch / "models" / "xcit_nano12_p16_peer.pt"
        self.weights.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, self.weights)
        self.environment = {**os.environ, "BIRDSEARCH_RUNTIME": "auto"}

    def index(self, decode: str, photos: Path) -> None:
        catalog = self.scratch / "catalog"
        shutil.rmtree(catalog, ignore_errors=True)
        options: list[str | Path] = ["--weights", self.weights, "--catalog", catalog, "--decode", decode]
        self._run(_BIN / "birdsearch", "index", photos, *options)

    def predict(self, flags: tuple[str, ...], photos: Path) -> None:
        options = ["-n", "xcit_nano12_p16", "-t", "peer", "-j", "2", "--save-embeddings", *flags]
        self._run(_BIN / "birder-predict", *options, photos)

    def script(self, photos: Path) -> None:
        script = Path(__file__).parent / "peer_script.py"
        self._run(sys.executable, script, photos, self.weights, self.scratch / "peer.faiss")

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            [*map(str, command)], check=True, capture_output=True, cwd=self.scratch, env=self.environment
        )


def _alone(photos: list[Path], weights: Path) -> tuple[float, float]:
    """Photos a second of decoding alone and of the network alone."""
    from birdsearch.model.images.photo import load_photo
    from birdsearch.model.images.resizing import resize_loaded
    from birdsearch.model.images.scaling import Need
    from birdsearch.model.inference import load_model

    model = load_model(weights, runtime="auto")

    def decoded(path: Path) -> np.ndarray:
        loaded = load_photo(path.read_bytes(), need=Need(model.input_size))
        return np.asarray(resize_loaded(loaded, model.input_size, exact=False))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        started = time.perf_counter()
        pixels = np.stack(list(threads.map(decoded, photos)))
        decoding = time.perf_counter() - started
    batch = np.resize(pixels, (128, *pixels.shape[1:]))
    model.infer_pixels(batch)
    started = time.perf_counter()
    model.infer_pixels(batch)
    return len(photos) / decoding, len(batch) / (time.perf_counter() - started)


def measure(
    photos: Path, weights: Path, scratch: Path, results: Path, title: str, decodes: list[str], runs: int
) -> None:
    """Time every candidate in turn and print rates, ratios and the share of the bound."""
    paths = sorted(photos.glob("*.jpg"))
    single = scratch / "single"
    single.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(paths[0], single / paths[0].name)
    commands = _Commands(scratch, weights)
    candidates: dict[str, Callable[[Path], None]] = {
        **{f"birdsearch --decode {decode}": partial(commands.index, decode) for decode in decodes},
        "birder-predict": partial(commands.predict, ()),
        "birder-predict, fastest flags": partial(commands.predict, _FAST),
        "birder-predict, bfloat16": partial(commands.predict, _BFLOAT16),
        "the script one would write": commands.script,
    }
    whole: dict[str, list[float]] = {name: [] for name in candidates}
    starting: dict[str, list[float]] = {name: [] for name in candidates}
    decoding, network = [], []
    for candidate in candidates.values():
        # Measures the runtimes, fills the page cache.
        candidate(single)
    for _ in range(runs):
        for name, candidate in candidates.items():
            for seconds, folder in ((starting, single), (whole, photos)):
                started = time.perf_counter()
                candidate(folder)
                seconds[name].append(time.perf_counter() - started)
        rates = _alone(paths[: 4 * len(paths) // 5], commands.weights)
        decoding.append(rates[0])
        network.append(rates[1])
    count = len(paths)
    rate = {
        name: [(count - 1) / (end - start) for end, start in zip(whole[name], starting[name], strict=True)]
        for name in candidates
    }
    bound = [1 / (1 / one + 1 / other) for one, other in zip(decoding, network, strict=True)]
    ours = next(iter(candidates))
    print(f"\n{title}: {count} photos, {runs} runs in turn; median (min .. max)")
    print(f"  {'':32} {'photos/s':28} {'start-up, s':24} {ours} is faster by; with start-up")
    record: dict[str, object] = {"machine": machine(), "photos": count, "runs": runs, "candidates": {}}
    for name in candidates:
        ratio = spread([mine / other for mine, other in zip(rate[ours], rate[name], strict=True)])
        with_start = spread([other / mine for mine, other in zip(whole[ours], whole[name], strict=True)])
        print(f"  {name:32} {spread(rate[name])!s:28} {spread(starting[name])!s:24} {ratio}; {with_start}")
        record["candidates"][name] = {  # type: ignore[index]
            "photos_per_second": rate[name],
            "seconds": whole[name],
            "start_up_seconds": starting[name],
        }
    share = spread([mine / most for mine, most in zip(rate[ours], bound, strict=True)])
    print(
        f"  decoding alone {spread(decoding)}, the network alone {spread(network)}, together at most "
        f"{spread(bound)} photos/s; {ours} reaches {share} of it"
    )
    record |= {"decoding_alone": decoding, "network_alone": network, "bound": bound}
    results.mkdir(parents=True, exist_ok=True)
    (results / f"archive-{title.replace(' ', '-')}.json").write_text(json.dumps(record, indent=2))


def _remove_broken(folder: Path) -> None:
    """Remove the broken files that a rendered archive has on purpose: photos are made of the others."""
    for path in folder.rglob("*.jpg"):
        try:
            with Image.open(path) as photo:
                photo.load()
        except OSError:
            path.unlink()


def main(folder: Path, scratch: Path, runs: int = 1) -> None:
    """Time 32 photos of 20 to 45 megapixels and 400 small ones, made here from rendered photos."""
    from large_photos import make_photos

    from birdsearch.data.synthetic.archive import write_archive
    from birdsearch.model.weights import resolve_weights

    write_archive(scratch / "rendered", seed=6, photos=64)
    _remove_broken(scratch / "rendered")
    make_photos(scratch / "rendered", scratch / "large", 32)
    rendered = sorted((scratch / "rendered").rglob("*.jpg"))
    (scratch / "small").mkdir()
    for number in range(400):
        with Image.open(rendered[number % len(rendered)]) as photo:
            side = 200 + number % 60
            photo.convert("RGB").resize((side, side)).save(
                scratch / "small" / f"{number:03d}.jpg", quality=90
            )
    weights = resolve_weights("demo", Settings.from_environment(), download=False)
    for title in ("large", "small"):
        measure(scratch / title, weights, scratch / "work", folder, f"{title} photos", ["scaled"], runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--decode", nargs="+", default=["scaled"])
    parser.add_argument("--title", default="photos")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/birdsearch-bench"))
    options = parser.parse_args()
    measure(
        options.folder.absolute(),
        options.weights.absolute(),
        options.scratch,
        Path(__file__).parent / "results",
        options.title,
        options.decode,
        options.runs,
    )
