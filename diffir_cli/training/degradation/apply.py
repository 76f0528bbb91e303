"""From a sharp picture to a degraded one, by the name of the degradation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffir_cli.training.degradation.bicubic import bicubic_pair
from diffir_cli.training.degradation.kinds import Degradation
from diffir_cli.training.degradation.masks import random_mask
from diffir_cli.training.degradation.motion_blur import shake
from diffir_cli.training.degradation.realworld import degrade


def degraded(
    gt: NDArray[np.uint8], kind: Degradation, scale: int, draw: np.random.Generator
) -> NDArray[np.uint8]:
    """LQ of a picture.

    Args:
        gt: (scale·H, scale·W, 3) in 0–255.
        kind: Which degradation.
        scale: Side of GT over side of LQ; 1 for shake and holes.
        draw: Where all randomness comes from.

    Returns:
        (H, W, 3) in 0–255; for holes (H, W, 4), black in the holes and with the mask, 0 or 255,
        behind the colours.
    """
    if kind is Degradation.BICUBIC:
        return bicubic_pair(gt, scale)[0]
    if kind is Degradation.REALWORLD:
        return degrade(gt, scale, draw)
    if kind is Degradation.SHAKE:
        return shake(gt, draw)
    mask = random_mask(draw, gt.shape[0], gt.shape[1])[:, :, None]
    return np.concatenate([gt * (1 - mask), mask * 255], axis=2).astype(np.uint8)
