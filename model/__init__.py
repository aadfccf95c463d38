"""The network, its weights, and the way from a photo file to an embedding.

Importing this package is cheap: torch is loaded when the network or a checkpoint is first asked for, and by
`load_model` unless another runtime serves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdsearch.model.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
    from birdsearch.model.config import VARIANTS, RgbStats, XCiTConfig, variant
    from birdsearch.model.features import feature_picture
    from birdsearch.model.images.photo import PhotoLimits, open_photo, read_photo
    from birdsearch.model.inference import Inference, Model, load_model, measure_runtimes
    from birdsearch.model.runtimes.rates import Rate
    from birdsearch.model.runtimes.table import RUNTIMES, RuntimeSpec
    from birdsearch.model.taxonomy import Taxon, Taxonomy
    from birdsearch.model.weights import DEFAULT_WEIGHTS, WEIGHTS, WeightsEntry, resolve_weights
    from birdsearch.model.xcit import XCiT

__all__ = [
    "DEFAULT_WEIGHTS",
    "RUNTIMES",
    "VARIANTS",
    "WEIGHTS",
    "Checkpoint",
    "Inference",
    "Model",
    "PhotoLimits",
    "Rate",
    "RgbStats",
    "RuntimeSpec",
    "Taxon",
    "Taxonomy",
    "WeightsEntry",
    "XCiT",
    "XCiTConfig",
    "feature_picture",
    "load_model",
    "measure_runtimes",
    "open_photo",
    "read_checkpoint",
    "read_photo",
    "resolve_weights",
    "save_checkpoint",
    "variant",
]

_HOMES = {
    "checkpoint": ("Checkpoint", "read_checkpoint", "save_checkpoint"),
    "config": ("VARIANTS", "RgbStats", "XCiTConfig", "variant"),
    "features": ("feature_picture",),
    "images.photo": ("PhotoLimits", "open_photo", "read_photo"),
    "runtimes.rates": ("Rate",),
    "inference": ("Inference", "Model", "load_model", "measure_runtimes"),
    "runtimes.table": ("RUNTIMES", "RuntimeSpec"),
    "taxonomy": ("Taxon", "Taxonomy"),
    "weights": ("DEFAULT_WEIGHTS", "WEIGHTS", "WeightsEntry", "resolve_weights"),
    "xcit": ("XCiT",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"birdsearch.model.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
