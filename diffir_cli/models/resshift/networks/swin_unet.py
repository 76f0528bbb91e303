"""The denoiser of ResShift, a U-Net whose attention layers are those of the Swin Transformer.

The paper does not give its layers; these are those of the released networks, under their names:

    input       Concat(x_t, extractor(LQ)); the extractor is the identity where LQ has the size of
                x_t, else convolutions of stride 2
    time        a = MLP(Concat(cos(t·ω), sin(t·ω))),  ω_k = 10000^(−k/n),  k = 0 … n − 1
    residual    F + Conv(SiLU(Norm(Conv(SiLU(Norm(F)))) ⊙ (1 + W₁a) + W₂a)), with the modulation
                between the second norm and its activation

A Swin layer (`swin_layer.py`) follows the first residual block of each level and the first of the
middle.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.networks.norm import GroupNorm32
from diffir_cli.models.resshift.networks.swin_layer import SwinLayer


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Cosines, then sines, of t at `dim` / 2 frequencies from 1 down to almost 1/10000.

    Args:
        t: Steps counted from 0, not rescaled, (B,).
        dim: Even.

    Returns:
        (B, dim), float32.
    """
    half = dim // 2
    powers = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * powers)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeResBlock(nn.Module):
    """A residual block that is modulated by the embedding of the step."""

    def __init__(self, config: ResShiftConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            GroupNorm32(config.groups, in_dim),
            nn.SiLU(),
            nn.Conv2d(in_dim, out_dim, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.width, 2 * out_dim))
        self.out_layers = nn.Sequential(
            GroupNorm32(config.groups, out_dim),
            nn.SiLU(),
            nn.Identity(),  # the place of a dropout in the official names
            nn.Conv2d(out_dim, out_dim, 3, padding=1),
        )
        same = in_dim == out_dim
        self.skip_connection = nn.Identity() if same else nn.Conv2d(in_dim, out_dim, 1)

    def forward(self, feature: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, 4·width) → (B, C', H, W)."""
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        norm, rest = self.out_layers[0], self.out_layers[1:]
        hidden = norm(self.in_layers(feature)) * (1 + scale) + shift
        return self.skip_connection(feature) + rest(hidden)


class Downsample(nn.Module):
    """A 3×3 convolution of stride 2: (B, C, H, W) → (B, C', H/2, W/2)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(in_dim, out_dim, 3, stride=2, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Halve the sides."""
        return self.op(feature)


class Upsample(nn.Module):
    """Nearest neighbours, then a 3×3 convolution: (B, C, H, W) → (B, C, 2H, 2W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Double the sides."""
        return self.conv(F.interpolate(feature, scale_factor=2.0, mode="nearest"))


class UNetBlock(nn.ModuleList):
    """Modules in a row; residual blocks among them get the embedding of the step too."""

    def forward(self, feature: Tensor, embedding: Tensor) -> Tensor:
        """(B, C, H, W) and (B, 4·width) → a feature."""
        for module in self:
            if isinstance(module, TimeResBlock):
                feature = module(feature, embedding)
            else:
                feature = module(feature)
        return feature


class SwinUNet(nn.Module):
    """(scaled x_t, t, LQ) → the prediction of the denoiser.

    The network computes in the type of its weights, its normalisations in fp32; the result has the
    type of x_t. Every block of the encoder, the convolutions of stride 2 included, is a skip
    connection of its own.
    """

    def __init__(self, config: ResShiftConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim = config.channels, config.width
        deepest = len(channels) - 1
        x_channels = config.x_channels * config.unshuffle**2
        self.time_embed = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, 4 * dim)
        )
        self.feature_extractor = _extractor(config)

        first = nn.Conv2d(x_channels + config.extracted_channels, channels[0], 3, padding=1)
        self.input_blocks = nn.ModuleList([UNetBlock([first])])
        current = channels[0]
        skips = [current]
        for level, out_dim in enumerate(channels):
            for number in range(config.blocks[level]):
                block = TimeResBlock(config, current, out_dim)
                self.input_blocks.append(_with_swin(block, config, level, number))
                current = out_dim
                skips.append(current)
            if level < deepest:
                self.input_blocks.append(UNetBlock([Downsample(current, current)]))
                skips.append(current)

        self.middle_block = UNetBlock(
            [
                TimeResBlock(config, current, current),
                SwinLayer(config, current, config.shifts(deepest)),
                TimeResBlock(config, current, current),
            ]
        )

        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            for number in range(config.blocks[level] + 1):
                block = TimeResBlock(config, current + skips.pop(), channels[level])
                current = channels[level]
                modules = _with_swin(block, config, level, number)
                if level > 0 and number == config.blocks[level]:
                    modules.append(Upsample(current))
                self.output_blocks.append(modules)

        self.out = nn.Sequential(
            GroupNorm32(config.groups, current),
            nn.SiLU(),
            nn.Conv2d(current, x_channels, 3, padding=1),
        )

    def forward(self, x: Tensor, t: int | Tensor, lq: Tensor) -> Tensor:
        """Predict x₀, or what `config.prediction` says.

        Args:
            x: x_t as scaled by `ShiftSchedule.scale_input`, (B, C, H, W); its sides are multiples
                of `config.grid_multiple` · `config.unshuffle`.
            t: The step, counted from 0: one number, or one for each sample, (B,).
            lq: (B, 3, h, w) in [−1, 1], or with a mask of −1 (known) and 1 (unknown) behind it,
                (B, 4, h, w); h and w are `config.lq_stride` times the sides of the first level.

        Returns:
            The shape and type of `x`.

        Raises:
            ValueError: when the sides do not fit.
        """
        config = self.config
        self._check_sides(x, lq)
        dtype = next(self.parameters()).dtype
        steps = torch.as_tensor(t, device=x.device).expand(x.shape[0])
        embedding = self.time_embed(timestep_embedding(steps, config.width).to(dtype))
        grid = F.pixel_unshuffle(x.to(dtype), config.unshuffle)
        feature = torch.cat([grid, self.feature_extractor(lq.to(dtype))], dim=1)
        skips = []
        for block in self.input_blocks:
            feature = block(feature, embedding)
            skips.append(feature)
        feature = self.middle_block(feature, embedding)
        for block in self.output_blocks:
            feature = block(torch.cat([feature, skips.pop()], dim=1), embedding)
        return F.pixel_shuffle(self.out(feature), config.unshuffle).to(x.dtype)

    def _check_sides(self, x: Tensor, lq: Tensor) -> None:
        config = self.config
        sides = tuple(x.shape[2:])
        multiple = config.grid_multiple * config.unshuffle
        if any(side % multiple for side in sides):
            raise ValueError(f"the sides of x must be multiples of {multiple}, not {sides}")
        expected = tuple(side // config.unshuffle * config.lq_stride for side in sides)
        if tuple(lq.shape[2:]) != expected or lq.shape[1] != config.lq_channels:
            raise ValueError(
                f"lq must be (B, {config.lq_channels}, {expected[0]}, {expected[1]}), "
                f"not {tuple(lq.shape)}"
            )


def _extractor(config: ResShiftConfig) -> nn.Module:
    """What brings LQ to the sides of the first level: a halving for each factor of 2."""
    layers: list[nn.Module] = []
    in_dim, dim = config.lq_channels, config.extractor_width
    for _ in range(config.lq_stride.bit_length() - 1):
        layers += [nn.Conv2d(in_dim, dim, 3, padding=1), nn.SiLU(), Downsample(dim, 2 * dim)]
        in_dim = dim = 2 * dim
    return nn.Sequential(*layers) if layers else nn.Identity()


def _with_swin(block: nn.Module, config: ResShiftConfig, level: int, number: int) -> UNetBlock:
    """A residual block, and a Swin layer behind it where it is the first of its level."""
    if number > 0:
        return UNetBlock([block])
    return UNetBlock([block, SwinLayer(config, config.channels[level], config.shifts(level))])
