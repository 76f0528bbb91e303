"""Parts that more than one network uses: normalisation, modulation, resampling, residual block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.1
"""Slope of every LeakyReLU of CPEN and the denoiser."""


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel (Norm of DiffIR, Eq. 6).

    With bias it is (F − μ)/σ · w + b; without, F/σ · w. The second is a deviation of the released
    super-resolution networks: σ is taken around the mean, but the numerator is not centred.
    """

    eps = 1e-5

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, feature: Tensor) -> Tensor:
        """Normalise a (B, C, H, W) feature."""
        pixels = feature.permute(0, 2, 3, 1)
        if self.bias is not None:
            normed = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, self.eps)
        else:
            variance = pixels.var(dim=-1, unbiased=False, keepdim=True)
            normed = pixels * (variance + self.eps).rsqrt() * self.weight
        return normed.permute(0, 3, 1, 2)


class IPRModulation(nn.Module):
    """W₁Z ⊙ F + W₂Z for a feature F that is already normalised (DiffIR, Eq. 6)."""

    def __init__(self, dim: int, ipr_dim: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Linear(ipr_dim, 2 * dim, bias=False)

    def forward(self, feature: Tensor, ipr: Tensor) -> Tensor:
        """Modulate a (B, C, H, W) feature by a (B, 4C') IPR."""
        scale, shift = self.to_scale_shift(ipr)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, scale, feature)


class Downsample(nn.Sequential):
    """Half the side, twice the channels: (B, C, H, W) → (B, 2C, H/2, W/2)."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


class Upsample(nn.Sequential):
    """Twice the side, half the channels: (B, C, H, W) → (B, C/2, 2H, 2W)."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, 2 * dim, 3, padding=1, bias=False), nn.PixelShuffle(2))


class ResBlock(nn.Module):
    """F + conv(LeakyReLU(conv(F))), with no activation behind the sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(dim, dim, 3, padding=1),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        return self.body(feature) + feature
