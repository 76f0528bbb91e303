"""A result mixed with its input, which is resized by Lanczos, a strip of rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.imaging.picture import resize_lanczos
from diffir_cli.runtime.memory import STRIP_ROWS
from diffir_cli.util.transfer import white_level

_REACH = 4
"""LQ pixels to which Lanczos looks, and one more."""


def blend(hq: Tensor, lq: NDArray[Any], strength: float) -> Tensor:
    """`strength · HQ + (1 − strength) · ↑LQ`, with ↑ by Lanczos.

    Args:
        hq: (1, 3, scale·H, scale·W) near [0, 1], which is changed in place.
        lq: (H, W, 3) of uint8, uint16 or fractions in float32.
        strength: Share of the result, 0 to 1; 1 changes nothing.

    Returns:
        `hq`.
    """
    if strength == 1:
        return hq
    scale = hq.shape[2] // lq.shape[0]
    for first in range(0, hq.shape[2], STRIP_ROWS):
        rows = hq[0, :, first : first + STRIP_ROWS]
        plain = torch.from_numpy(_resized_rows(lq, first, first + rows.shape[1], scale))
        rows.mul_(strength).add_(plain.permute(2, 0, 1).to(hq).mul_(1 - strength))
    return hq


def _resized_rows(lq: NDArray[Any], first: int, last: int, scale: int) -> NDArray[np.float32]:
    """Rows of the enlarged input, in [0, 1]: what the whole has there, rounding apart."""
    top = max(first // scale - _REACH, 0)
    band = lq[top : -(-last // scale) + _REACH].astype(np.float32) / np.float32(white_level(lq))
    if scale == 1:
        return band[first - top : last - top]
    shape = last - first, scale * lq.shape[1]
    return resize_lanczos(band, shape, (first / scale - top, last / scale - top))
