"""Indexing as an archive grows: time a photo, peak memory, bytes in the catalog, and the re-scan of what is known.

Usage: python benchmarks/growth.py [N ...] [--written 1000000] [--flat] [--side 64] [--workers 2] [--weights FILE]

It measures what birdsearch adds to decoding and to the network. Archives of N distinct JPEGs of 64 x 48 pixels are
indexed by the real pipeline with real decoder processes, but with a network that gives random vectors at no cost,
unless `--weights` names a real one. Decoding such a photo is part of the time, and is as small as a photo's can be.
The re-scan is the whole command, from the start of its process to its end, on the archive that was just indexed.
Then rows of `--written` photos are written as a run writes them, without files, to see the catalog itself grow.

Every size runs in a process of its own, so that its peak memory is its own; that of the decoders is the largest
of one of them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timing import machine

SIZES = (1_000, 10_000, 100_000)
WRITTEN = 1_000_000
FOLDER_FILES = 500
DIM = 128
RESCANS = 3


class NullNetwork:
    """Stands for a model: takes no time, and gives every photo a vector of its own."""

    name, network, device, runtime = "null", "null", "cpu", "torch"
    sha256, path, classes = "0" * 64, Path("null.pt"), ("bird",)
    embedding_size = DIM
    head_weight: NDArray[np.float32] = np.zeros((1, DIM), np.float32)
    head_bias: NDArray[np.float32] = np.zeros(1, np.float32)

    def __init__(self, side: int) -> None:
        self.input_size = (side, side)
        self.preprocessing = f"null-{side}x{side}/"
        self._generator = np.random.default_rng(0)
        # What `infer_pixels` gives is read by its name.
        self.embeddings: NDArray[np.float32] = np.zeros((0, DIM), np.float32)

    def infer_pixels(self, pixels: NDArray[np.uint8]) -> NullNetwork:
        """Random vectors, the same in every run."""
        self.embeddings = self._generator.standard_normal((len(pixels), DIM), np.float32)
        return self


def make_archive(folder: Path, count: int, *, flat: bool) -> None:
    """Distinct photos: one JPEG, with a comment that differs."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(content, "JPEG", quality=80)
    start, rest = content.getvalue()[:2], content.getvalue()[2:]
    for number in range(count):
        place = folder if flat else folder / f"{number // FOLDER_FILES:04d}"
        if number == 0 or (not flat and number % FOLDER_FILES == 0):
            place.mkdir(parents=True)
        # SOI, then a COM segment of 2 + 8 bytes.
        (place / f"IMG_{number:07d}.jpg").write_bytes(start + b"\xff\xfe\x00\x0a%08d" % number + rest)


