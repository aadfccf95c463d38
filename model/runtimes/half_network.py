"""The network in half precision, with the weights of `birdsearch.model.runtimes.folding`, arranged for GPUs.

- Tokens stay (B, N, C). Their maps are views in torch's channels-last layout, so nothing is ever transposed.
- Cross-covariance attention (arXiv 2106.09681, section 3.2) of all heads is one product of channels with channels,
  of which the blocks on the diagonal are kept. That is h times the arithmetic of a small part, and saves the copies
  that heads of their own would need. The lengths of queries and keys divide this matrix, and the softmaxed one is
  multiplied into the projection before tokens meet it.
- Queries and keys are a power of two smaller than in the network, which their lengths take out again, so that their
  products do not leave the range of float16.
- What a block adds is added to the tokens where they lie.

In the shape comments B is the batch, N the number of patch tokens, C the channels of a token, h heads of d
channels, h x w the grid of tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from birdsearch.model.runtimes.folding import (
    LENGTH_EPS,
    NORM_EPS,
    Affine,
    ClassBlock,
    Folded,
    Layer,
    TokenBlock,
)

__all__ = ["HalfNetwork"]

_SMALLER = 2.0**-4
# Input channels of the first convolution: matrix units take eight at a time.
_COLOURS = 8


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor


class _TokenWeights(NamedTuple):
    qkv: _Linear
    temperature: Tensor
    projection: _Linear
    local_norm: tuple[Tensor, Tensor]
    local_first: _Linear
    local_second: Tensor
    local_map: Tensor
    expand: _Linear
    contract: _Linear


class _ClassWeights(NamedTuple):
    norm1: tuple[Tensor, Tensor]
    query: _Linear
    keys: Tensor
    values: Tensor
    values_bias: Tensor
    projection: _Linear
    norm2: tuple[Tensor, Tensor]
    expand: _Linear
    contract: _Linear
    token_scale: Tensor


class HalfNetwork:
    """Embeds pictures; holds nothing that changes.

    Args:
        folded: The weights.
        device: Where it runs.
        dtype: What tokens and weights are held in. Sums of products, norms and softmaxes are in float32.
    """

    def __init__(self, folded: Folded, device: str, dtype: torch.dtype = torch.float16) -> None:
        self._device, self._dtype = device, dtype
        self._folded = folded
        channels, heads = folded.channels, folded.heads
        stem = folded.stem
        self._offset = self._tensor(stem.offset)
        # Both weights see the same colours, one after the other; the rest of the channels is zero.
        first = np.concatenate(stem.first, axis=1)
        first = np.pad(first, ((0, 0), (0, _COLOURS - first.shape[1]), (0, 0), (0, 0)))
        self._first, self._first_map = self._filters(first), self._filters(stem.first_map)
        self._others = [
            _Linear(self._filters(layer.weight), self._tensor(layer.bias)) for layer in stem.others
        ]
        self._position = self._filters(stem.position)
        self._token_blocks = [self._token_weights(block) for block in folded.token_blocks]
        self._class_blocks = [self._class_weights(block) for block in folded.class_blocks]
        self._class_token = self._tensor(folded.class_token)
        self._last_norm = self._affine(folded.last_norm)
        # (C, C): nothing where a channel meets one of its head, minus infinity elsewhere
        head = torch.arange(channels) // (channels // heads)
        same = head[:, None] == head[None, :]
        self._mask = torch.where(same, 0.0, -torch.inf).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return embeddings, (B, H, W, 3) uint8 on the device -> (B, C) float32."""
        tokens = self._patch_tokens(pixels)
        for block in self._token_blocks:
            tokens = self._attended(tokens, block)
            tokens = self._with_neighbours(tokens, block)
            hidden = F.gelu(F.linear(self._norm(tokens), *block.expand))
            tokens = tokens.add_(F.linear(hidden, *block.contract))
        return self._class_attention(tokens).float()

    # -- the network --------------------------------------------------------------------------------------

    def _patch_tokens(self, pixels: Tensor) -> Tensor:
        """Return the tokens of the patches, (B, H, W, 3) uint8 -> (B, N, C)."""
        batch, height, width, _ = pixels.shape
        colours = torch.zeros((batch, height, width, _COLOURS), dtype=self._dtype, device=pixels.device)
        for start in (0, 3):
            # Whole numbers of up to 8 bits: exact in every precision.
            torch.sub(pixels, self._offset, out=colours[..., start : start + 3])
        # (B, H, W, 8) -> (B, 8, H, W), a view
        image = F.conv2d(colours.permute(0, 3, 1, 2), self._first, stride=2, padding=1)
        image += self._first_map
        for layer in self._others:
            image = F.conv2d(F.gelu(image), *layer, stride=2, padding=1)
        return self._to_tokens(image + self._position)

    def _attended(self, tokens: Tensor, block: _TokenWeights) -> Tensor:
        """Add the cross-covariance attention to tokens (B, N, C)."""
        batch, _, channels = tokens.shape
        qkv = F.linear(self._norm(tokens), *block.qkv)
        queries, keys, values = (qkv[..., part * channels : (part + 1) * channels] for part in range(3))
        # (B, N, 2C) -> (B, 2C)
        lengths = torch.linalg.vector_norm(qkv[..., : 2 * channels], dim=1, dtype=torch.float32)
        inverse = lengths.clamp_(min=LENGTH_EPS).reciprocal_()
        of_queries, of_keys = inverse[:, :channels], inverse[:, channels:]
        # (B, C, N) @ (B, N, C) -> (B, C, C): a row for each query, a column for each key
        scores = (queries.transpose(1, 2) @ keys) * of_keys[:, None, :]
        scores = torch.addcmul(self._mask, scores, (of_queries * block.temperature)[:, :, None])
        # (B, C, C) transposed @ (C, C): the matrix that takes values to what is added
        attention = scores.softmax(dim=2).to(self._dtype).transpose(1, 2)
        mixing = torch.bmm(attention, block.projection.weight.t().expand(batch, -1, -1))
        return tokens.baddbmm_(values, mixing).add_(block.projection.bias)

    def _with_neighbours(self, tokens: Tensor, block: _TokenWeights) -> Tensor:
        """Add the local patch interaction to tokens (B, N, C)."""
        batch, _, channels = tokens.shape
        normed = self._norm(tokens, block.local_norm)
        # (B, N, C) -> (B, h, w, C) -> (B, C, h, w), a view
        patches = normed.view(batch, *self._folded.grid, channels).permute(0, 3, 1, 2)
        mixed = F.gelu(F.conv2d(patches, *block.local_first, padding=1, groups=channels))
        mixed = F.conv2d(mixed, block.local_second, padding=1, groups=channels)
        return tokens.add_(self._to_tokens(mixed)).add_(block.local_map)

    def _class_attention(self, tokens: Tensor) -> Tensor:
        """Return the class token after the last norm (B, C), from patch tokens (B, N, C)."""
        class_token = self._class_token.expand(len(tokens), -1, -1)
        for number, block in enumerate(self._class_blocks, start=1):
            normed, class_normed = self._norm(tokens, block.norm1), self._norm(class_token, block.norm1)
            mixed = self._asked(class_normed, torch.cat([class_normed, normed], dim=1), block)
            class_token = self._norm(class_token + mixed, block.norm2)
            hidden = F.gelu(F.linear(class_token, *block.expand))
            class_token = class_token + F.linear(hidden, *block.contract)
            if number < len(self._class_blocks):
                tokens = torch.addcmul(tokens, normed, block.token_scale)
                if self._folded.tokens_norm:
                    tokens = self._norm(tokens, block.norm2)
                tokens *= 2.0
        return self._norm(class_token, self._last_norm).squeeze(1)

    def _asked(self, class_token: Tensor, everything: Tensor, block: _ClassWeights) -> Tensor:
        """Return the class attention of a token (B, 1, C) to all (B, 1 + N, C): (B, 1, C)."""
        batch, _, channels = class_token.shape
        heads = self._folded.heads
        # (B, 1, C) -> (B, h, d) -> (h, B, d), @ (h, d, C) -> (h, B, C) -> (B, h, C)
        query = F.linear(class_token, *block.query).view(batch, heads, channels // heads).transpose(0, 1)
        query = (query @ block.keys).transpose(0, 1)
        # (B, h, C) @ (B, C, 1 + N) -> (B, h, 1 + N), then a softmax and the weighted mean (B, h, C)
        mean = (query @ everything.transpose(1, 2)).softmax(dim=2) @ everything
        # (h, B, C) @ (h, C, d) -> (h, B, d) -> (B, 1, C)
        mixed = (mean.transpose(0, 1) @ block.values.transpose(1, 2)).transpose(0, 1)
        mixed = mixed.reshape(batch, 1, channels) + block.values_bias
        return F.linear(mixed, *block.projection)

    # -- parts of it --------------------------------------------------------------------------------------

    def _norm(self, tokens: Tensor, affine: tuple[Tensor, Tensor] | None = None) -> Tensor:
        scale, shift = affine or (None, None)
        return F.layer_norm(tokens, (self._folded.channels,), scale, shift, NORM_EPS)

    def _to_tokens(self, patches: Tensor) -> Tensor:
        # (B, C, h, w) -> (B, h, w, C) -> (B, N, C): a view, where the convolution kept to the channels-last layout
        return patches.permute(0, 2, 3, 1).flatten(1, 2).contiguous()

    # -- weights ------------------------------------------------------------------------------------------

    def _token_weights(self, block: TokenBlock) -> _TokenWeights:
        folded = self._folded
        channels, depth = folded.channels, folded.channels // folded.heads
        smaller = np.ones((3 * channels, 1))
        smaller[: 2 * channels] = _SMALLER
        temperature = np.repeat(block.temperature.reshape(-1), depth)
        return _TokenWeights(
            qkv=self._linear(Layer(block.qkv.weight * smaller, block.qkv.bias * smaller[:, 0])),
            temperature=torch.from_numpy(temperature).float().to(self._device),
            projection=self._linear(block.projection),
            local_norm=self._affine(block.local_norm),
            local_first=_Linear(
                self._filters(block.local_first.weight), self._tensor(block.local_first.bias)
            ),
            local_second=self._filters(block.local_second),
            # (1, C, h, w) -> (1, N, C)
            local_map=self._tensor(block.local_map.reshape(1, channels, -1).transpose(0, 2, 1)),
            expand=self._linear(block.expand),
            contract=self._linear(block.contract),
        )

    def _class_weights(self, block: ClassBlock) -> _ClassWeights:
        return _ClassWeights(
            norm1=self._affine(block.norm1),
            query=self._linear(block.query),
            keys=self._tensor(block.keys),
            values=self._tensor(block.values),
            values_bias=self._tensor(block.values_bias),
            projection=self._linear(block.projection),
            norm2=self._affine(block.norm2),
            expand=self._linear(block.expand),
            contract=self._linear(block.contract),
            token_scale=self._tensor(block.token_scale),
        )

    def _linear(self, layer: Layer) -> _Linear:
        return _Linear(*(self._tensor(part) for part in layer))

    def _affine(self, affine: Affine) -> tuple[Tensor, Tensor]:
        return self._tensor(affine.scale), self._tensor(affine.shift)

    def _filters(self, array: NDArray[np.float64]) -> Tensor:
        return self._tensor(array).contiguous(memory_format=torch.channels_last)

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._dtype).to(self._device)
