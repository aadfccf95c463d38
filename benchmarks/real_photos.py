"""Recall@1 on real photos: a colour histogram, the network with random weights, and weights files.

Usage: python benchmarks/real_photos.py GALLERY QUERY [WEIGHTS...]

GALLERY and QUERY hold a folder for each species. Every query is compared with the whole gallery by cosine. Without
weights, the demo's own are measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.inference import Model, load_model
from birdsearch.model.xcit import XCiT
from birdsearch.search.metrics.retrieval import retrieval_scores
from birdsearch.search.metrics.sampling import estimate

_BINS = (8, 8, 8)
_STATS = RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _photos(folder: Path) -> tuple[list[Path], list[str]]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return found, [path.parent.name for path in found]


def _histograms(paths: list[Path]) -> NDArray[np.float32]:
    """Joint histogram of hue, saturation and value, as unit vectors."""
    rows = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").convert("HSV").resize((128, 128))).reshape(-1, 3)
        counts, _ = np.histogramdd(pixels, _BINS, [(0, 256)] * 3)
        rows.append(counts.ravel())
    return normalised(np.array(rows, dtype=np.float32))


def _embeddings(model: Model, paths: list[Path]) -> NDArray[np.float32]:
    parts = [model.infer(paths[start : start + 32]).embeddings for start in range(0, len(paths), 32)]
    return normalised(np.concatenate(parts))


def _random_weights(folder: Path, seed: int) -> Path:
    path = folder / f"random-{seed}.pt"
    network = XCiT(variant("xcit_nano12_p16"), 371).initialise(seed)
    save_checkpoint(path, network.eval(), [f"class {number}" for number in range(371)], (256, 256), _STATS)
    return path


def main() -> int:
    """Print recall@1 with its 95 % interval, and its ratio to the baselines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gallery", type=Path)
    parser.add_argument("query", type=Path)
    parser.add_argument("weights", nargs="*", default=["demo"])
    options = parser.parse_args()
    gallery, labels = _photos(options.gallery)
    queries, asked = _photos(options.query)
    print(f"{len(queries)} queries of {len(set(asked))} species in {len(gallery)} photos")
    names: list[tuple[str, str | None]] = [("HSV histogram", None)]
    with tempfile.TemporaryDirectory() as folder:
        names += [("random weights", str(_random_weights(Path(folder), 1)))]
        names += [(Path(name).stem, name) for name in options.weights]
        found = {}
        for name, source in names:
            if source is None:
                rows, answers = _histograms(queries), _histograms(gallery)
            else:
                model = load_model(source, device="cpu")
                rows, answers = _embeddings(model, queries), _embeddings(model, gallery)
            groups = (
                [f"q{number}" for number in range(len(rows))],
                [f"g{number}" for number in range(len(answers))],
            )
            scores = retrieval_scores(rows, asked, groups[0], answers, labels, groups[1])
            value = estimate(scores.found(1).astype(float))
            found[name] = value.value
            ratios = ", ".join(
                f"{value.value / found[base]:.2f} x {base}"
                for base in ("HSV histogram", "random weights")
                if base in found and base != name
            )
            print(
                f"{name}: recall@1 {value.value:.3f} [{value.low:.3f}, {value.high:.3f}], mAP@R "
                f"{scores.mean_average_precision_at_r:.3f} {ratios}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
