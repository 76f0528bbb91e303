"""How good the averaged weights are on photos held out from training, as a user would see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from diffir_cli.config import Precision
from diffir_cli.engine import Restorer
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import Pair, load_pairs
from diffir_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Validation:
    """Photos held out from training, with their degraded twins."""

    pairs: Sequence[Pair]
    border: int
    """HQ pixels at the edges that do not count."""

    @classmethod
    def of(cls, recipe: Recipe) -> Validation | None:
        """The validation a recipe asks for, if any."""
        chosen = recipe.validation
        if not chosen.gt:
            return None
        pairs = load_pairs([str(Path(chosen.gt))], recipe.model.scale, chosen.count)
        return cls(pairs, chosen.border)

    def psnr(self, model: DiffIRS1 | DiffIRS2, device: torch.device) -> float:
        """Mean PSNR in dB of the luma of 8-bit results, seed 0."""
        restorer = Restorer(model, device, Precision.FP32)
        scores = []
        for lq, gt in self.pairs:
            hq = restorer.restore(lq, gt=gt if isinstance(model, DiffIRS1) else None)
            scores.append(psnr(luma(shave(hq, self.border)), luma(shave(gt, self.border))))
        return sum(scores) / len(scores)
