"""What can run the network: one table. This module loads nothing, so that listing it is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["AUTO", "RUNTIMES", "RuntimeSpec"]

AUTO = "auto"
"""The runtime that was measured to be the fastest on this machine."""


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """A way to run the network.

    Attributes:
        name: Its name.
        library: The package that has to be installed.
        precision: What the matrix products are computed in: `float32`, `bfloat16` or `float16`.
        min_cosine: What the embedding of the check picture has to reach against torch, before the runtime is
            used. Cosine, 0..1.
        devices: Where it runs: `cpu`, `cuda` or both.
    """

    name: str
    library: str
    precision: str
    min_cosine: float
    devices: tuple[str, ...] = ("cpu",)


RUNTIMES: Mapping[str, RuntimeSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            RuntimeSpec("torch", "torch", "float32", 1.0, ("cpu", "cuda")),
            RuntimeSpec("onnxruntime", "onnxruntime", "float32", 0.99999),
            RuntimeSpec("openvino", "openvino", "float32", 0.99999),
            RuntimeSpec("openvino-bf16", "openvino", "bfloat16", 0.9995),
            RuntimeSpec("cuda-fp16", "torch", "float16", 0.9999, ("cuda",)),
        )
    }
)
"""Every runtime by name; `torch` is the reference."""
