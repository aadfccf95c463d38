"""The network alone against the reference implementation's, both eager float32, on the same batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.preprocess import normalise
from birdsearch.model.runtime import load_model
from birdsearch.model.xcit import XCiT

import torch  # isort: skip  (after the runtime, which sets up its threads)

from timing import interleaved, report

CLASSES = 371
IMAGES = 64
STATS = RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def main(folder: Path, scratch: Path, runs: int = 5) -> None:
    """Time both at batch sizes 8 and 32."""
    from birder.common.fs_ops import load_model as load_reference

    weights = scratch / "network.pt"
    network = XCiT(variant("xcit_nano12_p16"), CLASSES).initialise(0)
    save_checkpoint(weights, network, [f"class {number}" for number in range(CLASSES)], (256, 256), STATS)
    ours = load_model(weights)
    theirs, _ = load_reference(torch.device("cpu"), "xcit_nano12_p16", path=weights, inference=True)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 256, 256, 3), dtype=np.uint8)

    def run_ours(batch: int) -> None:
        for start in range(0, IMAGES, batch):
            ours.infer_pixels(pixels[start : start + batch])

    def run_theirs(batch: int) -> None:
        with torch.inference_mode():
            for start in range(0, IMAGES, batch):
                inputs = torch.from_numpy(normalise(pixels[start : start + batch], STATS))
                theirs.classify(theirs.embedding(inputs))

    for batch in (8, 32):
        seconds = interleaved(
            {"birdsearch": lambda b=batch: run_ours(b), "birder eager": lambda b=batch: run_theirs(b)},  # type: ignore[misc]
            runs,
        )
        report(f"network batch {batch}", seconds, IMAGES, "images", folder)
