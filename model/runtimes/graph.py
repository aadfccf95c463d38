"""The network as an ONNX graph, with the weights of `birdsearch.model.runtimes.folding`, arranged for processors.

Float32 results agree with those of `XCiT` up to rounding.

- Cross-covariance attention (arXiv 2106.09681, section 3.2): the lengths of queries and keys divide the small
  channel-by-channel matrix instead of every token, and that matrix is multiplied into the projection before tokens
  meet it. No token is ever transposed but for the local patch interaction.
- Class attention asks with one token only. So keys are not formed: the key matrix is applied to the query. Values
  are not formed either: the value matrix is applied to the weighted mean of the tokens.

In the shape comments B is the batch, N the number of patch tokens, C the channels of a token, h heads of d
channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.model.config import RgbStats
from birdsearch.model.runtimes.folding import (
    LENGTH_EPS,
    NORM_EPS,
    Affine,
    ClassBlock,
    Layer,
    Stem,
    TokenBlock,
    fold,
)
from birdsearch.model.xcit import XCiT

if TYPE_CHECKING:
    import onnx

__all__ = ["build_graph"]

_OPSET, _IR_VERSION = 20, 10

_HALVING: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}

_Array = NDArray[np.float64]


def build_graph(network: XCiT, size: tuple[int, int], stats: RgbStats) -> bytes:
    """Write a network as an ONNX model.

    Args:
        network: The network with its weights.
        size: (height, width) of the input in pixels, multiples of the patch size.
        stats: Colour statistics of the input.

    Returns:
        The serialised model: input `pixels` (B, H, W, 3) uint8, output `embedding` (B, C) float32.

    Raises:
        ImportError: The package `onnx` is not installed.
    """
    serialised: bytes = _Builder(network, size, stats).build().SerializeToString()
    return serialised


class _Builder:
    def __init__(self, network: XCiT, size: tuple[int, int], stats: RgbStats) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self._folded = fold(network, size, stats)
        self._channels, self._heads = self._folded.channels, self._folded.heads
        self._tokens = self._folded.grid[0] * self._folded.grid[1]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        from onnx import TensorProto, checker

        height, width = self._folded.size
        tokens = self._patch_tokens("pixels", self._folded.stem)
        for block in self._folded.token_blocks:
            tokens = self._add(tokens, self._cross_covariance(tokens, block))
            tokens = self._add(tokens, self._patch_interaction(tokens, block))
            hidden = self._op("Gelu", self._linear(self._norm(tokens), block.expand))
            tokens = self._add(tokens, self._linear(hidden, block.contract))
        embedding = self._class_attention(tokens)
        self._nodes.append(self._helper.make_node("Identity", [embedding], ["embedding"]))
        pixels = self._helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", height, width, 3])
        out = self._helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", self._channels])
        graph = self._helper.make_graph(self._nodes, "xcit", [pixels], [out], self._constants)
        model = self._helper.make_model(
            graph, opset_imports=[self._helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        checker.check_model(model)
        return model

    # -- the network --------------------------------------------------------------------------------------

    def _patch_tokens(self, pixels: str, stem: Stem) -> str:
        """(B, H, W, 3) uint8 -> (B, N, C)."""
        image = self._op("Sub", self._op("Cast", pixels, to=1), stem.offset)
        # (B, H, W, 3) -> (B, 3, H, W)
        image = self._op("Transpose", image, perm=[0, 3, 1, 2])
        parts = [self._op("Conv", image, part, **_HALVING) for part in stem.first]
        image = self._add(self._add(*parts), stem.first_map)
        for layer in stem.others:
            image = self._op("Conv", self._op("Gelu", image), *layer, **_HALVING)
        return self._to_tokens(self._add(image, stem.position))

    def _cross_covariance(self, tokens: str, block: TokenBlock) -> str:
        """The cross-covariance attention of tokens (B, N, C), scaled: (B, N, C)."""
        channels, heads = self._channels, self._heads
        depth = channels // heads
        weights, biases = block.qkv.weight.reshape(3, channels, channels), block.qkv.bias.reshape(3, channels)
        normed = self._norm(tokens)
        queries, keys, values = (
            self._linear(normed, Layer(*part)) for part in zip(weights, biases, strict=True)
        )
        # (B, N, C) -> (B, N, h, d) -> (B, h, d, N) and (B, h, N, d), whose product is (B, h, d, d)
        attention = self._op("MatMul", self._split(queries, [0, 2, 3, 1]), self._split(keys, [0, 2, 1, 3]))
        attention = self._op("Mul", attention, block.temperature[None])
        # (B, 1, C) -> (B, h, d, 1) and (B, h, 1, d)
        for part, shape in ((queries, [0, heads, depth, 1]), (keys, [0, heads, 1, depth])):
            length = self._op("Max", self._op("ReduceL2", part, _ints(1), keepdims=1), np.array(LENGTH_EPS))
            attention = self._op("Div", attention, self._reshape(length, shape))
        attention = self._op("Softmax", attention, axis=-1)
        # (B, h, d, d) transposed, @ (1, h, d, C) -> (B, h, d, C) -> (B, C, C)
        mixing = self._op(
            "MatMul",
            self._op("Transpose", attention, perm=[0, 1, 3, 2]),
            block.projection.weight.T.reshape(1, heads, depth, channels),
        )
        mixing = self._reshape(mixing, [0, channels, channels])
        return self._add(self._op("MatMul", values, mixing), block.projection.bias)

    def _patch_interaction(self, tokens: str, block: TokenBlock) -> str:
        """The local patch interaction of tokens (B, N, C), scaled: (B, N, C)."""
        normed = self._norm(tokens, block.local_norm)
        # (B, N, C) -> (B, C, N) -> (B, C, H/p, W/p)
        patches = self._reshape(
            self._op("Transpose", normed, perm=[0, 2, 1]), [0, self._channels, *self._folded.grid]
        )
        depthwise: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": self._channels}
        mixed = self._op("Gelu", self._op("Conv", patches, *block.local_first, **depthwise))
        mixed = self._op("Conv", mixed, block.local_second, **depthwise)
        # (1, C, H/p, W/p) -> (1, N, C)
        constant = block.local_map.reshape(1, self._channels, -1).transpose(0, 2, 1)
        return self._add(self._to_tokens(mixed), constant)

    def _class_attention(self, tokens: str) -> str:
        """Class token after the last norm (B, C), from patch tokens (B, N, C)."""
        class_token = self._repeated(self._folded.class_token, tokens)
        for number, block in enumerate(self._folded.class_blocks, start=1):
            normed, class_normed = (self._norm(part, block.norm1) for part in (tokens, class_token))
            mixed = self._asked(class_normed, self._op("Concat", class_normed, normed, axis=1), block)
            class_token = self._norm(self._add(class_token, mixed), block.norm2)
            hidden = self._op("Gelu", self._linear(class_token, block.expand))
            class_token = self._add(class_token, self._linear(hidden, block.contract))
            if number < len(self._folded.class_blocks):
                tokens = self._add(tokens, self._op("Mul", normed, block.token_scale))
                if self._folded.tokens_norm:
                    tokens = self._norm(tokens, block.norm2)
                tokens = self._op("Mul", tokens, np.array(2.0))
        return self._reshape(self._norm(class_token, self._folded.last_norm), [0, self._channels])

    def _asked(self, class_token: str, everything: str, block: ClassBlock) -> str:
        """The class attention of a token (B, 1, C) to all (B, 1 + N, C), scaled: (B, 1, C)."""
        channels, heads = self._channels, self._heads
        query = self._linear(class_token, block.query)
        # (B, 1, C) -> (B, 1, h, d) -> (B, h, 1, d), @ (1, h, d, C) -> (B, h, 1, C) -> (B, h, C)
        query = self._op("MatMul", self._split(query, [0, 2, 1, 3], 1), block.keys)
        query = self._reshape(query, [0, heads, channels])
        # (B, h, C) @ (B, C, 1 + N) -> (B, h, 1 + N), then a softmax and the weighted mean (B, h, C)
        scores = self._op("MatMul", query, self._op("Transpose", everything, perm=[0, 2, 1]))
        mean = self._op("MatMul", self._op("Softmax", scores, axis=-1), everything)
        # (B, h, C) -> (B, h, 1, C), @ (1, h, C, d) -> (B, h, 1, d) -> (B, 1, C)
        mixed = self._op(
            "MatMul", self._reshape(mean, [0, heads, 1, channels]), block.values[None].transpose(0, 1, 3, 2)
        )
        mixed = self._add(self._reshape(mixed, [0, 1, channels]), block.values_bias)
        return self._linear(mixed, block.projection)

    # -- parts of it --------------------------------------------------------------------------------------

    def _norm(self, tokens: str, affine: Affine | None = None) -> str:
        scale, shift = affine or (np.ones(self._channels), np.zeros(self._channels))
        return self._op("LayerNormalization", tokens, scale, shift, axis=-1, epsilon=NORM_EPS)

    def _linear(self, tokens: str, layer: Layer) -> str:
        return self._add(self._op("MatMul", tokens, layer.weight.T), layer.bias)

    def _split(self, tokens: str, order: list[int], count: int | None = None) -> str:
        """(B, M, C) -> (B, M, h, d), in another order of the axes."""
        shape = [0, count or self._tokens, self._heads, self._channels // self._heads]
        return self._op("Transpose", self._reshape(tokens, shape), perm=order)

    def _to_tokens(self, patches: str) -> str:
        # (B, C, H/p, W/p) -> (B, C, N) -> (B, N, C)
        flat = self._reshape(patches, [0, self._channels, self._tokens])
        return self._op("Transpose", flat, perm=[0, 2, 1])

    def _repeated(self, value: _Array, like: str) -> str:
        """(1, 1, C) once for each image of a batch: (B, 1, C)."""
        batch = self._op("Slice", self._op("Shape", like), _ints(0), _ints(1))
        return self._op("Expand", value, self._op("Concat", batch, _ints(1, self._channels), axis=0))

    def _reshape(self, value: str, shape: list[int]) -> str:
        return self._op("Reshape", value, _ints(*shape))

    def _add(self, left: str, right: str | _Array) -> str:
        return self._op("Add", left, right)

    def _op(self, kind: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        self._nodes.append(self._helper.make_node(kind, names, [name], **attributes))
        return name

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        array = value.astype(np.float32) if value.dtype == np.float64 else value
        self._constants.append(self._numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)
