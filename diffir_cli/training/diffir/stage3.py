"""Stage 3: stage 2 goes on against a discriminator and a perceptual loss (official recipes).

The paper stops at stage 2; its released super-resolution and inpainting networks do not:

L = L_rec + L_diff + perceptual + adversarial (+ feature matching)
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from diffir_cli.training.diffir.adversary import Adversary
from diffir_cli.training.kinds import Discriminator
from diffir_cli.training.parallel import World
from diffir_cli.training.perceptual import PerceptualLoss
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.trainable import Batch

_log = logging.getLogger(__name__)


class AdversarialLosses:
    """What judges HQ besides its distance from GT.

    Args:
        recipe: Which losses; the perceptual one only where its weights are named.
        world: Where they run.

    Raises:
        CheckpointError: when the perceptual network's weights cannot be used.
    """

    def __init__(self, recipe: Recipe, world: World) -> None:
        self.perceptual_weight = recipe.perceptual.weight
        self.perceptual: PerceptualLoss | None = None
        self.adversary: Adversary | None = None
        if recipe.perceptual.weights:
            loss = PerceptualLoss(Path(recipe.perceptual.weights))
            self.perceptual = loss.to(world.device)
        elif world.is_first:
            _log.warning("perceptual.weights is empty: trained without the perceptual loss")
        if recipe.adversarial.discriminator is not Discriminator.NONE:
            self.adversary = Adversary(recipe.adversarial, world)
        self.follow_lr_schedule = recipe.adversarial.follow_lr_schedule

    def terms(self, hq: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Their terms of the loss for (B, 3, H, W) images."""
        terms: dict[str, Tensor] = {}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual_weight * self.perceptual(hq, batch.gt)
        if self.adversary is not None:
            terms |= self.adversary.terms(hq, batch)
        return terms

    def learn(self, batch: Batch, share_of_rate: float, lr_factor: float) -> float:
        """Let the discriminator learn from the images judged last; its loss, or 0 without one.

        Args:
            batch: The batch of those images.
            share_of_rate: How much the schedule leaves of the network's learning rate.
            lr_factor: What returns to an earlier state leave of every learning rate.
        """
        if self.adversary is None:
            return 0.0
        return self.adversary.learn(
            batch, (share_of_rate if self.follow_lr_schedule else 1.0) * lr_factor
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continued run needs."""
        return {} if self.adversary is None else self.adversary.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        if self.adversary is not None:
            self.adversary.load_state_dict(state)
