"""Results moved to where they agree with their truth, as studies of shakes measure them.

The kernel of a shake is only known but for a shift (Levin et al., CVPR 2009, and Köhler et al.,
ECCV 2012, measure at the best one): a picture that is restored perfectly may lie some pixels beside
a sharp frame that was not taken in the middle of the exposure.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.evaluation.metrics import luma

_COARSEST, _FINEST = 2, 0.25
"""The first step and the last, in pixels."""
_SMOOTHNESS = 2.0
"""σ of the Gaussian before the search, in pixels."""
_Level = TypeVar("_Level", np.uint8, np.float32)


def best_shift(
    image: NDArray[np.uint8], truth: NDArray[np.uint8], most: int
) -> tuple[float, float]:
    """By how much an image is to be moved to agree best with its truth.

    What has least squared error between the smoothed lumas, which noise and the interpolation
    hardly count in, is looked for from coarse steps to fine ones.

    Args:
        image: (H, W, 3) in 0–255, with sides of more than twice `most`.
        truth: Of the same shape.
        most: Pixels up to which the image is moved in each direction; as many at each edge do not
            count.

    Returns:
        Pixels down and to the right, to a quarter.
    """
    first, second = (_smooth(luma(picture)) for picture in (image, truth))
    inside = slice(most, truth.shape[0] - most), slice(most, truth.shape[1] - most)
    known: dict[tuple[float, float], float] = {}

    def error(shift: tuple[float, float]) -> tuple[float, float]:
        if shift not in known:
            known[shift] = float(np.square(moved(first, shift)[inside] - second[inside]).mean())
        return known[shift], math.hypot(*shift)

    coarse = [float(steps * _COARSEST) for steps in range(-(most // 2), most // 2 + 1)]
    best = min(itertools.product(coarse, coarse), key=error)
    step = _COARSEST / 2
    while step >= _FINEST:
        around = [
            (best[0] + step * down, best[1] + step * right)
            for down, right in itertools.product((-1, 0, 1), repeat=2)
        ]
        closest = min((shift for shift in around if max(map(abs, shift)) <= most), key=error)
        if closest == best:
            step /= 2
        best = closest
    return best


def moved(image: NDArray[_Level], shift: tuple[float, float]) -> NDArray[_Level]:
    """An (H, W) or (H, W, 3) image moved down and to the right, edges repeated; Lanczos between."""
    matrix = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], dtype=np.float64)
    size = image.shape[1], image.shape[0]
    settings = {"flags": cv2.INTER_LANCZOS4, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(image, matrix, size, **settings)  # type: ignore[call-overload]


def _smooth(plane: NDArray[np.float64]) -> NDArray[np.float32]:
    return cv2.GaussianBlur(plane.astype(np.float32), (0, 0), _SMOOTHNESS).astype(np.float32)
