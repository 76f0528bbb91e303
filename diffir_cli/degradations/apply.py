"""From a sharp picture to a degraded one, by the name of the degradation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.averaged_frames import averaged_frames
from diffir_cli.degradations.bicubic import bicubic_pair
from diffir_cli.degradations.kinds import Degradation, MaskKind
from diffir_cli.degradations.masks import random_mask
from diffir_cli.degradations.motion_blur import shake
from diffir_cli.degradations.realworld import degrade


def degraded(
    gt: NDArray[np.uint8],
    kind: Degradation,
    scale: int,
    rng: np.random.Generator,
    masks: Sequence[MaskKind] = (MaskKind.TRAIN,),
) -> NDArray[np.uint8]:
    """LQ of a picture.

    Args:
        gt: (scale·H, scale·W, 3) in 0–255.
        kind: Which degradation.
        scale: Side of GT over side of LQ; 1 for shake, frames and holes.
        rng: Where all randomness comes from.
        masks: For holes, the kinds of which one is drawn.

    Returns:
        (H, W, 3) in 0–255; for holes (H, W, 4), black in the holes and with the mask, 0 or 255,
        behind the colours.
    """
    if kind is Degradation.BICUBIC:
        return bicubic_pair(gt, scale)[0]
    if kind is Degradation.REALWORLD:
        return degrade(gt, scale, rng)
    if kind is Degradation.SHAKE:
        return shake(gt, rng)
    if kind is Degradation.FRAMES:
        return averaged_frames(gt, rng)
    height, width = gt.shape[:2]
    chosen = masks[int(rng.integers(len(masks)))]
    mask = random_mask(rng, height, width, chosen)[:, :, None]
    return np.concatenate([gt * (1 - mask), mask * 255], axis=2).astype(np.uint8)
