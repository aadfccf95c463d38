"""The network on an NVIDIA GPU in float16: pinned memory, a few streams and CUDA graphs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError
from birdsearch.model.config import RgbStats
from birdsearch.model.runtimes.folding import fold
from birdsearch.model.runtimes.half_network import HalfNetwork
from birdsearch.model.runtimes.torch import TorchEngine

__all__ = ["CudaEngine"]

CHUNK = 32
"""Photos that a graph is captured for: a batch of the pipeline by default."""

# What is in hand at a time: one is filled while others are copied and computed.
_SLOTS = 3
_WARM_UPS = 3


class CudaEngine:
    """Runs a network on chunks of one size; while one is computed, the next is copied to the GPU.

    Chunks are always of the same size, whatever is in the rows that are not needed. So a photo's embedding does
    not depend, to the last bit, on how many others it came with. A photo that leaves the range of float16 is
    computed again in float32.

    Args:
        reference: The network in float32 on the same GPU.
        size: (height, width) of the input in pixels.
        stats: Colour statistics of the input.

    Attributes:
        slots: What chunks are computed in, in turn.

    Raises:
        BirdsearchError: If the GPU has too little memory.
    """

    def __init__(self, reference: TorchEngine, size: tuple[int, int], stats: RgbStats) -> None:
        self._reference = reference
        self._lock = threading.Lock()
        # The graphs read its weights where they lie.
        self._network = HalfNetwork(fold(reference.network, size, stats), "cuda")
        try:
            self.slots = [_Slot(self._network, size) for _ in range(_SLOTS)]
        except torch.cuda.OutOfMemoryError as error:
            raise BirdsearchError(
                "the GPU has too little free memory for the runtime 'cuda-fp16'; use the runtime 'torch' or the "
                "device 'cpu'"
            ) from error

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `birdsearch.model.runtimes.engines.Engine.embed`."""
        chunks = [pixels[start : start + CHUNK] for start in range(0, len(pixels), CHUNK)]
        parts: list[NDArray[np.float32]] = []
        with self._lock:
            for number, chunk in enumerate(chunks):
                slot = self.slots[number % _SLOTS]
                if number >= _SLOTS:
                    parts.append(slot.take())
                slot.put(chunk)
            last = range(max(0, len(chunks) - _SLOTS), len(chunks))
            parts += [self.slots[number % _SLOTS].take() for number in last]
            found = np.concatenate(parts)
        beyond = ~np.isfinite(found).all(axis=1)
        if beyond.any():
            found[beyond] = self._reference.embed(pixels[beyond])
        return found


class _Slot:
    """Pinned buffers, and the work from one to the other recorded as a graph."""

    def __init__(self, network: HalfNetwork, size: tuple[int, int]) -> None:
        self._given = torch.zeros((CHUNK, *size, 3), dtype=torch.uint8, pin_memory=True)
        self._pixels = torch.zeros_like(self._given, device="cuda")
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # Sleeps instead of spinning: the decoders want the cores.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._count = 0
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), _exactly(), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                network(self._pixels)
            self._stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._found = network(self._pixels)
        self._taken = torch.zeros(self._found.shape, dtype=torch.float32, pin_memory=True)

    def put(self, chunk: NDArray[np.uint8]) -> None:
        """Begin to embed at most `CHUNK` photos (B, H, W, 3); what was put before must have been taken."""
        self._count = len(chunk)
        np.copyto(self._given.numpy()[: len(chunk)], chunk)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._pixels.copy_(self._given, non_blocking=True)
            self._graph.replay()
            self._taken.copy_(self._found, non_blocking=True)
            self._done.record()

    def replay(self) -> None:
        """Begin to embed what lies on the GPU once more, for measuring."""
        with torch.cuda.stream(self._stream):
            self._graph.replay()

    def take(self) -> NDArray[np.float32]:
        """Return the (B, C) embeddings of the pixels that were put, an array of its own."""
        self._done.synchronize()
        return self._taken.numpy()[: self._count].copy()


@contextlib.contextmanager
def _exactly() -> Iterator[None]:
    """Use the same kernels in every run, and sums in float32."""
    products = torch.backends.cuda.matmul
    before = products.allow_fp16_reduced_precision_reduction
    products.allow_fp16_reduced_precision_reduction = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        products.allow_fp16_reduced_precision_reduction = before
