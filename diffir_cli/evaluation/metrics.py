"""How close two images are: the formulas that the benchmarks of the field use, in float64."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Y of BT.601 in its studio range, not rounded.

    Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255

    Args:
        image: (H, W, 3) in 0–255.

    Returns:
        (H, W) in 16–235.
    """
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def shave(image: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    """An (H, W, …) image without `border` pixels on each side."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def psnr(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB of two images of one shape in 0–255.

    PSNR = 10 log₁₀(255² / mean((a − b)²)); infinite for equal images.
    """
    error = np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Mean structural similarity of two images of one shape in 0–255.

    SSIM = (2μₐμᵦ + C₁)(2σₐᵦ + C₂) / ((μₐ² + μᵦ² + C₁)(σₐ² + σᵦ² + C₂)) with C₁ = (0.01·255)²,
    C₂ = (0.03·255)² and moments under an 11×11 Gaussian of σ 1.5, where it fits whole (Wang et al.
    2004). Channels of an (H, W, C) image are averaged.

    Raises:
        ValueError: when a side is shorter than 11 pixels.
    """
    if min(first.shape[:2]) < 11:
        raise ValueError(f"SSIM needs at least 11 pixels a side, not {first.shape[:2]}")
    if first.ndim == 3:
        return float(np.mean([ssim(first[..., i], second[..., i]) for i in range(first.shape[2])]))
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ratio /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(ratio.mean())


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 11×11 Gaussian of σ 1.5 where it lies inside the (H, W) image."""
    kernel = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    blurred = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)
    return np.asarray(blurred, dtype=np.float64)[5:-5, 5:-5]
