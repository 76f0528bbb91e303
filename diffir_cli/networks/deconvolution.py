"""A deconvolved guess of a shaken picture, which the small deblurring networks read beside it.

A shake blurs a whole neighbourhood with one kernel, B = K ⊗ S + noise. The kernel is found by
alternation, from a small picture to the full one: a picture S of few edges that K would blur into
B, then the K that blurs the edges of that S into those of B. Both steps are quotients in the
Fourier domain:

    S = argmin |K ⊗ S − B|² + λ |∇S|₀      by half-quadratic splitting (Xu et al., CVPR 2013)
    K = argmin |K ⊗ ∇S − ∇B|² + γ |K|²     (Cho and Lee, SIGGRAPH Asia 2009)

The guess is then B divided by that K with a penalty on gradients. Where no kernel can be told from
the picture it is wrong, with ringing; the network sees both and decides for each pixel. The
released networks see the blurred picture alone.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.config import SMALLEST_WINDOW

EXTENT = 35
"""Side of the largest kernel that is looked for, in pixels."""

_RATIO = math.sqrt(0.5)
"""Side of a picture over that of the next larger one."""
_COARSEST = 5
"""Side of the kernel in the smallest picture."""
_ROUNDS = 5
"""Alternations at each size."""
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
_SMOOTHNESS, _DAMPING = 2e-2, 1e-4
"""Penalties of the guess: of its gradients, and of itself."""
_FLAT = 1e-4
"""Root of the mean squared gradient below which a picture has no edges."""


@torch.no_grad()
def deconvolved(image: Tensor, reduced: float = 1.0) -> Tensor:
    """The guess for one window, within which the blur is taken for the same.

    Args:
        image: (3, H, W) in [0, 1].
        reduced: By how much the picture is made smaller to look for the kernel, at least 1.

    Returns:
        (3, H, W) in [0, 1]; the image itself where it is too small or too flat.
    """
    luma = image.mean(dim=0).nan_to_num(0).clamp(0, 1)
    if reduced > 1:
        size = [max(1, round(side / reduced)) for side in luma.shape]
        luma = _resized(luma, size)
    kernel = shake_kernel(luma)
    if kernel is None:
        return image
    if reduced > 1:
        kernel = _enlarged(kernel, reduced)
    return divided(image, kernel).clamp(0, 1)


def shake_kernel(luma: Tensor) -> Tensor | None:
    """The kernel that a shake has blurred a picture with.

    Args:
        luma: (H, W) in [0, 1].

    Returns:
        (EXTENT, EXTENT), not negative, with a sum of 1 and its centre of mass in the middle; None
        where the picture is too small or too flat to tell.
    """
    if min(luma.shape) < SMALLEST_WINDOW or _slopes(luma).square().mean() < _FLAT**2:
        return None
    kernel, edges = None, _EDGES
    levels = int(math.log(_COARSEST / EXTENT) / math.log(_RATIO)) + 1
    for level in reversed(range(levels)):
        ratio = _RATIO**level
        side = max(3, math.ceil(EXTENT * ratio)) // 2 * 2 + 1
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
    return kernel


def divided(image: Tensor, kernel: Tensor) -> Tensor:
    """The picture that a kernel has blurred, (C, H, W), from the blurred one and that kernel.

    The least squares solution with a penalty on gradients, S = K* B / (|K|² + ε |∇|² + δ); its
    levels may leave the range of the image.
    """
    margin = min(len(kernel), *(side - 1 for side in image.shape[-2:]))
    height, width = image.shape[-2:]
    shape = _fast(height + 2 * margin), _fast(width + 2 * margin)
    transfer = _transfer(kernel, shape)
    spectrum = transfer.conj() * torch.fft.rfft2(_periodic(image, margin, shape))
    penalty = transfer.abs().square() + _SMOOTHNESS * _laplacian(shape) + _DAMPING
    sharp = torch.fft.irfft2(spectrum / penalty, shape)
    return sharp[..., margin : margin + height, margin : margin + width]


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
        self.shape = _fast(height + 2 * margin), _fast(width + 2 * margin)
        self.blurred = _periodic(luma[None], margin, self.shape)[0]
        self.spectrum = torch.fft.rfft2(self.blurred)
        self.laplacian = _laplacian(self.shape)
        self.inside = torch.zeros(self.shape)
        self.inside[margin : margin + height, margin : margin + width] = 1
        self.slopes = torch.fft.rfft2(_slopes(self.blurred) * self.inside)

    def few_edges(self, kernel: Tensor, edges: float) -> Tensor:
        """A picture with few edges that the kernel would blur into this one."""
        transfer = _transfer(kernel, self.shape)
        wanted, power = transfer.conj() * self.spectrum, transfer.abs().square()
        picture, stiffness = self.blurred, 2 * edges
        while stiffness < _STIFFEST:
            right = torch.roll(picture, -1, 1).sub_(picture)
            down = torch.roll(picture, -1, 0).sub_(picture)
            weak = right.square().addcmul_(down, down) < edges / stiffness
            gathered = _gathered(right.masked_fill_(weak, 0), down.masked_fill_(weak, 0))
            pulled = torch.fft.rfft2(gathered).mul_(stiffness).add_(wanted)
            # A complex number divided by a real one would be divided by a complex one.
            share = torch.add(power, self.laplacian, alpha=stiffness).reciprocal_()
            torch.view_as_real(pulled).mul_(share[..., None])
            picture = torch.fft.irfft2(pulled, self.shape)
            stiffness *= 2
        return picture

    def kernel(self, sharp: Tensor) -> Tensor:
        """The kernel that blurs the slopes of a picture into those of this one."""
        slopes = torch.fft.rfft2(_slopes(sharp) * self.inside)
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


def _slopes(plane: Tensor) -> Tensor:
    """Differences to the right and lower neighbours, around the edge: (2, H, W)."""
    return torch.stack([torch.roll(plane, -1, 1) - plane, torch.roll(plane, -1, 0) - plane])


def _gathered(right: Tensor, down: Tensor) -> Tensor:
    """The adjoint of `_slopes`."""
    return torch.roll(right, 1, 1).sub_(right).add_(torch.roll(down, 1, 0)).sub_(down)


def _laplacian(shape: tuple[int, int]) -> Tensor:
    """|∇|² at the frequencies of a real transform."""
    rows = 2 - 2 * torch.cos(2 * math.pi * torch.arange(shape[0]) / shape[0])
    columns = 2 - 2 * torch.cos(2 * math.pi * torch.arange(shape[1] // 2 + 1) / shape[1])
    return rows[:, None] + columns


def _transfer(kernel: Tensor, shape: tuple[int, int]) -> Tensor:
    """The kernel's Fourier transform, its middle at the origin."""
    plane = torch.zeros(shape)
    plane[: len(kernel), : len(kernel)] = kernel
    half = len(kernel) // 2
    return torch.fft.rfft2(torch.roll(plane, (-half, -half), (0, 1)))


def _periodic(image: Tensor, margin: int, shape: tuple[int, int]) -> Tensor:
    """A (C, H, W) image in the middle of a larger one, whose borders meet.

    Around it stands its mirror image, which fades into its mean.
    """
    height, width = image.shape[-2:]
    below, right = shape[0] - height - margin, shape[1] - width - margin
    larger = F.pad(image[None], (margin, right, margin, below), mode="reflect")[0]
    mean = image.mean(dim=(-2, -1), keepdim=True)
    faded = _rise(margin, height, below)[:, None] * _rise(margin, width, right)
    return mean + (larger - mean) * faded


def _rise(before: int, length: int, behind: int) -> Tensor:
    """From 0 to 1 in `before` steps, 1 for `length`, and back in `behind`."""
    up, down = (
        0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, steps + 1) / (steps + 1))
        for steps in (before, behind)
    )
    return torch.cat([up, torch.ones(length), down.flip(0)])


def _fast(length: int) -> int:
    """The next even length whose transform is fast: a product of 2, 3 and 5."""
    length += length % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2
