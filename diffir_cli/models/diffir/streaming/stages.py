"""What is done to the rows of a feature as they pass: attention sums, attention, DGFN.

Each stage takes a span of rows that became final before it, and gives the span that is final behind
it, one row shorter at its end until the image ends. So stages can be chained over one strip while
it is in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.models.diffir.networks.blocks import ChannelNorm
from diffir_cli.models.diffir.streaming.folding import FoldedBlock, Projection
from diffir_cli.models.diffir.streaming.rows import SLACK, RowWindow, Span, spans

Stage = Callable[[Span], Span]
"""Takes the rows that became final before it, gives those that are final behind it."""


class _Projected:
    """Normalise, project and convolve the rows of a (H, W, C) feature as they become final."""

    def __init__(self, feature: Tensor, projection: Projection, centred: bool, strip: int) -> None:
        height, width, _ = feature.shape
        self.feature, self.projection, self.centred = feature, projection, centred
        self.window = RowWindow(feature, height, width, projection.channels, strip, projection.edge)

    def __call__(self, span: Span) -> tuple[Tensor, Span]:
        """(pixels, D) of the rows that came out, and their span."""
        projection = self.projection
        pixels = _normed(self.feature[span[0] : span[1]].flatten(0, 1), self.centred)
        torch.mm(pixels, projection.weight, out=self.window.slot(span).flatten(0, 1))
        rows, out = self.window.complete(span)
        if out[1] <= out[0]:
            return pixels.new_empty(0, projection.channels), out
        convolved = F.conv2d(
            rows, projection.dwconv, projection.bias, padding=(0, 1), groups=projection.channels
        )[0].permute(1, 2, 0)
        convolved[:, 0] += projection.sides[0]
        convolved[:, -1] += projection.sides[1]
        return convolved.flatten(0, 1), out


class AttentionSums:
    """QᵀK of each head and the squares of Q and K, summed over the image."""

    def __init__(self, feature: Tensor, block: FoldedBlock, strip: int) -> None:
        self.block, self.channels = block, feature.shape[-1]
        self.projected = _Projected(feature, block.query_key, block.centred, strip)
        self.exact = block.temperature.dtype
        heads = len(block.temperature)
        side = self.channels // heads
        self.gram = feature.new_zeros(heads, side, side, dtype=self.exact)
        self.squares = feature.new_zeros(2 * self.channels, dtype=self.exact)
        self.ones = self.squares.new_ones((strip + SLACK) * feature.shape[1])

    def __call__(self, span: Span) -> Span:
        """Add what these rows make final; the span that came out."""
        pixels, out = self.projected(span)
        pixels = pixels.to(self.exact)
        query = pixels[:, : self.channels].unflatten(1, (len(self.gram), -1)).permute(1, 2, 0)
        key = pixels[:, self.channels :].unflatten(1, (len(self.gram), -1)).permute(1, 0, 2)
        for total, one, other in zip(self.gram, query, key, strict=True):
            total.addmm_(one, other)
        # A product with ones: much faster than a sum over the first dimension.
        self.squares += self.ones[: len(pixels)] @ pixels.square_()
        return out

    def mix(self) -> Tensor:
        """What V's pixels are multiplied by, (C, C)."""
        return self.block.attention_mix(self.gram, self.squares)


class Attention:
    """Add the attention's result to the feature in place."""

    def __init__(self, feature: Tensor, block: FoldedBlock, mix: Tensor, strip: int) -> None:
        self.feature, self.mix = feature, mix
        self.projected = _Projected(feature, block.value, block.centred, strip)

    def __call__(self, span: Span) -> Span:
        """Attend on these rows; the span that is final."""
        value, out = self.projected(span)
        self.feature[out[0] : out[1]].flatten(0, 1).addmm_(value, self.mix)
        return out


class Gate:
    """Add the DGFN's result to the feature in place."""

    def __init__(self, feature: Tensor, block: FoldedBlock, strip: int) -> None:
        self.feature, self.out = feature, block.gate_out
        self.projected = _Projected(feature, block.gate, block.centred, strip)

    def __call__(self, span: Span) -> Span:
        """Gate these rows; the span that is final."""
        both, out = self.projected(span)
        gate, value = both.chunk(2, dim=1)
        if gate.device.type == "cpu":
            # oneDNN's GELU takes a third of the time of torch's, and contiguous tensors only.
            gate = gate.contiguous()
        self.feature[out[0] : out[1]].flatten(0, 1).addmm_(F.gelu(gate).mul_(value), self.out)
        return out


def _normed(pixels: Tensor, centred: bool) -> Tensor:
    """x̂ of (pixels, C): without mean and deviation, or only divided by the deviation."""
    channels = pixels.shape[1]
    if pixels.dtype not in (torch.float32, torch.float64):
        normed, _, inverse = torch.native_layer_norm(
            pixels, (channels,), None, None, ChannelNorm.eps
        )
        return normed if centred else torch.mul(pixels, inverse, out=normed)
    # Products and norms of rows: faster than a layer norm over so few channels.
    mean = torch.mv(pixels, pixels.new_full((channels,), 1 / channels))
    normed = pixels - mean[:, None]
    variance = torch.linalg.vector_norm(normed, dim=1).square_().div_(channels)
    inverse = variance.add_(ChannelNorm.eps).rsqrt_()[:, None]
    return normed.mul_(inverse) if centred else torch.mul(pixels, inverse, out=normed)


def run(
    stages: Iterable[Stage],
    height: int,
    strip: int,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Send the strips of an image through a chain of stages.

    Args:
        stages: Each is given what the one before it gives.
        height: Rows of the image.
        strip: Rows of a strip.
        advance: Called with the rows of each strip that is through.
    """
    stages = list(stages)
    for first, last in spans(height, strip):
        span = first, last
        for stage in stages:
            span = stage(span)
            if span[1] <= span[0]:
                break
        if advance:
            advance(last - first)
