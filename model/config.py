"""What the network is: one table of the published XCiT variants, and the colour statistics of an input.

This module needs neither torch nor numpy, so listing variants is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from birdsearch.errors import InvalidInputError

__all__ = ["ALIASES", "VARIANTS", "RgbStats", "XCiTConfig", "variant"]


@dataclass(frozen=True, slots=True)
class RgbStats:
    """Mean and standard deviation of each colour channel (red, green, blue), in units of 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class XCiTConfig:
    """One variant of XCiT (arXiv 2106.09681, section 3.3).

    Attributes:
        name: Name of the variant, such as `xcit_nano12_p16`.
        patch_size: Side of the square of input pixels that becomes one token: 8 or 16.
        embed_dim: Channels of a token, and of the embedding.
        depth: Number of cross-covariance blocks: 12 or 24.
        num_heads: Heads of the cross-covariance and the class attention.
        eta: Value that LayerScale starts from.
        tokens_norm: Whether the second norm of a class-attention block covers the patch tokens as well as
            the class token.
        class_depth: Number of class-attention blocks.
        mlp_ratio: Hidden channels of the feed-forward networks, in multiples of `embed_dim`.
        position_channels: Channels of the Fourier position code per axis.
    """

    name: str
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    eta: float
    tokens_norm: bool
    class_depth: int = 2
    mlp_ratio: int = 4
    position_channels: int = 32

    @property
    def stage_lengths(self) -> tuple[int, int, int, int]:
        """Blocks in each of the four stages whose outputs are the detection feature maps.

        The maps leave after a third, a half, two thirds and all of the blocks.
        """
        ends = (self.depth // 3, self.depth // 2, 2 * self.depth // 3, self.depth)
        return (ends[0], ends[1] - ends[0], ends[2] - ends[1], ends[3] - ends[2])


# Size -> (embed_dim, depth, num_heads, eta, tokens_norm). Deep networks start LayerScale near zero; only
# nano, the smallest, leaves the patch tokens out of the class-attention norm.
_SIZES = {
    "nano12": (128, 12, 4, 1.0, False),
    "tiny12": (192, 12, 4, 1.0, True),
    "tiny24": (192, 24, 4, 1e-5, True),
    "small12": (384, 12, 8, 1.0, True),
    "small24": (384, 24, 8, 1e-5, True),
    "medium24": (512, 24, 8, 1e-5, True),
    "large24": (768, 24, 16, 1e-5, True),
}

VARIANTS: Mapping[str, XCiTConfig] = MappingProxyType(
    {
        name: XCiTConfig(name, patch, *facts)
        for size, facts in _SIZES.items()
        for patch in (16, 8)
        for name in [f"xcit_{size}_p{patch}"]
    }
)
"""Every published variant by name."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"xcit_large24_16": "xcit_large24_p16", "xcit_large24_8": "xcit_large24_p8"}
)
"""Names that others use for a variant."""


def variant(name: str) -> XCiTConfig:
    """Look up a variant by its name or alias.

    Raises:
        InvalidInputError: If there is no such variant.
    """
    config = VARIANTS.get(ALIASES.get(name, name))
    if config is None:
        raise InvalidInputError(f"no network is called {name!r}; known: {', '.join(VARIANTS)}")
    return config
