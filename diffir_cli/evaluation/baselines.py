"""What a user would type otherwise, as functions of the degraded image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.errors import UsageError
from diffir_cli.evaluation.kinds import Baseline
from diffir_cli.imaging.bicubic import enlarge_bicubic
from diffir_cli.options import Task

USUAL = {
    Task.SR: (Baseline.BICUBIC,),
    Task.REALSR: (Baseline.BICUBIC, Baseline.LANCZOS),
    Task.DEBLUR: (Baseline.IDENTITY,),
    Task.INPAINT: (Baseline.TELEA, Baseline.NS),
    Task.FACE: (Baseline.IDENTITY,),
}
"""The baselines of each task."""

_RADIUS = 3
"""Pixels around a hole that OpenCV's inpainting looks at."""


def check_baseline(kind: Baseline, scale: int, masked: bool) -> None:
    """Refuse a baseline that has no meaning.

    Raises:
        UsageError: when an enlargement is asked for at ×1 or the reverse, or a filling without
            holes.
    """
    enlarges = kind in (Baseline.BICUBIC, Baseline.LANCZOS)
    fills = kind in (Baseline.TELEA, Baseline.NS)
    if fills and not masked:
        raise UsageError(f"--baseline {kind.value} needs --mask", "add --mask DIR")
    if enlarges is (scale == 1):
        raise UsageError(
            f"--baseline {kind.value} cannot be used with weights of scale ×{scale}",
            "leave it out, or name another baseline",
        )


def run_baseline(
    kind: Baseline, lq: NDArray[np.uint8], scale: int, holes: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """What a baseline makes of an image.

    Args:
        kind: Which; one that `check_baseline` lets pass.
        lq: (H, W, 3) in 0–255.
        scale: Side of the result over side of `lq`.
        holes: (H, W), True where to fill.

    Returns:
        (scale·H, scale·W, 3) in 0–255.
    """
    if kind is Baseline.BICUBIC:
        return enlarge_bicubic(lq, scale)
    if kind is Baseline.LANCZOS:
        size = (lq.shape[1] * scale, lq.shape[0] * scale)
        return np.asarray(Image.fromarray(lq).resize(size, Image.Resampling.LANCZOS))
    if kind is Baseline.IDENTITY:
        return lq
    assert holes is not None
    method = cv2.INPAINT_TELEA if kind is Baseline.TELEA else cv2.INPAINT_NS
    empty = np.where(holes[:, :, None], 0, lq).astype(np.uint8)
    return np.asarray(cv2.inpaint(empty, holes.astype(np.uint8), _RADIUS, method), np.uint8)
