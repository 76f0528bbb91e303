"""CPEN, the compact IR prior extraction network (DiffIR, Sec. 4.1 and 4.2, Fig. 2 yellow).

    stage 1   Z = CPEN_S1(Concat(PixelUnshuffle(LQ), PixelUnshuffle(GT)))                  (Eq. 5)
    stage 2   D = CPEN_S2(PixelUnshuffle(LQ))                                             (Eq. 12)

Both are one class: the stages differ in the channels of the first convolution only. Deviation of
the released code from Eq. 5: the two parts are unshuffled separately, to one grid, LQ first.
The average pool looks at the whole image, so every pixel of it has a say in the IPR.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks.blocks import NEGATIVE_SLOPE, ResBlock


class CPEN(nn.Module):
    """A vector of 4C' numbers about a whole image.

    Args:
        in_channels: Channels behind the pixel-unshuffle.
        dim: C'.
        blocks: Residual blocks.
    """

    def __init__(self, in_channels: int, dim: int, blocks: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            *(ResBlock(dim) for _ in range(blocks)),
            nn.Conv2d(dim, 2 * dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(2 * dim, 2 * dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(2 * dim, 4 * dim, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )
        self.mlp = nn.Sequential(
            nn.Linear(4 * dim, 4 * dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(4 * dim, 4 * dim),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )

    @classmethod
    def stage1(cls, config: ModelConfig) -> CPEN:
        """CPEN_S1, which reads LQ and GT."""
        in_channels = _lq_channels(config) + 3 * config.cpen_stride**2
        return cls(in_channels, config.cpen_dim, config.cpen_blocks)

    @classmethod
    def stage2(cls, config: ModelConfig) -> CPEN:
        """CPEN_S2, which reads LQ alone."""
        return cls(_lq_channels(config), config.cpen_dim, config.cpen_blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, h, w) unshuffled pixels → (B, 4C')."""
        return self.mlp(self.features(pixels).mean(dim=(2, 3)))


def stage1_input(lq: Tensor, gt: Tensor, config: ModelConfig) -> Tensor:
    """What CPEN_S1 reads: LQ and GT on one grid, LQ first.

    Args:
        lq: (B, in_channels, H, W) in [0, 1].
        gt: (B, 3, scale·H, scale·W) in [0, 1].
        config: Whose strides are used.
    """
    return torch.cat([stage2_input(lq, config), F.pixel_unshuffle(gt, config.cpen_stride)], dim=1)


def stage2_input(lq: Tensor, config: ModelConfig) -> Tensor:
    """What CPEN_S2 reads of a (B, in_channels, H, W) image in [0, 1]."""
    return F.pixel_unshuffle(lq, config.lq_unshuffle)


def _lq_channels(config: ModelConfig) -> int:
    return config.in_channels * config.lq_unshuffle**2
