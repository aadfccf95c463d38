from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from birdsearch.model.config import RgbStats
from birdsearch.model.runtimes.exports import check_pictures
from birdsearch.model.runtimes.folding import fold
from birdsearch.model.runtimes.half_network import HalfNetwork
from birdsearch.model.runtimes.rates import least_cosine
from birdsearch.model.xcit import XCiT

Exact = Callable[[XCiT, np.ndarray, RgbStats], np.ndarray]

# On a processor, where its arithmetic is the same but for the order of sums; tests/model/runtimes/test_cuda.py
# has the rest.


def _run(network: XCiT, pixels: np.ndarray, stats: RgbStats, dtype: torch.dtype) -> np.ndarray:
    half = HalfNetwork(fold(network, pixels.shape[1:3], stats), "cpu", dtype)
    with torch.inference_mode():
        found: np.ndarray = half(torch.from_numpy(pixels)).numpy()
    return found


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("xcit_nano12_p16", (64, 96)),
        ("xcit_nano12_p8", (32, 24)),
        ("xcit_tiny24_p16", (48, 32)),
        ("xcit_small12_p16", (32, 64)),
    ],
)
def test_in_float32_it_is_the_network(
    name: str,
    size: tuple[int, int],
    make_network: Callable[..., XCiT],
    stats: RgbStats,
    exact_embedding: Exact,
) -> None:
    network = make_network(name, seed=7)
    pixels = np.random.default_rng(71).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    found, expected = _run(network, pixels, stats, torch.float32), exact_embedding(network, pixels, stats)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    # Different pictures are told apart, or nothing below would mean much.
    assert np.linalg.norm(expected - expected[::-1], axis=1)[0] > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_in_float16_it_is_nearly_the_network(
    make_network: Callable[..., XCiT], stats: RgbStats, exact_embedding: Exact
) -> None:
    network, pixels = make_network(seed=8), check_pictures((64, 96), 6)
    found = _run(network, pixels, stats, torch.float16)
    assert found.dtype == np.float32
    assert least_cosine(found, exact_embedding(network, pixels, stats)) >= 0.99999


def test_long_queries_and_keys_stay_in_the_range_of_float16(
    make_network: Callable[..., XCiT], stats: RgbStats, exact_embedding: Exact
) -> None:
    network, pixels = make_network(seed=9), check_pictures((64, 96), 2)
    # 24 tokens of 100 x 100 would be beyond 65,504; lengths are taken out again, so nothing else changes.
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("attn.qkv.weight", "attn.qkv.bias")):
                parameter[: 2 * parameter.shape[0] // 3] *= 100.0
    assert (
        least_cosine(_run(network, pixels, stats, torch.float16), exact_embedding(network, pixels, stats))
        >= 0.99999
    )


def test_a_blank_picture_gives_a_finite_embedding(
    network_without_a_length: XCiT, stats: RgbStats, exact_embedding: Exact
) -> None:
    network = network_without_a_length
    pixels = np.full((2, 64, 96, 3), 255, np.uint8)
    expected = exact_embedding(network, pixels, stats)
    np.testing.assert_allclose(
        _run(network, pixels, stats, torch.float32), expected, rtol=0, atol=2e-5 * np.abs(expected).max()
    )
    assert least_cosine(_run(network, pixels, stats, torch.float16), expected) >= 0.9999
