"""Soft targets: what a trained network makes of the crops of a batch, to be learned from."""

from __future__ import annotations

import torch
from torch import Tensor

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.checkpoint import load_model
from diffir_cli.models.diffir.model import initial_noise
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.training.diffir.losses import restore_batch
from diffir_cli.training.recipe import Recipe
from diffir_cli.util.padding import pad


def load_distiller(recipe: Recipe, device: torch.device) -> Distiller | None:
    """The network of `distill.weights`; None where it names none.

    Raises:
        CheckpointError: when the file holds no stage-2 network.
        RecipeError: when the network is of another scale or reads something else than the recipe's.
    """
    if not recipe.distill.weights:
        return None
    network = load_model(recipe.distill.weights)
    theirs, ours = network.config, recipe.model
    for name in ("scale", "in_channels", "coherence_fill"):
        if getattr(theirs, name) != getattr(ours, name):
            fault = f"distill.weights has {name} {getattr(theirs, name)}, the recipe's model "
            raise RecipeError(recipe.name, [fault + str(getattr(ours, name))])
    return Distiller(network.to(device))


class Distiller:
    """A trained network that makes soft targets of the crops of a batch.

    Args:
        network: Of the scale and channels of the network that learns.
    """

    def __init__(self, network: DiffIRS2) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # As when pictures are restored: one vector of noise, whatever the batch.
        self.x_T = initial_noise(network.config, seed=0)

    @torch.no_grad()
    def __call__(self, lq: Tensor, bf16: bool) -> Tensor:
        """(B, in_channels, H, W) in [0, 1] → (B, 3, scale·H, scale·W) in [0, 1]."""
        config = self.network.config
        height, width = (config.scale * side for side in lq.shape[-2:])
        padded = pad(lq, config.multiple, repeat_edge=config.in_channels == 4)
        ipr = self.network.ipr(padded, self.x_T.to(lq).expand(len(lq), -1))
        hq = restore_batch(self.network.dirformer, padded, ipr, bf16)
        return hq[..., :height, :width].clamp(0, 1)
