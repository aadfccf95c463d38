"""From photos to embeddings and logits: a loaded model and how it is run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

# Read by the OpenMP runtime when torch loads it. By default its threads spin while they wait for each
# other; where decoders or other programs want the cores too, most of the time goes into that (measured on
# two busy cores: 3 photos a second against 38). On idle cores it makes no difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from birdsearch.config import Settings
from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.model.checkpoint import Checkpoint, read_checkpoint
from birdsearch.model.config import RgbStats
from birdsearch.model.photo import open_photo_file, upright_rgb
from birdsearch.model.preprocess import normalise, preprocessing_id, resize
from birdsearch.model.weights import (
    DEFAULT_WEIGHTS,
    Progress,
    canonical_name,
    file_sha256,
    refuse_superseded,
    resolve_weights,
)

__all__ = ["Inference", "Model", "Photo", "load_model"]

Photo = str | os.PathLike[str] | Image.Image
"""A photo: its path, or a Pillow image."""

_Output = TypeVar("_Output")


@dataclass(frozen=True, slots=True)
class Inference:
    """What the network says about a batch of photos.

    Attributes:
        embeddings: (B, C) float32, C-contiguous, not of unit length.
        logits: (B, classes) float32, C-contiguous; a higher one is likelier.
    """

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32]


class Model:
    """A network with its weights, classes and preprocessing, ready to run.

    Results are the same on every run. In another batch size the same photo may differ in the last bits
    (by less than 1e-5), since the matrix products are blocked differently. Calls from several threads are
    safe, and other Python code runs while the network computes.

    Attributes:
        name: Name of the weights, or the file's name without its suffix.
        network: Name of the network variant.
        path: The weights file.
        sha256: SHA-256 of the weights file.
        classes: Class names in the order of the logits.
        stats: Colour statistics of the input.
        input_size: (height, width) of the input in pixels.
        birder_version: Version that the weights file says it was written with, or an empty string.
        device: `cpu` or `cuda`.
        runtime: What runs the network, and the precision it computes in: `torch float32`.
        head_weight: (classes, C) float32. `logits = embeddings @ head_weight.T + head_bias`.
        head_bias: (classes,) float32.
    """

    def __init__(self, name: str, path: Path, sha256: str, checkpoint: Checkpoint, device: str) -> None:
        self.name = name
        self.network = checkpoint.network.config.name
        self.path = path
        self.sha256 = sha256
        self.classes = checkpoint.classes
        self.stats: RgbStats = checkpoint.stats
        self.input_size = checkpoint.size
        self.birder_version = checkpoint.birder_version
        self.device = device
        self.runtime = "torch float32"
        classifier = checkpoint.network.classifier
        self.head_weight: NDArray[np.float32] = classifier.weight.numpy().copy()
        self.head_bias: NDArray[np.float32] = classifier.bias.numpy().copy()
        self._net = checkpoint.network.to(device)
        # Halved for good once the GPU has run out of memory, so that it happens once and not in every batch.
        self._largest_batch: int | None = None

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.network!r}, sha256={self.sha256[:12]!r}, device={self.device!r})"

    @property
    def embedding_size(self) -> int:
        """Channels C of the embedding."""
        return self._net.config.embed_dim

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self._net.parameters())

    @property
    def preprocessing(self) -> str:
        """Short stable name of the preprocessing, which a catalog keeps to notice a change."""
        return preprocessing_id(self.input_size, self.stats)

    def infer(self, images: Sequence[Photo], batch_size: int = 32) -> Inference:
        """Embed and classify photos.

        Args:
            images: Paths or Pillow images; EXIF orientation is applied to both. None give empty arrays.
            batch_size: Photos in memory at once, at least 1.

        Returns:
            One row a photo, in order.

        Raises:
            PhotoError: If a photo cannot be read; the message names it.
            InvalidInputError: If `images` is a single photo or `batch_size` is below 1.
        """
        parts = [self.infer_pixels(pixels) for pixels in self._batches(images, batch_size)]
        if not parts:
            return self._empty()
        return Inference(
            np.concatenate([part.embeddings for part in parts]),
            np.concatenate([part.logits for part in parts]),
        )

    def infer_pixels(self, pixels: NDArray[np.uint8]) -> Inference:
        """Embed and classify one batch of photos that `preprocess.resize` made.

        Args:
            pixels: (B, H, W, 3) uint8 with (H, W) = `input_size`.

        Returns:
            One row a photo, in order.

        Raises:
            InvalidInputError: If the pixels have another shape or type.
            BirdsearchError: If the GPU has too little memory for a single photo.
        """
        self._check_pixels(pixels)
        if not len(pixels):
            return self._empty()
        parts = self._run(self._net, pixels)
        return Inference(_joined([part[0] for part in parts]), _joined([part[1] for part in parts]))

    def detection_features(
        self, images: Sequence[Photo], batch_size: int = 32
    ) -> dict[str, NDArray[np.float32]]:
        """Feature maps of photos after each of the four stages.

        Args:
            images: Paths or Pillow images.
            batch_size: Photos in memory at once, at least 1.

        Returns:
            `stage1` to `stage4`, each (B, C, H/p, W/p) float32 for patches of p pixels.

        Raises:
            PhotoError: If a photo cannot be read; the message names it.
            InvalidInputError: If `images` is a single photo or `batch_size` is below 1.
        """
        parts = [
            part
            for pixels in self._batches(images, batch_size)
            for part in self._run(self._net.detection_features, pixels)
        ]
        if parts:
            return {stage: _joined([part[stage] for part in parts]) for stage in parts[0]}
        config = self._net.config
        shape = (0, config.embed_dim, *(side // config.patch_size for side in self.input_size))
        stages = range(1, len(config.stage_lengths) + 1)
        return {f"stage{number}": np.empty(shape, dtype=np.float32) for number in stages}

    def _empty(self) -> Inference:
        return Inference(
            np.empty((0, self.embedding_size), dtype=np.float32),
            np.empty((0, len(self.classes)), dtype=np.float32),
        )

    def _check_pixels(self, pixels: NDArray[np.uint8]) -> None:
        if pixels.shape[1:] != (*self.input_size, 3) or pixels.dtype != np.uint8:
            height, width = self.input_size
            raise InvalidInputError(
                f"pixels must be (B, {height}, {width}, 3) uint8, got {pixels.shape} {pixels.dtype}"
            )

    def _batches(self, images: Sequence[Photo], batch_size: int) -> Iterator[NDArray[np.uint8]]:
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise InvalidInputError("images must be a list of photos; put a single photo into a list")
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
        for start in range(0, len(images), batch_size):
            photos = images[start : start + batch_size]
            yield np.stack([resize(_opened(photo), self.input_size) for photo in photos])

    def _run(self, function: Callable[[Tensor], _Output], pixels: NDArray[np.uint8]) -> list[_Output]:
        """Run part of the network over a batch, in smaller pieces where the GPU's memory asks for it."""
        outputs: list[_Output] = []
        start = 0
        while start < len(pixels):
            size = min(self._largest_batch or len(pixels), len(pixels) - start)
            try:
                outputs.append(self._once(function, pixels[start : start + size]))
                start += size
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise BirdsearchError(
                        f"the GPU has too little free memory for a single photo of {self.input_size[0]} x "
                        f"{self.input_size[1]} pixels; use the device 'cpu'"
                    ) from error
                self._largest_batch = size // 2
            # Reached after an error as well, when the failed batch is no longer held by its traceback.
            if self._largest_batch is not None and self.device == "cuda":
                torch.cuda.empty_cache()
        return outputs

    def _once(self, function: Callable[[Tensor], _Output], pixels: NDArray[np.uint8]) -> _Output:
        batch = torch.from_numpy(normalise(pixels, self.stats)).to(self.device)
        # TF32 and the search for fast kernels would make a GPU differ from a CPU, and from itself.
        exact = (
            torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
            if self.device == "cuda"
            else contextlib.nullcontext()
        )
        with torch.inference_mode(), exact:
            return function(batch)


