"""Reading and writing weights files in birder's two formats, without ever running what is in them.

A `.pt` file is a dict that torch saved: `state` (name -> tensor), `signature`, `class_to_idx`, `rgb_stats`,
`task`, `birder_version` and sometimes `config`. A `.safetensors` file holds the tensors, and the rest as
JSON strings in its metadata. Everything a file claims is checked against its tensors before a network is
handed out.
"""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from birdsearch.errors import CheckpointError, InvalidInputError
from birdsearch.model.config import VARIANTS, RgbStats, XCiTConfig
from birdsearch.model.xcit import XCiT

__all__ = ["SUFFIXES", "Checkpoint", "read_checkpoint", "save_checkpoint"]

SUFFIXES = (".pt", ".safetensors")
"""File name endings of the formats that can be read and written."""

# The largest published variant is 0.76 GB in float32.
_MAX_BYTES = 2 << 30
_TASK = "image_classification"
# What `birder_version` in a file we write says: the first edition whose XCiT has these tensors.
_FORMAT_VERSION = "0.7.0"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Settings of training, and switches at the value that means "as published".
_HARMLESS_CONFIG: Mapping[str, object] = {"head_bias": True, "mlp_head": False}
_TRAINING_CONFIG = frozenset({"drop_path_rate", "drop_path_uniform"})
# How torch's restricted unpickler words its refusal, as opposed to its complaints about damaged files.
_REFUSED_PICKLE = re.compile(r"\b(global|reduce|build|create|instantiate)\b", re.IGNORECASE)
_CODE_OPERATIONS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX"})
_OLDER_NETWORK_KEYS = (".local_mp.conv_bn_act.", ".local_mp.conv.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified weights file.

    Attributes:
        network: The network with its weights, float32, in eval mode, without gradients.
        classes: Class names in the order of the logits.
        size: (height, width) of the input in pixels.
        stats: Colour statistics of the input.
        birder_version: Version that the file says it was written with, or an empty string.
    """

    network: XCiT
    classes: tuple[str, ...]
    size: tuple[int, int]
    stats: RgbStats
    birder_version: str


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a weights file; nothing in it is executed.

    Args:
        path: A `.pt` or `.safetensors` file.

    Returns:
        The network and what belongs to it. float16, bfloat16 and float64 tensors become float32.

    Raises:
        CheckpointError: If the file cannot be read, would run code, is truncated, is of another
            architecture, or disagrees with its own signature.
    """
    path = Path(path)
    content = _read(path)
    try:
        return _verified(content)
    except _InvalidError as error:
        raise CheckpointError(f"{path}: {error}") from error.__cause__


def save_checkpoint(
    path: str | os.PathLike[str],
    network: XCiT,
    classes: Sequence[str],
    size: tuple[int, int],
    stats: RgbStats,
) -> None:
    """Write a weights file that birder 0.7 and later and `read_checkpoint` load.

    The file appears whole or not at all.

    Args:
        path: Where to write; the suffix `.pt` or `.safetensors` chooses the format.
        network: The network.
        classes: Class names in the order of its logits, all different.
        size: (height, width) of its input in pixels.
        stats: Colour statistics of its input.

    Raises:
        InvalidInputError: If the suffix is another, or the classes or the size do not fit the network.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InvalidInputError(f"weights are written as {' or '.join(SUFFIXES)}, not {path.name!r}")
    if len(set(classes)) != len(classes) or len(classes) != network.num_classes:
        raise InvalidInputError(
            f"{len(set(classes))} different class names for {network.num_classes} outputs of the network"
        )
    if any(side < 1 or side % network.config.patch_size for side in size):
        raise InvalidInputError(
            f"the input size {size[0]} x {size[1]} is not a multiple of the patch size "
            f"{network.config.patch_size}"
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    about: dict[str, Any] = {
        "birder_version": _FORMAT_VERSION,
        "task": _TASK,
        "signature": {
            "inputs": [{"data_shape": [0, 3, *size]}],
            "outputs": [{"data_shape": [0, network.num_classes]}],
        },
        "class_to_idx": {name: index for index, name in enumerate(classes)},
        "rgb_stats": {"mean": tuple(stats.mean), "std": tuple(stats.std)},
    }
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            if path.suffix == ".pt":
                torch.save({"state": state, **about}, stream)
            else:
                metadata = {
                    key: value if isinstance(value, str) else json.dumps(value)
                    for key, value in about.items()
                }
                stream.write(safetensors.torch.save(state, metadata))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _InvalidError(Exception):
    """What is wrong with the content; the caller adds the file's name."""


# The tensors of a file, and the rest of what it says; nothing of it is verified.
_Content = tuple[Mapping[str, Any], Mapping[str, Any]]


def _read(path: Path) -> _Content:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise CheckpointError(f"{path} has {size} bytes; weights files have at most {_MAX_BYTES}")
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror or error}") from error


