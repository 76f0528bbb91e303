"""Attention in windows, as in the Swin Transformer.

    layer       W·(blocks(W·F)): 1×1 convolutions around the blocks, and no residual around both
    block       F += Attention(Norm(F)) in windows, every second time shifted by half a window;
                F += Conv(GELU(Conv(Norm(F))))

The norms are group normalisations over the whole feature map, where Swin has layer normalisation
per token.
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
