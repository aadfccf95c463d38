from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from birdsearch.errors import InvalidInputError
from birdsearch.model.config import ALIASES, VARIANTS, variant
from birdsearch.model.xcit import XCiT, _CrossCovarianceAttention, _FourierPosition

THEIR_NAMES = {ours: theirs for theirs, ours in ALIASES.items()}


def _birder_network(name: str, classes: int) -> Any:
    pytest.importorskip("birder")
    from birder.model_registry import registry

    with torch.device("meta"):
        return registry.net_factory(THEIR_NAMES.get(name, name), classes, 3, size=(64, 64)).eval()


def test_the_table_holds_every_published_variant() -> None:
    assert len(VARIANTS) == 14
    assert all(config.name == name for name, config in VARIANTS.items())
    assert variant("xcit_large24_8") is VARIANTS["xcit_large24_p8"]
    assert VARIANTS["xcit_nano12_p16"].stage_lengths == (4, 2, 2, 4)
    assert VARIANTS["xcit_tiny24_p8"].stage_lengths == (8, 4, 4, 8)
    with pytest.raises(InvalidInputError, match="xcit_huge"):
        variant("xcit_huge")


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_variant_computes_what_birder_computes(name: str, make_network: Callable[..., XCiT]) -> None:
    theirs = _birder_network(name, 11)
    ours = make_network(name, 11, seed=5)
    ours_state, theirs_state = ours.state_dict(), theirs.state_dict()
    assert {key: value.shape for key, value in ours_state.items()} == {
        key: value.shape for key, value in theirs_state.items()
    }
    theirs.load_state_dict(ours_state, strict=True, assign=True)
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        embedding, logits = ours(pixels)
        maps = ours.detection_features(pixels)
        their_maps = theirs.detection_features(pixels)
        their_embedding, their_logits = theirs.embedding(pixels), theirs(pixels)
    largest = {
        "embedding": float((embedding - their_embedding).abs().max()),
        "logits": float((logits - their_logits).abs().max()),
        "maps": max(float((values - their_maps[stage]).abs().max()) for stage, values in maps.items()),
    }
    print(f"{name}: largest difference {largest}")
    torch.testing.assert_close(embedding, their_embedding, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits, their_logits, rtol=0, atol=1e-4)
    assert list(maps) == ["stage1", "stage2", "stage3", "stage4"] == list(their_maps)
    for stage, values in maps.items():
        patch = VARIANTS[name].patch_size
        assert values.shape == (2, VARIANTS[name].embed_dim, 32 // patch, 48 // patch)
        torch.testing.assert_close(values, their_maps[stage], rtol=0, atol=1e-4)
    # Outputs that hardly depend on the photo or the place would make the comparison worth little.
    assert float(embedding.std(0).mean()) > 0.01
    assert float(maps["stage4"].std()) > 0.05
    del ours, theirs, ours_state, theirs_state
    gc.collect()


def test_cross_covariance_attention_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(7)
    heads, channels, tokens = 4, 32, 10
    attention = _CrossCovarianceAttention(channels, heads).eval()
    with torch.no_grad():
        attention.temperature.copy_(torch.rand(heads, 1, 1) * 5)
    x = torch.randn(1, tokens, channels)
    qkv = (x[0].numpy() @ attention.qkv.weight.detach().numpy().T) + attention.qkv.bias.detach().numpy()
    size = channels // heads
    mixed = np.empty((tokens, channels), dtype=np.float32)
    for head in range(heads):
        q, k, v = (qkv[:, part * channels + head * size :][:, :size] for part in range(3))
        q, k = q / np.linalg.norm(q, axis=0), k / np.linalg.norm(k, axis=0)
        scores = np.exp((k.T @ q) * float(attention.temperature[head].detach()))
        # The paper's V A with A = softmax(K^T Q / tau) normalised over the keys.
        mixed[:, head * size : (head + 1) * size] = v @ (scores / scores.sum(axis=0))
    expected = mixed @ attention.proj.weight.detach().numpy().T + attention.proj.bias.detach().numpy()
    np.testing.assert_allclose(attention(x)[0].detach().numpy(), expected, atol=1e-5)


def test_the_position_code_tells_places_apart_and_follows_the_grid() -> None:
    torch.manual_seed(8)
    position = _FourierPosition(32, 24)
    with torch.no_grad():
        code = position(3, 5)
    assert code.shape == (1, 24, 3, 5)
    places = code[0].flatten(1).T
    assert torch.cdist(places, places).add(torch.eye(15) * 9).min() > 0.01
    # The last row and column stand for one whole turn whatever the size of the grid.
    with torch.no_grad():
        torch.testing.assert_close(position(30, 50)[0, :, -1, -1], code[0, :, -1, -1], rtol=0, atol=1e-4)


def test_the_logits_are_linear_in_the_embedding(make_network: Callable[..., XCiT]) -> None:
    network = make_network()
    embedding, logits = network(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(9)))
    torch.testing.assert_close(
        logits, embedding @ network.classifier.weight.T + network.classifier.bias, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "shape", [(1, 3, 250, 256), (1, 3, 256, 8), (1, 3, 0, 16), (1, 1, 32, 32), (3, 32, 32), (1, 32, 32, 3)]
)
def test_an_input_that_does_not_fit_is_refused(
    shape: tuple[int, ...], make_network: Callable[..., XCiT]
) -> None:
    network = make_network()
    with pytest.raises(InvalidInputError, match=r"multiples of the patch size 16|\(B, 3, H, W\)"):
        network(torch.zeros(shape))
    with pytest.raises(InvalidInputError):
        network.detection_features(torch.zeros(shape))


def test_an_empty_batch_gives_empty_outputs(make_network: Callable[..., XCiT]) -> None:
    network = make_network()
    embedding, logits = network(torch.zeros(0, 3, 32, 32))
    assert embedding.shape == (0, 128)
    assert logits.shape == (0, 7)
    assert network.detection_features(torch.zeros(0, 3, 32, 48))["stage1"].shape == (0, 128, 2, 3)


def test_a_network_without_classes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 class, got 0"):
        XCiT(variant("xcit_nano12_p16"), 0)


def test_initialising_depends_on_the_seed_and_on_nothing_else() -> None:
    config = variant("xcit_tiny24_p16")
    first = XCiT(config, 5).initialise(3).state_dict()
    torch.manual_seed(99)
    again = XCiT(config, 5).initialise(3).state_dict()
    other = XCiT(config, 5).initialise(4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = [name for name in first if not torch.equal(first[name], other[name])]
    assert {"cls_token", "classifier.weight", "patch_embed.proj.0.0.weight"} <= set(differing)
    gammas = [tensor for name, tensor in first.items() if "gamma" in name]
    assert len(gammas) == 24 * 3 + 2 * 2
    assert all(bool((gamma == torch.tensor(1e-5)).all()) for gamma in gammas)
    linear = first["block1.stage1.0.attn.qkv.weight"]
    assert 0.019 < float(linear.std()) < 0.021


def test_an_initialised_network_can_be_trained() -> None:
    network = XCiT(variant("xcit_nano12_p16"), 3).initialise(0).train()
    _, logits = network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
