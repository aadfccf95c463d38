"""From a weights file to something that runs it on a GPU: the runtime asked for, or the faster one."""

from __future__ import annotations

import contextlib
from pathlib import Path

from birdsearch.errors import BirdsearchError
from birdsearch.model.checkpoint import read_checkpoint
from birdsearch.model.runtimes.cuda import CudaEngine
from birdsearch.model.runtimes.engines import Engine
from birdsearch.model.runtimes.exports import Facts, check_pictures, export_folder
from birdsearch.model.runtimes.rates import Rate, fastest, measure, read_rates, verify, write_rates
from birdsearch.model.runtimes.table import AUTO
from birdsearch.model.runtimes.torch import TorchEngine, facts_of, gpu_name
from birdsearch.settings import Settings

__all__ = ["GpuLoader"]

_HALF = "cuda-fp16"


class GpuLoader:
    """Makes engines for one weights file; see `birdsearch.model.runtimes.loader.EngineLoader`.

    Args:
        path: The weights file.
        sha256: Its SHA-256.
        settings: Says where the cache is.

    Raises:
        CheckpointError: The file is not a checkpoint that the network can load.
    """

    def __init__(self, path: Path, sha256: str, settings: Settings) -> None:
        checkpoint = read_checkpoint(path)
        self._facts: Facts = facts_of(checkpoint)
        self._reference = TorchEngine(checkpoint, "cuda")
        self._folder = export_folder(settings, sha256)
        self._half: CudaEngine | None = None

    def load(self, runtime: str) -> tuple[Facts, Engine, str]:
        """Make an engine: `torch`, `cuda-fp16`, or `auto`.

        Returns:
            What the checkpoint says, the engine, and the name of its runtime.

        Raises:
            BirdsearchError: The GPU has too little memory, or the runtime computes something else than torch does.
        """
        if runtime != AUTO:
            return self._facts, self._engine(runtime), runtime
        runtime = fastest(read_rates(self._folder, gpu_name()) or self.measure()[0])
        # Memory that was free when it was measured may be taken now.
        with contextlib.suppress(BirdsearchError):
            return self._facts, self._engine(runtime), runtime
        return self._facts, self._reference, "torch"

    def measure(self, images: int = 256, runs: int = 3) -> tuple[list[Rate], dict[str, Engine]]:
        """Time what can be used here, and remember the rates for `auto`.

        Args:
            images: Pictures in a run.
            runs: Counted runs of each runtime, in turn.

        Returns:
            A rate and an engine for each.
        """
        engines: dict[str, Engine] = {"torch": self._reference}
        with contextlib.suppress(BirdsearchError):
            engines[_HALF] = self._engine(_HALF)
        expected = self._reference.embed(check_pictures(self._facts.size))
        rates = measure(engines, self._facts.size, expected, images, runs)
        write_rates(self._folder, rates, gpu_name())
        return rates, engines

    def _engine(self, runtime: str) -> Engine:
        if runtime != _HALF:
            return self._reference
        if self._half is None:
            engine = CudaEngine(self._reference, self._facts.size, self._facts.stats)
            pictures = check_pictures(self._facts.size)
            verify(_HALF, engine.embed(pictures), self._reference.embed(pictures))
            self._half = engine
        return self._half
