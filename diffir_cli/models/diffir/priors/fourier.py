"""Planes and their spectra, for what deconvolution divides in the Fourier domain.

Planes are (H, W) and periodic: what leaves one side comes back at the other. Spectra are those of
`torch.fft.rfft2`, (H, W // 2 + 1).
"""

from __future__ import annotations

import math

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor


def forward_differences(plane: Tensor) -> Tensor:
    """Differences to the right and lower neighbours, around the edge: (2, H, W)."""
    return torch.stack([torch.roll(plane, -1, 1) - plane, torch.roll(plane, -1, 0) - plane])


def adjoint_differences(right: Tensor, down: Tensor) -> Tensor:
    """The adjoint of `forward_differences`: (H, W) from a plane for each direction."""
    return torch.roll(right, 1, -1).sub_(right).add_(torch.roll(down, 1, -2)).sub_(down)


def gradient_power(shape: tuple[int, int]) -> Tensor:
    """The transfer function of the one after the other, real: (H, W // 2 + 1) in [0, 8]."""
    rows = 2 - 2 * torch.cos(2 * math.pi * torch.arange(shape[0]) / shape[0])
    columns = 2 - 2 * torch.cos(2 * math.pi * torch.arange(shape[1] // 2 + 1) / shape[1])
    return rows[:, None] + columns


def transfer_function(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """The spectrum of a kernel, (K, K) with an odd K, whose middle lies at the origin."""
    plane = torch.zeros(shape)
    plane[: len(kernel), : len(kernel)] = kernel
    half = len(kernel) // 2
    return torch.fft.rfft2(torch.roll(plane, (-half, -half), (0, 1)))


def centred(transfer: Tensor, kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """A kernel's transfer function, moved until its centre of mass lies at the origin."""
    places = torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2
    row, column = (float(kernel.sum(axis) @ places / kernel.sum()) for axis in (1, 0))
    turns = torch.fft.fftfreq(shape[0])[:, None] * row + torch.fft.rfftfreq(shape[1]) * column
    return transfer * torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


def divided(spectrum: Tensor, divisor: Tensor, shape: tuple[int, int]) -> Tensor:
    """A spectrum, which is overwritten, divided by real numbers, and transformed back."""
    # A complex number divided by a real one would be divided by a complex one.
    torch.view_as_real(spectrum).mul_(divisor.reciprocal()[..., None])
    return torch.fft.irfft2(spectrum, shape)


def periodic_extension(image: Tensor, margin: int, shape: tuple[int, int]) -> Tensor:
    """A (C, H, W) image in the middle of a larger one, whose borders meet.

    Around it stands its mirror image, which fades into its mean.
    """
    height, width = image.shape[-2:]
    below, right = shape[0] - height - margin, shape[1] - width - margin
    larger = F.pad(image[None], (margin, right, margin, below), mode="reflect")[0]
    mean = image.mean(dim=(-2, -1), keepdim=True)
    faded = _rise(margin, height, below)[:, None] * _rise(margin, width, right)
    return mean + (larger - mean) * faded


def margin_and_shape(height: int, width: int, kernel_size: int) -> tuple[int, tuple[int, int]]:
    """How an image is extended for the Fourier transform.

    Args:
        height: Of the image.
        width: Of the image.
        kernel_size: Side of the largest kernel.

    Returns:
        The margin at the top and at the left: `kernel_size`, or less in smaller images. And the
        height and width of the extended image, for which the transform is fast; the margins at the
        bottom and at the right take what is left.
    """
    margin = min(kernel_size, height - 1, width - 1)
    return margin, (fast_length(height + 2 * margin), fast_length(width + 2 * margin))


def _rise(before: int, length: int, behind: int) -> Tensor:
    """From 0 to 1 in `before` steps, 1 for `length`, and back in `behind`."""
    up, down = (
        0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, steps + 1) / (steps + 1))
        for steps in (before, behind)
    )
    return torch.cat([up, torch.ones(length), down.flip(0)])


def fast_length(length: int) -> int:
    """The next even length whose transform is fast: a product of 2, 3 and 5."""
    return 2 * cv2.getOptimalDFTSize((length + 1) // 2)
