"""Train the demo network on the synthetic world, from rendered crops to a weights file.

Usage: python benchmarks/train_demo.py FOLDER [--samples N ...]

The picture side grows through the run (64, 96, 128, then 256 pixels), one process a core, and the learning
rate falls linearly over all of it. Everything follows from the seed but the order of floating-point sums. The
state is kept in FOLDER every few minutes, so that a run that was stopped goes on where it was.

Hidden matrices are trained by Muon (Jordan et al. 2024; scaled as in Liu et al., arXiv 2502.16982), the rest by
AdamW. Beside the species the embedding has to tell the genus, the family and the parts of the plumage: a
teacher says more about a picture than one name. Only the network is written, not those heads.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdsearch.data.synthetic import Species, World, training_sample
from birdsearch.data.synthetic.plumage import COLOURS, PATTERNS
from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.inference import load_model
from birdsearch.model.xcit import XCiT

import torch  # isort: skip  (after the runtime, which sets up its threads)
import torch.distributed as dist  # isort: skip
import torch.nn.functional as F  # isort: skip
from torch import Tensor, nn  # isort: skip
from torch.multiprocessing.spawn import spawn  # isort: skip

SEED = 20240501
NETWORK = "xcit_nano12_p16"
STATS = RgbStats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CHUNK = 500
SMALL, LARGE = 144, 288
_PARTS = ("back", "belly", "breast", "throat", "face", "crown", "nape", "coverts", "flight", "tail", "bill", "leg",
          "brow", "mask", "collar", "breast_band", "flank", "wing_bar")  # fmt: skip
_SHAPE = (
    "depth",
    "tilt",
    "neck",
    "head",
    "bill",
    "bill_depth",
    "bill_curve",
    "tail",
    "wing",
    "leg",
    "crest",
    "size",
)

Crops = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run: picture side in pixels, crops presented in all, and a batch."""

    side: int
    presented: int
    batch: int


def _render_chunk(job: tuple[int, int, int]) -> Crops:
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


def render(folder: Path, name: str, seed: int, side: int, count: int) -> Crops:
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


def _traits(species: Species) -> list[float]:
    """What a species looks like, as numbers: colours of the parts, marks, patterns, proportions."""
    wears = species.plumage
    found: list[float] = []
    for part in _PARTS:
        colour = COLOURS.get(getattr(wears, part))
        found += [float(colour is not None), *(colour or (0.5, 0.5, 0.5))]
    for pattern in PATTERNS:
        found += [float(wears.breast_pattern == pattern), float(wears.back_pattern == pattern)]
    return found + [float(getattr(species.plan, name)) for name in _SHAPE]


class Teacher(nn.Module):
    """The losses: species by the classifier and by cosine, genus, family and traits by heads of their own."""

    def __init__(self, world: World, dim: int) -> None:
        super().__init__()
        self.genera, self.families = (
            self._numbers([getattr(one, rank) for one in world.known]) for rank in ("genus", "family")
        )
        traits = torch.tensor([_traits(one) for one in world.known])
        traits = (traits - traits.mean(0)) / traits.std(0).clamp_min(1e-6)
        self.traits = traits[:, traits.std(0) > 0.5]
        self.genus = nn.Linear(dim, int(self.genera.max()) + 1)
        self.family = nn.Linear(dim, int(self.families.max()) + 1)
        self.looks = nn.Linear(dim, self.traits.shape[1])

    @staticmethod
    def _numbers(names: Sequence[str]) -> Tensor:
        order = sorted(set(names))
        return torch.tensor([order.index(name) for name in names])

    def forward(self, network: XCiT, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the plain cross-entropy of the species, both scalars."""
        embedding, logits = network(pixels)
        cosine = F.normalize(embedding, dim=1) @ F.normalize(network.classifier.weight, dim=1).T
        species = F.cross_entropy(logits, labels, label_smoothing=0.05)
        total = (
            species
            + 0.5 * F.cross_entropy(16 * cosine, labels)
            + 0.4 * F.cross_entropy(self.genus(embedding), self.genera[labels])
            + 0.2 * F.cross_entropy(self.family(embedding), self.families[labels])
            + 1.0 * F.mse_loss(self.looks(embedding), self.traits[labels])
        )
        return total, species


class Muon:
    """Momentum whose update is replaced by the nearest semi-orthogonal matrix, for matrices of equal shape.

    Each process orthogonalises its share of the shapes' stacks; the sum over the processes is everybody's.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], momentum: float = 0.95) -> None:
        self.stacks: dict[tuple[int, int], list[nn.Parameter]] = {}
        for value in matrices:
            self.stacks.setdefault((value.shape[0], value.shape[1]), []).append(value)
        self.momentum = momentum
        self.velocity = {shape: torch.zeros(len(ones), *shape) for shape, ones in self.stacks.items()}

    @torch.no_grad()
    def step(self, rate: float, decay: float, rank: int, ranks: int) -> None:
        """Move every matrix, at a learning rate that means what it means for AdamW."""
        for shape, ones in self.stacks.items():
            grads = torch.stack([one.grad for one in ones if one.grad is not None])
            velocity = self.velocity[shape].lerp_(grads, 1 - self.momentum)
            wanted = grads.lerp(velocity, self.momentum)
            update = torch.zeros_like(wanted)
            update[rank::ranks] = _orthogonal(wanted[rank::ranks])
            if ranks > 1:
                dist.all_reduce(update)
            update *= 0.2 * max(shape) ** 0.5
            for one, move in zip(ones, update, strict=True):
                one.mul_(1 - rate * decay).sub_(move, alpha=rate)


