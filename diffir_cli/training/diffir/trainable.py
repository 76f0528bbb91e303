"""DiffIR as something that learns: its three stages behind one interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffir_cli.models.base import RestorationModel
from diffir_cli.models.diffir.checkpoint import save_weights
from diffir_cli.models.diffir.model import DiffIRModel
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.priors.coherence import with_lines_continued
from diffir_cli.models.diffir.priors.windows import priors_of_windows, with_prior
from diffir_cli.options import Precision
from diffir_cli.runtime.image_tensor import to_levels, to_tensor
from diffir_cli.training.diffir.distillation import load_distiller
from diffir_cli.training.diffir.setup import build, freeze, load_teacher
from diffir_cli.training.diffir.stage1 import stage1_losses
from diffir_cli.training.diffir.stage2 import stage2_losses
from diffir_cli.training.diffir.stage3 import AdversarialLosses
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.trainable import Batch, Noise, Prior


class TrainableDiffIR:
    """A DiffIR network in one of its stages, with its teacher and its opponents.

    Args:
        recipe: Which stage of which network.
        world: Where it learns.

    Raises:
        CheckpointError: when a file that the recipe names does not fit.
        RecipeError: when nothing of such a file fits.
    """

    def __init__(self, recipe: Recipe, world: World) -> None:
        self.recipe = recipe
        self.bf16 = recipe.precision is Precision.BF16
        self.teacher = load_teacher(recipe) if recipe.stage > 1 else None
        self.network: DiffIRS1 | DiffIRS2 = build(recipe, self.teacher).to(world.device)
        freeze(self.network, recipe)
        if self.teacher is not None:
            self.teacher.to(world.device)
        self.distiller = load_distiller(recipe, world.device)
        self.opponents = AdversarialLosses(recipe, world) if recipe.stage == 3 else None
        self.prepare = _with_lines_continued if recipe.model.coherence_fill else None
        self.prior: Prior | None = Deconvolution() if recipe.model.has_prior else None

    @property
    def parts(self) -> Iterable[nn.Module]:
        """CPEN, the denoiser of stages 2 and 3, and the DIRformer."""
        return self.network.children()

    def losses(self, batch: Batch, noise: Noise, iteration: int) -> dict[str, Tensor]:
        """The terms of the loss of the recipe's stage."""
        if self.distiller is not None:
            batch = replace(batch, soft=self.distiller(batch.lq, self.bf16))
        if isinstance(self.network, DiffIRS1):
            return stage1_losses(self.network, batch, self.recipe.loss, self.bf16)
        return stage2_losses(
            self.network,
            self.teacher,
            batch,
            self.recipe.loss,
            noise,
            with_image=iteration >= self.recipe.loss.ipr_only,
            bf16=self.bf16,
            critic=None if self.opponents is None else self.opponents.terms,
        )

    def after_update(self, batch: Batch, lr_share: float, lr_factor: float) -> float:
        """Let the discriminator of stage 3 learn; its loss, or 0 without one."""
        return 0.0 if self.opponents is None else self.opponents.learn(batch, lr_share, lr_factor)

    def state_dict(self) -> dict[str, Any]:
        """The discriminator and its optimizer; empty without one."""
        return {} if self.opponents is None else self.opponents.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        if self.opponents is not None:
            self.opponents.load_state_dict(state)

    def restoration_model(self, network: nn.Module) -> RestorationModel:
        """A DiffIR network ready for pictures."""
        return DiffIRModel(network)  # type: ignore[arg-type]

    def save(self, path: Path, network: nn.Module, header: Mapping[str, str]) -> None:
        """Write a network as a weights file.

        Raises:
            CheckpointError: when it cannot be written.
        """
        save_weights(path, network, header)  # type: ignore[arg-type]


def _with_lines_continued(lq: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop, (h, w, 4) in 0–255, with its holes filled by coherence transport."""
    return to_levels(with_lines_continued(to_tensor(lq))[0])


class Deconvolution:
    """The deconvolution prior."""

    def of_windows(self, windows: Sequence[Tensor], whole: Tensor) -> list[Tensor]:
        """The prior of each window, (3, h, w) in [0, 1], of a picture (3, H, W)."""
        return priors_of_windows(windows, whole)

    @torch.no_grad()
    def behind(self, lq: Tensor) -> Tensor:
        """A picture (1, 3, H, W) in [0, 1] with its prior behind it, (1, 6, H, W)."""
        return with_prior(lq)
