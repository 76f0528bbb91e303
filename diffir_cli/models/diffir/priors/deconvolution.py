"""A deconvolution prior of a shaken picture, which the small deblurring networks read beside it.

A shake blurs a whole neighbourhood with one kernel, B = K ⊗ S + noise. The kernel is found by
alternation, from a small picture to the full one: a picture S of few edges that K would blur into
B, then the K that blurs the edges of that S into those of B. Both steps are quotients in the
Fourier domain:

    S = argmin |K ⊗ S − B|² + λ |∇S|₀      by half-quadratic splitting (Xu et al., CVPR 2013)
    K = argmin |K ⊗ ∇S − ∇B|² + γ |K|²     (Cho and Lee, SIGGRAPH Asia 2009)

The prior is the picture of little total variation that this K would blur into B:

    argmin |K ⊗ S − B|² + μ |∇S|₁          by the same splitting (Wang et al., SIAM 2008)

Kernels are only known but for a shift, and are taken to have their centre of mass in the middle, to
a fraction of a pixel. Where the picture does not show its kernel the prior is wrong, with
ringing; the network sees both and decides for each pixel. The released networks see the blurred
picture alone.
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
    centred,
    divided,
    fast_length,
    forward_differences,
    gradient_power,
    periodic_extension,
    transfer_function,
)

_KERNEL_SIZE, _LARGE_KERNEL = 35, 51
"""Side of the largest kernel that is looked for, in pixels, and that in a large picture: shakes
grow with it, and it tells more of them."""
_LARGE, _LARGE_SHORT = 1024, 128
"""Longer and shorter side from which on a picture is large."""
_RATIO = math.sqrt(0.5)
"""Side of a picture over that of the next larger one."""
_COARSEST = 5
"""Side of the kernel in the smallest picture."""
_ROUNDS = 5
"""Alternations at each size."""
_INITIAL_KERNEL = 2
"""How many sizes are left to the windows of a picture."""
_EDGES, _FEWEST_EDGES, _EDGES_DECAY = 4e-3, 1e-3, 1.1
"""λ, the least it becomes, and by what it is divided after each alternation."""
_STIFFEST = 1e5
"""Where the splitting's weight, which doubles, ends."""
_SPREAD = 5.0
"""γ, in units of the squared gradients."""
_FAINTEST = 0.05
"""Parts of a kernel below this share of its peak are noise."""
_LOOSEST = 0.1
"""Unconnected parts of a kernel with less than this share of it are noise."""
_VARIATION, _DAMPING = 1.5e-2, 1e-4
"""Penalties of the prior: μ, of its total variation, and of its squares."""
_LOOSE, _TIGHT = 4, 128
"""Between which multiples of μ the weight of its splitting doubles; it begins with μ itself."""
_FLAT = 1e-4
"""Root of the mean squared gradient below which a picture has no edges."""


def kernel_size_of(height: int, width: int) -> int:
    """Side of the largest kernel that is looked for in a picture, in pixels."""
    large = max(height, width) >= _LARGE and min(height, width) >= _LARGE_SHORT
    return _LARGE_KERNEL if large else _KERNEL_SIZE


@torch.no_grad()
def deconvolved(
    image: Tensor,
    reduced: float = 1.0,
    kernel_size: int = _KERNEL_SIZE,
    initial: Tensor | None = None,
) -> Tensor:
    """The prior for one window, within which the blur is taken for the same.

    Args:
        image: (3, H, W) in [0, 1].
        reduced: By how much the picture is made smaller to look for the kernel, at least 1.
        kernel_size: Side of the largest kernel, in pixels of the smaller picture.
        initial: Where to begin, from `initial_kernel` of the picture that the window is a part of.

    Returns:
        (3, H, W) in [0, 1]; the image itself where it is too small or too flat.
    """
    kernel = shake_kernel(_luma(image, reduced), kernel_size, initial)
    if kernel is None:
        return image
    if reduced > 1:
        kernel = _enlarged(kernel, reduced)
    return deconvolve_tv(image, kernel).clamp_(0, 1)


@torch.no_grad()
def initial_kernel(image: Tensor, reduced: float, kernel_size: int) -> Tensor | None:
    """The kernel of a whole picture as it is found before the largest sizes.

    A picture tells more of its kernel than a window, which need only be asked how its own differs.

    Args:
        image: (3, H, W) in [0, 1].
        reduced: By how much the picture is made smaller, at least 1.
        kernel_size: Side of the largest kernel, in pixels of the smaller picture.

    Returns:
        About half as many pixels a side; None where the picture is too small or too flat to tell.
    """
    luma = _luma(image, reduced)
    if not _has_edges(luma):
        return None
    return _alternated(luma, kernel_size, None, _sizes(kernel_size) - 1, _INITIAL_KERNEL)


