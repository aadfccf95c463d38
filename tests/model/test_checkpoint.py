from __future__ import annotations

import functools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from birdsearch.errors import CheckpointError, InvalidInputError
from birdsearch.model.checkpoint import read_checkpoint, save_checkpoint
from birdsearch.model.config import RgbStats
from birdsearch.model.xcit import XCiT


@functools.cache
def _loaded(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True)
    assert isinstance(content, dict)
    return content


def _content(path: Path) -> dict[str, Any]:
    """What a file holds; its dicts may be changed, its tensors not."""
    content = _loaded(path)
    return {**content, "state": dict(content["state"])}


def _refused(content: object, tmp_path: Path) -> str:
    path = tmp_path / "given.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def _same_outputs(first: XCiT, second: Any, pixels_shape: tuple[int, ...] = (2, 3, 64, 96)) -> None:
    pixels = torch.randn(pixels_shape, generator=torch.Generator().manual_seed(30))
    with torch.inference_mode():
        embedding, logits = first(pixels)
        torch.testing.assert_close(embedding, second.embedding(pixels), rtol=0, atol=1e-5)
        theirs = second(pixels)
        torch.testing.assert_close(
            logits, theirs[1] if isinstance(theirs, tuple) else theirs, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_written_is_read_back(
    suffix: str, tmp_path: Path, make_network: Callable[..., XCiT], classes: tuple[str, ...], stats: RgbStats
) -> None:
    network = make_network("xcit_tiny12_p8", seed=31)
    path = tmp_path / f"written{suffix}"
    save_checkpoint(path, network, classes, (48, 80), stats)
    read = read_checkpoint(path)
    assert read.network.config.name == "xcit_tiny12_p8"
    assert (read.classes, read.size, read.stats) == (classes, (48, 80), stats)
    assert all(
        torch.equal(value, read.network.state_dict()[key]) for key, value in network.state_dict().items()
    )
    assert not read.network.training
    assert not any(parameter.requires_grad for parameter in read.network.parameters())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_birder_loads_what_is_written(
    suffix: str, tmp_path: Path, make_network: Callable[..., XCiT], classes: tuple[str, ...], stats: RgbStats
) -> None:
    pytest.importorskip("birder")
    from birder.common.fs_ops import load_model

    network = make_network(seed=32)
    path = tmp_path / f"written{suffix}"
    save_checkpoint(path, network, classes, (64, 96), stats)
    theirs, info = load_model(
        torch.device("cpu"), "xcit_nano12_p16", path=path, inference=True, st=suffix == ".safetensors"
    )
    assert info.class_to_idx == {name: index for index, name in enumerate(classes)}
    assert {key: tuple(value) for key, value in info.rgb_stats.items()} == {
        "mean": stats.mean,
        "std": stats.std,
    }
    assert theirs.size == (64, 96)
    _same_outputs(network, theirs)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_birder_writes_is_read(
    suffix: str,
    tmp_path: Path,
    make_network: Callable[..., XCiT],
    classes: tuple[str, ...],
    stats: RgbStats,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("birder")
    import birder.conf.settings
    from birder.common import fs_ops
    from birder.model_registry import registry
    from birder.net.base import get_signature

    theirs = registry.net_factory("xcit_nano12_p16", len(classes), 3, size=(64, 96)).eval()
    theirs.load_state_dict(make_network(seed=33).state_dict())
    signature = get_signature((1, 3, 64, 96), len(classes))
    # Not in the order of the indices, as a dict need not be.
    class_to_idx = {name: index for index, name in reversed(list(enumerate(classes)))}
    rgb = {"mean": stats.mean, "std": stats.std}
    if suffix == ".pt":
        monkeypatch.setattr(birder.conf.settings, "MODELS_DIR", tmp_path)
        fs_ops.checkpoint_model("their", 3, theirs, signature, class_to_idx, rgb, None, None, None, None)
        path = tmp_path / "their_3.pt"
    else:
        path = tmp_path / "their.safetensors"
        fs_ops.save_st(theirs, str(path), theirs.task, class_to_idx, signature, rgb)
    read = read_checkpoint(path)
    assert (read.classes, read.size, read.stats) == (classes, (64, 96), stats)
    assert read.birder_version
    _same_outputs(read.network, theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_on_disk_are_computed_in_float32(
    dtype: torch.dtype, weights_file: Path, tmp_path: Path
) -> None:
    content = _content(weights_file)
    content["state"] = {
        key: value.to(dtype) if value.dtype.is_floating_point else value
        for key, value in content["state"].items()
    }
    path = tmp_path / "other.pt"
    torch.save(content, path)
    state = read_checkpoint(path).network.state_dict()
    for key, value in content["state"].items():
        assert state[key].dtype == (torch.float32 if value.dtype.is_floating_point else torch.int64)
        assert torch.equal(state[key], value.to(state[key].dtype))


def test_prefixes_that_training_wrappers_add_are_taken_off(weights_file: Path, tmp_path: Path) -> None:
    content = _content(weights_file)
    content["state"] = {f"module._orig_mod.{key}": value for key, value in content["state"].items()}
    path = tmp_path / "wrapped.pt"
    torch.save(content, path)
    _same_outputs(read_checkpoint(path).network, read_checkpoint(weights_file).network)


def _with(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content[key] = value

    return change


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def _with_tensor(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        if value is None:
            del content["state"][key]
        else:
            content["state"][key] = value

    return change


def _with_entry(key: str, index: tuple[int, ...], value: float) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["state"][key] = content["state"][key].clone()
        content["state"][key][index] = value

    return change


def _signature(channels: int, height: int, width: int, classes: int) -> dict[str, Any]:
    return {
        "inputs": [{"data_shape": [0, channels, height, width]}],
        "outputs": [{"data_shape": [0, classes]}],
    }


NAMES = ("Alpha", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot", "Golf")
RIGHT = {name: index for index, name in enumerate(NAMES)}
LPI = "block1.stage2.0.local_mp"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("signature", _signature(3, 64, 96, 8)), "signature says 8 classes, its classifier has 7"),
        (_with("signature", _signature(1, 64, 96, 7)), "1 input channels"),
        (_with("signature", _signature(3, 64, 90, 7)), "64 x 90"),
        (_with("signature", _signature(3, 0, 96, 7)), "0 x 96"),
        (_with("signature", _signature(3, 65536, 96, 7)), "65536 x 96"),
        (_with("signature", {"inputs": []}), "signature is missing or malformed"),
        (_with("signature", "none"), "signature is missing or malformed"),
        (_without("signature"), "signature is missing or malformed"),
        (_with("class_to_idx", {name: RIGHT[name] for name in NAMES[:6]}), "6 class names for 7 outputs"),
        (_with("class_to_idx", {**RIGHT, "Golf": 5}), "class indices are not each of 0 to 6 once"),
        (_with("class_to_idx", {**RIGHT, "Golf": 7}), "class indices are not each of 0 to 6 once"),
        (_with("class_to_idx", {**RIGHT, "Bravo": True}), "class indices are not each of 0 to 6 once"),
        (_with("class_to_idx", {index: index for index in range(7)}), "class_to_idx"),
        (_without("class_to_idx"), "class_to_idx"),
        (_without("rgb_stats"), "rgb_stats"),
        (_with("rgb_stats", {"mean": (0.5, 0.5), "std": (1, 1, 1)}), "rgb_stats"),
        (_with("rgb_stats", {"mean": (0.5, 0.5, 0.5), "std": (1, 0, 1)}), "rgb_stats"),
        (_with("rgb_stats", {"mean": (0.5, float("nan"), 0.5), "std": (1, 1, 1)}), "rgb_stats"),
        (_with("task", "object_detection"), "object_detection"),
        (_with("config", {"mlp_head": True}), "'mlp_head' to True"),
        (_with("config", {"head_bias": False}), "'head_bias' to False"),
        (_with("config", {"tokens_norm": True}), "'tokens_norm' to True"),
        (_with("config", {"something": 1}), "'something' to 1"),
        (_with("config", [1]), "config is malformed"),
        (
            _with_entry("block2.1.attn.k.weight", (3, 4), float("nan")),
            "'block2.1.attn.k.weight' holds values",
        ),
        (_with_entry("classifier.bias", (2,), float("inf")), "'classifier.bias' holds values"),
        (_with_entry(f"{LPI}.bn.running_var", (0,), -1.0), "negative variance"),
        (_with_tensor("block2.0.norm1.weight", None), "lacks 'block2.0.norm1.weight'"),
        (_with_tensor("block3.weight", torch.zeros(2)), "has 'block3.weight'"),
        (
            _with_tensor("block2.0.norm1.weight", torch.ones(64)),
            r"shape \(64,\); xcit_nano12_p16 needs \(128,\)",
        ),
        (_with_tensor("block2.0.norm1.weight", torch.ones(128, dtype=torch.int32)), "torch.int32"),
        (_with_tensor("block2.0.norm1.weight", torch.ones(128, dtype=torch.complex64)), "torch.complex64"),
        (_with_tensor("block2.0.norm1.weight", torch.ones(128).to_sparse()), "not a plain dense tensor"),
        (_with_tensor("block2.0.norm1.weight", [1.0]), "is not a tensor"),
        (_with_tensor("classifier.weight", torch.ones(())), "'classifier.weight' has shape"),
        (_with_tensor("classifier.weight", torch.ones(9, 128)), "'classifier.bias' has shape"),
        (_with_tensor("cls_token", torch.ones(1, 1, 130)), "no published XCiT has 130 channels"),
        (_with_tensor("block1.stage9.7.gamma1", torch.ones(128)), "13 blocks"),
        (_with_tensor("patch_embed.proj.4.0.weight", torch.ones(3)), "patches of 32 pixels"),
        (_with("state", {"conv.weight": torch.ones(3, 3)}), "not an XCiT classifier"),
        (_with("state", {}), "not an XCiT classifier"),
        (
            _with_tensor(f"{LPI}.conv_bn_act.0.weight", torch.ones(3)),
            "older network of the same name.*model pull",
        ),
        (_with_tensor(f"{LPI}.conv.weight", torch.ones(3)), "older network of the same name.*model pull"),
    ],
)
def test_a_file_that_disagrees_with_itself_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, weights_file: Path, tmp_path: Path
) -> None:
    content = _content(weights_file)
    change(content)
    path = tmp_path / "given.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_classifier_with_hidden_layers_is_named_as_such(weights_file: Path, tmp_path: Path) -> None:
    content = _content(weights_file)
    content["state"]["classifier.0.weight"] = content["state"].pop("classifier.weight")
    assert "mlp_head" in _refused(content, tmp_path)


def test_a_configuration_that_changes_nothing_is_accepted(weights_file: Path, tmp_path: Path) -> None:
    content = _content(weights_file)
    content["config"] = {"drop_path_rate": 0.2, "eta": 1.0, "tokens_norm": False, "mlp_head": False}
    path = tmp_path / "configured.pt"
    torch.save(content, path)
    assert read_checkpoint(path).classes == NAMES


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    assert "no weights under the key 'state'" in _refused([1, 2], tmp_path)
    assert "no weights under the key 'state'" in _refused({"model": {}}, tmp_path)
    page = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    for name in ("page.pt", "page.safetensors", "empty.pt", "empty.safetensors"):
        path = tmp_path / name
        path.write_bytes(page if name.startswith("page") else b"")
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            read_checkpoint(path)
    with pytest.raises(CheckpointError, match="could not be read"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="could not be read"):
        read_checkpoint(tmp_path)


class _MakesFolder:
    """Runs code when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.folder),))


@pytest.mark.parametrize("how", ["zip", "zip-in-state", "pickle-0", "pickle-2", "pickle-5"])
def test_a_pickle_that_would_run_code_is_not_run(how: str, weights_file: Path, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    content = _content(weights_file)
    if how == "zip-in-state":
        content["state"]["cls_token"] = _MakesFolder(marker)
    else:
        content["more"] = _MakesFolder(marker)
    if how.startswith("zip"):
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"state": {}, "more": content["more"]}, protocol=int(how[-1])))
    with pytest.raises(CheckpointError, match="would run code"):
        read_checkpoint(path)
    assert not marker.exists()
    # The file is what it is taken for: the ordinary unpickler does run it.
    if how.startswith("pickle"):
        pickle.loads(path.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_or_flipped_file_is_refused_or_still_a_checkpoint(
    suffix: str, tmp_path: Path, make_network: Callable[..., XCiT], classes: tuple[str, ...], stats: RgbStats
) -> None:
    path = tmp_path / f"whole{suffix}"
    save_checkpoint(path, make_network(), classes, (64, 96), stats)
    whole = path.read_bytes()
    seed = 34
    rng = np.random.default_rng(seed)
    damaged = tmp_path / f"damaged{suffix}"
    for length in [0, 1, 8, 100, 5000, len(whole) // 2, len(whole) - 1000, len(whole) - 1]:
        damaged.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(damaged)
    for _ in range(12):
        flipped = bytearray(whole)
        # Half of the flips hit the ends, where the structure of the file is.
        end = 40_000 if rng.random() < 0.5 else len(whole)
        place = int(rng.integers(0, end))
        place = len(whole) - 1 - place if rng.random() < 0.5 else place
        flipped[place] ^= 1 << int(rng.integers(0, 8))
        damaged.write_bytes(flipped)
        try:
            assert read_checkpoint(damaged).network.num_classes == 7
        except CheckpointError:
            pass
        except Exception as error:
            raise AssertionError(f"seed {seed}, byte {place}: {error!r}") from error


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "signature is missing"),
        ({"signature": "{not json"}, "'signature' in the metadata is not JSON"),
        ({"signature": "[" * 100_000}, "'signature' in the metadata is not JSON"),
        ({"signature": json.dumps(_signature(3, 64, 96, 9))}, "signature says 9 classes"),
        (
            {"signature": json.dumps(_signature(3, 64, 96, 7)), "class_to_idx": json.dumps({"A": 0})},
            "1 class names",
        ),
    ],
)
def test_safetensors_with_wrong_metadata_are_refused(
    metadata: dict[str, str] | None, message: str, weights_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "given.safetensors"
    safetensors.torch.save_file(_content(weights_file)["state"], path, metadata)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_file_larger_than_any_network_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    with path.open("wb") as stream:
        stream.truncate((2 << 30) + 1)
    with pytest.raises(CheckpointError, match="2147483649 bytes"):
        read_checkpoint(path)


def test_only_what_fits_the_network_is_written(
    tmp_path: Path, make_network: Callable[..., XCiT], classes: tuple[str, ...], stats: RgbStats
) -> None:
    network = make_network()
    with pytest.raises(InvalidInputError, match=r"\.pt or \.safetensors"):
        save_checkpoint(tmp_path / "a.bin", network, classes, (64, 64), stats)
    with pytest.raises(InvalidInputError, match="6 different class names for 7"):
        save_checkpoint(tmp_path / "a.pt", network, classes[:6], (64, 64), stats)
    with pytest.raises(InvalidInputError, match="6 different class names for 7"):
        save_checkpoint(tmp_path / "a.pt", network, [*classes[:6], classes[0]], (64, 64), stats)
    with pytest.raises(InvalidInputError, match="64 x 60"):
        save_checkpoint(tmp_path / "a.pt", network, classes, (64, 60), stats)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_of_a_tensor_is_refused_by_its_checksum(
    tmp_path: Path, make_network: Callable[..., XCiT], classes: tuple[str, ...], stats: RgbStats
) -> None:
    path = tmp_path / "whole.pt"
    network = make_network()
    save_checkpoint(path, network, classes, (64, 96), stats)
    content = bytearray(path.read_bytes())
    place = content.index(network.state_dict()["classifier.weight"].numpy().tobytes())
    content[place + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"whole\.pt is damaged: .* does not match its checksum"):
        read_checkpoint(path)
