"""`birdsearch query photo.jpg`, cold, on a catalog of 100,000 photos: the whole command, process and all.

Beside it `birder-predict` on the same photo with the same weights, which only classifies, and what importing torch
alone takes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from made_catalog import PHOTOS, fill
from PIL import Image
from timing import interleaved, report

from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex

_BIN = Path(sys.executable).parent


def _photo(path: Path) -> Path:
    """A textured photo of 24 megapixels that the catalog does not know."""
    coarse = np.random.default_rng(24).integers(0, 256, (500, 750, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((6000, 4000), Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def main(folder: Path, scratch: Path, runs: int = 5) -> None:
    """Time the commands in turn."""
    place = scratch / "query"
    (place / "models").mkdir(parents=True)
    weights = place / "models" / "xcit_nano12_p16_bench.pt"
    with CatalogStore.open(place / "catalog", "create") as store:
        fill(store, weights)
        model = store.active_model()
        assert model is not None
        VectorIndex.open(store, model.id, model.embedding_size).save(store)
    photo = _photo(place / "photo.jpg")
    environment = {**os.environ, "BIRDSEARCH_CACHE": str(place / "cache"), "BIRDSEARCH_RUNTIME": "auto"}

    def run(*command: str | Path) -> None:
        subprocess.run([*map(str, command)], check=True, capture_output=True, cwd=place, env=environment)

    # The first query measures the runtimes; it is the warm-up of this candidate, and is not counted.
    seconds = interleaved(
        {
            f"birdsearch query, {PHOTOS} photos": lambda: run(
                _BIN / "birdsearch", "query", photo, "--catalog", place / "catalog"
            ),
            "birder-predict": lambda: run(
                _BIN / "birder-predict", "-n", "xcit_nano12_p16", "-t", "bench", "-j", "1", photo
            ),
            "import torch": lambda: run(sys.executable, "-c", "import torch"),
        },
        runs,
    )
    report("cold query", seconds, 1, "commands", folder)
    shutil.rmtree(place)
