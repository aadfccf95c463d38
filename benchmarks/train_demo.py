"""Train the demo network on the synthetic world, from rendered crops to a weights file.

Usage: python benchmarks/train_demo.py FOLDER [--samples N] [--epochs N] [--finish-epochs N]

Everything follows from the seed but the order of floating-point sums. The state is kept in FOLDER after every
epoch, so that a run that was stopped goes on where it was. On two cores a pass over 16,000 crops at 128 pixels
takes about four minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.data.synthetic import World, training_sample
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.runtime import load_model
from birdsearch.model.xcit import XCiT

import torch  # isort: skip  (after the runtime, which sets up its threads)
import torch.nn.functional as F  # isort: skip

SEED = 20240501
NETWORK = "xcit_nano12_p16"
STATS = RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHUNK = 500


def _render_chunk(job: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crops (n, side, side, 3) and labels (n,) of one chunk, from its own seed."""
    seed, side, count = job
    world = World(seed=0)
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, side, side, 3), np.uint8)
    labels = np.empty(count, np.int64)
    for place in range(count):
        image, labels[place] = training_sample(world, rng, side)
        pictures[place] = np.asarray(image)
    return pictures, labels


def render(
    folder: Path, name: str, seed: int, side: int, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Render crops with every core, once; they stay in the folder.

    Args:
        folder: Where they are kept.
        name: Name of the set.
        seed: Seeds of the chunks follow from it.
        side: Width and height in pixels.
        count: How many, a multiple of 500.

    Returns:
        (count, side, side, 3) uint8, on disk, and labels (count,).
    """
    path, labels_path = folder / f"{name}.u8", folder / f"{name}.npy"
    shape = (count, side, side, 3)
    if not labels_path.exists():
        started = time.monotonic()
        crops = np.memmap(path, np.uint8, "w+", shape=shape)
        labels = np.empty(count, np.int64)
        jobs = [(seed + number, side, CHUNK) for number in range(count // CHUNK)]
        with multiprocessing.get_context("spawn").Pool() as pool:
            for number, (pictures, answers) in enumerate(pool.imap(_render_chunk, jobs)):
                crops[number * CHUNK : (number + 1) * CHUNK] = pictures
                labels[number * CHUNK : (number + 1) * CHUNK] = answers
        crops.flush()
        np.save(labels_path, labels)
        print(f"{name}: {count} crops of {side} px in {time.monotonic() - started:.0f} s", flush=True)
    return np.memmap(path, np.uint8, "r", shape=shape), np.load(labels_path)


def _augmented(batch: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops, flips, light and noise: (B, S, S, 3) uint8 -> (B, 3, side, side) float32, normalised."""
    count, full = len(batch), batch.shape[1]
    cut = int(torch.randint(int(0.68 * full), full + 1, (), generator=generator))
    starts = torch.randint(0, full - cut + 1, (count, 2), generator=generator).tolist()
    # (B, S, S, 3) -> (B, cut, cut, 3) -> (B, 3, cut, cut)
    crops = torch.stack(
        [image[y : y + cut, x : x + cut] for image, (y, x) in zip(batch, starts, strict=True)]
    )
    pixels = crops.permute(0, 3, 1, 2).float().div_(255)
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)
    flip = torch.rand(count, generator=generator) < 0.5
    pixels[flip] = pixels[flip].flip(3)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    grey = pixels.mean(dim=1, keepdim=True)
    pixels = grey + (pixels - grey) * uniform(0.7, 1.3, 1, 1, 1)
    pixels = (pixels - 0.5) * uniform(0.7, 1.3, 1, 1, 1) + 0.5
    pixels = pixels * uniform(0.85, 1.15, 3, 1, 1) + uniform(-0.1, 0.1, 1, 1, 1)
    pixels = pixels + uniform(0, 0.05, 1, 1, 1) * torch.randn(pixels.shape, generator=generator)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (STATS.mean, STATS.std))
    return ((pixels.clamp_(0, 1) - mean) / std).contiguous()


def _batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    order = torch.randperm(count, generator=generator).tolist()
    for start in range(0, count - size + 1, size):
        yield sorted(order[start : start + size])


