"""Export the network as an ONNX model that takes pixels, for runtimes other than torch."""

from __future__ import annotations

import copy
import io
import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from birdsearch.model.config import RgbStats
from birdsearch.model.xcit import XCiT

__all__ = ["export_onnx"]

_OPSET = 20
# The batch that the export is traced with; the batch of the model is free.
_TRACED = 2


def export_onnx(network: XCiT, size: tuple[int, int], stats: RgbStats) -> bytes:
    """Export a network with its normalisation by `torch.onnx.export`.

    Args:
        network: The network with its weights.
        size: (height, width) of the input in pixels, multiples of the patch size.
        stats: Colour statistics of the input.

    Returns:
        The serialised model: input `pixels` (B, H, W, 3) uint8, output `embedding` (B, C) float32. Float32 results
        agree with those of `XCiT` up to rounding.

    Raises:
        ImportError: The package `onnx` is not installed.
    """
    # Torch's exporter needs it, and would say so less plainly.
    import onnx  # noqa: F401

    stream = io.BytesIO()
    pixels = torch.zeros(_TRACED, *size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # That shapes are fixed while the network is traced, as they are to be, and that there is a newer exporter.
        warnings.simplefilter("ignore")
        # NOTE: the older exporter needs no more packages, and writes the same bytes each time.
        torch.onnx.export(
            _PixelNetwork(network, size, stats),
            (pixels,),
            stream,  # type: ignore[arg-type]  # the older exporter writes to streams
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_axes={"pixels": {0: "B"}, "embedding": {0: "B"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return stream.getvalue()


class _PixelNetwork(nn.Module):
    """A copy of a network that takes pixels (B, H, W, 3) uint8 and gives the embedding (B, C)."""

    def __init__(self, network: XCiT, size: tuple[int, int], stats: RgbStats) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
        first = cast("nn.Sequential", self.network.patch_embed.proj[0])
        convolution, norm = cast("nn.Conv2d", first[0]), cast("nn.BatchNorm2d", first[1])
        first[0], first[1] = _WholeNumberConvolution(convolution, norm, size, stats), nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        # (B, H, W, 3) -> (B, 3, H, W)
        return self.network.embedding(pixels.permute(0, 3, 1, 2).float())


class _WholeNumberConvolution(nn.Module):
    """The first convolution and its batch norm, fed with whole numbers, which bfloat16 holds exactly.

    Normalised pixels lose half of their 8 bits in bfloat16: with them the first percentile of the cosine to float32
    was 0.9988 on real photos, with whole numbers 0.9999. So the normalisation goes into the weights, which are the
    sum of two parts that bfloat16 holds, and into a constant map, since zeros at the border stand for the mean.
    """

    coarse: Tensor
    fine: Tensor
    offset: Tensor
    map: Tensor

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, size: tuple[int, int], stats: RgbStats
    ) -> None:
        super().__init__()
        mean, std = (255.0 * torch.tensor(values, dtype=torch.float64) for values in (stats.mean, stats.std))
        offset = mean.round()
        average, variance = (cast("Tensor", each).double() for each in (norm.running_mean, norm.running_var))
        gain = norm.weight.double() / torch.sqrt(variance + norm.eps)
        weight = convolution.weight.double() * gain[:, None, None, None] / std[:, None, None]
        shift = norm.bias.double() - average * gain
        # (1, 3, H, W): what the whole numbers are less than the pixels' distance from the mean
        rest = (offset - mean)[None, :, None, None].expand(1, 3, *size)
        coarse = weight.bfloat16().double()
        self.register_buffer("coarse", coarse.float())
        self.register_buffer("fine", (weight - coarse).float())
        self.register_buffer("offset", offset.float()[:, None, None])
        self.register_buffer("map", (self._convolve(rest, weight) + shift[None, :, None, None]).float())

    @staticmethod
    def _convolve(images: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(images, weight, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the first layer's maps, (B, 3, H, W) pixels 0..255 -> (B, C, H/2, W/2)."""
        whole = images - self.offset
        return self._convolve(whole, self.coarse) + self._convolve(whole, self.fine) + self.map