def shake_kernel(
    luma: Tensor, kernel_size: int = _KERNEL_SIZE, initial: Tensor | None = None
) -> Tensor | None:
    """The kernel that a shake has blurred a picture with.

    Args:
        luma: (H, W) in [0, 1].
        kernel_size: Side of the kernel, odd.
        initial: Where to begin, from `initial_kernel`; from nothing if None.

    Returns:
        (kernel_size, kernel_size), not negative, with a sum of 1 and its centre of mass about
        the middle; None where the picture is too small or too flat to tell.
    """
    if not _has_edges(luma):
        return None
    first = _sizes(kernel_size) - 1 if initial is None else _INITIAL_KERNEL - 1
    return _alternated(luma, kernel_size, initial, first, 0)


def deconvolve_tv(image: Tensor, kernel: Tensor) -> Tensor:
    """The picture that a kernel has blurred, (C, H, W), from the blurred one and that kernel.

    It has little total variation, by splitting: an auxiliary field takes the gradients without
    their faintest part, then a quotient in the Fourier domain draws the picture to both. Its levels
    may leave the range of the image.
    """
    margin = min(len(kernel), *(side - 1 for side in image.shape[-2:]))
    height, width = image.shape[-2:]
    shape = fast_length(height + 2 * margin), fast_length(width + 2 * margin)
    transfer = centred(transfer_function(kernel, shape), kernel, shape)
    power, laplacian = transfer.abs().square().add_(_DAMPING), gradient_power(shape)
    # Channels one by one, but for their common steepness: spectra are large.
    picture = periodic_extension(image, margin, shape)
    wanted = [torch.fft.rfft2(channel).mul_(transfer.conj()) for channel in picture]
    right, down = torch.zeros_like(picture), torch.zeros_like(picture)
    stiffness = _VARIATION
    while True:
        share = torch.add(power, laplacian, alpha=stiffness)
        for number, spectrum in enumerate(wanted):
            pulled = torch.fft.rfft2(adjoint_differences(right[number], down[number]))
            pulled = pulled.mul_(stiffness).add_(spectrum)
            picture[number] = divided(pulled, share, shape)
        stiffness = max(2 * stiffness, _LOOSE * _VARIATION)
        if stiffness > _TIGHT * _VARIATION:
            break
        steepness = torch.zeros(shape)
        for axis, slopes in ((-1, right), (-2, down)):
            for number, channel in enumerate(picture):
                slopes[number] = torch.roll(channel, -1, axis).sub_(channel)
                steepness.addcmul_(slopes[number], slopes[number])
        steepness.sqrt_().clamp_min_(1e-8)
        kept = (1 - _VARIATION / (2 * stiffness) / steepness).clamp_min_(0)
        right.mul_(kept)
        down.mul_(kept)
    return picture[..., margin : margin + height, margin : margin + width].contiguous()


def scene_pixels(height: int, width: int, kernel_size: int) -> int:
    """How many pixels a picture has with the margins that it is worked on with."""
    margin = min(kernel_size, height - 1, width - 1)
    return fast_length(height + 2 * margin) * fast_length(width + 2 * margin)


