"""The bicubic reduction by which super-resolution benchmarks make their LQ images.

Antialiased cubic (a = −0.5): the kernel is stretched by the factor, borders are mirrored with the
edge pixel repeated, the weights of each pixel sum to 1, and 8-bit results are rounded half up.
Pillow's and OpenCV's bicubic differ from it by up to 14 levels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def reduce_bicubic(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Shrink an image as the benchmarks do.

    Args:
        image: (H, W, C) in 0–255.
        factor: By how much each side shrinks.

    Returns:
        (⌈H/factor⌉, ⌈W/factor⌉, C) in 0–255.
    """
    return _resize(image, 1 / factor)


def enlarge_bicubic(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarge an (H, W, C) image in 0–255 with the same cubic: the baseline of every comparison."""
    return _resize(image, factor)


def _resize(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Rows first, then columns; rounded half up and clipped to 0–255."""
    rows, columns = _weights(image.shape[0], scale), _weights(image.shape[1], scale)
    tall = np.tensordot(rows, image.astype(np.float64), axes=(1, 0))
    resized = np.tensordot(tall, columns, axes=(1, 1)).transpose(0, 2, 1)
    return np.clip(np.floor(resized + 0.5), 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _weights(source: int, scale: float) -> NDArray[np.float64]:
    """The (⌈source·scale⌉, source) matrix of a cubic resize along one side."""
    target = int(np.ceil(source * scale))
    stretch = max(1.0, 1 / scale)
    reach = int(np.ceil(4 * stretch)) + 2
    centre = (np.arange(target) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 * stretch).astype(int)
    taps = first[:, None] + np.arange(reach)[None, :]
    weight = _cubic((centre[:, None] - taps) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    mirrored = np.mod(taps, 2 * source)
    mirrored = np.where(mirrored < source, mirrored, 2 * source - 1 - mirrored)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], mirrored), weight)
    return matrix


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = −0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
