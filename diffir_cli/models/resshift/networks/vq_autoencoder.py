"""The vector-quantised autoencoder in whose latents ResShift runs (the first stage of LDM).

    encode      z = W·Encoder(image), continuous
    decode      image = Decoder(W·q(z)),  q(z) = argmin_e |z − e|² over the codebook, per position

Latents are not scaled. The diffusion runs on continuous latents; they are quantised only at the
start of decoding. f4 has three levels and 3 channels, f8 four levels and 8 channels.

The middle of both halves has attention of one head over all positions, whose scores are a square of
their number. They are not held at once: `scaled_dot_product_attention` has fused kernels, on a CPU
for contiguous queries, keys and values (it takes 36 MiB for 16,384 positions, whose scores would be
1 GiB), and queries go through it in chunks, which bounds the scores where a kernel is not fused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.networks.norm import GroupNorm32, normed_silu

_EPS = 1e-6
"""Of every normalisation of the autoencoder."""
_MOST_SCORES = 2**27
"""How many scores of attention one call may hold if its kernel is not fused."""
_MOST_SCORES_AT_ONCE = 2**22
"""How many scores a call holds in fp32 where they are products of their own."""
_MOST_DISTANCES = 2**24
"""How many distances to codebook entries are held at once."""


class ResBlock(nn.Module):
    """F + Conv(SiLU(Norm(Conv(SiLU(Norm(F))))))."""

    def __init__(self, config: ResShiftConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm1 = GroupNorm32(config.groups, in_dim, _EPS)
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.norm2 = GroupNorm32(config.groups, out_dim, _EPS)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1)
        same = in_dim == out_dim
        self.nin_shortcut = nn.Identity() if same else nn.Conv2d(in_dim, out_dim, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        hidden = self.conv1(normed_silu(self.norm1, feature))
        # By steps, so that nothing outlives its use: these maps are the largest of the model.
        hidden = normed_silu(self.norm2, hidden)
        hidden = self.conv2(hidden)
        skip = self.nin_shortcut(feature)
        return hidden + skip if torch.is_grad_enabled() else hidden.add_(skip)


class GlobalAttention(nn.Module):
    """F + W·Attention(Norm(F)) of one head over all positions of a feature."""

    def __init__(self, config: ResShiftConfig, dim: int) -> None:
        super().__init__()
        self.norm = GroupNorm32(config.groups, dim, _EPS)
        self.q = nn.Conv2d(dim, dim, 1)
        self.k = nn.Conv2d(dim, dim, 1)
        self.v = nn.Conv2d(dim, dim, 1)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        normed = self.norm(feature)
        # (B, 1, HW, C) each, contiguous, which the fused kernels ask for.
        q, k, v = (
            part(normed).flatten(2).transpose(1, 2)[:, None].contiguous()
            for part in (self.q, self.k, self.v)
        )
        attended = _attended(q, k, v)
        spread = attended[:, 0].transpose(1, 2).unflatten(2, feature.shape[2:])
        return feature + self.proj_out(spread)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax(q kᵀ / √C) v in chunks of queries, all (B, 1, HW, C)."""
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] = F.scaled_dot_product_attention
    chunk = max(1, _MOST_SCORES // q.shape[2])
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        # The fused kernel of CPUs multiplies bf16 no faster than fp32.
        attend, chunk = _attended_in_products, max(256, _MOST_SCORES_AT_ONCE // q.shape[2])
    return torch.cat([attend(part, k, v) for part in q.split(chunk, dim=2)], dim=2)


def _attended_in_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in two products, with the softmax in fp32."""
    scores = (q.shape[-1] ** -0.5 * q) @ k.transpose(-1, -2)
    return scores.float().softmax(dim=-1).to(v.dtype) @ v


class Middle(nn.Module):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, config: ResShiftConfig, dim: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(config, dim, dim)
        self.attn_1 = GlobalAttention(config, dim)
        self.block_2 = ResBlock(config, dim, dim)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape."""
        return self.block_2(self.attn_1(self.block_1(feature)))


class Downsample(nn.Module):
    """A 3×3 convolution of stride 2 over a feature padded at the right and bottom alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride=2)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/2, W/2)."""
        return self.conv(F.pad(feature, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbours, then a 3×3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(feature, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, and what changes the resolution behind them, if anything.

    Args:
        config: The autoencoder.
        in_dim: Channels before the first block.
        out_dim: Channels behind every block.
        blocks: How many.
    """

    def __init__(self, config: ResShiftConfig, in_dim: int, out_dim: int, blocks: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(ResBlock(config, out_dim if number else in_dim, out_dim) for number in range(blocks))
        )


class DownLevel(Level):
    """A level of the encoder."""

    def __init__(
        self, config: ResShiftConfig, in_dim: int, out_dim: int, blocks: int, last: bool
    ) -> None:
        super().__init__(config, in_dim, out_dim, blocks)
        self.downsample = nn.Identity() if last else Downsample(out_dim)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H/2, W/2); (B, C', H, W) at the last level."""
        return self.downsample(self.block(feature))


class UpLevel(Level):
    """A level of the decoder."""

    def __init__(
        self, config: ResShiftConfig, in_dim: int, out_dim: int, blocks: int, last: bool
    ) -> None:
        super().__init__(config, in_dim, out_dim, blocks)
        self.upsample = nn.Identity() if last else Upsample(out_dim)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', 2H, 2W); (B, C', H, W) at the last level."""
        return self.upsample(self.block(feature))


class Encoder(nn.Module):
    """(B, 3, f·H, f·W) in [−1, 1] → (B, latent_channels, H, W)."""

    def __init__(self, config: ResShiftConfig) -> None:
        super().__init__()
        channels = config.ae_channels
        deepest = len(channels) - 1
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down = nn.Sequential(
            *(
                DownLevel(
                    config,
                    channels[max(level - 1, 0)],
                    channels[level],
                    config.ae_blocks[level],
                    level == deepest,
                )
                for level in range(len(channels))
            )
        )
        self.mid = Middle(config, channels[-1])
        self.norm_out = GroupNorm32(config.groups, channels[-1], _EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.latent_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Features of an image, before the 1×1 convolution that makes them latents."""
        feature = self.mid(self.down(self.conv_in(image)))
        return self.conv_out(normed_silu(self.norm_out, feature))


class Decoder(nn.Module):
    """(B, latent_channels, H, W) → (B, 3, f·H, f·W), near [−1, 1] but not clamped."""

    def __init__(self, config: ResShiftConfig) -> None:
        super().__init__()
        channels = config.ae_channels
        deepest = len(channels) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, channels[-1], 3, padding=1)
        self.mid = Middle(config, channels[-1])
        # Numbered by resolution, 0 the full one, and passed from the lowest to that.
        self.up = nn.ModuleList(
            UpLevel(
                config,
                channels[min(level + 1, deepest)],
                channels[level],
                config.ae_blocks[level] + 1,
                level == 0,
            )
            for level in range(len(channels))
        )
        self.norm_out = GroupNorm32(config.groups, channels[0], _EPS)
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        """The image of latents behind their 1×1 convolution."""
        feature = self.mid(self.conv_in(feature))
        for level in reversed(range(len(self.up))):
            feature = self.up[level](feature)
        return self.conv_out(normed_silu(self.norm_out, feature))


class Codebook(nn.Module):
    """Vectors, to the nearest of which a latent is rounded. Distances are computed in fp32."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, dim)

    def indices(self, z: Tensor) -> Tensor:
        """The nearest entry for each position of a (B, C, H, W) latent: (B, H, W), int64.

        |z − e|² = |z|² − 2 z·e + |e|², whose first term is the same for every entry and left out.
        """
        entries = self.embedding.weight.float()
        squares = entries.square().sum(dim=1)
        vectors = z.float().movedim(1, -1)
        chunk = max(1, _MOST_DISTANCES // len(entries))
        nearest = [
            torch.addmm(squares, part, entries.T, alpha=-2).argmin(dim=1)
            for part in vectors.flatten(0, 2).split(chunk)
        ]
        return torch.cat(nearest).view(vectors.shape[:3])

    def forward(self, z: Tensor) -> Tensor:
        """Round a (B, C, H, W) latent; no gradient passes."""
        return self.embedding(self.indices(z)).movedim(-1, 1).to(z.dtype)


class VQAutoencoder(nn.Module):
    """Images in [−1, 1] to latents and back."""

    def __init__(self, config: ResShiftConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.factor = config.factor
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config.codes, channels)
        self.quant_conv = nn.Conv2d(channels, channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    def compute_in(self, dtype: torch.dtype) -> VQAutoencoder:
        """Let the encoder and decoder compute in `dtype`; codes and 1×1 convolutions keep fp32.

        Returns:
            This module.
        """
        self.encoder.to(dtype)
        self.decoder.to(dtype)
        return self

    def encode(self, image: Tensor) -> Tensor:
        """The continuous latent of an image.

        Args:
            image: (B, 3, f·H, f·W) in [−1, 1], float32.

        Returns:
            (B, latent_channels, H, W), float32.

        Raises:
            ValueError: when the sides are not multiples of f.
        """
        if any(side % self.factor for side in image.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.factor}, not {image.shape[2:]}")
        dtype = self.encoder.conv_in.weight.dtype
        return self.quant_conv(self.encoder(image.to(dtype)).to(image.dtype))

    def decode(self, z: Tensor, quantise: bool = True) -> Tensor:
        """The image of a latent.

        Args:
            z: (B, latent_channels, H, W), float32.
            quantise: Whether the latent is rounded to the codebook first, as the decoder learned.

        Returns:
            (B, 3, f·H, f·W), near [−1, 1] but not clamped, float32.
        """
        feature = self.post_quant_conv(self.quantize(z) if quantise else z)
        dtype = self.decoder.conv_in.weight.dtype
        return self.decoder(feature.to(dtype)).to(z.dtype)
