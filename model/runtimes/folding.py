"""The weights of a network, rearranged for speed.

Nothing is approximated: every rearrangement is an identity of real arithmetic, made here in float64.

- Colours: of 255 x mean the whole part is subtracted, and the rest is a constant map after the first convolution,
  as below; the division by 255 x std is part of its weights. These are given as the sum of two numbers of bfloat16
  each. So, where products are computed in bfloat16, the first convolution loses nothing: its input is whole numbers
  of up to 8 bits, which bfloat16 holds exactly. (Of real photos' embeddings the first percentile of the cosine to
  float32 is 0.9999 with this and 0.9988 without.)
- A batch norm after a convolution is part of it. One before a zero-padded convolution scales its weights, and its
  shift becomes a constant map, which differs along the border, where fewer taps see it.
- LayerScale is part of the layer before it, the affine part of a norm is part of the linear layer after it.

In the shape comments C are the channels of a token, N the number of patch tokens, h heads of d channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from birdsearch.model.config import RgbStats
from birdsearch.model.xcit import XCiT

__all__ = [
    "LENGTH_EPS",
    "NORM_EPS",
    "Affine",
    "ClassBlock",
    "Folded",
    "Layer",
    "Stem",
    "TokenBlock",
    "fold",
]

NORM_EPS = 1e-6
"""Added to the variance by every norm of tokens."""
LENGTH_EPS = 1e-12
"""The least length that queries and keys are divided by, as in torch's `normalize`: zeros stay zero."""

_BATCH_NORM_EPS = 1e-5

_Array = NDArray[np.float64]


class Layer(NamedTuple):
    """A linear layer, weight (out, in), or a convolution, weight (out, in / groups, 3, 3); bias (out,)."""

    weight: _Array
    bias: _Array


class Affine(NamedTuple):
    """The affine part of a norm; both (C,)."""

    scale: _Array
    shift: _Array


@dataclass(frozen=True, slots=True, eq=False)
class Stem:
    """From colours to patch tokens.

    Attributes:
        offset: (3,) whole numbers, subtracted from colours of 0..255.
        first: Two weights (C', 3, 3, 3) of the first convolution, of stride 2; their sum is what is meant.
        first_map: (1, C', H/2, W/2), added after it.
        others: The further convolutions of stride 2, with a GELU before each.
        position: (1, C, H/p, W/p), added after the last.
    """

    offset: _Array
    first: tuple[_Array, _Array]
    first_map: _Array
    others: tuple[Layer, ...]
    position: _Array


@dataclass(frozen=True, slots=True, eq=False)
class TokenBlock:
    """A block on patch tokens. What follows a norm without its affine part is marked so.

    Attributes:
        qkv: After a bare norm; (3C, C), for queries, keys and values.
        temperature: (h, 1, 1).
        projection: (C, C), scaled.
        local_norm: The norm before the local patch interaction.
        local_first: Depth-wise convolution, with a GELU after it.
        local_second: (C, 1, 3, 3), the other one, scaled.
        local_map: (1, C, H/p, W/p), added after it.
        expand: After a bare norm; with a GELU after it.
        contract: Scaled.
    """

    qkv: Layer
    temperature: _Array
    projection: Layer
    local_norm: Affine
    local_first: Layer
    local_second: _Array
    local_map: _Array
    expand: Layer
    contract: Layer


