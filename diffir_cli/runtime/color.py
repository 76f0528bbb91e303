"""Colours of a result taken from its input: latent models shift them.

With ↑LQ the bicubic enlargement of the input and HQ the result,

    wavelet   HQ − low(HQ) + low(↑LQ)
    adain     (HQ − mean(HQ)) / std(HQ) · std(↑LQ) + mean(↑LQ), for each channel

where low() is what five levels of an à-trous wavelet transform with the kernel (1, 2, 1)² / 16
leave: colours that change over more than some 32 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.options import ColorFix
from diffir_cli.runtime.memory import STRIP_ROWS

_LEVELS = 5
_HALO = 2**_LEVELS - 1
"""Pixels to which low() looks on each side."""
_REACH = 3
"""LQ pixels to which bicubic interpolation looks, and one more."""


def fix_colors(hq: Tensor, lq: Tensor, color_fix: ColorFix) -> Tensor:
    """A result with the colours of its input.

    Args:
        hq: (1, 3, scale·H, scale·W), which is changed in place.
        lq: (1, 3, H, W) of the same range, on any device.
        color_fix: Which formula; `none` changes nothing.

    Returns:
        `hq`.
    """
    if color_fix is ColorFix.NONE:
        return hq
    if color_fix is ColorFix.ADAIN:
        return _adain(hq, lq)
    scale = hq.shape[2] // lq.shape[2]
    # Each strip is changed once the next, which looks into it, has been computed.
    pending: tuple[Tensor, Tensor] | None = None
    for first, last, begin, end in _strips(hq.shape[2]):
        enlarged = _enlarged_rows(lq, begin, end, scale).to(hq.device)
        low = _low(enlarged - hq[:, :, begin:end])[:, :, first - begin : last - begin]
        if pending:
            pending[0].add_(pending[1])
        pending = hq[:, :, first:last], low
    if pending:
        pending[0].add_(pending[1])
    return hq


def _strips(height: int) -> Iterator[tuple[int, int, int, int]]:
    """First and last row of each strip, and of what has to be seen for it."""
    for first in range(0, height, STRIP_ROWS):
        last = min(first + STRIP_ROWS, height)
        yield first, last, max(first - _HALO, 0), min(last + _HALO, height)


def _enlarged_rows(lq: Tensor, begin: int, end: int, scale: int) -> Tensor:
    """Rows of the bicubic enlargement of an image."""
    top = max(begin // scale - _REACH, 0)
    bottom = min(-(-end // scale) + _REACH, lq.shape[2])
    rows = lq[:, :, top:bottom]
    if scale > 1:
        rows = F.interpolate(rows, scale_factor=float(scale), mode="bicubic")
    return rows[:, :, begin - top * scale : end - top * scale]


def _low(image: Tensor) -> Tensor:
    """Five levels of an à-trous wavelet transform, without the details; linear in the image."""
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype, device=image.device)
    for level in range(_LEVELS):
        step = 2**level
        for axis in (2, 3):
            shape = (3, 1, 3, 1) if axis == 2 else (3, 1, 1, 3)
            around = (0, 0, step, step) if axis == 2 else (step, step, 0, 0)
            kernel = taps.view(1, 1, *shape[2:]).expand(shape)
            padded = F.pad(image, around, "replicate")
            image = F.conv2d(padded, kernel, dilation=step, groups=3)
    return image


def _adain(hq: Tensor, lq: Tensor) -> Tensor:
    """Mean and deviation of each channel of the input, which enlargement hardly changes."""
    lq = lq.to(hq.device)
    axes = (0, 2, 3)
    gain = _deviation(lq) / _deviation(hq).clamp_min(1e-6)
    return hq.sub_(hq.mean(axes, keepdim=True)).mul_(gain).add_(lq.mean(axes, keepdim=True))


def _deviation(image: Tensor) -> Tensor:
    """The standard deviation of each channel of (1, 3, H, W); 0 for a single pixel."""
    # One pixel less than there are would be none.
    correction = min(1, image.shape[2] * image.shape[3] - 1)
    return image.std((0, 2, 3), correction=correction, keepdim=True)
