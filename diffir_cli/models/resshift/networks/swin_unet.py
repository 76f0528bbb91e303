"""The denoiser of ResShift, a U-Net whose attention layers are those of the Swin Transformer.

The paper does not give its layers; these are those of the released networks, under their names:

    input       Concat(x_t, extractor(LQ)); the extractor is the identity where LQ has the size of
                x_t, else convolutions of stride 2
    time        a = MLP(Concat(cos(t·ω), sin(t·ω))),  ω_k = 10000^(−k/n),  k = 0 … n − 1
    residual    F + Conv(SiLU(Norm(Conv(SiLU(Norm(F)))) ⊙ (1 + W₁a) + W₂a)), with the modulation
                between the second norm and its activation
    Swin        W·(blocks(W·F)): 1×1 convolutions around the blocks, and no residual around both
    block       F += Attention(Norm(F)) in windows, every second time shifted by half a window;
                F += Conv(GELU(Conv(Norm(F))))

A Swin layer follows the first residual block of each level and the first of the middle. Its norms
are group normalisations over the whole feature map, where Swin has layer normalisation per token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.resshift.config import MaskRule, ResShiftConfig
from diffir_cli.models.resshift.networks.norm import GroupNorm32

_MASKED = -100.0
"""What is added to the score of two tokens that must not attend to each other."""


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


def shift_mask(
    height: int, width: int, window: int, rule: MaskRule, device: torch.device | None = None
) -> Tensor:
    """What is added to the scores of attention in shifted windows: 0, or −100 to keep apart.

    The feature map has been rolled up and left by half a window, so the last row and column of
    windows hold tokens from opposite borders. The standard rule keeps those apart. The legacy rule
    is what the released code does, because it labels the regions on the wrong axes: it keeps the
    left and right half apart within each window of the last row, and nothing else.

    Args:
        height: Of the feature map, a multiple of `window`.
        width: Of the feature map, a multiple of `window`.
        window: Side of a window, even.
        rule: Which of the two.
        device: Where the result is wanted.

    Returns:
        (windows, window², window²), windows and tokens row by row, float32.
    """
    shift = window // 2
    row = torch.arange(height, device=device)[:, None]
    column = torch.arange(width, device=device)
    if rule is MaskRule.LEGACY:
        labels = ((row >= height - window) & (column % window >= window - shift)).long()
    else:
        labels = 2 * (row >= height - shift).long() + (column >= width - shift).long()
    tokens = to_windows(labels[None, None].float(), window)[0, :, :, 0]
    return _MASKED * (tokens[:, :, None] != tokens[:, None, :]).float()


def to_windows(feature: Tensor, window: int) -> Tensor:
    """(B, C, H, W) → (B, windows, window², C), windows and tokens row by row."""
    split = feature.unflatten(3, (-1, window)).unflatten(2, (-1, window))
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """(B, windows, window², C) → (B, C, H, W), the inverse of `to_windows`."""
    window = math.isqrt(windows.shape[2])
    grid = windows.unflatten(2, (window, window))
    grid = grid.unflatten(1, (height // window, width // window))
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def relative_position_index(window: int, device: torch.device | None = None) -> Tensor:
    """Which row of the table of biases holds for two tokens of a window.

    Args:
        window: Side of a window.
        device: Where the result is wanted.

    Returns:
        (window², window²), (Δy + w − 1)(2w − 1) + (Δx + w − 1) for a difference (Δy, Δx), int64.
    """
    token = torch.arange(window**2, device=device)
    y, x = token // window, token % window
    down = y[:, None] - y[None, :] + window - 1
    right = x[:, None] - x[None, :] + window - 1
    return down * (2 * window - 1) + right


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each window.

        Args:
            windows: (B, n, window², C).
            mask: Added to the scores of all heads, (n, window², window²); None for nothing.

        Returns:
            The shape of `windows`.
        """
        batch, count = windows.shape[:2]
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))
        # (B·n, heads, window², C/heads) each.
        q, k, v = qkv.flatten(0, 1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self._bias()[None]
        if mask is not None:
            shifted = bias + mask[:, None].to(bias)
            bias = shifted.expand(batch, count, *shifted.shape[1:]).flatten(0, 1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2).unflatten(0, (batch, count)))

    def _bias(self) -> Tensor:
        """(heads, window², window²)."""
        table = self.relative_position_bias_table
        return table[relative_position_index(self.window, table.device)].permute(2, 0, 1)


class MLP(nn.Module):
    """Conv(GELU(Conv(F))) with 1×1 convolutions."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        return self.fc2(F.gelu(self.fc1(feature)))


class SwinBlock(nn.Module):
    """Attention in windows and an MLP, each normalised before and added to its input.

    Args:
        config: The network.
        shifted: Whether the windows are shifted by half a window.
    """

    def __init__(self, config: ResShiftConfig, shifted: bool) -> None:
        super().__init__()
        dim = config.swin_dim
        self.window = config.window
        self.shift = config.window // 2 if shifted else 0
        self.rule = config.mask
        self.norm1 = GroupNorm32(config.groups, dim)
        self.attn = WindowAttention(dim, config.heads, config.window)
        self.norm2 = GroupNorm32(config.groups, dim)
        self.mlp = MLP(dim, config.mlp_ratio * dim)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape; H and W multiples of the window."""
        feature = feature + self._attention(self.norm1(feature))
        return feature + self.mlp(self.norm2(feature))

    def _attention(self, feature: Tensor) -> Tensor:
        height, width = feature.shape[2:]
        if not self.shift:
            return from_windows(self.attn(to_windows(feature, self.window), None), height, width)
        mask = shift_mask(height, width, self.window, self.rule, feature.device)
        rolled = feature.roll((-self.shift, -self.shift), (2, 3))
        attended = self.attn(to_windows(rolled, self.window), mask)
        return from_windows(attended, height, width).roll((self.shift, self.shift), (2, 3))


class PatchProjection(nn.Module):
    """The 1×1 convolution before or behind the blocks of a Swin layer."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, out_dim, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        return self.proj(feature)


class SwinLayer(nn.Module):
    """Swin blocks between two 1×1 convolutions, with no residual around them.

    Args:
        config: The network.
        dim: Channels of the feature.
        shifts: Whether every second block shifts its windows.
    """

    def __init__(self, config: ResShiftConfig, dim: int, shifts: bool) -> None:
        super().__init__()
        self.patch_embed = PatchProjection(dim, config.swin_dim)
        self.blocks = nn.Sequential(
            *(SwinBlock(config, shifts and block % 2 == 1) for block in range(config.swin_blocks))
        )
        self.patch_unembed = PatchProjection(config.swin_dim, dim)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape; H and W multiples of the window."""
        return self.patch_unembed(self.blocks(self.patch_embed(feature)))


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