def _read_torch(path: Path) -> _Content:
    _check_sums(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        if _REFUSED_PICKLE.search(str(error)) or _names_code(path):
            raise CheckpointError(
                f"{path} holds more than tensors and plain values: loading it would run code. It was not "
                "run; get the file from a source you trust, or in its .safetensors form."
            ) from error
        raise _not_a_checkpoint(path) from error
    except Exception as error:
        # The reader of a damaged file raises RuntimeError, EOFError, KeyError, ValueError and more.
        raise _not_a_checkpoint(path) from error
    if not isinstance(content, dict) or not isinstance(content.get("state"), Mapping):
        raise CheckpointError(f"{path} has no weights under the key 'state': it is not a birder checkpoint")
    return content["state"], content


def _check_sums(path: Path) -> None:
    """Compare the checksums that torch writes for each tensor, and does not look at when it reads."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError:
        raise
    except Exception as error:
        raise _not_a_checkpoint(path) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: {damaged!r} in it does not match its checksum. Get the file again"
        )


def _names_code(path: Path) -> bool:
    """Return whether a file is a bare pickle that asks for a function; its instructions are only listed."""
    with path.open("rb") as stream:
        start = stream.read(1 << 20)
    try:
        return any(operation.name in _CODE_OPERATIONS for operation, _, _ in pickletools.genops(start))
    except ValueError:
        return False


def _read_safetensors(path: Path) -> _Content:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:
        raise _not_a_checkpoint(path) from error
    about: dict[str, Any] = {key: metadata[key] for key in ("birder_version", "task") if key in metadata}
    for key in ("signature", "class_to_idx", "rgb_stats", "config"):
        if metadata.get(key):
            try:
                about[key] = json.loads(metadata[key])
            except (ValueError, RecursionError) as error:
                raise CheckpointError(f"{path}: {key!r} in the metadata is not JSON") from error
    return state, about


def _not_a_checkpoint(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is not a {path.suffix} checkpoint, or it is truncated or "
        "damaged: get the file again"
    )


def _verified(content: _Content) -> Checkpoint:
    state, about = _published_names(content[0]), content[1]
    config = _variant_of(state)
    head = state["classifier.weight"]
    if head.ndim != 2 or not len(head):
        raise _InvalidError(f"'classifier.weight' has shape {tuple(head.shape)}, not (classes, channels)")
    num_classes = len(head)
    with torch.device("meta"):
        network = XCiT(config, num_classes)
    _check_tensors(state, network.state_dict(), config.name)
    task = about.get("task", _TASK)
    if task != _TASK:
        raise _InvalidError(f"its task is {_short(task)}, not {_TASK!r}")
    size = _signed_size(about.get("signature"), config, num_classes)
    classes = _class_names(about.get("class_to_idx"), num_classes)
    stats = _rgb_stats(about.get("rgb_stats"))
    _check_config(about.get("config"), config)
    network.load_state_dict({key: _plain(value) for key, value in state.items()}, strict=True, assign=True)
    _check_values(network)
    network.requires_grad_(False).eval()
    return Checkpoint(network, classes, size, stats, str(about.get("birder_version", "")))


def _published_names(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Map the names of tensors to those of `XCiT`; wrappers of training add prefixes."""
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _InvalidError(f"{name!r} in its weights is not a tensor")
        tensors[name.replace("_orig_mod.", "").removeprefix("module.")] = tensor
    if any(key in name for key in _OLDER_NETWORK_KEYS for name in tensors):
        raise _InvalidError(
            "these weights belong to an older network of the same name (its local patch interaction is "
            "normalised before the activation), which birder dropped in 0.7 and birdsearch does not have. "
            "Get the current edition of the file: `birdsearch model pull`"
        )
    return tensors


def _variant_of(state: Mapping[str, Tensor]) -> XCiTConfig:
    """Return the variant, from the shapes of the tensors."""
    needed = (
        "cls_token",
        "classifier.weight",
        "block1.stage1.0.attn.temperature",
        "pos_embed.token_projection.weight",
    )
    if missing := [name for name in needed if name not in state]:
        if "classifier.0.weight" in state and missing == ["classifier.weight"]:
            raise _InvalidError(
                "its classifier has hidden layers (mlp_head); only a linear classifier is supported"
            )
        raise _InvalidError(f"it is not an XCiT classifier: no tensor {missing[0]!r}")
    dim = state["cls_token"].shape[-1] if state["cls_token"].ndim else 0
    # block1.<stage>.<number>.* is a block, patch_embed.proj.<number>.* a convolution that halves the size.
    depth = len({tuple(name.split(".")[1:3]) for name in state if name.startswith("block1.")})
    halvings = len({name.split(".")[2] for name in state if name.startswith("patch_embed.proj.")})
    patch_size = 1 << min(halvings, 10)
    for config in VARIANTS.values():
        if (config.embed_dim, config.depth, config.patch_size) == (dim, depth, patch_size):
            return config
    raise _InvalidError(
        f"no published XCiT has {dim} channels, {depth} blocks and patches of {patch_size} pixels; "
        f"known: {', '.join(VARIANTS)}"
    )


def _check_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    if missing or extra:
        difference = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}"
        more = len(missing) + len(extra) - 1
        raise _InvalidError(
            f"it is not {name}: it {difference}" + (f", and {more} more differ" if more else "")
        )
    for key, tensor in state.items():
        shape, wanted = tuple(tensor.shape), tuple(expected[key].shape)
        if shape != wanted:
            raise _InvalidError(f"{key!r} has shape {shape}; {name} needs {wanted}")
        integer = not expected[key].dtype.is_floating_point
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise _InvalidError(f"{key!r} is not a plain dense tensor")
        if (integer and tensor.dtype != torch.int64) or (not integer and tensor.dtype not in _FLOATS):
            raise _InvalidError(f"{key!r} has type {tensor.dtype}, which is not supported")


