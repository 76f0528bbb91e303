"""Stage 1: CPEN_S1 and the DIRformer learn together, with the truth in sight (DiffIR, Sec. 4.1)."""

from __future__ import annotations

from torch import Tensor

from diffir_cli.models.diffir.networks import DiffIRS1
from diffir_cli.training.diffir.losses import restore_batch
from diffir_cli.training.losses import image_losses
from diffir_cli.training.recipe import LossRecipe
from diffir_cli.training.trainable import Batch


def stage1_losses(
    model: DiffIRS1, batch: Batch, recipe: LossRecipe, bf16: bool = False
) -> dict[str, Tensor]:
    """The terms of the loss of one batch; their sum is what is made small.

    Args:
        model: The network that is trained.
        batch: Crops in [0, 1].
        recipe: Weights of known pixels and holes.
        bf16: Whether the DIRformer computes in bf16.
    """
    hq = restore_batch(model.dirformer, batch.lq, model.ipr(batch.lq, batch.gt), bf16)
    return image_losses(hq, batch, recipe)
