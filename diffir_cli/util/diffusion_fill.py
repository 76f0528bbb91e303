"""A smooth filling of holes, from which the small inpainting networks begin.

Averages of known pixels shrink until every hole is closed; then each finer level takes its holes
from the coarser one and smooths them, so that the prior is nearly harmonic: without edges of its
own and continuous with what is known. The released networks see black holes instead.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 16
"""Smoothings of each level: with fewer the prior is measurably worse, with more hardly better."""


def smooth_fill(image: Tensor, holes: Tensor) -> Tensor:
    """Fill holes smoothly.

    Args:
        image: (B, 3, H, W); what it holds in the holes does not matter.
        holes: (B, 1, H, W), 1 in the holes and 0 elsewhere.

    Returns:
        (B, 3, H, W), equal to the image outside the holes; zero where nothing at all is known.
    """
    known = 1 - holes
    levels = [(image * known, known)]
    while max(levels[-1][1].shape[-2:]) > 1:
        levels.append(_halved(*levels[-1]))
    filled = levels[-1][0]
    for colours, known in reversed(levels[:-1]):
        coarse = F.interpolate(filled, colours.shape[-2:], mode="bilinear")
        filled = colours + (1 - known) * coarse
        for _ in range(_ROUNDS):
            filled = colours + (1 - known) * _neighbours(filled)
    return filled


def _halved(colours: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the known pixels of each 2×2, and whether there are any."""
    height, width = known.shape[-2:]
    edge = (0, width % 2, 0, height % 2)
    total = F.avg_pool2d(F.pad(colours, edge), 2)
    weight = F.avg_pool2d(F.pad(known, edge), 2)
    return total / weight.clamp_min(0.25), (weight > 0).to(known)


def _neighbours(image: Tensor) -> Tensor:
    """The mean of the four neighbours of each pixel, edges repeated."""
    around = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = around[..., :-2, 1:-1] + around[..., 2:, 1:-1]
    columns = around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    return (rows + columns) / 4
