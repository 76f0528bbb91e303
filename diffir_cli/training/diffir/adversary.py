"""The third stage's opponent: a discriminator, its optimiser, and what both sides make small.

With D the logits of the discriminator (positive for real) and m the mask of holes:

    vanilla          L_G = softplus(−D(HQ));   L_D = softplus(−D(GT)) + softplus(D(HQ))
    non-saturating   the same, but known pixels of HQ count as real in L_D, and
                     L_D += r1 · |∇D(GT)|²     (Mescheder et al. 2018; facts of LaMa's losses)
    feature matching mean over layers of (features of HQ − features of GT)²

softplus(−D) is the binary cross-entropy of D with the label "real".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.training.diffir.discriminator import PatchDiscriminator, UNetDiscriminator
from diffir_cli.training.kinds import Discriminator
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import AdversarialRecipe
from diffir_cli.training.trainable import Batch


class Adversary:
    """A discriminator that learns beside the network it judges.

    Args:
        recipe: Which discriminator, its losses and its optimiser.
        world: Where it runs, and with how many processes.
    """

    def __init__(self, recipe: AdversarialRecipe, world: World) -> None:
        self.recipe, self.world = recipe, world
        kinds: dict[Discriminator, Callable[[], nn.Module]] = {
            Discriminator.UNET: lambda: UNetDiscriminator(recipe.dim),
            Discriminator.PATCH: lambda: PatchDiscriminator(recipe.dim),
        }
        self.network = kinds[recipe.discriminator]().to(world.device)
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.lr, betas=recipe.betas)
        self._judged: Tensor | None = None

    def terms(self, hq: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What the network that restores makes small besides its own losses."""
        self._judged = hq.detach()
        self.network.requires_grad_(False)
        logits, features = self.network(hq)
        terms = {"gan": self.recipe.weight * F.softplus(-logits).mean()}
        if self.recipe.feature_matching:
            with torch.no_grad():
                _, wanted = self.network(batch.real)
            matched = feature_matching_loss(features, wanted)
            terms["features"] = self.recipe.feature_matching * matched
        self.network.requires_grad_(True)
        return terms

    def learn(self, batch: Batch, share_of_rate: float) -> float:
        """Update the discriminator on the images that `terms` saw last.

        Args:
            batch: The batch of those images.
            share_of_rate: Learning rate over that of the recipe.

        Returns:
            Its loss before the update, averaged over all processes; 0 where it saw none.
        """
        if self._judged is None:
            return 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * share_of_rate
        holes = batch.lq[:, 3:] if batch.lq.shape[1] == 4 else None
        loss = discriminator_loss(self.network, batch.real, self._judged, self.recipe.r1, holes)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        (mean,) = self.world.average_gradients(self.parameters, loss.detach().reshape(1))
        self.optimizer.step()
        self._judged = None
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Everything that a continued run needs."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def discriminator_loss(
    network: nn.Module, real: Tensor, fake: Tensor, r1: float, holes: Tensor | None
) -> Tensor:
    """L_D of one batch.

    Args:
        network: The discriminator.
        real: (B, 3, H, W) in [0, 1].
        fake: (B, 3, H, W), without gradient.
        r1: Weight of the squared gradient at real images; 0 leaves it out.
        holes: (B, 1, H, W), 1 in the holes; known pixels of the fake count as real. None where the
            whole fake is fake.
    """
    real = real.detach().requires_grad_(bool(r1))
    logits, _ = network(real)
    loss = F.softplus(-logits).mean()
    if r1:
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        loss = loss + r1 * slope.square().flatten(1).sum(dim=1).mean()
    logits, _ = network(fake)
    if holes is None:
        return loss + F.softplus(logits).mean()
    mask = F.interpolate(holes, logits.shape[-2:])
    return loss + (mask * F.softplus(logits) + (1 - mask) * F.softplus(-logits)).mean()


def feature_matching_loss(features: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """Mean over layers of the mean squared difference of a discriminator's features."""
    terms = [F.mse_loss(feature, target) for feature, target in zip(features, wanted, strict=True)]
    return torch.stack(terms).mean()
