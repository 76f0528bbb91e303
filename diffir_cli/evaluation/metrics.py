"""How close two images are: the formulas that the benchmarks of the field use, in float64.

All are elementwise operations and filters. A matrix product would be left to a BLAS library, whose
kernels round by processor and memory layout: two equal images could then have a finite PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def shave(image: NDArray[Any], border: int) -> NDArray[Any]:
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
    if min(first.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW} pixels a side, not {first.shape[:2]}")
    return _ssim(first, second, _moment_inside)


def ssim_padded(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """As `ssim`, but at every pixel, with zeros around the images: what inpainting papers quote."""
    return _ssim(first, second, _moment_padded)


def ssim_volume(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """As `ssim`, of two (H, W, 3) images as volumes: what MATLAB's `ssim` makes of RGB arrays.

    The Gaussian has 11×11×11 taps, so that it mixes the channels; edges are repeated outwards in
    all three directions, and every pixel counts.
    """
    return _ssim(first, second, _moment_of_volume)


_WINDOW = 11
"""Taps of the Gaussian, whose σ is 1.5."""

_Moment = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _ssim(first: NDArray[np.generic], second: NDArray[np.generic], moment: _Moment) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    mean_a, mean_b = moment(a), moment(b)
    variance_a = moment(a * a) - mean_a**2
    variance_b = moment(b * b) - mean_b**2
    covariance = moment(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    ratio /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(ratio.mean())


def _moment_inside(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian where it lies inside the image."""
    half = _WINDOW // 2
    return _blurred(image, cv2.BORDER_REFLECT_101)[half:-half, half:-half]


def _moment_padded(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return _blurred(image, cv2.BORDER_CONSTANT)


def _moment_of_volume(image: NDArray[np.float64]) -> NDArray[np.float64]:
    channels = image.shape[2]
    half = _WINDOW // 2
    mixing = np.zeros((channels, channels))
    for channel in range(channels):
        for tap, weight in zip(range(-half, half + 1), _gaussian(), strict=True):
            mixing[min(max(channel + tap, 0), channels - 1), channel] += weight
    blurred = _blurred(image, cv2.BORDER_REPLICATE)
    mixed = [
        sum(blurred[..., source] * mixing[source, target] for source in range(channels))
        for target in range(channels)
    ]
    return np.stack(mixed, axis=-1)


def _blurred(image: NDArray[np.float64], border: int) -> NDArray[np.float64]:
    kernel = _gaussian()
    blurred = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=border)
    return np.asarray(blurred, dtype=np.float64)


def _gaussian() -> NDArray[np.float64]:
    kernel = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * 1.5**2))
    return kernel / kernel.sum()
