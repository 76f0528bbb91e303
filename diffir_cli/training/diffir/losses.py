"""What only the training of DiffIR makes small, one formula a function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.training.kinds import IPRLoss


def restore_batch(dirformer: DIRformer, lq: Tensor, ipr: Tensor, bf16: bool) -> Tensor:
    """HQ, (B, 3, scale·H, scale·W) in fp32; only the DIRformer ever computes in bf16."""
    with torch.autocast(lq.device.type, torch.bfloat16, bf16):
        hq: Tensor = dirformer(lq, ipr)
    return hq.float()


def ipr_loss(z_hat: Tensor, z: Tensor, kind: IPRLoss) -> Tensor:
    """L_diff, the distance of an estimated IPR from its target, both (B, 4C').

    L1 is the mean |Ẑ − Z| (Eq. 13), L2 the mean (Ẑ − Z)² (Eq. 14), KL the sum of
    Z log(Z / Ẑ) over their softmax, averaged over the batch (Eq. 15).
    """
    if kind is IPRLoss.L1:
        return F.l1_loss(z_hat, z)
    if kind is IPRLoss.L2:
        return F.mse_loss(z_hat, z)
    return F.kl_div(
        z_hat.log_softmax(dim=1), z.log_softmax(dim=1), log_target=True, reduction="batchmean"
    )
