"""From photos to embeddings and logits: a loaded model and how it is run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.first_use import first_use
from birdsearch.model.images.photo import open_photo_file, upright_rgb
from birdsearch.model.images.resizing import resize
from birdsearch.model.preprocess import preprocessing_id
from birdsearch.model.runtimes.engines import Engine
from birdsearch.model.runtimes.exports import Facts
from birdsearch.model.runtimes.loader import EngineLoader, resolve_device
from birdsearch.model.runtimes.rates import Rate
from birdsearch.model.seen_weights import refuse_changed
from birdsearch.model.weights import (
    DEFAULT_WEIGHTS,
    Progress,
    canonical_name,
    file_sha256,
    refuse_superseded,
    resolve_weights,
)
from birdsearch.settings import Settings

if TYPE_CHECKING:
    from birdsearch.model.runtimes.cuda_loader import GpuLoader
    from birdsearch.model.runtimes.torch import TorchEngine

__all__ = ["Inference", "Model", "Photo", "load_model", "measure_runtimes"]

Photo = str | os.PathLike[str] | Image.Image
"""A photo: its path, or a Pillow image."""


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

    Results are the same on every run. With the runtime `torch` the same photo may differ in the last bits in
    another batch size (by less than 1e-5), since the matrix products are blocked differently; with the others it
    does not. Calls from several threads are safe, and other Python code runs while the network computes.

    Attributes:
        name: Name of the weights, or the file's name without its suffix.
        network: Name of the network variant.
        path: The weights file.
        sha256: SHA-256 of the weights file.
        classes: Class names in the order of the logits.
        stats: Colour statistics of the input.
        input_size: (height, width) of the input in pixels.
        embedding_size: Channels C of the embedding.
        parameters: Number of trained parameters.
        birder_version: Version that the weights file says it was written with, or an empty string.
        device: `cpu` or `cuda`.
        runtime: What runs it, a key of `birdsearch.model.RUNTIMES`.
        head_weight: (classes, C) float32. `logits = embeddings @ head_weight.T + head_bias`.
        head_bias: (classes,) float32.
    """

    def __init__(
        self, name: str, path: Path, sha256: str, facts: Facts, engine: Engine, runtime: str, device: str
    ) -> None:
        self.name = name
        self.network = facts.network
        self.path = path
        self.sha256 = sha256
        self.classes = facts.classes
        self.stats = facts.stats
        self.input_size = facts.size
        self.embedding_size = facts.embedding_size
        self.parameters = facts.parameters
        self.birder_version = facts.birder_version
        self.device = device
        self.runtime = runtime
        self.head_weight = facts.head_weight
        self.head_bias = facts.head_bias
        self._engine = engine
        self._torch: TorchEngine | None = None
        self._torch_lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"Model({self.name!r}, {self.network!r}, sha256={self.sha256[:12]!r}, device={self.device!r}, "
            f"runtime={self.runtime!r})"
        )

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
        embeddings = self._engine.embed(pixels)
        # (B, C) @ (C, classes) -> (B, classes)
        logits = np.ascontiguousarray(embeddings @ self.head_weight.T + self.head_bias)
        return Inference(embeddings, logits)

    def detection_features(
        self, images: Sequence[Photo], batch_size: int = 32
    ) -> dict[str, NDArray[np.float32]]:
        """Return feature maps of photos after each of the four stages.

        Args:
            images: Paths or Pillow images.
            batch_size: Photos in memory at once, at least 1.

        Returns:
            `stage1` to `stage4`, each (B, C, H/p, W/p) float32 for patches of p pixels.

        Raises:
            PhotoError: If a photo cannot be read; the message names it.
            InvalidInputError: If `images` is a single photo or `batch_size` is below 1.
        """
        engine = self._reference()
        parts = [engine.features(pixels) for pixels in self._batches(images, batch_size)]
        if parts:
            return {stage: np.concatenate([part[stage] for part in parts]) for stage in parts[0]}
        config = engine.network.config
        shape = (0, config.embed_dim, *(side // config.patch_size for side in self.input_size))
        stages = range(1, len(config.stage_lengths) + 1)
        return {f"stage{number}": np.empty(shape, dtype=np.float32) for number in stages}

    def _reference(self) -> TorchEngine:
        """Return the network in torch, which alone gives feature maps; loaded at the first call."""
        from birdsearch.model.checkpoint import read_checkpoint
        from birdsearch.model.runtimes.torch import TorchEngine

        if isinstance(self._engine, TorchEngine):
            return self._engine
        with self._torch_lock:
            if self._torch is None:
                with first_use("torch"):
                    self._torch = TorchEngine(read_checkpoint(self.path), self.device)
            return self._torch

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


def load_model(
    name_or_path: str | os.PathLike[str] = DEFAULT_WEIGHTS,
    *,
    device: str = "cpu",
    runtime: str | None = None,
    settings: Settings | None = None,
    download: bool = True,
    progress: Progress | None = None,
    sha256: str | None = None,
) -> Model:
    """Load a model: find its weights, verify them, and make the network ready to run.

    With a processor's runtime other than `torch`, the network is written once as a graph into the cache, verified
    against torch, and taken from there from then on, without loading torch. A GPU's is verified whenever it is
    loaded.

    Args:
        name_or_path: Name of published weights, or a `.pt` or `.safetensors` file.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        runtime: What runs the network, a key of `birdsearch.model.RUNTIMES`; `auto` for the fastest one on this
            device, by a measurement of a few seconds that is remembered. By default what the settings say.
        settings: Where weights are looked for; by default what the environment says.
        download: Whether published weights that are not on this machine may be fetched.
        progress: Called while downloading.
        sha256: SHA-256 of the file, if the caller has just found it to be that.

    Returns:
        The model.

    Raises:
        WeightsError: If the weights cannot be found, fetched or verified.
        CheckpointError: If the file is not a checkpoint that the network can load.
        InvalidInputError: If the device or the runtime is not available.
        BirdsearchError: If the runtime asked for computes something else than torch does.
        StalledError: If another thread's first use of a native library does not end.
    """
    settings = Settings.from_environment() if settings is None else settings
    runtime = settings.runtime if runtime is None else runtime
    with first_use("torch"):
        device = resolve_device(device, runtime)
    path = resolve_weights(name_or_path, settings, download=download, progress=progress)
    sha256 = file_sha256(path) if sha256 is None else sha256
    refuse_superseded(path, sha256)
    refuse_changed(path, sha256, settings)
    name = canonical_name(name_or_path) or path.stem
    with first_use("the network"):
        facts, engine, runtime = _loader(path, sha256, settings, device).load(runtime)
    return Model(name, path, sha256, facts, engine, runtime, device)


def measure_runtimes(
    name_or_path: str | os.PathLike[str] = DEFAULT_WEIGHTS,
    *,
    device: str = "cpu",
    settings: Settings | None = None,
    images: int | None = None,
    runs: int = 5,
) -> list[Rate]:
    """Measure every runtime that can be used on a device, and remember the result for `auto`.

    Args:
        name_or_path: Name of published weights, or a weights file; it must be on this machine.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        settings: Where weights are looked for; by default what the environment says.
        images: Pictures in a run; by default 64 on a processor and 2,048 on a GPU.
        runs: Counted runs of each runtime, in turn.

    Returns:
        A rate for each runtime.

    Raises:
        WeightsError: If the weights cannot be found or verified.
        CheckpointError: If the file is not a checkpoint that the network can load.
        InvalidInputError: If the device is not available.
    """
    settings = Settings.from_environment() if settings is None else settings
    device = resolve_device(device)
    path = resolve_weights(name_or_path, settings, download=False)
    sha256 = file_sha256(path)
    refuse_superseded(path, sha256)
    if images is None:
        images = 64 if device == "cpu" else 2048
    with first_use("the network"):
        return _loader(path, sha256, settings, device).measure(images, runs)[0]


def _loader(path: Path, sha256: str, settings: Settings, device: str) -> EngineLoader | GpuLoader:
    if device == "cpu":
        return EngineLoader(path, sha256, settings)
    from birdsearch.model.runtimes.cuda_loader import GpuLoader

    return GpuLoader(path, sha256, settings)


def _opened(photo: Photo) -> Image.Image:
    return upright_rgb(photo) if isinstance(photo, Image.Image) else open_photo_file(photo)
