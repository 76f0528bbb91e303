"""Blind estimation of the blur kernel of a camera shake.

A shake blurs an image with one kernel, B = K ⊗ S + noise. From a small version of the image to the
full one, two steps alternate: find an image S with few edges that K would blur into B, then the K
that blurs the edges of S into those of B. The second is a division in the Fourier domain; the first
alternates such divisions with a threshold that sets weak gradients to 0:

    S = argmin |K ⊗ S − B|² + λ |∇S|₀      by half-quadratic splitting (Xu et al., CVPR 2013)
    K = argmin |K ⊗ ∇S − ∇B|² + γ |K|²     (Cho and Lee, SIGGRAPH Asia 2009)

λ falls from round to round.

A blurred image determines its kernel only up to a shift. Kernels are moved until their centre of
mass lies in the middle.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.models.diffir.config import SMALLEST_WINDOW
from diffir_cli.models.diffir.priors.fourier import (
    adjoint_differences,
    divided,
    forward_differences,
    gradient_power,
    margin_and_shape,
    periodic_extension,
    transfer_function,
)

_KERNEL_SIZE, _LARGE_KERNEL = 35, 51
"""Side of the largest kernel, in pixels, in most images and in large ones, where shakes are longer
and there are more edges to estimate a kernel from."""
_LARGE, _LARGE_SHORT = 1024, 128
"""Longer and shorter side from which on an image is large."""
_RATIO = math.sqrt(0.5)
"""Side of an image over that of the next larger one."""
_COARSEST = 5
"""Side of the kernel in the smallest image."""
_ROUNDS = 5
"""Alternations at each size."""
_WHOLE = 2
"""Number of the last size (0 is the full one) for which the whole image is used, not a window."""
_EDGES, _EDGES_DECAY, _FEWEST_EDGES = 4e-3, 1.1, 1e-3
"""λ in the first round, by what it is divided after each round, and its smallest value."""
_STIFFEST = 1e5
"""Where the weight of the splitting ends, which doubles after each step."""
_SPREAD = 5.0
"""γ, in units of the squared gradients."""
_FAINTEST = 0.05
"""Parts of a kernel below this share of its peak are set to 0."""
_LOOSEST = 0.1
"""Unconnected parts of a kernel with less than this share of its sum are set to 0."""
_FLAT = 1e-4
"""Root of the mean squared gradient below which an image has no edges."""


def kernel_size_of(height: int, width: int) -> int:
    """Side of the largest kernel that is estimated for an image, in pixels."""
    large = max(height, width) >= _LARGE and min(height, width) >= _LARGE_SHORT
    return _LARGE_KERNEL if large else _KERNEL_SIZE


@torch.no_grad()
def initial_kernel(grey: Tensor, kernel_size: int = _KERNEL_SIZE) -> Tensor | None:
    """The kernel of a whole image before the two largest sizes, where its windows go on.

    A whole image has more edges than a window, so its kernel is more often right, and a good
    start for the windows.

    Args:
        grey: (H, W) in [0, 1].
        kernel_size: Side of the largest kernel, odd.

    Returns:
        About half as many pixels a side; None if the image is too small or has no edges.
    """
    if not _has_edges(grey):
        return None
    return _alternated(grey, kernel_size, None, _sizes(kernel_size) - 1, _WHOLE)


@torch.no_grad()
def shake_kernel(
    grey: Tensor, kernel_size: int = _KERNEL_SIZE, initial: Tensor | None = None
) -> Tensor | None:
    """The kernel with which a shake has blurred an image.

    Args:
        grey: (H, W) in [0, 1].
        kernel_size: Side of the kernel, odd.
        initial: The result of `initial_kernel` for the image that this is a window of. Without it,
            the estimation begins at the smallest size.

    Returns:
        (kernel_size, kernel_size), not negative, with a sum of 1 and its centre of mass within
        half a pixel of the middle; None if the image is too small or has no edges.
    """
    if not _has_edges(grey):
        return None
    first = _sizes(kernel_size) - 1 if initial is None else _WHOLE - 1
    return _alternated(grey, kernel_size, initial, first, 0)


def grey_of(image: Tensor, reduced: float = 1.0) -> Tensor:
    """The mean of the channels, (H, W), in which kernels are estimated, from a (3, H, W) image.

    Args:
        image: Levels in [0, 1]. The mean is clamped to this range; NaN becomes 0.
        reduced: How many times smaller the plane is, at least 1.
    """
    grey = image.mean(dim=0).nan_to_num(0).clamp(0, 1)
    if reduced > 1:
        grey = _resized(grey, [max(1, round(side / reduced)) for side in grey.shape])
    return grey


def enlarged_kernel(kernel: Tensor, factor: float) -> Tensor:
    """The kernel of an image that is `factor` times as large, by linear interpolation."""
    half = math.ceil(factor * len(kernel) / 2)
    places = torch.arange(-half, half + 1) / factor + len(kernel) // 2
    shares = (1 - (places[:, None] - torch.arange(len(kernel))).abs()).clamp_min(0)
    larger = shares @ kernel @ shares.T
    return larger / larger.sum()


def extended_pixels(height: int, width: int, kernel_size: int) -> int:
    """How many pixels an image has with the margins that it gets for the Fourier transform."""
    return math.prod(margin_and_shape(height, width, kernel_size)[1])


def _alternated(
    grey: Tensor, kernel_size: int, kernel: Tensor | None, first: int, last: int
) -> Tensor:
    """The kernel after some of the sizes.

    Args:
        grey: (H, W), the full size.
        kernel_size: Side of the largest kernel.
        kernel: That of the size before; None at the smallest size.
        first: Number of the size to begin with.
        last: Number of the size to end with; 0 is the full one.
    """
    before = _ROUNDS * (_sizes(kernel_size) - 1 - first)
    edges = max(_EDGES / _EDGES_DECAY**before, _FEWEST_EDGES)
    for number in range(first, last - 1, -1):
        side = max(3, math.ceil(kernel_size * _RATIO**number)) // 2 * 2 + 1
        small = grey
        if number:
            small = _resized(
                grey, [max(16, round(_RATIO**number * length)) for length in grey.shape]
            )
        blurred = _Blurred(small, side)
        if kernel is None:
            kernel = torch.zeros(side, side)
            kernel[side // 2, side // 2 - 1 : side // 2 + 1] = 0.5
        else:
            kernel = _resized(kernel, [side, side]).clamp_min(0)
            kernel = kernel / kernel.sum()
        for _ in range(_ROUNDS):
            kernel = _cleaned(blurred.kernel(blurred.few_edges(kernel, edges)))
            edges = max(edges / _EDGES_DECAY, _FEWEST_EDGES)
    assert kernel is not None
    return kernel


def _sizes(kernel_size: int) -> int:
    """The number of sizes of the image at which a kernel is estimated."""
    return int(math.log(_COARSEST / kernel_size) / math.log(_RATIO)) + 1


def _has_edges(grey: Tensor) -> bool:
    """Whether an image is large enough for a kernel and has edges."""
    if min(grey.shape) < SMALLEST_WINDOW:
        return False
    return bool(forward_differences(grey).square().mean() >= _FLAT**2)


class _Blurred:
    """A blurred image of one size, prepared for the two steps.

    Args:
        grey: (H, W).
        side: Of the kernel.
    """

    def __init__(self, grey: Tensor, side: int) -> None:
        height, width = grey.shape
        self.side = side
        margin, self.shape = margin_and_shape(height, width, side)
        self.image = periodic_extension(grey[None], margin, self.shape)[0]
        self.spectrum = torch.fft.rfft2(self.image)
        self.laplacian = gradient_power(self.shape)
        self.inside = torch.zeros(self.shape)
        self.inside[margin : margin + height, margin : margin + width] = 1
        self.slopes = torch.fft.rfft2(forward_differences(self.image) * self.inside)

    def few_edges(self, kernel: Tensor, edges: float) -> Tensor:
        """An image with few edges that the kernel would blur into this one."""
        transfer = transfer_function(kernel, self.shape)
        wanted, power = transfer.conj() * self.spectrum, transfer.abs().square()
        sharp, stiffness = self.image, 2 * edges
        while stiffness < _STIFFEST:
            right = torch.roll(sharp, -1, 1).sub_(sharp)
            down = torch.roll(sharp, -1, 0).sub_(sharp)
            weak = right.square().addcmul_(down, down) < edges / stiffness
            gathered = adjoint_differences(right.masked_fill_(weak, 0), down.masked_fill_(weak, 0))
            pulled = torch.fft.rfft2(gathered).mul_(stiffness).add_(wanted)
            share = torch.add(power, self.laplacian, alpha=stiffness)
            sharp = divided(pulled, share, self.shape)
            stiffness *= 2
        return sharp

    def kernel(self, sharp: Tensor) -> Tensor:
        """The kernel that blurs the slopes of an image into those of this one."""
        slopes = torch.fft.rfft2(forward_differences(sharp) * self.inside)
        agreeing = (slopes.conj() * self.slopes).sum(dim=0)
        kernel = torch.fft.irfft2(agreeing / (slopes.abs().square().sum(0) + _SPREAD), self.shape)
        half = self.side // 2
        return torch.roll(kernel, (half, half), (0, 1))[: self.side, : self.side]


def _cleaned(kernel: Tensor) -> Tensor:
    """A kernel without its negative, faint and unconnected parts, centred to a pixel."""
    kernel = kernel * (kernel >= _FAINTEST * kernel.max().clamp_min(0)) * (kernel > 0)
    if not kernel.any():
        kernel = torch.zeros_like(kernel)
        kernel[len(kernel) // 2, len(kernel) // 2] = 1
        return kernel
    count, labels = cv2.connectedComponents((kernel > 0).numpy().astype(np.uint8), connectivity=8)
    parts = torch.from_numpy(labels).long()
    shares = torch.zeros(count).index_add_(0, parts.flatten(), kernel.flatten()) / kernel.sum()
    largest = shares == shares.max()
    kernel = kernel * ((shares >= _LOOSEST) | largest)[parts]
    kernel = kernel / kernel.sum()
    places = torch.arange(len(kernel), dtype=kernel.dtype)
    for axis in (0, 1):
        centre = float(kernel.sum(1 - axis) @ places)
        kernel = _moved(kernel, round(len(kernel) // 2 - centre), axis)
    return kernel / kernel.sum()


def _moved(kernel: Tensor, steps: int, axis: int) -> Tensor:
    """A kernel moved along an axis; parts that leave it are lost."""
    moved = torch.roll(kernel, steps, axis)
    came_back = slice(0, steps) if steps >= 0 else slice(len(kernel) + steps, None)
    moved[(slice(None),) * axis + (came_back,)] = 0
    return moved


def _resized(plane: Tensor, size: list[int]) -> Tensor:
    """A (H, W) plane in another size, by bicubic interpolation without aliases."""
    smaller = size[0] < plane.shape[0]
    return F.interpolate(plane[None, None], size, mode="bicubic", antialias=smaller)[0, 0]
