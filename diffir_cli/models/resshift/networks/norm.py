"""Group normalisation that computes in fp32 whatever the precision of the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm32(nn.GroupNorm):
    """Group normalisation in fp32 of a (B, C, H, W) feature of any floating-point type."""

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, H, W) → the same shape and type."""
        # The kernels of CPUs take a coarser feature beside fp32 weights, and compute in fp32.
        seen = feature if feature.device.type == "cpu" else feature.float()
        normed = F.group_norm(
            seen, self.num_groups, self.weight.float(), self.bias.float(), self.eps
        )
        return normed.to(feature.dtype)


def normed_silu(norm: nn.Module, feature: Tensor) -> Tensor:
    """SiLU of a normalised (B, C, H, W) feature, in the place of the norm's result if it may be."""
    return F.silu(norm(feature), inplace=not torch.is_grad_enabled())