def _alternated(
    luma: Tensor, kernel_size: int, kernel: Tensor | None, first: int, last: int
) -> Tensor:
    """The kernel after the sizes from `first` to `last`; 0 is the picture's own."""
    before = _ROUNDS * (_sizes(kernel_size) - 1 - first)
    edges = max(_EDGES / _EDGES_DECAY**before, _FEWEST_EDGES)
    for level in range(first, last - 1, -1):
        ratio = _RATIO**level
        side = max(3, math.ceil(kernel_size * ratio)) // 2 * 2 + 1
        small = luma
        if level:
            small = _resized(luma, [max(16, round(ratio * length)) for length in luma.shape])
        scene = _Scene(small, side)
        if kernel is None:
            kernel = torch.zeros(side, side)
            kernel[side // 2, side // 2 - 1 : side // 2 + 1] = 0.5
        else:
            kernel = _resized(kernel, [side, side]).clamp_min(0)
            kernel = kernel / kernel.sum()
        for _ in range(_ROUNDS):
            kernel = _cleaned(scene.kernel(scene.few_edges(kernel, edges)))
            edges = max(edges / _EDGES_DECAY, _FEWEST_EDGES)
    assert kernel is not None
    return kernel


def _sizes(kernel_size: int) -> int:
    """In how many sizes of a picture a kernel is looked for."""
    return int(math.log(_COARSEST / kernel_size) / math.log(_RATIO)) + 1


def _luma(image: Tensor, reduced: float) -> Tensor:
    """(H, W) of a (3, H, W) picture, made smaller."""
    luma = image.mean(dim=0).nan_to_num(0).clamp(0, 1)
    if reduced > 1:
        luma = _resized(luma, [max(1, round(side / reduced)) for side in luma.shape])
    return luma


def _has_edges(luma: Tensor) -> bool:
    """Whether a picture is large enough, and has edges."""
    if min(luma.shape) < SMALLEST_WINDOW:
        return False
    return bool(forward_differences(luma).square().mean() >= _FLAT**2)


class _Scene:
    """A blurred picture of one size, ready for the two steps.

    Args:
        luma: (H, W).
        side: Of the kernel.
    """

    def __init__(self, luma: Tensor, side: int) -> None:
        height, width = luma.shape
        self.side = side
        margin = min(side, height - 1, width - 1)
        self.shape = fast_length(height + 2 * margin), fast_length(width + 2 * margin)
        self.blurred = periodic_extension(luma[None], margin, self.shape)[0]
        self.spectrum = torch.fft.rfft2(self.blurred)
        self.laplacian = gradient_power(self.shape)
        self.inside = torch.zeros(self.shape)
        self.inside[margin : margin + height, margin : margin + width] = 1
        self.slopes = torch.fft.rfft2(forward_differences(self.blurred) * self.inside)

    def few_edges(self, kernel: Tensor, edges: float) -> Tensor:
        """A picture with few edges that the kernel would blur into this one."""
        transfer = transfer_function(kernel, self.shape)
        wanted, power = transfer.conj() * self.spectrum, transfer.abs().square()
        picture, stiffness = self.blurred, 2 * edges
        while stiffness < _STIFFEST:
            right = torch.roll(picture, -1, 1).sub_(picture)
            down = torch.roll(picture, -1, 0).sub_(picture)
            weak = right.square().addcmul_(down, down) < edges / stiffness
            gathered = adjoint_differences(right.masked_fill_(weak, 0), down.masked_fill_(weak, 0))
            pulled = torch.fft.rfft2(gathered).mul_(stiffness).add_(wanted)
            share = torch.add(power, self.laplacian, alpha=stiffness)
            picture = divided(pulled, share, self.shape)
            stiffness *= 2
        return picture

    def kernel(self, sharp: Tensor) -> Tensor:
        """The kernel that blurs the slopes of a picture into those of this one."""
        slopes = torch.fft.rfft2(forward_differences(sharp) * self.inside)
        agreeing = (slopes.conj() * self.slopes).sum(dim=0)
        kernel = torch.fft.irfft2(agreeing / (slopes.abs().square().sum(0) + _SPREAD), self.shape)
        half = self.side // 2
        return torch.roll(kernel, (half, half), (0, 1))[: self.side, : self.side]


def _cleaned(kernel: Tensor) -> Tensor:
    """A kernel without what is negative, faint or lonely, around its centre of mass."""
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
    """A kernel moved along an axis; what leaves it is lost."""
    moved = torch.roll(kernel, steps, axis)
    came_back = slice(0, steps) if steps >= 0 else slice(len(kernel) + steps, None)
    moved[(slice(None),) * axis + (came_back,)] = 0
    return moved


def _enlarged(kernel: Tensor, factor: float) -> Tensor:
    """A kernel of a larger picture, by linear interpolation around its middle."""
    half = math.ceil(factor * len(kernel) / 2)
    places = torch.arange(-half, half + 1) / factor + len(kernel) // 2
    shares = (1 - (places[:, None] - torch.arange(len(kernel))).abs()).clamp_min(0)
    larger = shares @ kernel @ shares.T
    return larger / larger.sum()


def _resized(plane: Tensor, size: list[int]) -> Tensor:
    """A (H, W) plane in another size, by bicubic interpolation without aliases."""
    smaller = size[0] < plane.shape[0]
    return F.interpolate(plane[None, None], size, mode="bicubic", antialias=smaller)[0, 0]
