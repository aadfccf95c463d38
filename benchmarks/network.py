"""The network alone, by every runtime, against the reference implementation's own, on the same batches.

Each turn begins with the matrix products that this machine reaches in the same precision (torch, 2048 x 2048, with
as many threads as there are cores), so that a rate can be given as a share of it. The network needs 1.44 GFLOP an
image, counted on its published form.
"""

from __future__ import annotations

import contextlib
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
from timing import interleaved, machine, spread

from birdsearch.errors import InvalidInputError
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.inference import load_model
from birdsearch.model.preprocess import normalise
from birdsearch.model.runtimes.engines import installed_runtimes
from birdsearch.model.runtimes.exports import check_pictures
from birdsearch.model.runtimes.rates import least_cosine
from birdsearch.model.runtimes.table import RUNTIMES
from birdsearch.model.xcit import XCiT
from birdsearch.settings import Settings

import torch  # isort: skip  (after the runtime, which sets up its threads)

CLASSES = 371
IMAGES = 64
GFLOP_AN_IMAGE = 1.44
STATS = RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SIDE = 2048


def _products(dtype: torch.dtype) -> float:
    """GFLOP a second of a matrix product."""
    one, other = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        one @ other
        best = max(best, 2 * _SIDE**3 / (time.perf_counter() - started) / 1e9)
    return best


def main(folder: Path, scratch: Path, runs: int = 5) -> None:
    """Time all at their own batch sizes, birder at 8 and at 32, its default."""
    from birder.common.fs_ops import load_model as load_reference

    weights = scratch / "network.pt"
    network = XCiT(variant("xcit_nano12_p16"), CLASSES).initialise(0)
    save_checkpoint(weights, network, [f"class {number}" for number in range(CLASSES)], (256, 256), STATS)
    settings = Settings(scratch / "catalog", scratch / "cache", None)
    models = {}
    for name in installed_runtimes():
        # A processor without bfloat16 has no runtime for it.
        with contextlib.suppress(InvalidInputError):
            models[name] = load_model(weights, runtime=name, settings=settings)
    theirs, _ = load_reference(torch.device("cpu"), "xcit_nano12_p16", path=weights, inference=True)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 256, 256, 3), dtype=np.uint8)

    def run_theirs(batch: int) -> None:
        with torch.inference_mode():
            for start in range(0, IMAGES, batch):
                inputs = torch.from_numpy(normalise(pixels[start : start + batch], STATS))
                theirs.classify(theirs.embedding(inputs))

    candidates = {name: partial(model.infer_pixels, pixels) for name, model in models.items()}
    reference = "birder eager, batch 32"
    seconds = interleaved(
        {
            reference: partial(run_theirs, 32),
            "birder eager, batch 8": partial(run_theirs, 8),
            **candidates,
        },
        runs,
    )
    products = {
        "float32": spread([_products(torch.float32) for _ in range(runs)]),
        "bfloat16": spread([_products(torch.bfloat16) for _ in range(runs)]),
    }
    pictures = check_pictures((256, 256), 16)
    expected = models["torch"].infer_pixels(pictures).embeddings
    print(f"\nnetwork: {IMAGES} images a run, {runs} runs in turn; median (min .. max)")
    for precision, rate in products.items():
        print(f"  matrix products in {precision}: {rate} GFLOP/s")
    record: dict[str, object] = {"machine": machine(), "products": {k: v.median for k, v in products.items()}}
    for name, took in seconds.items():
        rate = spread([IMAGES / one for one in took])
        ratio = spread([other / mine for mine, other in zip(took, seconds[reference], strict=True)])
        spec = RUNTIMES.get(name, RUNTIMES["torch"])
        share = rate.median * GFLOP_AN_IMAGE / products[spec.precision].median
        cosine = (
            least_cosine(models[name].infer_pixels(pictures).embeddings, expected) if name in models else 1.0
        )
        print(
            f"  {name:24} {rate} images/s, {ratio} times {reference}; {share:.0%} of the {spec.precision} "
            f"matrix rate; cosine to torch {cosine:.6f}"
        )
        record[name] = {
            "images_per_second": [IMAGES / one for one in took],
            "share_of_matrix_rate": share,
            "cosine": cosine,
        }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(json.dumps(record, indent=2))