def accuracy(
    network: XCiT, crops: NDArray[np.uint8], labels: NDArray[np.int64], side: int
) -> tuple[float, float]:
    """Top-1 of the logits, and recall@1 by cosine within the set."""
    network.eval()
    logits, vectors = [], []
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (STATS.mean, STATS.std))
    with torch.inference_mode():
        for start in range(0, len(crops), 64):
            pixels = torch.from_numpy(np.ascontiguousarray(crops[start : start + 64]))
            pixels = pixels.permute(0, 3, 1, 2).float().div_(255)
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp_(0, 1)
            embedding, scores = network((pixels - mean) / std)
            logits.append(scores)
            vectors.append(F.normalize(embedding, dim=1))
    network.train()
    unit = torch.cat(vectors)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)
    answers = torch.from_numpy(labels)
    top = (torch.cat(logits).argmax(1) == answers).float().mean()
    recall = (answers[similarity.argmax(1)] == answers).float().mean()
    return float(top), float(recall)


def train(
    folder: Path,
    phase: str,
    network: XCiT,
    data: tuple[NDArray[np.uint8], NDArray[np.int64]],
    held: tuple[NDArray[np.uint8], NDArray[np.int64]],
    *,
    side: int,
    epochs: int,
    peak: float,
    batch: int = 64,
) -> None:
    """AdamW with warm-up and a cosine; the state is written after every epoch and taken up again."""
    decayed = [value for value in network.parameters() if value.ndim > 1]
    plain = [value for value in network.parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    steps = epochs * (len(data[0]) // batch)
    warm = max(1, min(steps // 10, 1000))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))) + 0.002),
    )
    state_path = folder / f"{phase}.state"
    first = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    for epoch in range(first, epochs):
        generator = torch.Generator().manual_seed(SEED + 1000 * epoch)
        started, total, seen = time.monotonic(), 0.0, 0
        network.train()
        for places in _batches(len(data[0]), batch, generator):
            pixels = _augmented(torch.from_numpy(data[0][places]), side, generator)
            _, logits = network(pixels)
            loss = F.cross_entropy(logits, torch.from_numpy(data[1][places]), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total, seen = total + float(loss.detach()) * len(places), seen + len(places)
        state = {
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epoch": epoch + 1,
        }
        torch.save(state, state_path.with_suffix(".tmp"))
        state_path.with_suffix(".tmp").replace(state_path)
        top, recall = accuracy(network, *held, side)
        line = {
            "phase": phase,
            "epoch": epoch + 1,
            "loss": round(total / seen, 4),
            "top1": round(top, 4),
            "recall@1": round(recall, 4),
            "seconds": round(time.monotonic() - started),
        }
        print(json.dumps(line), flush=True)


def main() -> int:
    """Train and write FOLDER/xcit_nano12_p16_demo.pt, float16 on disk."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--samples", type=int, default=24_000, help="crops of 160 pixels, for the first phase"
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--finish-samples", type=int, default=8_000, help="crops of 288 pixels, for the second"
    )
    parser.add_argument("--finish-epochs", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    network = XCiT(variant(NETWORK), 371).initialise(SEED)
    held = render(options.folder, "held", SEED + 500_000, 160, 2_000)
    data = render(options.folder, "crops", SEED, 160, options.samples)
    train(options.folder, "train", network, data, held, side=128, epochs=options.epochs, peak=1.5e-3)
    if options.finish_epochs:
        large_held = render(options.folder, "large-held", SEED + 600_000, 288, 1_000)
        large = render(options.folder, "large", SEED + 700_000, 288, options.finish_samples)
        epochs = options.finish_epochs
        train(
            options.folder, "finish", network, large, large_held, side=256, epochs=epochs, peak=2e-4, batch=32
        )
    weights = options.folder / "xcit_nano12_p16_demo.pt"
    classes = [species.common_name for species in World(seed=0).known]
    save_checkpoint(weights, network.eval(), classes, (256, 256), STATS)
    content = torch.load(weights, weights_only=True)
    content["state"] = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in content["state"].items()
    }
    torch.save(content, weights)
    print(load_model(weights), f"{weights.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
