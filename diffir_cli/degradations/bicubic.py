"""Bicubic super-resolution pairs: the LQ image is the benchmarks' reduction of the whole photo.

Reduced once, before cropping, so that a crop's border pixels come from the photo and not from a
mirrored edge, and so that training does no resizing at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffir_cli.imaging.bicubic import reduce_bicubic


def bicubic_pair(
    photo: NDArray[np.uint8], scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """LQ and GT of a photo, whose sides are cut to multiples of the scale.

    Args:
        photo: (H, W, 3) in 0–255.
        scale: Side of GT over side of LQ.

    Returns:
        (h, w, 3) and (scale·h, scale·w, 3).
    """
    height, width = (side // scale * scale for side in photo.shape[:2])
    gt = photo[:height, :width]
    return reduce_bicubic(gt, scale), gt
