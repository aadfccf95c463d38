"""Networks with weights that are random but far from trivial, and weights files made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from birdsearch.model.checkpoint import save_checkpoint
from birdsearch.model.config import RgbStats, variant
from birdsearch.model.preprocess import normalise
from birdsearch.model.xcit import XCiT

STATS = RgbStats((0.51, 0.47, 0.4), (0.23, 0.22, 0.26))
CLASSES = ("Alpha", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot", "Golf")


def random_state(network: XCiT, seed: int) -> dict[str, Tensor]:
    """Values for every tensor of a network such that each of them matters to the output."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in network.state_dict().items():
        if not tensor.dtype.is_floating_point:
            state[name] = torch.tensor(seed)
            continue
        uniform = torch.rand(tensor.shape, generator=generator)
        if name == "cls_token":
            state[name] = uniform * 4 - 2
        elif "gamma" in name:
            state[name] = uniform * 0.4 + 0.1
        elif "temperature" in name:
            state[name] = uniform * 6 + 1
        elif "running_var" in name:
            state[name] = uniform + 0.5
        elif tensor.ndim > 1:
            state[name] = (uniform - 0.5) * (3.5 / tensor[0].numel() ** 0.5)
        elif name.endswith("weight"):
            state[name] = uniform * 0.8 + 0.6
        else:
            state[name] = uniform * 0.6 - 0.3
    return state


def _embedding(network: XCiT, pixels: np.ndarray, stats: RgbStats) -> np.ndarray:
    """What the network itself makes of (B, H, W, 3) uint8, whatever runs it elsewhere: (B, C) float32."""
    with torch.inference_mode():
        found: np.ndarray = network.embedding(torch.from_numpy(normalise(pixels, stats))).numpy()
    return found


def build_network(name: str = "xcit_nano12_p16", classes: int = len(CLASSES), seed: int = 1) -> XCiT:
    with torch.device("meta"):
        network = XCiT(variant(name), classes)
    network.load_state_dict(random_state(network, seed), assign=True)
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they gain on networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., XCiT]:
    return build_network


@pytest.fixture(scope="session")
def exact_embedding() -> Callable[[XCiT, np.ndarray, RgbStats], np.ndarray]:
    return _embedding


@pytest.fixture
def network_without_a_length() -> XCiT:
    """Without biases a channel of the queries can be zero for all tokens, and has no length to divide by."""
    network = build_network()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("qkv.bias"):
                parameter.zero_()
            elif name.endswith("qkv.weight"):
                parameter[3].zero_()
    return network


@pytest.fixture(scope="session")
def stats() -> RgbStats:
    return STATS


@pytest.fixture(scope="session")
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano network of 7 classes for 64 x 96 pixels."""
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    save_checkpoint(path, build_network(), CLASSES, (64, 96), STATS)
    return path
