"""DIRformer, the dynamic image-restoration transformer (DiffIR, Sec. 4.1, Fig. 2 pink).

With F the feature map, Z the IPR, W learned maps, ⊙ the channel-wise product:

    modulation   F' = W₁Z ⊙ Norm(F) + W₂Z                  (Eq. 6)
    DMTA         F̂  = W·(softmax(Q Kᵀ · τ) V) + F           (Eq. 7; Q, K, V from F')
    DGFN         F̂  = W·(GELU(A) ⊙ B) + F                   (Eq. 8; A, B from F')

Deviations of the released code: Q and K are normalised over the pixels, τ multiplies instead of
dividing, DGFN has an output projection, and a refinement stage follows the decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.diffir.config import ModelConfig, Norm, Tail
from diffir_cli.models.diffir.networks.blocks import (
    ChannelNorm,
    Downsample,
    IPRModulation,
    Upsample,
)
from diffir_cli.util.diffusion_fill import smooth_fill


class DMTA(nn.Module):
    """Dynamic multi-head transposed attention: its map is channels × channels (DiffIR, Eq. 7)."""

    def __init__(self, dim: int, heads: int, ipr_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.modulation = IPRModulation(dim, ipr_dim)
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, feature: Tensor, ipr: Tensor) -> Tensor:
        """Attend over the channels of a normalised (B, C, H, W) feature; no residual."""
        height = feature.shape[-2]
        qkv = self.qkv_dwconv(self.qkv(self.modulation(feature, ipr)))
        # Pixels before channels: (B, heads, HW, C/heads) each, views of a channels-last feature.
        pixels = qkv.flatten(2).transpose(1, 2).unflatten(2, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in pixels.unbind(2))
        # Dividing the small map by the norms of Q and K is the same as normalising both over their
        # pixels, without two more passes over them.
        norms = _norm(q).transpose(-2, -1) * _norm(k)
        attention = (q.transpose(-2, -1) @ k / norms * self.temperature).softmax(dim=-1)
        attended = (v @ attention.transpose(-2, -1)).transpose(1, 2).flatten(2)
        return self.project_out(attended.transpose(1, 2).unflatten(2, (height, -1)))


def _norm(columns: Tensor) -> Tensor:
    """Length of each column over the pixels, (…, HW, C) → (…, 1, C), at least 1e-12."""
    return torch.linalg.vector_norm(columns, dim=-2, keepdim=True).clamp_min(1e-12)


class DGFN(nn.Module):
    """Dynamic gated feed-forward network (DiffIR, Eq. 8)."""

    def __init__(self, dim: int, hidden: int, ipr_dim: int) -> None:
        super().__init__()
        self.modulation = IPRModulation(dim, ipr_dim)
        self.project_in = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, feature: Tensor, ipr: Tensor) -> Tensor:
        """Gate a normalised (B, C, H, W) feature; no residual."""
        gate, value = self.dwconv(self.project_in(self.modulation(feature, ipr))).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class DynamicBlock(nn.Module):
    """One transformer block: DMTA then DGFN, each normalised before and added to its input."""

    def __init__(self, dim: int, heads: int, config: ModelConfig) -> None:
        super().__init__()
        bias = config.norm is Norm.WITH_BIAS
        self.norm1 = ChannelNorm(dim, bias)
        self.dmta = DMTA(dim, heads, config.ipr_dim)
        self.norm2 = ChannelNorm(dim, bias)
        self.dgfn = DGFN(dim, config.ffn_hidden(dim), config.ipr_dim)

    def forward(self, feature: Tensor, ipr: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        feature = feature + self.dmta(self.norm1(feature), ipr)
        return feature + self.dgfn(self.norm2(feature), ipr)


class Level(nn.ModuleList):
    """Blocks in a row at one resolution."""

    def __init__(self, count: int, dim: int, heads: int, config: ModelConfig) -> None:
        super().__init__(DynamicBlock(dim, heads, config) for _ in range(count))

    def forward(self, feature: Tensor, ipr: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        for block in self:
            feature = block(feature, ipr)
        return feature


class DIRformer(nn.Module):
    """A U of four levels of dynamic blocks, from `lq` and an IPR to `hq`.

    Level 1 of the decoder keeps the 2·dim channels of its concatenation (no 1×1 reduction), and so
    does the refinement stage behind it; both have the heads of level 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        wide = config.channels
        heads, counts = config.heads, config.num_blocks
        read = config.read_channels * config.unshuffle**2
        self.patch_embed = nn.Conv2d(read, config.dim, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(Level(counts[i], wide[i], heads[i], config) for i in range(3))
        self.down = nn.ModuleList(Downsample(wide[i]) for i in range(3))
        self.latent = Level(counts[3], wide[3], heads[3], config)
        self.up = nn.ModuleList(Upsample(wide[i + 1]) for i in reversed(range(3)))
        self.reduce = nn.ModuleList(
            [
                nn.Conv2d(wide[3], wide[2], 1, bias=False),
                nn.Conv2d(wide[2], wide[1], 1, bias=False),
                nn.Identity(),
            ]
        )
        self.decoder = nn.ModuleList(
            [
                Level(counts[2], wide[2], heads[2], config),
                Level(counts[1], wide[1], heads[1], config),
                Level(counts[0], wide[1], heads[0], config),
            ]
        )
        self.refinement = Level(config.refinement_blocks, wide[1], heads[0], config)
        self.tail = _tail(config.tail, wide[1], config.out_channels)

    def forward(self, lq: Tensor, ipr: Tensor) -> Tensor:
        """Restore an image.

        Args:
            lq: (B, in_channels, H, W) in [0, 1]; H and W multiples of `config.multiple`.
            ipr: (B, 4C').

        Returns:
            (B, 3, scale·H, scale·W), near [0, 1] but not clamped.
        """
        return self.restored(with_smooth_filling(lq, self.config), ipr)

    def restored(self, lq: Tensor, ipr: Tensor) -> Tensor:
        """What `forward` gives, of `lq` (B, read_channels, H, W) from `with_smooth_filling`."""
        feature = self.patch_embed(F.pixel_unshuffle(lq, self.config.unshuffle))
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            feature = level(feature, ipr)
            skips.append(feature)
            feature = down(feature)
        feature = self.latent(feature, ipr)
        for up, reduce, level in zip(self.up, self.reduce, self.decoder, strict=True):
            feature = level(reduce(torch.cat([up(feature), skips.pop()], dim=1)), ipr)
        hq = self.tail(self.refinement(feature, ipr))
        if self.config.gated:
            return hq[:, :3] + mixed(lq, hq[:, 3:])
        if self.config.residual:
            hq = hq + F.interpolate(lq[:, :3], scale_factor=float(self.config.scale))
        return hq


def with_smooth_filling(lq: Tensor, config: ModelConfig) -> Tensor:
    """What a network reads: `lq`, in inpainting with holes filled smoothly where it asks for that.

    Args:
        lq: (B, in_channels, H, W).
        config: Of the network.

    Returns:
        (B, read_channels, H, W): with `prefill` smoothly filled RGB and the mask, and with
        `coherence_fill` then RGB as it came, filled by coherence transport.
    """
    if not config.prefill:
        return lq
    parts = [smooth_fill(lq[:, :3], lq[:, 3:]), lq[:, 3:], lq[:, :3]]
    return torch.cat(parts if config.coherence_fill else parts[:2], dim=1)


def mixed(lq: Tensor, gate: Tensor) -> Tensor:
    """What a gated network adds to: the image, with its prior where the gate is open.

    Args:
        lq: (B, C, H, W), the image, or its smooth filling, in the first three channels, and the
            prior in the last three.
        gate: (B, 1, H, W), the logit of the prior's share.

    Returns:
        (B, 3, H, W).
    """
    return torch.lerp(lq[:, :3], lq[:, -3:], gate.to(lq.dtype).sigmoid())


def _tail(kind: Tail, dim: int, out: int) -> nn.Sequential:
    if kind is Tail.CONV:
        return nn.Sequential(nn.Conv2d(dim, out, 3, padding=1, bias=False))
    if kind in (Tail.SHUFFLE_ONCE, Tail.SHUFFLE_TWO):
        factor = kind.factor
        return nn.Sequential(nn.Conv2d(dim, out * factor**2, 3, padding=1), nn.PixelShuffle(factor))
    return nn.Sequential(
        nn.Conv2d(dim, 4 * dim, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(dim, 4 * dim, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(dim, out, 3, padding=1),
    )
