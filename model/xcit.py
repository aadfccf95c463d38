"""XCiT, the cross-covariance image transformer (arXiv 2106.09681).

Parameter names, tensor shapes and inference numerics are those of birder's `xcit_*` networks from 0.7 on,
so that its checkpoints load strictly. In the shape comments B is the batch, N the number of patch tokens
(`H/p * W/p`), C the channels of a token, and h x w the grid of tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birdsearch.errors import InvalidInputError
from birdsearch.model.config import XCiTConfig

__all__ = ["XCiT"]

_NORM_EPS = 1e-6
_WAVELENGTH = 10_000.0
_POSITION_EPS = 1e-6


class XCiT(nn.Module):
    """Class token embedding, class logits and feature maps of an image.

    Args:
        config: The variant.
        num_classes: Outputs of the classifier.

    Raises:
        InvalidInputError: If `num_classes` is below 1.
    """

    def __init__(self, config: XCiTConfig, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise InvalidInputError(f"a classifier needs at least 1 class, got {num_classes}")
        self.config = config
        self.num_classes = num_classes
        dim = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.patch_embed = _PatchEmbedding(config.patch_size, dim)
        self.pos_embed = _FourierPosition(config.position_channels, dim)
        self.block1 = nn.ModuleDict(
            {
                f"stage{number}": nn.ModuleList(_CrossCovarianceBlock(config) for _ in range(length))
                for number, length in enumerate(config.stage_lengths, start=1)
            }
        )
        self.block2 = nn.ModuleList(_ClassAttentionBlock(config) for _ in range(config.class_depth))
        self.block2.append(nn.LayerNorm(dim, eps=_NORM_EPS))
        self.classifier = nn.Linear(dim, num_classes)

    def embedding(self, pixels: Tensor) -> Tensor:
        """Embed a batch of normalised images.

        Args:
            pixels: (B, 3, H, W) float, H and W multiples of the patch size.

        Returns:
            (B, C) class token after the last norm, not normalised to unit length.

        Raises:
            InvalidInputError: If the shape is another.
        """
        # Only the last stage is kept.
        [(_, tokens, _)] = deque(self._stages(pixels), maxlen=1)
        # (1, 1, C) -> (B, 1, C)
        class_token = self.cls_token.expand(tokens.shape[0], -1, -1)
        *blocks, norm = self.block2
        for block in blocks:
            class_token, tokens = block(class_token, tokens)
        # (B, 1, C) -> (B, C)
        out: Tensor = norm(class_token).squeeze(1)
        return out

    def classify(self, embedding: Tensor) -> Tensor:
        """Return class logits of embeddings, (B, C) -> (B, classes); linear, so a catalog can give them again."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding (B, C) and logits (B, classes) of normalised images (B, 3, H, W)."""
        embedding = self.embedding(pixels)
        return embedding, self.classify(embedding)

    def detection_features(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return patch tokens after each stage, as maps.

        Args:
            pixels: (B, 3, H, W) float, H and W multiples of the patch size p.

        Returns:
            `stage1` to `stage4`, each (B, C, H/p, W/p).

        Raises:
            InvalidInputError: If the shape is another.
        """
        # (B, N, C) -> (B, C, N) -> (B, C, h, w)
        return {
            name: tokens.transpose(1, 2).reshape(len(pixels), self.config.embed_dim, *grid)
            for name, tokens, grid in self._stages(pixels)
        }

    def initialise(self, seed: int) -> XCiT:
        """Set every weight anew from a seed, as for training from scratch, and return the network.

        Linear layers and the class token are truncated normal with standard deviation 0.02, convolutions
        are uniform in +-1/sqrt(fan-in), norms are the identity, LayerScale is the variant's `eta`.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            nn.init.trunc_normal_(self.cls_token, std=0.02, generator=generator)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.Conv2d):
                    bound = 1.0 / math.sqrt(module.weight[0].numel())
                    for parameter in module.parameters():
                        nn.init.uniform_(parameter, -bound, bound, generator=generator)
                elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                    module.reset_parameters()
                elif isinstance(module, _CrossCovarianceAttention):
                    nn.init.ones_(module.temperature)
                for name, parameter in module.named_parameters(recurse=False):
                    if name.startswith("gamma"):
                        nn.init.constant_(parameter, self.config.eta)
        return self

    def _stages(self, pixels: Tensor) -> Iterator[tuple[str, Tensor, tuple[int, int]]]:
        """Yield the name, the tokens (B, N, C) and the grid (h, w) of each stage in turn."""
        _check_pixels(pixels, self.config.patch_size)
        patches = self.patch_embed(pixels)
        grid = (patches.shape[2], patches.shape[3])
        # (B, C, h, w) -> (B, C, N) -> (B, N, C); the position code (1, C, h, w) is the same for every image
        tokens = (patches + self.pos_embed(*grid)).flatten(2).transpose(1, 2)
        for name, blocks in self.block1.items():
            for block in blocks:  # type: ignore[attr-defined]
                tokens = block(tokens, grid)
            yield name, tokens, grid


class _PatchEmbedding(nn.Module):
    """Image to patch tokens by 3x3 convolutions of stride 2, one for each halving."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        halvings = int(math.log2(patch_size))
        widths = [3, *(dim >> (halvings - 1 - step) for step in range(halvings))]
        layers = []
        for step in range(halvings):
            layer = nn.Sequential(
                nn.Conv2d(widths[step], widths[step + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(widths[step + 1]),
            )
            if step < halvings - 1:
                layer.append(nn.GELU())
            layers.append(layer)
        self.proj = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patches of images, (B, 3, H, W) -> (B, C, h, w)."""
        patches: Tensor = self.proj(pixels)
        return patches


class _FourierPosition(nn.Module):
    """Sine and cosine code of a token's row and column, projected to the token's channels.

    Positions are relative to the grid's size, so one network takes images of any size.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.channels = channels
        self.token_projection = nn.Conv2d(2 * channels, dim, kernel_size=1)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the code of a grid: (1, C, h, w)."""
        rows = self._axis(height)
        columns = self._axis(width)
        # (h, c) -> (h, w, c) and (w, c) -> (h, w, c), then (h, w, 2c)
        code = torch.cat(
            [rows[:, None, :].expand(-1, width, -1), columns[None, :, :].expand(height, -1, -1)], dim=2
        )
        # (h, w, 2c) -> (2c, h, w) -> (1, 2c, h, w)
        code = code.permute(2, 0, 1).unsqueeze(0).to(self.token_projection.weight.dtype)
        out: Tensor = self.token_projection(code)
        return out

    def _axis(self, length: int) -> Tensor:
        """Return the code of positions 1..length along one axis: (length, channels)."""
        device = self.token_projection.weight.device
        position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = position / (length + _POSITION_EPS) * (2.0 * math.pi)
        # A sine and a cosine share each frequency.
        pair = torch.arange(self.channels // 2, dtype=torch.float32, device=device)
        angles = angle[:, None] / _WAVELENGTH ** (2.0 * pair / self.channels)
        # 2 x (length, channels/2) -> (length, channels/2, 2) -> (length, channels), sines at even channels
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class _CrossCovarianceAttention(nn.Module):
    """Attention between channels instead of between tokens (section 3.2).

    `softmax(k^T q / tau)` with q and k of unit length along the tokens: its cost is linear in N.

    NOTE: The paper divides by a learned temperature tau; like the published code this multiplies by its
    inverse.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens mixed across channels, (B, N, C) -> (B, N, C)."""
        batch, count, channels = tokens.shape
        # (B, N, 3C) -> (B, N, 3, heads, C/heads) -> 3 x (B, heads, C/heads, N)
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.heads, channels // self.heads)
        qkv = qkv.permute(2, 0, 3, 4, 1)
        queries, keys, values = qkv.unbind(0)
        queries = F.normalize(queries, dim=-1) * self.temperature
        keys = F.normalize(keys, dim=-1)
        # (B, heads, C/heads, N) @ (B, heads, N, C/heads) -> (B, heads, C/heads, C/heads)
        attention = (queries @ keys.transpose(-2, -1)).softmax(dim=-1)
        # (B, heads, C/heads, N) -> (B, N, heads, C/heads) -> (B, N, C)
        mixed = (attention @ values).permute(0, 3, 1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        return out


class _LocalPatchInteraction(nn.Module):
    """Two depth-wise 3x3 convolutions, the only place where neighbouring patches meet (section 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.bn = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return tokens mixed with their neighbours, (B, N, C) -> (B, N, C)."""
        batch, _, channels = tokens.shape
        # (B, N, C) -> (B, C, N) -> (B, C, h, w)
        patches = tokens.transpose(1, 2).reshape(batch, channels, *grid)
        # NOTE: The paper names the norm before the GELU; its code and the checkpoints apply it after.
        mixed: Tensor = self.conv2(self.bn(F.gelu(self.conv1(patches))))
        # (B, C, h, w) -> (B, C, N) -> (B, N, C)
        return mixed.flatten(2).transpose(1, 2)


class _CrossCovarianceBlock(nn.Module):
    """XCA, local patch interaction and feed-forward network, each with LayerScale (section 3.3)."""

    def __init__(self, config: XCiTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = _CrossCovarianceAttention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.local_mp = _LocalPatchInteraction(dim)
        self.norm3 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = _feed_forward(dim, config.mlp_ratio)
        self.gamma1 = nn.Parameter(torch.full((dim,), config.eta))
        self.gamma2 = nn.Parameter(torch.full((dim,), config.eta))
        self.gamma3 = nn.Parameter(torch.full((dim,), config.eta))

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the block's tokens, (B, N, C) -> (B, N, C)."""
        tokens = tokens + self.gamma1 * self.attn(self.norm1(tokens))
        tokens = tokens + self.gamma2 * self.local_mp(self.norm2(tokens), grid)
        out: Tensor = tokens + self.gamma3 * self.mlp(self.norm3(tokens))
        return out


class _ClassAttention(nn.Module):
    """The class token looks at itself and at every patch token (CaiT, arXiv 2103.17239)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, class_token: Tensor, tokens: Tensor) -> Tensor:
        """Return the class token's attention to all tokens, (B, 1, C) and (B, N, C) -> (B, 1, C)."""
        everything = torch.cat([class_token, tokens], dim=1)
        mixed = F.scaled_dot_product_attention(
            self._split(self.q(class_token)), self._split(self.k(everything)), self._split(self.v(everything))
        )
        # (B, heads, 1, C/heads) -> (B, 1, heads, C/heads) -> (B, 1, C)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        # (B, M, C) -> (B, M, heads, C/heads) -> (B, heads, M, C/heads)
        batch, count, channels = tokens.shape
        return tokens.reshape(batch, count, self.heads, channels // self.heads).transpose(1, 2)


class _ClassAttentionBlock(nn.Module):
    """Class attention and a feed-forward network on the class token (section 3.3).

    NOTE: CaiT leaves the patch tokens as they are. The published XCiT adds their norm to them, normalises
    the sum (`tokens_norm`) and doubles it; the checkpoints were trained so, and the next block sees it. The
    factor 2 is taken out again by that block's norm, and kept so that every bit agrees.
    """

    def __init__(self, config: XCiTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.tokens_norm = config.tokens_norm
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = _ClassAttention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = _feed_forward(dim, config.mlp_ratio)
        self.gamma1 = nn.Parameter(torch.full((dim,), config.eta))
        self.gamma2 = nn.Parameter(torch.full((dim,), config.eta))

    def forward(self, class_token: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's class token and tokens, of the shapes (B, 1, C) and (B, N, C) as given."""
        class_normed, tokens_normed = self.norm1(class_token), self.norm1(tokens)
        class_token = self.norm2(class_token + self.gamma1 * self.attn(class_normed, tokens_normed))
        tokens = tokens + self.gamma1 * tokens_normed
        if self.tokens_norm:
            tokens = self.norm2(tokens)
        return class_token + self.gamma2 * self.mlp(class_token), 2.0 * tokens


def _feed_forward(dim: int, ratio: int) -> nn.Sequential:
    # The place of a dropout stays between the layers, since the checkpoints count the second layer as 3.
    return nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Identity(), nn.Linear(ratio * dim, dim))


def _check_pixels(pixels: Tensor, patch_size: int) -> None:
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise InvalidInputError(f"pixels must be (B, 3, H, W), got {tuple(pixels.shape)}")
    height, width = pixels.shape[2:]
    if height < 1 or width < 1 or height % patch_size or width % patch_size:
        raise InvalidInputError(
            f"height and width must be multiples of the patch size {patch_size}, got {height} x {width}"
        )