def load_model(
    name_or_path: str | os.PathLike[str] = DEFAULT_WEIGHTS,
    *,
    device: str = "cpu",
    runtime: str = "torch",
    settings: Settings | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Load a model: find its weights, verify them, and build the network.

    Args:
        name_or_path: Name of published weights, or a `.pt` or `.safetensors` file.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        runtime: What runs the network: `torch`.
        settings: Where weights are looked for; by default what the environment says.
        download: Whether published weights that are not on this machine may be fetched.
        progress: Called while downloading.

    Returns:
        The model.

    Raises:
        WeightsError: If the weights cannot be found, fetched or verified.
        CheckpointError: If the file is not a checkpoint that the network can load.
        InvalidInputError: If the device or the runtime is not available.
    """
    if runtime != "torch":
        raise InvalidInputError(f"runtime {runtime!r} is not available; use 'torch'")
    device = _device(device)
    settings = Settings.from_environment() if settings is None else settings
    path = resolve_weights(name_or_path, settings, download=download, progress=progress)
    sha256 = file_sha256(path)
    refuse_superseded(path, sha256)
    name = canonical_name(name_or_path) or path.stem
    return Model(name, path, sha256, read_checkpoint(path), device)


def _device(device: str) -> str:
    if device not in ("cpu", "cuda", "auto"):
        raise InvalidInputError(f"device must be 'cpu', 'cuda' or 'auto', got {device!r}")
    available = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InvalidInputError("no GPU is available to torch; use the device 'cpu' or 'auto'")
    return "cuda" if available else "cpu"


def _opened(photo: Photo) -> Image.Image:
    return upright_rgb(photo) if isinstance(photo, Image.Image) else open_photo_file(photo)


def _joined(parts: list[Tensor]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = torch.cat([part.cpu() for part in parts]).contiguous().numpy()
    return out
