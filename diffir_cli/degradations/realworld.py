"""The second-order degradation of blind super-resolution: what a photo suffers on its way.

Twice in a row blur, resize, noise and JPEG; then, in random order, the last resize with the
ringing of a low-pass filter, and a last JPEG. The numbers are those of Real-ESRGAN, with which
DiffIR trains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.kernels import KernelRanges, random_final_kernel, random_kernel

Pixels = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""

_RESIZES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Pass:
    """One round of blur, resize, noise and JPEG."""

    kernel: KernelRanges
    blur: float
    """Chance of the blur."""
    resize: tuple[float, float, float]
    """Chances to grow, to shrink and to stay."""
    factors: tuple[float, float]
    """Smallest and largest factor of the resize."""
    gaussian: float
    """Chance that the noise is Gaussian; else it is Poisson's."""
    gaussian_sigma: tuple[float, float]
    """Its deviation in levels of 255."""
    poisson_scale: tuple[float, float]
    """Its strength; 1 is what the brightness itself implies."""
    grey: float
    """Chance that the noise is the same in all channels."""
    jpeg: tuple[int, int]
    """Lowest and highest quality."""


FIRST = Pass(
    KernelRanges((0.2, 3.0)),
    1.0,
    (0.2, 0.7, 0.1),
    (0.15, 1.5),
    0.5,
    (1, 30),
    (0.05, 3.0),
    0.4,
    (30, 95),
)
SECOND = Pass(
    KernelRanges((0.2, 1.5)),
    0.8,
    (0.3, 0.4, 0.3),
    (0.3, 1.2),
    0.5,
    (1, 25),
    (0.05, 2.5),
    0.4,
    (30, 95),
)
FINAL_SINC = 0.8
"""Chance of the last low-pass filter."""


def degrade(gt: NDArray[np.uint8], scale: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What is left of a sharp picture.

    Args:
        gt: (scale·H, scale·W, 3) in 0–255.
        scale: Side of GT over side of LQ.
        rng: Where all randomness comes from.

    Returns:
        (H, W, 3) in 0–255.
    """
    height, width = gt.shape[0] // scale, gt.shape[1] // scale
    image = _one_pass(_to_float(gt), FIRST, gt.shape[:2], rng)
    image = _one_pass(image, SECOND, (height, width), rng, jpeg=False)
    kernel = random_final_kernel(rng, SECOND.kernel.sizes, FINAL_SINC)
    quality = int(rng.integers(SECOND.jpeg[0], SECOND.jpeg[1] + 1))
    method = _RESIZES[rng.integers(len(_RESIZES))]
    if rng.random() < 0.5:
        image = _jpeg(_blur(_resize(image, height, width, method), kernel), quality)
    else:
        image = _blur(_resize(_jpeg(image, quality), height, width, method), kernel)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def sharpen(gt: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Unsharp masking, (H, W, 3) in 0–255: the truth of the second version of realsr.

    Half of the difference to a blur of 51 pixels is added where that difference exceeds 10 levels;
    the border of those places is softened.
    """
    image = _to_float(gt)
    residual = image - cv2.GaussianBlur(image, (51, 51), 0)
    mask = (np.abs(residual) * 255 > 10).astype(np.float32)
    soft = cv2.GaussianBlur(mask, (51, 51), 0)
    sharp = np.clip(image + 0.5 * residual, 0, 1)
    return np.rint((soft * sharp + (1 - soft) * image) * 255).astype(np.uint8)


def _one_pass(
    image: Pixels, one: Pass, shape: tuple[int, ...], rng: np.random.Generator, jpeg: bool = True
) -> Pixels:
    """Blur, resize to a random factor of a shape, noise and JPEG."""
    if rng.random() < one.blur:
        image = _blur(image, random_kernel(rng, one.kernel))
    grow, shrink, _ = one.resize
    fate = rng.random()
    factor = 1.0
    if fate < grow:
        factor = rng.uniform(1, one.factors[1])
    elif fate < grow + shrink:
        factor = rng.uniform(one.factors[0], 1)
    method = _RESIZES[rng.integers(len(_RESIZES))]
    height, width = (max(1, round(side * factor)) for side in shape[:2])
    image = _noise(_resize(image, height, width, method), one, rng)
    if not jpeg:
        return image
    return _jpeg(image, int(rng.integers(one.jpeg[0], one.jpeg[1] + 1)))


def _to_float(levels: NDArray[Any]) -> Pixels:
    return np.asarray(levels, dtype=np.float32) * np.float32(1 / 255)


def _blur(image: Pixels, kernel: NDArray[np.float32]) -> Pixels:
    if kernel.size == 1:
        return image
    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)


def _resize(image: Pixels, height: int, width: int, method: int) -> Pixels:
    if image.shape[:2] == (height, width):
        return image
    resized = cv2.resize(image, (width, height), interpolation=method)
    return np.asarray(resized, dtype=np.float32)


def _noise(image: Pixels, one: Pass, rng: np.random.Generator) -> Pixels:
    grey = rng.random() < one.grey
    if rng.random() < one.gaussian:
        shape = (*image.shape[:2], 1 if grey else 3)
        sigma = rng.uniform(*one.gaussian_sigma) / 255
        noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    else:
        noise = _poisson(image, grey, rng) * np.float32(rng.uniform(*one.poisson_scale))
    return np.clip(image + noise, 0, 1, dtype=np.float32)


def _poisson(image: Pixels, grey: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """The error of counting photons, as many to white as the picture has different levels."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if grey:
        levels = np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)[:, :, None]
    count = int(np.count_nonzero(np.bincount(levels.ravel(), minlength=256)))
    photons = 2.0 ** math.ceil(math.log2(max(count, 2)))
    clean = levels.astype(np.float32) / 255
    return (rng.poisson(clean * photons) / photons - clean).astype(np.float32)


def _jpeg(image: Pixels, quality: int) -> Pixels:
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", levels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return _to_float(decoded[:, :, ::-1])
