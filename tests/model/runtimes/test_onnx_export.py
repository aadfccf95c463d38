from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from birdsearch.model.config import RgbStats
from birdsearch.model.runtimes.onnx_export import export_onnx
from birdsearch.model.xcit import XCiT

Exact = Callable[[XCiT, np.ndarray, RgbStats], np.ndarray]

onnxruntime = pytest.importorskip("onnxruntime")


def _run(graph: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"pixels": pixels})[0]
    return found


# Nano alone leaves the patch tokens out of the class-attention norm; p8 has one convolution less; 24 blocks and 8
# heads are other numbers of everything.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("xcit_nano12_p16", (64, 96)),
        ("xcit_nano12_p8", (32, 24)),
        ("xcit_tiny24_p16", (48, 32)),
        ("xcit_small12_p16", (32, 64)),
    ],
)
def test_the_graph_computes_what_the_network_does(
    name: str,
    size: tuple[int, int],
    make_network: Callable[..., XCiT],
    stats: RgbStats,
    exact_embedding: Exact,
) -> None:
    network = make_network(name, seed=7)
    pixels = np.random.default_rng(70).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    found = _run(export_onnx(network, size, stats), pixels)
    expected = exact_embedding(network, pixels, stats)
    assert found.shape == expected.shape
    # Different pictures are told apart, or nothing below would mean much.
    assert np.linalg.norm(expected - expected[::-1], axis=1)[0] > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_a_blank_picture_gives_a_finite_embedding(
    network_without_a_length: XCiT, stats: RgbStats, exact_embedding: Exact
) -> None:
    network = network_without_a_length
    pixels = np.full((2, 64, 96, 3), 255, np.uint8)
    found = _run(export_onnx(network, (64, 96), stats), pixels)
    expected = exact_embedding(network, pixels, stats)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_the_same_network_gives_the_same_graph(make_network: Callable[..., XCiT], stats: RgbStats) -> None:
    graphs = [export_onnx(make_network(seed=seed), (32, 32), stats) for seed in (3, 3, 4)]
    assert graphs[0] == graphs[1] != graphs[2]
