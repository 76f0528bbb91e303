"""Deconvolution with a known kernel, by total variation.

A camera shake blurs an image S with a kernel K: B = K ⊗ S + noise. The restored image is

    argmin |K ⊗ S − B|² + μ |∇S|₁          by half-quadratic splitting (Wang et al., SIAM 2008)

The kernel is estimated in `kernel_estimation.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffir_cli.models.diffir.priors.fourier import (
    adjoint_differences,
    centred,
    divided,
    gradient_power,
    margin_and_shape,
    periodic_extension,
    transfer_function,
)

_VARIATION, _DAMPING = 1.5e-2, 1e-4
"""Penalties: μ, of the total variation, and of the squares of the image."""
_LOOSE, _TIGHT = 4, 128
"""The weight of the splitting doubles between these multiples of μ; it begins with μ itself."""


def deconvolve_tv(image: Tensor, kernel: Tensor) -> Tensor:
    """The sharp image behind a blurred one.

    Alternates two steps: an auxiliary field takes the gradients, shortened by a threshold; a
    division in the Fourier domain then finds the image that agrees with this field and with the
    blurred image.

    Args:
        image: (C, H, W), blurred, in [0, 1].
        kernel: (K, K), not negative, with a sum of 1 and an odd K. It is moved until its centre of
            mass lies in the middle.

    Returns:
        (C, H, W); values may lie a little outside [0, 1].
    """
    height, width = image.shape[-2:]
    margin, shape = margin_and_shape(height, width, len(kernel))
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
