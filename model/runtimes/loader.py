"""From a weights file to something that runs it on a processor: the runtime asked for, or the fastest one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.model.runtimes.engines import Engine, can_export, installed_runtimes, open_engine
from birdsearch.model.runtimes.exports import Export, Facts, check_pictures, read_export, write_export
from birdsearch.model.runtimes.rates import Rate, fastest, measure, read_rates, verify, write_rates
from birdsearch.model.runtimes.table import AUTO, RUNTIMES
from birdsearch.settings import Settings

if TYPE_CHECKING:
    from birdsearch.model.runtimes.torch import TorchEngine

__all__ = ["EngineLoader", "resolve_device"]

# Signs of a GPU that torch may be able to use. Without one of them torch is not asked, since importing it takes
# seconds: NVIDIA's driver, Windows' one in WSL, AMD's.
_GPU_SIGNS = ("/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")


class EngineLoader:
    """Makes engines for one weights file; the checkpoint is read, and torch loaded, once and only if need be.

    Args:
        path: The weights file.
        sha256: Its SHA-256.
        settings: Says where the cache is.
    """

    def __init__(self, path: Path, sha256: str, settings: Settings) -> None:
        self._path, self._sha256, self._settings = path, sha256, settings
        self._reference: tuple[Facts, TorchEngine] | None = None

    def load(self, runtime: str) -> tuple[Facts, Engine, str]:
        """Make an engine.

        Args:
            runtime: A key of `RUNTIMES`, or `auto`.

        Returns:
            What the checkpoint says, the engine, and the name of its runtime.

        Raises:
            CheckpointError: The file is not a checkpoint that the network can load.
            InvalidInputError: The runtime is not available.
            BirdsearchError: The runtime computes something else than torch does.
        """
        # Where nothing else can be had there is nothing to measure.
        if runtime == "torch" or (runtime == AUTO and not can_export()):
            return (*self._torch(), "torch")
        export = read_export(self._settings, self._sha256)
        if runtime != AUTO:
            export = export or self._export()
            return export.facts, self._verified(runtime, export), runtime
        rates = None if export is None else read_rates(export.folder)
        if export is not None and rates is not None:
            chosen = fastest(rates)
            if chosen == "torch":
                return (*self._torch(), chosen)
            # If it fails, something has changed that the remembered rates do not know of: measured anew.
            with contextlib.suppress(BirdsearchError):
                return export.facts, self._verified(chosen, export), chosen
        rates, engines = self.measure()
        chosen = fastest(rates)
        return self._torch()[0], engines[chosen], chosen

    def measure(self, images: int = 16, runs: int = 3) -> tuple[list[Rate], dict[str, Engine]]:
        """Time every runtime that can be used here, and remember the rates for `auto`.

        Args:
            images: Pictures in a run.
            runs: Counted runs of each runtime, in turn.

        Returns:
            A rate and an engine for each.

        Raises:
            CheckpointError: The file is not a checkpoint that the network can load.
        """
        facts, reference = self._torch()
        engines: dict[str, Engine] = {"torch": reference}
        try:
            export = self._export()
        except InvalidInputError:
            # Nothing but torch is installed.
            expected = reference.embed(check_pictures(facts.size))
            return measure(engines, facts.size, expected, images, runs), engines
        for name in installed_runtimes():
            if name not in engines:
                # One that does not take the network, or computes something else, is left out.
                with contextlib.suppress(BirdsearchError):
                    engines[name] = self._verified(name, export)
        rates = measure(engines, facts.size, export.expected, images, runs)
        write_rates(export.folder, rates)
        return rates, engines

    def _torch(self) -> tuple[Facts, TorchEngine]:
        if self._reference is None:
            from birdsearch.model.checkpoint import read_checkpoint
            from birdsearch.model.runtimes.torch import TorchEngine, facts_of

            checkpoint = read_checkpoint(self._path)
            self._reference = facts_of(checkpoint), TorchEngine(checkpoint, "cpu")
        return self._reference

    def _export(self) -> Export:
        facts, engine = self._torch()
        try:
            from birdsearch.model.runtimes.onnx_export import export_onnx

            graph = export_onnx(engine.network, facts.size, facts.stats)
        except ImportError as error:
            raise InvalidInputError(
                "writing the network for another runtime needs an optional part: pip install "
                "'birdsearch[fast]'; or use the runtime 'torch'"
            ) from error
        expected = engine.embed(check_pictures(facts.size))
        return write_export(self._settings, self._sha256, facts, graph, expected)

    def _verified(self, runtime: str, export: Export) -> Engine:
        """Return an engine that was seen to compute what torch does, up to its precision."""
        engine = open_engine(runtime, export.graph, export.folder)
        if engine.is_proven:
            return engine
        verify(runtime, engine.embed(check_pictures(export.facts.size)), export.expected)
        engine.keep()
        return engine


def resolve_device(device: str, runtime: str = AUTO) -> str:
    """Return `cpu` or `cuda` for the device asked for; torch is loaded only where there may be a GPU.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one and the runtime can use it.
        runtime: A key of `RUNTIMES`, or `auto`.

    Raises:
        InvalidInputError: The device or the runtime is unknown, the runtime does not run on the device, or there is
            no GPU.
    """
    if device not in ("cpu", "cuda", "auto"):
        raise InvalidInputError(f"device must be 'cpu', 'cuda' or 'auto', got {device!r}")
    if runtime not in (AUTO, *RUNTIMES):
        raise InvalidInputError(f"runtime {runtime!r} is unknown; use one of {', '.join((AUTO, *RUNTIMES))}")
    devices = ("cpu", "cuda") if runtime == AUTO else RUNTIMES[runtime].devices
    found = device
    if device == "auto":
        found = "cuda" if "cuda" in devices and _has_gpu() else "cpu"
    if found not in devices:
        reason = f"runtime {runtime!r} needs a GPU" if found == "cpu" else f"runtime {runtime!r} uses no GPU"
        others = ", ".join(spec.name for spec in RUNTIMES.values() if found in spec.devices)
        raise InvalidInputError(f"{reason}; on the device {found!r} use one of {others}")
    if device == "cuda" and not _has_gpu():
        raise InvalidInputError("no GPU is available to torch; use the device 'cpu' or 'auto'")
    return found


def _has_gpu() -> bool:
    if not any(Path(sign).exists() for sign in _GPU_SIGNS):
        return False
    from birdsearch.model.runtimes.torch import has_gpu

    return has_gpu()
