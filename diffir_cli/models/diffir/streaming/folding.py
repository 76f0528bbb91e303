"""A block of the DIRformer for one image: everything that its IPR decides, folded into matrices.

The IPR is the same for every pixel, so the norm's affine (w, b), the modulation (W₁Z, W₂Z; Eq. 6)
and the 1×1 convolution W behind them are one matrix and one bias for the whole image:

    W (W₁Z ⊙ (w ⊙ x̂ + b) + W₂Z)  =  (W diag(W₁Z ⊙ w)) x̂ + W (W₁Z ⊙ b + W₂Z)

where x̂ is the feature without mean and deviation, or, for the norm without bias, x / σ with b = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffir_cli.models.diffir.networks.blocks import ChannelNorm, IPRModulation
from diffir_cli.models.diffir.networks.dirformer import DGFN, DynamicBlock

_LANES = 16
"""Hidden channels are padded to whole vectors of numbers, with weights of zero."""


@dataclass(frozen=True)
class Projection:
    """A matrix, a bias and the depthwise 3×3 convolution behind them.

    The bias is not added to the pixels, which would be a pass over them of its own: where it is
    left out of every pixel, the zeros around the image are less by it too, and the convolution
    gives less by the sum of its nine numbers times the bias, everywhere.

    Attributes:
        weight: (C, D), from normalised pixels to the channels of the convolution, less the bias.
        dwconv: (D, 1, 3, 3).
        bias: (D,), of the convolution.
        edge: (D,), what stands beyond the image instead of zeros.
        sides: (2, D), what a convolution with zeros beyond the left and the right side lacks there.
    """

    weight: Tensor
    dwconv: Tensor
    bias: Tensor
    edge: Tensor
    sides: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, dwconv: Tensor, dtype: torch.dtype) -> Projection:
        """From weight (D, C), bias (D,) and the convolution's weight (D, 1, 3, 3)."""
        columns = dwconv[:, 0].sum(dim=1)
        return cls(
            weight=weight.t().to(dtype).contiguous(),
            dwconv=dwconv.to(dtype),
            bias=(bias * columns.sum(dim=1)).to(dtype),
            edge=-bias.to(dtype),
            sides=-(bias * columns[:, ::2].t()).to(dtype),
        )

    @property
    def channels(self) -> int:
        """D."""
        return len(self.bias)


@dataclass(frozen=True)
class FoldedBlock:
    """A `DynamicBlock` for one image.

    Attributes:
        centred: Whether its norms subtract the mean.
        query_key: Projection to Q and K, 2C channels.
        value: Projection to V, C channels.
        temperature: (heads, 1, 1), in fp32 or fp64.
        attention_out: (C, C), rows are the channels that attention gives.
        gate: Projection to the two halves of the DGFN.
        gate_out: (hidden, C).
    """

    centred: bool
    query_key: Projection
    value: Projection
    temperature: Tensor
    attention_out: Tensor
    gate: Projection
    gate_out: Tensor

    @classmethod
    def of(cls, block: DynamicBlock, ipr: Tensor, dtype: torch.dtype) -> FoldedBlock:
        """Fold a block; sums are made in the precision of its weights, then rounded to `dtype`.

        Args:
            block: The plain module.
            ipr: (1, 4C').
            dtype: Number format of the feature maps.
        """
        dmta, dgfn = block.dmta, block.dgfn
        channels = dmta.project_out.weight.shape[0]
        weight, bias = _modulated(block.norm1, dmta.modulation, ipr, _matrix(dmta.qkv.weight))
        split, dwconv = 2 * channels, dmta.qkv_dwconv.weight
        gate, gate_out = _gate(block.norm2, dgfn, ipr, dtype)
        return cls(
            centred=block.norm1.bias is not None,
            query_key=Projection.of(weight[:split], bias[:split], dwconv[:split], dtype),
            value=Projection.of(weight[split:], bias[split:], dwconv[split:], dtype),
            temperature=dmta.temperature,
            attention_out=_matrix(dmta.project_out.weight).t(),
            gate=gate,
            gate_out=gate_out,
        )

    def attention_mix(self, gram: Tensor, squares: Tensor) -> Tensor:
        """project_out · softmax(Q̂ᵀK̂ · τ) as one (C, C) matrix that V's pixels are multiplied by.

        Args:
            gram: (heads, C/heads, C/heads), QᵀK of each head over all pixels.
            squares: (2C,), sums of the squares of Q and K over all pixels.
        """
        heads = len(gram)
        query, key = squares.sqrt().clamp_min(1e-12).view(2, heads, -1)
        cosines = gram / (query[:, :, None] * key[:, None, :])
        attention = (cosines * self.temperature).softmax(dim=-1)
        out = self.attention_out.unflatten(0, (heads, -1)).to(attention.dtype)
        mix = (attention.transpose(1, 2) @ out).flatten(0, 1)
        return mix.to(self.gate_out.dtype)


def _modulated(
    norm: ChannelNorm, modulation: IPRModulation, ipr: Tensor, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight (D, C) and bias (D,) of modulation and 1×1 convolution of a pixel that is only x̂."""
    scale, shift = modulation.to_scale_shift(ipr)[0].chunk(2)
    if norm.bias is not None:
        shift = torch.addcmul(shift, scale, norm.bias)
    return matrix * (scale * norm.weight), matrix @ shift


def _gate(
    norm: ChannelNorm, dgfn: DGFN, ipr: Tensor, dtype: torch.dtype
) -> tuple[Projection, Tensor]:
    """The projection to both halves of a DGFN and the (hidden, C) matrix behind their product."""
    weight, bias = _modulated(norm, dgfn.modulation, ipr, _matrix(dgfn.project_in.weight))
    hidden = len(bias) // 2
    missing = -hidden % _LANES
    weight, bias, dwconv = (
        _padded(part.unflatten(0, (2, hidden)), missing, 1).flatten(0, 1)
        for part in (weight, bias, dgfn.dwconv.weight)
    )
    out = _padded(_matrix(dgfn.project_out.weight).t(), missing, 0)
    return Projection.of(weight, bias, dwconv, dtype), out.to(dtype).contiguous()


def _padded(tensor: Tensor, missing: int, dim: int) -> Tensor:
    """`tensor` with that many zeros more along one dimension."""
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=dim)


def _matrix(weight: Tensor) -> Tensor:
    """(D, C, 1, 1) of a 1×1 convolution as (D, C)."""
    return weight.flatten(1)
