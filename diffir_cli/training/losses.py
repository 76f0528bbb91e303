"""What training makes small, one formula a function."""

from __future__ import annotations

import torch
from torch import Tensor

from diffir_cli.training.kinds import PixelLoss
from diffir_cli.training.recipe import LossRecipe
from diffir_cli.training.trainable import Batch


def reconstruction_loss(hq: Tensor, gt: Tensor, kind: PixelLoss = PixelLoss.L1) -> Tensor:
    """L_rec = mean |GT − HQ| over (B, 3, H, W) images in [0, 1] (Eq. 9), or another distance."""
    return _distance(hq - gt, torch.ones_like(hq[:, :1]), kind)


def _distance(difference: Tensor, weights: Tensor, kind: PixelLoss) -> Tensor:
    """The distance of (B, 3, H, W) images whose pixels have weights, (B, 1, H, W)."""
    if kind is PixelLoss.L1:
        return (difference.abs() * weights).mean()
    if kind is PixelLoss.L2:
        return (difference.square() * weights).mean()
    counted = weights.mean(dim=(1, 2, 3)).clamp_min(1e-6)
    errors = (difference.square() * weights).mean(dim=(1, 2, 3)) / counted
    # The error that is added keeps a perfect crop from having an infinite say.
    return (10 * torch.log10(errors + _LEAST_ERROR) + 50).mean() / 100


def relative_loss(hq: Tensor, target: Tensor, lq: Tensor, gt: Tensor) -> Tensor:
    """Mean over the crops of MSE(HQ, target) / (MSE(LQ, GT) + ε), of (B, 3, H, W) in [0, 1].

    0 if everything was restored, about 1 if nothing was, and more if HQ is worse than LQ. ε, the
    mean squared error of 40 dB, limits the weight of crops with hardly any blur.
    """
    left = (hq - target).square().mean(dim=(1, 2, 3))
    before = (lq - gt).square().mean(dim=(1, 2, 3))
    return (left / (before + _LITTLE_BLUR)).mean()


def typical_error(loss: float) -> float:
    """The root of the mean squared error that the loss in decibels of `_distance` stands for."""
    return float(10 ** (5 * min(loss, _WORST_LOSS) - 2.5))


_LEAST_ERROR = 1e-5
"""The squared error of 50 dB."""
_LITTLE_BLUR = 1e-4
"""ε of the relative loss, the mean squared error of 40 dB."""
_WORST_LOSS = 10.0
"""A loss of −950 dB, behind which squared errors are beyond all meaning, and soon beyond floats."""


def masked_loss(
    hq: Tensor, gt: Tensor, holes: Tensor, known: float, hole: float, kind: PixelLoss = PixelLoss.L1
) -> Tensor:
    """L_rec with one weight for known pixels and another for holes, divided by all pixels.

    Args:
        hq: (B, 3, H, W).
        gt: (B, 3, H, W) in [0, 1].
        holes: (B, 1, H, W), 1 in the holes and 0 elsewhere.
        known: Weight of known pixels.
        hole: Weight of pixels in holes.
        kind: How far two values are from each other.
    """
    return _distance(hq - gt, known + (hole - known) * holes, kind)


def frequency_loss(hq: Tensor, gt: Tensor) -> Tensor:
    """Mean |FFT(GT) − FFT(HQ)| over real and imaginary parts of orthonormal 2-D spectra.

    What blur takes away is spread over few frequencies and all pixels: here it stands out.
    """
    spectrum = torch.fft.rfft2(hq - gt, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


def image_losses(hq: Tensor, batch: Batch, recipe: LossRecipe) -> dict[str, Tensor]:
    """L_rec of a batch, weighted where it has a mask channel, and that of spectra if asked for.

    With soft targets, L_rec = (1 − w)·L_rec(GT) + w·L_rec(soft target) for w = `soft_weight`.
    """
    rec = _rec(hq, batch.gt, batch, recipe)
    if batch.soft is not None:
        rec = torch.lerp(rec, _rec(hq, batch.soft, batch, recipe), recipe.soft_weight)
    terms = {"rec": rec}
    if recipe.frequency_weight:
        terms["frequency"] = recipe.frequency_weight * frequency_loss(hq, batch.gt)
    return terms


def _rec(hq: Tensor, target: Tensor, batch: Batch, recipe: LossRecipe) -> Tensor:
    lq = batch.lq
    if lq.shape[1] == 4:
        weights = (recipe.known_weight, recipe.hole_weight)
        return masked_loss(hq, target, lq[:, 3:], *weights, recipe.pixel)
    if recipe.pixel is PixelLoss.RELATIVE:
        return relative_loss(hq, target, lq[:, :3], batch.gt)
    return reconstruction_loss(hq, target, recipe.pixel)