def indexed(count: int, scratch: Path, options: argparse.Namespace) -> dict[str, float]:
    """Index an archive once, then scan it again as a command."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.options import IndexOptions
    from birdsearch.indexer.pipeline import index_archive

    archive, catalog = scratch / "archive", scratch / "catalog"
    make_archive(archive, count, flat=options.flat)
    model: Any = NullNetwork(options.side)
    if options.weights:
        from birdsearch.model.inference import load_model

        model = load_model(options.weights)
    before = _cpu()
    with CatalogStore.open(catalog, "create") as store:
        summary = index_archive(store, model, [archive], IndexOptions(workers=options.workers))
        if summary.embedded != count:
            raise SystemExit(f"{summary.embedded} of {count} photos were embedded: {summary}")
    parent, decoders = (after - first for after, first in zip(_cpu(), before, strict=True))
    timings = summary.timings
    found: dict[str, float] = {
        "photos": count,
        "seconds": summary.seconds,
        # Starting decoders costs the same for one photo and for a million.
        "ms a photo": (summary.seconds - timings.starting) / count * 1e3,
        "core ms a photo, decoders": decoders / count * 1e3,
        "core ms a photo, the rest": parent / count * 1e3,
        "writing, ms a photo": timings.writing / count * 1e3,
        **_sizes(catalog, count),
        **_memory(),
    }
    command = [sys.executable, "-m", "birdsearch", "index", str(archive), "--catalog", str(catalog)]
    seconds = []
    for _ in range(RESCANS):
        started = time.perf_counter()
        done = subprocess.run([*command, "--format", "json"], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        if json.loads(done.stdout)["unchanged"] != count:
            raise SystemExit(f"the re-scan did not find everything unchanged: {done.stdout}")
    found |= {"re-scan, s": sorted(seconds)[RESCANS // 2], "re-scan, slowest, s": max(seconds)}
    return found


def written(count: int, scratch: Path, options: argparse.Namespace) -> dict[str, float]:
    """Write rows as a run does, without reading files."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.pipeline import _save_vectors
    from birdsearch.indexer.plan import make_plan
    from birdsearch.indexer.writer import CatalogWriter

    archive, catalog = scratch / "archive", scratch / "catalog"
    archive.mkdir()
    network: Any = NullNetwork(options.side)
    with CatalogStore.open(catalog, "create") as store:
        model_id = store.use_model(network).id
        plan = make_plan(
            store,
            [os.fsencode(archive)],
            model_id,
            follow_links=False,
            retry_failed=False,
            confirm_missing=True,
            on_scan=lambda _: None,
        )
        writer = CatalogWriter(store, model_id, "index")
        seconds: list[float] = []
        for batch in _batches(plan.scopes[0].root_id, count):
            started = time.perf_counter()
            writer.commit(batch)
            seconds.append(time.perf_counter() - started)
        writer.finish("done", {"embedded": writer.embedded})
        plan.close()
        found = {"photos": count, "ms a photo": sum(seconds) / count * 1e3}
        tenth = max(1, len(seconds) // 10)
        photos = count / len(seconds) * tenth
        found["ms a photo, first tenth"] = sum(seconds[:tenth]) / photos * 1e3
        found["ms a photo, last tenth"] = sum(seconds[-tenth:]) / photos * 1e3
        found |= {f"rows: {key}": value for key, value in _memory().items()}
        started = time.perf_counter()
        _save_vectors(store, model_id, DIM)
        found["vector index, s"] = time.perf_counter() - started
    return found | _sizes(catalog, count) | _memory()


def _batches(root_id: int, count: int, size: int = 250) -> Iterator[list[Any]]:
    from birdsearch.indexer.catalog.outcomes import EmbeddedFile
    from birdsearch.indexer.catalog.records import FileTask, FoundFile
    from birdsearch.model.images.decode import DecodedPhoto, FileDigests
    from birdsearch.model.images.exif import read_exif

    generator = np.random.default_rng(0)
    none, pixels = read_exif(None), np.zeros((0, 0, 3), np.uint8)
    for start in range(0, count, size):
        vectors = generator.standard_normal((min(size, count - start), DIM), np.float32)
        batch = []
        for number, vector in enumerate(vectors, start):
            path = b"%04d/IMG_%07d.jpg" % (number // FOLDER_FILES, number)
            found = FoundFile(path, 2_000_000, number, number, 1, number)
            digest = hashlib.sha256(path).digest()
            photo = DecodedPhoto("JPEG", 4000, 3000, pixels, none, digest[:8], 100.0)
            task = FileTask(root_id, b"/archive", found, None, None)
            batch.append(EmbeddedFile(task, FileDigests(digest, b"\x01" + digest), photo, vector))
        yield batch


def _cpu() -> tuple[float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


def _memory() -> dict[str, float]:
    return {
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak memory of a decoder, MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _sizes(catalog: Path, count: int) -> dict[str, float]:
    database = sum(path.stat().st_size for path in catalog.glob("birdsearch.sqlite*"))
    everything = sum(path.stat().st_size for path in catalog.rglob("*") if path.is_file())
    return {
        "catalog, bytes a photo": database / count,
        "vector index, bytes a photo": (everything - database) / count,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--written", type=int, default=WRITTEN, help="0 leaves this part out")
    parser.add_argument("--flat", action="store_true", help="all files in one folder")
    parser.add_argument("--side", type=int, default=64, help="pixels of the network's input")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--weights", help="a real network instead of none")
    parser.add_argument("--scratch", type=Path, help="where archives and catalogs are made")
    parser.add_argument("--one", choices=("indexed", "written"), help=argparse.SUPPRESS)
    return parser


def run(options: argparse.Namespace, folder: Path) -> None:
    """Print what each size took, and how it compares with the smallest."""
    results: dict[str, list[dict[str, float]]] = {"indexed": [], "written": []}
    for kind, count in [*(("indexed", size) for size in options.sizes), ("written", options.written)]:
        if not count:
            continue
        command = [sys.executable, __file__, str(count), "--one", kind, *_passed_on(options)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        print(f"\n{count} photos {kind}")
        for key, value in found.items():
            print(f"  {key:32} {value:12.4g}")
        if results[kind]:
            first = results[kind][0]
            ratio = found["ms a photo"] / first["ms a photo"]
            print(f"  a photo against {first['photos']:<15.0f} {ratio:13.3f} times")
        results[kind].append(found)
        sys.stdout.flush()
    folder.mkdir(exist_ok=True)
    record = {"title": "growth", "arguments": vars(options), "machine": machine(), **results}
    (folder / "growth.json").write_text(json.dumps(record, indent=2, default=str), encoding="utf-8")


def main(folder: Path, scratch: Path) -> None:
    """All sizes with the usual settings, for `run.py`."""
    run(_parser().parse_args(["--scratch", str(scratch)]), folder)


def _passed_on(options: argparse.Namespace) -> list[str]:
    passed = ["--side", str(options.side), "--workers", str(options.workers)]
    for name in ("weights", "scratch"):
        if getattr(options, name):
            passed += [f"--{name}", str(getattr(options, name))]
    return [*passed, "--flat"] if options.flat else passed


if __name__ == "__main__":
    asked = _parser().parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory(dir=asked.scratch) as made_here:
            measure = indexed if asked.one == "indexed" else written
            print(json.dumps(measure(asked.sizes[0], Path(made_here), asked)))
    else:
        run(asked, Path(__file__).parent / "results")
