"""Stage 1: CPEN_S1 and the DIRformer learn together, with the truth in sight (DiffIR, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from diffir_cli.networks import DiffIRS1
from diffir_cli.training.data import Batch
from diffir_cli.training.losses import reconstruction_loss


def stage1_losses(model: DiffIRS1, batch: Batch) -> dict[str, Tensor]:
    """The terms of the loss of one batch; their sum is what is made small."""
    return {"rec": reconstruction_loss(model(batch.lq, batch.gt), batch.gt)}
