"""Blur kernels of unknown cameras: Gaussians of several shapes, and low-pass filters that ring.

The shapes are those of blind super-resolution (Real-ESRGAN): with q = xᵀ Σ⁻¹ x,

    Gaussian              exp(−q / 2)
    generalised           exp(−q^β / 2)
    plateau               1 / (1 + q^β)
    low-pass (sinc)       ω J₁(ω r) / (2π r)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Kernel = NDArray[np.float32]
"""(size, size), sums to 1."""


@dataclass(frozen=True)
class KernelRanges:
    """What a random kernel may be."""

    sigma: tuple[float, float]
    """Deviation along each axis, in pixels."""
    sizes: tuple[int, int] = (7, 21)
    """Smallest and largest side; only odd ones are drawn."""
    sinc: float = 0.1
    """Chance of a low-pass kernel."""
    generalised_beta: tuple[float, float] = (0.5, 4.0)
    """Exponent of the generalised Gaussians."""
    plateau_beta: tuple[float, float] = (1.0, 2.0)
    """Exponent of the plateaus."""


_SHAPES = ("gaussian", "gaussian", "generalised", "generalised", "plateau", "plateau")
_TURNED = (False, True, False, True, False, True)
_CHANCES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
"""Of each shape, round and elongated in turn."""


def random_kernel(rng: np.random.Generator, ranges: KernelRanges) -> Kernel:
    """A low-pass kernel with its chance, else a Gaussian of a random shape."""
    size = _random_size(rng, ranges.sizes)
    if rng.random() < ranges.sinc:
        return _random_sinc(rng, size)
    choice = rng.choice(len(_SHAPES), p=_CHANCES)
    sigma = rng.uniform(*ranges.sigma, size=2)
    if not _TURNED[choice]:
        sigma[1] = sigma[0]
    beta = 1.0
    if _SHAPES[choice] == "generalised":
        beta = _around_one(rng, ranges.generalised_beta)
    elif _SHAPES[choice] == "plateau":
        beta = _around_one(rng, ranges.plateau_beta)
    angle = rng.uniform(-math.pi, math.pi)
    return bell_kernel(size, sigma, angle, beta, plateau=_SHAPES[choice] == "plateau")


def random_final_kernel(rng: np.random.Generator, sizes: tuple[int, int], chance: float) -> Kernel:
    """A low-pass kernel with a chance, else one that changes nothing."""
    size = _random_size(rng, sizes)
    if rng.random() < chance:
        return sinc_kernel(size, rng.uniform(math.pi / 3, math.pi))
    return np.ones((1, 1), dtype=np.float32)


def bell_kernel(
    size: int, sigma: NDArray[np.float64], angle: float, beta: float = 1.0, plateau: bool = False
) -> Kernel:
    """A Gaussian, generalised by an exponent, or a plateau.

    Args:
        size: Its odd side in pixels.
        sigma: Deviations along its two axes in pixels, (2,).
        angle: From the x axis to the first of them, in radians.
        beta: The exponent; 1 for a plain Gaussian.
        plateau: Whether it is flat on top instead.
    """
    y, x = _grid(size)
    along = (x * math.cos(angle) + y * math.sin(angle)) / sigma[0]
    across = (y * math.cos(angle) - x * math.sin(angle)) / sigma[1]
    distance = (along**2 + across**2) ** beta
    return _normalised(1 / (1 + distance) if plateau else np.exp(-distance / 2))


def sinc_kernel(size: int, cutoff: float) -> Kernel:
    """A circular low-pass filter.

    Args:
        size: Its odd side in pixels.
        cutoff: ω in radians a pixel; π lets everything pass that the grid can show.
    """
    y, x = _grid(size)
    radius = np.hypot(x, y)
    safe = np.where(radius == 0, 1.0, radius)
    wave = torch.special.bessel_j1(torch.from_numpy(cutoff * safe)).numpy()
    kernel = np.where(radius == 0, cutoff**2 / (4 * math.pi), cutoff * wave / (2 * math.pi * safe))
    return _normalised(kernel)


def _random_sinc(rng: np.random.Generator, size: int) -> Kernel:
    # A small kernel cannot hold the long waves of a low cut-off.
    lowest = math.pi / 3 if size < 13 else math.pi / 5
    return sinc_kernel(size, rng.uniform(lowest, math.pi))


def _random_size(rng: np.random.Generator, sizes: tuple[int, int]) -> int:
    return int(rng.integers(sizes[0] // 2, sizes[1] // 2 + 1)) * 2 + 1


def _around_one(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """Below or above 1 with equal chance, whatever the length of the two parts."""
    return rng.uniform(ends[0], 1.0) if rng.random() < 0.5 else rng.uniform(1.0, ends[1])


def _grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    place = np.arange(size) - size // 2
    y, x = np.meshgrid(place, place, indexing="ij")
    return y.astype(np.float64), x.astype(np.float64)


def _normalised(kernel: NDArray[np.float64]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)
