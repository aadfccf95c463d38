"""The network run by torch: the reference, and the only way to feature maps and to a GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

# Read by the OpenMP runtime when torch loads it. By default its threads spin while they wait for each
# other; where decoders or other programs want the cores too, most of the time goes into that (measured on
# two busy cores: 3 photos a second against 38). On idle cores it makes no difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birdsearch.errors import BirdsearchError
from birdsearch.first_use import first_use
from birdsearch.model.checkpoint import Checkpoint
from birdsearch.model.preprocess import normalise
from birdsearch.model.runtimes.exports import Facts

__all__ = ["TorchEngine", "facts_of", "gpu_name", "has_gpu"]

_Output = TypeVar("_Output")

_CACHED = 8


def has_gpu() -> bool:
    """Return whether torch can use a GPU here."""
    return torch.cuda.is_available()


def gpu_name() -> str:
    """Return the name of the GPU that torch uses; there must be one."""
    return torch.cuda.get_device_name()


def facts_of(checkpoint: Checkpoint) -> Facts:
    """Return what a checkpoint says about its network."""
    network = checkpoint.network
    return Facts(
        network=network.config.name,
        embedding_size=network.config.embed_dim,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        classes=checkpoint.classes,
        size=checkpoint.size,
        stats=checkpoint.stats,
        birder_version=checkpoint.birder_version,
        head_weight=network.classifier.weight.numpy().copy(),
        head_bias=network.classifier.bias.numpy().copy(),
    )


class TorchEngine:
    """Runs a checkpoint's network eagerly in float32; see `birdsearch.model.runtimes.engines.Engine`."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self.network = checkpoint.network.to(device)
        self._stats, self._size, self._device = checkpoint.stats, checkpoint.size, device
        # Halved for good once the GPU has run out of memory, so that it happens once and not in every batch.
        self._largest_batch: int | None = None
        self._is_used = False

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return embeddings, (B, H, W, 3) uint8 -> (B, C) float32.

        Raises:
            BirdsearchError: If the GPU has too little memory for a single photo.
        """
        # On a processor what a few photos need stays in its cache; a GPU takes them all at once.
        size = _CACHED if self._device == "cpu" else len(pixels)
        parts = [
            part
            for start in range(0, len(pixels), size)
            for part in self.run(self.network.embedding, pixels[start : start + size])
        ]
        return _joined(parts)

    def features(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return feature maps by stage: (B, H, W, 3) uint8 -> `stage1`..., each (B, C, H/p, W/p) float32.

        Raises:
            BirdsearchError: If the GPU has too little memory for a single photo.
        """
        parts = self.run(self.network.detection_features, pixels)
        return {stage: _joined([part[stage] for part in parts]) for stage in parts[0]}

    def run(self, function: Callable[[Tensor], _Output], pixels: NDArray[np.uint8]) -> list[_Output]:
        """Run part of the network over a batch, in smaller pieces where the GPU's memory asks for it."""
        outputs: list[_Output] = []
        start = 0
        while start < len(pixels):
            size = min(self._largest_batch or len(pixels), len(pixels) - start)
            try:
                with contextlib.nullcontext() if self._is_used else first_use("torch"):
                    outputs.append(self._once(function, pixels[start : start + size]))
                self._is_used = True
                start += size
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise BirdsearchError(
                        f"the GPU has too little free memory for a single photo of {self._size[0]} x "
                        f"{self._size[1]} pixels; use the device 'cpu'"
                    ) from error
                self._largest_batch = size // 2
            # Reached after an error as well, when the failed batch is no longer held by its traceback.
            if self._largest_batch is not None and self._device == "cuda":
                torch.cuda.empty_cache()
        return outputs

    def _once(self, function: Callable[[Tensor], _Output], pixels: NDArray[np.uint8]) -> _Output:
        batch = torch.from_numpy(normalise(pixels, self._stats)).to(self._device)
        # TF32 and the search for fast kernels would make a GPU differ from a CPU, and from itself.
        exact = (
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            if self._device == "cuda"
            else contextlib.nullcontext()
        )
        with torch.inference_mode(), exact:
            return function(batch)


def _joined(parts: list[Tensor]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = torch.cat([part.cpu() for part in parts]).contiguous().numpy()
    return out
