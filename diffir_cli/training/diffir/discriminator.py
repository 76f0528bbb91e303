"""The two discriminators of the third stage; only training uses them.

`UNetDiscriminator` judges every pixel with spectrally normalised convolutions (Real-ESRGAN, Wang et
al. 2021; Miyato et al. 2018), `PatchDiscriminator` overlapping patches (pix2pixHD, Wang et al.
2018).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2
"""Slope of every LeakyReLU of the discriminators."""


class UNetDiscriminator(nn.Module):
    """A logit for each pixel: three halvings, three doublings, skips added (Real-ESRGAN, Fig. 6).

    Args:
        dim: Channels at full resolution.
    """

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, dim, 3, padding=1)
        wide = (dim, 2 * dim, 4 * dim, 8 * dim)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(wide[i], wide[i + 1], 4, stride=2, padding=1, bias=False))
            for i in range(3)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(wide[i + 1], wide[i], 3, padding=1, bias=False))
            for i in reversed(range(3))
        )
        self.last = nn.ModuleList(
            spectral_norm(nn.Conv2d(dim, dim, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.judge = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge a (B, 3, H, W) image in [0, 1]; H and W multiples of 8.

        Returns:
            Logits (B, 1, H, W), positive for real, and the features in front of them.
        """
        feature = F.leaky_relu(self.first(image), _SLOPE)
        skips = []
        for down in self.down:
            skips.append(feature)
            feature = F.leaky_relu(down(feature), _SLOPE)
        features = [feature]
        for up in self.up:
            larger = F.interpolate(feature, scale_factor=2.0, mode="bilinear")
            feature = F.leaky_relu(up(larger), _SLOPE) + skips.pop()
        for convolution in self.last:
            feature = F.leaky_relu(convolution(feature), _SLOPE)
        features.append(feature)
        return self.judge(feature), features


class PatchDiscriminator(nn.Module):
    """A logit for each patch, behind four layers that halve (pix2pixHD, Sec. 3.2).

    Args:
        dim: Channels of the first layer.
        layers: Layers with a stride of 2.
    """

    def __init__(self, dim: int = 64, layers: int = 4) -> None:
        super().__init__()
        wide = [3, *(min(dim * 2**i, 512) for i in range(layers + 1))]
        self.layers = nn.ModuleList()
        for i in range(layers + 1):
            stride = 2 if i < layers else 1
            convolution = nn.Conv2d(wide[i], wide[i + 1], 4, stride=stride, padding=2)
            norm = nn.BatchNorm2d(wide[i + 1]) if i else nn.Identity()
            self.layers.append(nn.Sequential(convolution, norm, nn.LeakyReLU(_SLOPE)))
        self.judge = nn.Conv2d(wide[-1], 1, 4, padding=2)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge a (B, 3, H, W) image in [0, 1].

        Returns:
            Logits (B, 1, h, w), positive for real, and the features of every layer.
        """
        features = []
        feature = image
        for layer in self.layers:
            feature = layer(feature)
            features.append(feature)
        return self.judge(feature), features
