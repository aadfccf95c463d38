"""What is kept of a checkpoint so that it can be run again without torch: its graph, its head, its facts.

An export lies in the cache in a folder named after the weights' SHA-256. It can be thrown away at any time. Every
file's hash is checked before it is used. The embeddings of a few check pictures, as torch computed them, are kept
beside the graph: whatever a runtime makes of the graph is tried on them before it is used, or kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birdsearch.model.config import RgbStats
from birdsearch.settings import Settings

__all__ = [
    "Export",
    "Facts",
    "check_pictures",
    "export_folder",
    "read_export",
    "read_sealed",
    "write_cached",
    "write_export",
    "write_sealed",
]

# Raised whenever an export comes to hold something else than before, or graphs come out otherwise.
_VERSION = 2
_SEAL = hashlib.sha256().digest_size
_FACTS, _GRAPH, _ARRAYS = "facts.json", "graph.onnx", "arrays.npz"


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What a checkpoint says about its network.

    Attributes:
        network: Name of the network variant.
        embedding_size: Channels C of the embedding.
        parameters: Number of trained parameters.
        classes: Class names in the order of the logits.
        size: (height, width) of the input in pixels.
        stats: Colour statistics of the input.
        birder_version: Version that the weights file says it was written with, or an empty string.
        head_weight: (classes, C) float32.
        head_bias: (classes,) float32.
    """

    network: str
    embedding_size: int
    parameters: int
    classes: tuple[str, ...]
    size: tuple[int, int]
    stats: RgbStats
    birder_version: str
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """A network that can be run without torch.

    Attributes:
        facts: What its checkpoint says.
        graph: The network as an ONNX model.
        expected: (B, C) float32, embeddings of the check pictures by torch in float32.
        folder: Where it lies and a runtime may keep what it compiled, or None where nothing could be kept.
    """

    facts: Facts
    graph: bytes
    expected: NDArray[np.float32]
    folder: Path | None


def export_folder(settings: Settings, sha256: str) -> Path:
    """Return the folder of the export of a weights file."""
    return settings.cache / "networks" / f"{sha256}-{_VERSION}"


def check_pictures(size: tuple[int, int], count: int = 4) -> NDArray[np.uint8]:
    """Return the pictures that a runtime is tried on: soft colour under texture, the same on every machine.

    Args:
        size: (height, width) in pixels.
        count: How many.

    Returns:
        (count, H, W, 3) uint8.
    """
    height, width = size
    pictures = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        rng = np.random.default_rng(number)
        total = np.zeros((height, width, 3))
        for cells, weight in ((4, 0.6), (16, 0.3), (64, 0.1)):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            total += weight * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
        pictures[number] = np.rint(total)
    return pictures


def read_export(settings: Settings, sha256: str) -> Export | None:
    """Return the export of a weights file, or None if there is none that is whole.

    Args:
        settings: Says where the cache is.
        sha256: SHA-256 of the weights file.
    """
    folder = export_folder(settings, sha256)
    try:
        about: dict[str, Any] = json.loads((folder / _FACTS).read_bytes())
        graph, arrays = ((folder / name).read_bytes() for name in (_GRAPH, _ARRAYS))
        sealed = about.pop("sha256")
        if [_sha256(graph), _sha256(arrays), _sha256(_plain(about))] != sealed:
            return None
        with np.load(io.BytesIO(arrays), allow_pickle=False) as held:
            weight, bias, expected = (held[name] for name in ("head_weight", "head_bias", "expected"))
        facts = Facts(
            network=about["network"],
            embedding_size=about["embedding_size"],
            parameters=about["parameters"],
            classes=tuple(about["classes"]),
            size=(about["size"][0], about["size"][1]),
            stats=RgbStats(tuple(about["mean"]), tuple(about["std"])),
            birder_version=about["birder_version"],
            head_weight=weight,
            head_bias=bias,
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return Export(facts, graph, expected, folder)


def write_export(
    settings: Settings, sha256: str, facts: Facts, graph: bytes, expected: NDArray[np.float32]
) -> Export:
    """Keep an export; where the cache cannot be written, it is only returned.

    Args:
        settings: Says where the cache is.
        sha256: SHA-256 of the weights file.
        facts: What the checkpoint says.
        graph: The network as an ONNX model.
        expected: (B, C) float32, embeddings of the check pictures.

    Returns:
        The export.
    """
    stream = io.BytesIO()
    np.savez(stream, head_weight=facts.head_weight, head_bias=facts.head_bias, expected=expected)
    arrays = stream.getvalue()
    about = {
        key: value for key, value in asdict(facts).items() if key not in ("stats", "head_weight", "head_bias")
    }
    about |= {"mean": facts.stats.mean, "std": facts.stats.std}
    about["sha256"] = [_sha256(graph), _sha256(arrays), _sha256(_plain(about))]
    folder = export_folder(settings, sha256)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            (temporary / _GRAPH).write_bytes(graph)
            (temporary / _ARRAYS).write_bytes(arrays)
            (temporary / _FACTS).write_text(json.dumps(about), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            # Another process may have put its own there in between: then that one stays, and is as good.
            with contextlib.suppress(OSError):
                os.rename(temporary, folder)  # noqa: PTH104
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        return Export(facts, graph, expected, None)
    return Export(facts, graph, expected, folder)


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote; None if it is missing or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal, data = content[:_SEAL], content[_SEAL:]
    return data if hashlib.sha256(data).digest() == seal else None


def write_sealed(path: Path, data: bytes) -> None:
    """Write a file that begins with the hash of its content; one that cannot be written is done without."""
    write_cached(path, hashlib.sha256(data).digest() + data)


def write_cached(path: Path, content: bytes) -> None:
    """Write a file of the cache, whole or not at all; one that cannot be written is done without."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)


def _plain(about: dict[str, Any]) -> bytes:
    """Return the facts of a checkpoint as the bytes that are hashed."""
    return json.dumps(about, sort_keys=True).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