def _plain(tensor: Tensor) -> Tensor:
    # A copy of its own: assigned tensors would otherwise share (and keep alive) the file's storage.
    dtype = torch.float32 if tensor.dtype.is_floating_point else tensor.dtype
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _check_values(network: XCiT) -> None:
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise _InvalidError(f"{name!r} holds values that are not finite")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise _InvalidError(f"{name!r} holds a negative variance")


def _signed_size(signature: Any, config: XCiTConfig, num_classes: int) -> tuple[int, int]:
    try:
        _, channels, height, width = map(_integer, signature["inputs"][0]["data_shape"])
        outputs = _integer(signature["outputs"][0]["data_shape"][1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _InvalidError(f"its signature is missing or malformed: {_short(signature)}") from error
    if outputs != num_classes:
        raise _InvalidError(f"its signature says {outputs} classes, its classifier has {num_classes}")
    if channels != 3:
        raise _InvalidError(f"its signature says {channels} input channels, the network has 3")
    patch = config.patch_size
    if any(side < 1 or side > 4096 or side % patch for side in (height, width)):
        raise _InvalidError(
            f"its signature says an input of {height} x {width} pixels, which must be multiples of the patch "
            f"size {patch} up to 4096"
        )
    return height, width


def _class_names(class_to_idx: Any, num_classes: int) -> tuple[str, ...]:
    if not isinstance(class_to_idx, Mapping) or not all(isinstance(name, str) for name in class_to_idx):
        raise _InvalidError("its class names (class_to_idx) are missing or malformed")
    if len(class_to_idx) != num_classes:
        raise _InvalidError(f"it has {len(class_to_idx)} class names for {num_classes} outputs")
    names = {index: name for name, index in class_to_idx.items() if type(index) is int}
    if set(names) != set(range(num_classes)):
        raise _InvalidError(f"its class indices are not each of 0 to {num_classes - 1} once")
    return tuple(names[index] for index in range(num_classes))


def _rgb_stats(stats: Any) -> RgbStats:
    try:
        mean, std = ([float(value) for value in stats[key]] for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise _InvalidError(f"its rgb_stats are missing or malformed: {_short(stats)}") from error
    if (
        len(mean) != 3
        or len(std) != 3
        or not all(-1e3 < value < 1e3 for value in mean + std)
        or min(std) <= 0
    ):
        raise _InvalidError(
            f"its rgb_stats must be three finite means and positive deviations: {_short(stats)}"
        )
    return RgbStats((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _check_config(given: Any, config: XCiTConfig) -> None:
    """Refuse a custom configuration that changes what the network computes."""
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise _InvalidError(f"its config is malformed: {_short(given)}")
    published = {field.name: getattr(config, field.name) for field in fields(config)} | dict(_HARMLESS_CONFIG)
    for key, value in given.items():
        if key not in _TRAINING_CONFIG and (key not in published or published[key] != value):
            raise _InvalidError(
                f"its config sets {_short(key)} to {_short(value)}, which {config.name} does not support"
            )


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