@dataclass(frozen=True, slots=True, eq=False)
class ClassBlock:
    """A block on the class token.

    Attributes:
        norm1: Norm of the class token and of the patch tokens.
        query: Divided by the square root of d.
        keys: (h, d, C). The bias of the keys adds the same to every score of a head, which the softmax takes out.
        values: (h, d, C).
        values_bias: (C,).
        projection: Scaled.
        norm2: Norm of the class token after the attention.
        expand: With a GELU after it.
        contract: Scaled.
        token_scale: (C,), times the normed patch tokens to be added to them.
    """

    norm1: Affine
    query: Layer
    keys: _Array
    values: _Array
    values_bias: _Array
    projection: Layer
    norm2: Affine
    expand: Layer
    contract: Layer
    token_scale: _Array


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A network for pictures of one size.

    Attributes:
        channels: C.
        heads: h.
        size: (height, width) of the input in pixels.
        grid: (H/p, W/p), the rows and columns of patch tokens.
        tokens_norm: Whether a class block norms the patch tokens once more for the next.
        stem: From colours to patch tokens.
        token_blocks: All stages' blocks, one after the other.
        class_token: (1, 1, C).
        class_blocks: The blocks on the class token.
        last_norm: The norm that gives the embedding.
    """

    channels: int
    heads: int
    size: tuple[int, int]
    grid: tuple[int, int]
    tokens_norm: bool
    stem: Stem
    token_blocks: tuple[TokenBlock, ...]
    class_token: _Array
    class_blocks: tuple[ClassBlock, ...]
    last_norm: Affine


def fold(network: XCiT, size: tuple[int, int], stats: RgbStats) -> Folded:
    """Rearrange the weights of a network.

    Args:
        network: The network with its weights.
        size: (height, width) of the input in pixels, multiples of the patch size.
        stats: Colour statistics of the input.

    Returns:
        The weights, float64.
    """
    config = network.config
    folding = _Folding(network, size)
    return Folded(
        channels=config.embed_dim,
        heads=config.num_heads,
        size=size,
        grid=folding.grid,
        tokens_norm=config.tokens_norm,
        stem=folding.stem(stats),
        token_blocks=tuple(
            folding.token_block(f"block1.{stage}.{number}.")
            for stage, blocks in network.block1.items()
            for number in range(len(blocks))  # type: ignore[arg-type]
        ),
        class_token=folding.state["cls_token"],
        class_blocks=tuple(folding.class_block(f"block2.{number}.") for number in range(config.class_depth)),
        last_norm=folding.affine(f"block2.{config.class_depth}."),
    )


class _Folding:
    def __init__(self, network: XCiT, size: tuple[int, int]) -> None:
        config = network.config
        self._network, self._size = network, size
        self._channels, self._heads = config.embed_dim, config.num_heads
        self.grid = (size[0] // config.patch_size, size[1] // config.patch_size)
        self.state: dict[str, _Array] = {
            name: tensor.double().cpu().numpy() for name, tensor in network.state_dict().items()
        }

    def stem(self, stats: RgbStats) -> Stem:
        mean, std = (np.array(values, np.float64) * 255.0 for values in (stats.mean, stats.std))
        offset = np.rint(mean)
        weight, shift = self._convolution(0)
        weight = weight / std[None, :, None, None]
        rest = np.broadcast_to((mean - offset)[None, :, None, None], (1, 3, *self._size))
        missed = _convolved(rest, weight, stride=2, padding=1)
        coarse = torch.from_numpy(weight).to(torch.bfloat16).double().numpy()
        with torch.no_grad():
            position = self._network.pos_embed(*self.grid).double().cpu().numpy()
        return Stem(
            offset=offset,
            first=(coarse, weight - coarse),
            first_map=shift[None, :, None, None] - missed,
            others=tuple(
                self._convolution(number) for number in range(1, len(self._network.patch_embed.proj))
            ),
            position=position,
        )

    def token_block(self, prefix: str) -> TokenBlock:
        local = prefix + "local_mp."
        scale, shift = self._batch_norm(local + "bn.")
        second, layer_scale = self.state[local + "conv2.weight"], self.state[prefix + "gamma2"]
        shifts = np.broadcast_to(shift[None, :, None, None], (1, self._channels, *self.grid))
        border = _convolved(
            shifts, second, self.state[local + "conv2.bias"], padding=1, groups=self._channels
        )
        return TokenBlock(
            qkv=self._after_norm(prefix + "attn.qkv.", prefix + "norm1."),
            temperature=self.state[prefix + "attn.temperature"],
            projection=self._scaled(prefix + "attn.proj.", prefix + "gamma1"),
            local_norm=self.affine(prefix + "norm2."),
            local_first=self._layer(local + "conv1."),
            local_second=second * (scale * layer_scale)[:, None, None, None],
            local_map=border * layer_scale[None, :, None, None],
            expand=self._after_norm(prefix + "mlp.0.", prefix + "norm3."),
            contract=self._scaled(prefix + "mlp.3.", prefix + "gamma3"),
        )

    def class_block(self, prefix: str) -> ClassBlock:
        depth = self._channels // self._heads
        query = self._layer(prefix + "attn.q.")
        by_head = (self._heads, depth, self._channels)
        return ClassBlock(
            norm1=self.affine(prefix + "norm1."),
            query=Layer(query.weight / depth**0.5, query.bias / depth**0.5),
            keys=self.state[prefix + "attn.k.weight"].reshape(by_head),
            values=self.state[prefix + "attn.v.weight"].reshape(by_head),
            values_bias=self.state[prefix + "attn.v.bias"],
            projection=self._scaled(prefix + "attn.proj.", prefix + "gamma1"),
            norm2=self.affine(prefix + "norm2."),
            expand=self._layer(prefix + "mlp.0."),
            contract=self._scaled(prefix + "mlp.3.", prefix + "gamma2"),
            token_scale=self.state[prefix + "gamma1"],
        )

    def affine(self, prefix: str) -> Affine:
        return Affine(self.state[prefix + "weight"], self.state[prefix + "bias"])

    def _layer(self, prefix: str) -> Layer:
        return Layer(self.state[prefix + "weight"], self.state[prefix + "bias"])

    def _convolution(self, number: int) -> Layer:
        """Return a convolution of the patch embedding with the batch norm after it."""
        prefix = f"patch_embed.proj.{number}."
        scale, shift = self._batch_norm(prefix + "1.")
        return Layer(self.state[prefix + "0.weight"] * scale[:, None, None, None], shift)

    def _batch_norm(self, prefix: str) -> Affine:
        weight, bias = self.affine(prefix)
        scale = weight / np.sqrt(self.state[prefix + "running_var"] + _BATCH_NORM_EPS)
        return Affine(scale, bias - scale * self.state[prefix + "running_mean"])

    def _after_norm(self, layer: str, norm: str) -> Layer:
        """Return a linear layer with the affine part of the norm before it."""
        (weight, bias), (scale, shift) = self._layer(layer), self.affine(norm)
        return Layer(weight * scale, bias + weight @ shift)

    def _scaled(self, layer: str, factors: str) -> Layer:
        (weight, bias), scale = self._layer(layer), self.state[factors]
        return Layer(weight * scale[:, None], bias * scale)


def _convolved(images: _Array, weight: _Array, bias: _Array | None = None, **how: Any) -> _Array:
    found: _Array = F.conv2d(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        **how,
    ).numpy()
    return found
