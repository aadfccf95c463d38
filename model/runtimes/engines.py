"""What runs the network: torch, ONNX Runtime or OpenVINO, behind one interface.

An engine turns pixels into embeddings. Logits are one small matrix product more, done by one function for all of
them. Importing this module loads none of the libraries.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from birdsearch.cores import cores
from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.first_use import first_use
from birdsearch.model.runtimes.exports import read_sealed, write_sealed
from birdsearch.model.runtimes.machine import machine_key
from birdsearch.model.runtimes.table import RUNTIMES

__all__ = ["CHUNK", "Engine", "GraphEngine", "can_export", "installed_runtimes", "open_engine"]

CHUNK = 4
"""Photos that a graph is compiled for: on a core, the largest batch that its cache holds."""

_CONVERTER = "openvino.tools.ovc"

# More streams than this gain nothing and cost memory.
_MOST_STREAMS = 16


class Engine(Protocol):
    """Runs the network. Calls from several threads are safe."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed a batch of at least one photo: (B, H, W, 3) uint8 -> (B, C) float32."""


class GraphEngine(Engine, Protocol):
    """Runs a graph that another library than torch made ready."""

    @property
    def is_proven(self) -> bool:
        """True if it is, to the last bit, what was verified and kept on this machine before."""

    def keep(self) -> None:
        """Keep what was compiled, after it was verified, so that it need not be compiled and verified again."""


def installed_runtimes(device: str = "cpu") -> tuple[str, ...]:
    """Return the runtimes installed for `cpu` or `cuda`, `torch` first; the machine may lack one's arithmetic."""
    return tuple(
        spec.name
        for spec in RUNTIMES.values()
        if device in spec.devices and importlib.util.find_spec(spec.library) is not None
    )


def can_export() -> bool:
    """Return whether a network can be written as a graph here, and a runtime other than torch can run it."""
    return importlib.util.find_spec("onnx") is not None and installed_runtimes() != ("torch",)


def open_engine(name: str, graph: bytes, cache: Path | None) -> GraphEngine:
    """Make a graph ready to run.

    Args:
        name: A runtime of a processor other than `torch`.
        graph: The network, as `birdsearch.model.runtimes.onnx_export.export_onnx` writes it.
        cache: Folder in which `GraphEngine.keep` may have put what the runtime compiled; None if there is none.

    Returns:
        The engine.

    Raises:
        InvalidInputError: The runtime is not installed, or this processor lacks its arithmetic.
        BirdsearchError: The runtime does not take the graph.
    """
    spec = RUNTIMES[name]
    if importlib.util.find_spec(spec.library) is None:
        raise InvalidInputError(
            f"runtime {name!r} needs an optional part: pip install 'birdsearch[fast]'; or use --runtime torch"
        )
    try:
        return (
            _OnnxRuntime(graph) if spec.library == "onnxruntime" else _OpenVino(graph, spec.precision, cache)
        )
    except InvalidInputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BirdsearchError(
            f"runtime {name!r} could not load the network: {reason}; use --runtime torch"
        ) from error


class _Parallel(ABC):
    """Runs a graph on chunks of one size, one on each core at a time.

    Chunks are always full: what is missing is filled with black. So a photo's embedding does not depend, to the
    last bit, on how many others it came with.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_streams(), thread_name_prefix="birdsearch-network")
        self._is_used = False
        self.is_proven = False

    @abstractmethod
    def keep(self) -> None:
        """See `GraphEngine.keep`."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.embed`."""
        starts = range(0, len(pixels), CHUNK)
        chunks = [pixels[start : start + CHUNK] for start in starts]
        if len(chunks[-1]) < CHUNK:
            last = np.zeros((CHUNK, *pixels.shape[1:]), np.uint8)
            last[: len(chunks[-1])] = chunks[-1]
            chunks[-1] = last
        # The library makes ready what converts pixels and embeddings when it first meets them: on one thread.
        parts = [] if self._is_used else [self._first(chunks.pop(0))]
        # A single chunk gains nothing from another thread.
        parts += map(self._run, chunks) if len(chunks) == 1 else self._pool.map(self._run, chunks)
        return np.ascontiguousarray(np.concatenate(parts)[: len(pixels)], dtype=np.float32)

    def _first(self, chunk: NDArray[np.uint8]) -> NDArray[np.float32]:
        with first_use("the network"):
            found = self._run(chunk)
            self._is_used = True
        return found

    @abstractmethod
    def _run(self, chunk: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings of a chunk, (CHUNK, H, W, 3) -> (CHUNK, C), an array of its own."""


class _OnnxRuntime(_Parallel):
    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        # One thread each, on as many photos as there are cores: no waiting for each other.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def keep(self) -> None:
        """See `GraphEngine.keep`: a session is ready as fast as it could be read."""

    def _run(self, chunk: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._session.run(["embedding"], {"pixels": chunk})[0]
        return found


class _OpenVino(_Parallel):
    def __init__(self, graph: bytes, precision: str, cache: Path | None) -> None:
        openvino = _openvino()
        super().__init__()
        streams = _streams()
        core: Any = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": streams,
            # Decoders want the cores as well; a thread that may not move waits for its own.
            "ENABLE_CPU_PINNING": False,
        }
        if precision != "float32" and not _has_bfloat16(core):
            raise InvalidInputError(
                "runtime 'openvino-bf16': this processor has no bfloat16 arithmetic; use 'openvino'"
            )
        self._blob = None if cache is None else cache / f"openvino-{precision}-{machine_key()}.blob"
        content = None if self._blob is None else read_sealed(self._blob)
        self._compiled: Any = None
        if content is not None:
            # What it cannot take back, such as that of an update in place, is compiled again.
            with contextlib.suppress(RuntimeError):
                self._compiled = core.import_model(io.BytesIO(content), "CPU", options)
                self.is_proven = True
        if self._compiled is None:
            network = core.read_model(graph, b"")
            _, *rest = network.input(0).get_partial_shape()
            network.reshape({0: [CHUNK, *(side.get_length() for side in rest)]})
            self._compiled = core.compile_model(network, "CPU", options)
        self._requests = threading.local()

    def keep(self) -> None:
        """See `GraphEngine.keep`."""
        if self._blob is not None:
            write_sealed(self._blob, self._compiled.export_model().getvalue())

    def _run(self, chunk: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self._compiled.create_infer_request()
        request = self._requests.mine
        request.infer({0: chunk}, share_inputs=True)
        found: NDArray[np.float32] = request.get_output_tensor(0).data.copy()
        return found


def _openvino() -> Any:
    """Return OpenVINO without its converter, which nothing here uses.

    The converter brings a telemetry client along, and takes longer to load than all the rest together.
    """
    if "openvino" not in sys.modules:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            # Other code can still import it.
            sys.modules.pop(_CONVERTER, None)
    import openvino

    return openvino


def _streams() -> int:
    return min(_MOST_STREAMS, cores())


def _has_bfloat16(core: Any) -> bool:
    """Return whether matrix products in bfloat16 are native here, not emulated; `core` is OpenVINO's."""
    capabilities: list[str] = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities
