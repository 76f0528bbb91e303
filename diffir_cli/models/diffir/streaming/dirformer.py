"""Exact strip-wise execution of the DIRformer: the whole image, never more than a strip of extras.

DMTA's attention map is channels × channels: over the pixels it needs only sums. So each block takes
one pass that sums QᵀK and the squares of Q and K, and one pass in which attention, added to the
feature in place, and the DGFN behind it follow each other row by row. The sums of the next block
ride on the same pass. The result is that of the plain modules, rounding apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.diffir.config import Tail
from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.models.diffir.networks.blocks import Downsample, Upsample
from diffir_cli.models.diffir.networks.dirformer import (
    DynamicBlock,
    Level,
    mixed,
    with_smooth_filling,
)
from diffir_cli.models.diffir.streaming.folding import FoldedBlock
from diffir_cli.models.diffir.streaming.products import products, tail_weights, weights_of
from diffir_cli.models.diffir.streaming.rows import RowWindow, Span, spans
from diffir_cli.models.diffir.streaming.stages import Attention, AttentionSums, Gate, Stage, run
from diffir_cli.models.progress import Meter, Progress


class StreamingDIRformer:
    """A DIRformer that is executed in strips.

    Not thread-safe: the strips of two images must not meet in one feature.

    Args:
        dirformer: The plain module; its weights are used where they are.
        dtype: Number format of the feature maps.
        elements: How many numbers of a feature, pixels times channels, are worked on at a time.
        progress: Called after each strip with the share of the image that is done; optional.
    """

    def __init__(
        self,
        dirformer: DIRformer,
        dtype: torch.dtype,
        elements: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.dirformer, self.dtype = dirformer, dtype
        self.elements = elements or strip_elements()
        self.progress = progress
        self._meter: Meter | None = None

    @torch.inference_mode()
    def __call__(self, lq: Tensor, ipr: Tensor) -> Tensor:
        """Restore an image as `DIRformer.forward` does.

        Args:
            lq: (1, in_channels, H, W) in [0, 1]; H and W multiples of `config.multiple`.
            ipr: (1, 4C').

        Returns:
            (1, 3, scale·H, scale·W), near [0, 1] but not clamped, in the format of `lq`.
        """
        net = self.dirformer
        lq = with_smooth_filling(lq, net.config)
        feature = self._embedded(lq)
        if self.progress:
            self._meter = Meter(self.progress, products(net, *feature.shape[:2]))
        skips = []
        for level, down in zip(net.encoder, net.down, strict=True):
            self._level(feature, cast(Level, level), ipr)
            skips.append(feature)
            feature = self._halved(feature, cast(nn.Conv2d, cast(Downsample, down)[0]))
        self._level(feature, net.latent, ipr)
        for up, reduce, level in zip(net.up, net.reduce, net.decoder, strict=True):
            feature = self._doubled(
                feature, cast(nn.Conv2d, cast(Upsample, up)[0]), skips.pop(), reduce
            )
            self._level(feature, cast(Level, level), ipr)
        self._level(feature, net.refinement, ipr)
        return self._image(feature, lq)

    def _level(self, feature: Tensor, level: Level, ipr: Tensor) -> None:
        """Run blocks in a row over a (H, W, C) feature, in place."""
        if not len(level):
            return
        height, width, channels = feature.shape
        strip = max(1, round(self.elements / (width * channels)))
        blocks = [FoldedBlock.of(cast(DynamicBlock, block), ipr, self.dtype) for block in level]
        advance = self._advance(width * weights_of(level) / len(level))
        sums = AttentionSums(feature, blocks[0], strip)
        run([sums], height, strip)
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            stages: list[Stage] = [
                Attention(feature, block, sums.mix(), strip),
                Gate(feature, block, strip),
            ]
            if following is not None:
                sums = AttentionSums(feature, following, strip)
                stages.append(sums)
            run(stages, height, strip, advance)

    def _advance(self, row: float) -> Callable[[int], None] | None:
        """A function that adds rows of so many products to those done; None without progress."""
        meter = self._meter
        return None if meter is None else lambda rows: meter.add(rows * row)

    def _embedded(self, lq: Tensor) -> Tensor:
        """The first (H, W, C) feature."""
        net = self.dirformer
        pixels = F.pixel_unshuffle(lq, net.config.unshuffle)[0].permute(1, 2, 0)
        feature = lq.new_empty(*pixels.shape[:2], net.config.dim, dtype=self.dtype)
        for (first, last), rows in self._convolved(pixels, net.patch_embed):
            feature[first:last] = rows
        return feature

    def _halved(self, feature: Tensor, conv: nn.Conv2d) -> Tensor:
        """`Downsample` of a (H, W, C) feature: (H/2, W/2, 2C)."""
        height, width, channels = feature.shape
        smaller = feature.new_empty(height // 2, width // 2, 2 * channels)
        for (first, last), rows in self._convolved(feature, conv, 2):
            parts = rows.unflatten(1, (-1, 2)).unflatten(0, (-1, 2))
            smaller[first // 2 : last // 2] = parts.permute(0, 2, 4, 1, 3).flatten(2)
        return smaller

    def _doubled(self, feature: Tensor, conv: nn.Conv2d, skip: Tensor, reduce: nn.Module) -> Tensor:
        """`Upsample` of a (H, W, C) feature beside its (2H, 2W, C/2) skip, reduced or not."""
        own = skip.shape[-1]
        if isinstance(reduce, nn.Conv2d):
            upper, lower = reduce.weight.flatten(1).to(self.dtype).t().contiguous().split(own)
            joined = (skip.flatten(0, 1) @ lower).view(*skip.shape)
        else:
            joined = skip.new_empty(*skip.shape[:2], 2 * own)
            joined[..., own:] = skip
            upper = None
        for (first, last), rows in self._convolved(feature, conv):
            larger = _shuffled(rows, 2)
            place = joined[2 * first : 2 * last]
            if upper is None:
                place[..., :own] = larger
            else:
                place.flatten(0, 1).addmm_(larger.flatten(0, 1), upper)
        return joined

    def _convolved(
        self, source: Tensor, conv: nn.Conv2d, multiple: int = 1
    ) -> Iterator[tuple[Span, Tensor]]:
        """The strips of a zero-padded 3×3 convolution of a (H, W, C) source, each (rows, W, D)."""
        height, width, channels = source.shape
        weight = conv.weight.to(self.dtype, memory_format=torch.channels_last)
        bias = None if conv.bias is None else conv.bias.to(self.dtype)
        strip = self._dense_strip(width, max(channels, len(weight)), multiple)
        for first, last in spans(height, strip):
            rows = source[max(first - 1, 0) : last + 1].to(self.dtype)
            edges = int(first == 0), int(last == height)
            padded = F.pad(rows, (0, 0, 0, 0, *edges))[None].permute(0, 3, 1, 2)
            yield (first, last), F.conv2d(padded, weight, bias, padding=(0, 1))[0].permute(1, 2, 0)

    def _image(self, feature: Tensor, lq: Tensor) -> Tensor:
        """The tail, strip by strip, plus the enlarged `lq` where the network is a residual one."""
        config = self.dirformer.config
        height, width, channels = feature.shape
        factor = config.tail.factor
        hq = lq.new_empty(1, config.out_channels, factor * height, factor * width)
        strip = self._dense_strip(width, channels * (16 if config.tail is Tail.SHUFFLE else 1))
        tail = _Tail(self.dirformer.tail, feature, strip)
        advance = self._advance(width * tail_weights(self.dirformer.tail))
        for span in spans(height, strip):
            rows, (first, last) = tail(feature[span[0] : span[1]], span)
            if last > first:
                hq[0, :, first:last] = rows.permute(2, 0, 1)
            if advance:
                advance(span[1] - span[0])
        if config.gated:
            return mixed(lq, hq[:, 3:]).add_(hq[:, :3])
        if config.residual:
            _add_enlarged(hq, lq[:, :3], config.scale)
        return hq

    def _dense_strip(self, width: int, channels: int, multiple: int = 1) -> int:
        """Rows of a strip for a convolution over all channels, a multiple of `multiple`.

        Each call of such a convolution rearranges its weights, so that larger strips pay.
        """
        rows = max(8 * self.elements // (width * channels), 4)
        return rows - rows % multiple


def strip_elements() -> int:
    """How many numbers of a feature are worked on at a time where memory does not matter.

    Computed and not measured: strips of 1 to 3 MiB of fp32 a thread were equally fast, smaller ones
    pay for the calls and larger ones leave the cache (docs/performance.md).
    """
    return 3 * 2**17 * torch.get_num_threads()


class _Tail:
    """The convolutions of a tail and the shuffles between them, as one stream of rows."""

    def __init__(self, tail: nn.Sequential, feature: Tensor, strip: int) -> None:
        height, width, _ = feature.shape
        self.steps: list[tuple[RowWindow, Tensor, Tensor | None, int]] = []
        for conv, factor in _convolutions(tail):
            window = RowWindow(feature, height, width, conv.in_channels, strip)
            weight = conv.weight.to(feature.dtype, memory_format=torch.channels_last)
            bias = None if conv.bias is None else conv.bias.to(feature.dtype)
            self.steps.append((window, weight, bias, factor))
            height, width, strip = height * factor, width * factor, (strip + 1) * factor

    def __call__(self, rows: Tensor, span: Span) -> tuple[Tensor, Span]:
        """Rows of the feature in, rows of the image out: (rows, width, out_channels)."""
        for window, weight, bias, factor in self.steps:
            window.slot(span).copy_(rows)
            padded, out = window.complete(span)
            if out[1] <= out[0]:
                return rows[:0], (0, 0)
            rows = F.conv2d(padded, weight, bias, padding=(0, 1))[0].permute(1, 2, 0)
            rows = _shuffled(rows, factor)
            span = out[0] * factor, out[1] * factor
        return rows, span


def _convolutions(tail: nn.Sequential) -> Iterator[tuple[nn.Conv2d, int]]:
    """The convolutions of a tail, each with the factor of the shuffle behind it."""
    modules = [*tail, None]
    for module, following in itertools.pairwise(modules):
        if isinstance(module, nn.Conv2d):
            shuffled = isinstance(following, nn.PixelShuffle)
            yield module, following.upscale_factor if shuffled else 1


def _shuffled(rows: Tensor, factor: int) -> Tensor:
    """PixelShuffle of (rows, W, C·f²) pixels: (f·rows, f·W, C)."""
    if factor == 1:
        return rows
    parts = rows.unflatten(2, (-1, factor, factor))
    return parts.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)


def _add_enlarged(hq: Tensor, lq: Tensor, scale: int) -> None:
    """Add the nearest-neighbour enlargement of (1, 3, H, W) to an image, in place."""
    cells = hq.unflatten(3, (-1, scale)).unflatten(2, (-1, scale))
    cells += lq[:, :, :, None, :, None]