def _orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration of fifth order: singular values of (n, rows, columns) go to about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices if tall else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x.mT @ x
        x = 3.4445 * x + x @ (-4.7750 * gram + 2.0315 * gram @ gram)
    return x if tall else x.mT


def _augmented(batch: Tensor, side: int, generator: torch.Generator) -> Tensor:
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

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    grey = pixels.mean(dim=1, keepdim=True)
    pixels = grey + (pixels - grey) * uniform(0.7, 1.3, 1, 1, 1)
    pixels = (pixels - 0.5) * uniform(0.7, 1.3, 1, 1, 1) + 0.5
    pixels = pixels * uniform(0.88, 1.12, 3, 1, 1) + uniform(-0.1, 0.1, 1, 1, 1)
    pixels = pixels + uniform(0, 0.05, 1, 1, 1) * torch.randn(pixels.shape, generator=generator)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (STATS.mean, STATS.std))
    return ((pixels.clamp_(0, 1) - mean) / std).contiguous()


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
    unit = torch.cat(vectors)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)
    answers = torch.from_numpy(labels)
    top = (torch.cat(logits).argmax(1) == answers).float().mean()
    recall = (answers[similarity.argmax(1)] == answers).float().mean()
    return float(top), float(recall)


class Trainer:
    """One process of a run: its network, the averaged network that is kept, and both optimisers."""

    def __init__(self, folder: Path, rank: int, ranks: int) -> None:
        self.folder, self.rank, self.ranks = folder, rank, ranks
        torch.manual_seed(SEED)
        self.network = XCiT(variant(NETWORK), 371).initialise(SEED)
        self.average = XCiT(variant(NETWORK), 371).initialise(SEED)
        self.teacher = Teacher(World(seed=0), self.network.config.embed_dim)
        matrices = [
            value
            for name, value in self.network.named_parameters()
            if value.ndim == 2 and name.startswith("block")
        ]
        chosen = {id(value) for value in matrices}
        self.muon = Muon(matrices)
        rest = [value for value in self.parameters() if id(value) not in chosen]
        self.adam = torch.optim.AdamW(
            [
                {"params": [value for value in rest if value.ndim > 1], "weight_decay": 0.05},
                {"params": [value for value in rest if value.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained."""
        return [*self.network.parameters(), *self.teacher.parameters()]

    def load(self) -> int:
        """Take up the state of an earlier run; returns how many crops it had presented."""
        path = self.folder / "state.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.teacher.load_state_dict(state["teacher"])
        self.adam.load_state_dict(state["adam"])
        for shape, value in zip(self.muon.stacks, state["muon"], strict=True):
            self.muon.velocity[shape] = value
        return int(state["presented"])

    def save(self, presented: int) -> None:
        """Keep the state, so that a cut run loses minutes."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "teacher": self.teacher.state_dict(),
            "adam": self.adam.state_dict(),
            "muon": [self.muon.velocity[shape] for shape in self.muon.stacks],
            "presented": presented,
        }
        torch.save(state, self.folder / "state.tmp")
        (self.folder / "state.tmp").replace(self.folder / "state.pt")

    def step(self, pixels: Tensor, labels: Tensor, rate: float, keep: float) -> float:
        """One update from this process's part of a batch; returns the species' cross-entropy there."""
        loss, species = self.teacher(self.network, pixels, labels)
        values = self.parameters()
        for value in values:
            value.grad = None
        loss.backward()
        grads = [value.grad for value in values if value.grad is not None]
        if self.ranks > 1:
            flat = torch.cat([grad.reshape(-1) for grad in grads])
            dist.all_reduce(flat)
            for grad, mean in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
                grad.copy_(mean.view_as(grad) / self.ranks)
        torch.nn.utils.clip_grad_norm_(values, 2.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.muon.step(rate, 0.05, self.rank, self.ranks)
        self.adam.step()
        with torch.no_grad():
            for old, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                old.lerp_(new, 1 - keep)
            for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
                # Of the norms' statistics, all but the counts of batches are averaged.
                kept.lerp_(now, 1 - keep) if kept.is_floating_point() else kept.copy_(now)
        return float(species.detach())


def _run(
    rank: int, ranks: int, folder: Path, stages: Sequence[Stage], peak: float, counts: tuple[int, int]
) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder.resolve()}/meeting", rank=rank, world_size=ranks
        )
    small = (
        render(folder, "crops", SEED, SMALL, counts[0]),
        render(folder, "held", SEED + 500_000, SMALL, 2_000),
    )
    large = (
        render(folder, "large", SEED + 700_000, LARGE, counts[1]),
        render(folder, "large-held", SEED + 600_000, LARGE, 1_000),
    )
    trainer = Trainer(folder, rank, ranks)
    presented = trainer.load()
    whole = sum(stage.presented for stage in stages)
    before = 0
    for stage in stages:
        (crops, labels), held = large if stage.side > SMALL else small
        before, first = before + stage.presented, before
        started, saved, total, seen = time.monotonic(), time.monotonic(), 0.0, 0
        while presented < before:
            epoch, place = divmod(presented - first, len(crops) // stage.batch * stage.batch)
            order = np.random.default_rng((SEED, stage.side, epoch)).permutation(len(crops))
            places = np.sort(order[place : place + stage.batch][rank::ranks])
            generator = torch.Generator().manual_seed(SEED + presented * ranks + rank)
            pixels = _augmented(torch.from_numpy(crops[places]), stage.side, generator)
            rate = peak * min(
                (presented + stage.batch) / (0.02 * whole), 1.0, 1.02 * (1 - presented / whole) + 1e-3
            )
            trainer.network.train()
            # A new average each stage: at its first steps it follows the network closely.
            steps = (presented - first) / stage.batch
            keep = min(0.999, steps / (steps + 10))
            total += trainer.step(pixels, torch.from_numpy(labels[places]), rate, keep) * len(places)
            seen, presented = seen + len(places), presented + stage.batch
            late = presented >= before or time.monotonic() - saved > 300
            if late and rank == 0:
                trainer.save(presented)
                top, recall = accuracy(trainer.average, held[0][:1000], held[1][:1000], stage.side)
                line = {"side": stage.side, "presented": presented, "loss": round(total / seen, 4), "top1": top,
                        "recall@1": recall, "seconds": round(time.monotonic() - started)}  # fmt: skip
                print(json.dumps(line), flush=True)
                total, seen, saved = 0.0, 0, time.monotonic()
    if rank == 0:
        _write(folder, trainer.average.eval())


def _write(folder: Path, network: XCiT) -> None:
    """Write FOLDER/xcit_nano12_p16_demo.pt, float16 on disk."""
    weights = folder / "xcit_nano12_p16_demo.pt"
    classes = [species.common_name for species in World(seed=0).known]
    save_checkpoint(weights, network, classes, (256, 256), STATS)
    content = torch.load(weights, weights_only=True)
    content["state"] = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in content["state"].items()
    }
    torch.save(content, weights)
    print(load_model(weights), f"{weights.stat().st_size / 1e6:.2f} MB")


def main() -> int:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--crops", type=int, nargs=2, default=(40_000, 6_000), help="small and large ones to render"
    )
    parser.add_argument("--presented", type=int, nargs=4, default=(400_000, 51_200, 48_000, 24_000),
                        help="crops presented at 64, 96, 128 and 256 pixels")  # fmt: skip
    parser.add_argument("--peak", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    sides = zip((64, 96, 128, 256), options.presented, (128, 128, 128, 64), strict=True)
    stages = [Stage(side, presented, batch) for side, presented, batch in sides]
    for name, seed, side, count in (
        ("crops", SEED, SMALL, options.crops[0]),
        ("held", SEED + 500_000, SMALL, 2_000),
        ("large", SEED + 700_000, LARGE, options.crops[1]),
        ("large-held", SEED + 600_000, LARGE, 1_000),
    ):
        render(folder, name, seed, side, count)
    arguments = (options.processes, folder, stages, options.peak, tuple(options.crops))
    if options.processes == 1:
        _run(0, *arguments)
    else:
        spawn(_run, arguments, nprocs=options.processes)  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
