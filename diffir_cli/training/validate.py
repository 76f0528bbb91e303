"""How good the averaged weights are on photos held out from training, as a user would see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from diffir_cli.degradations.apply import degraded
from diffir_cli.degradations.kinds import Degradation
from diffir_cli.errors import InputError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.models.base import RestorationModel
from diffir_cli.options import Precision, RunOptions
from diffir_cli.runtime.image_tensor import to_levels, to_tensor
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.training.data import load_pairs, load_photos
from diffir_cli.training.recipe import Recipe, ValidationRecipe
from diffir_cli.training.sources import Pair
from diffir_cli.training.trainable import Prior


@dataclass(frozen=True)
class Validation:
    """Photos held out from training, with their degraded versions."""

    pairs: Sequence[Pair]
    """With a prior behind LQ where the network reads one."""
    kind: Degradation
    """Decides what counts: the luma, all colours after shaking, colours in the holes."""
    border: int
    """HQ pixels at the edges that do not count."""

    @classmethod
    def of(cls, recipe: Recipe, prior: Prior | None = None) -> Validation | None:
        """The validation a recipe asks for, if any; each photo is degraded by a seed of its own.

        Args:
            recipe: Which photos.
            prior: What the network reads behind RGB, where it does.

        Raises:
            InputError: when a photo cannot be read or is too small.
        """
        chosen, scale = recipe.validation, recipe.model.scale
        kind = recipe.data.degradation
        if not chosen.gt:
            return None
        if chosen.lq:
            real = load_pairs([chosen.lq], [chosen.gt], scale, chosen.count)
            _check_sizes((gt for _, gt in real), scale, chosen)
            return cls(_readable(real, prior), kind, chosen.border)
        pairs = []
        photos = load_photos([chosen.gt], chosen.count)
        _check_sizes(photos, scale, chosen)
        for number, photo in enumerate(photos):
            height, width = (side // scale * scale for side in photo.shape[:2])
            gt = photo[:height, :width]
            rng = np.random.default_rng([0, number])
            pairs.append((degraded(gt, kind, scale, rng, recipe.data.masks), gt))
        return cls(_readable(pairs, prior), kind, chosen.border)

    def psnr(self, model: RestorationModel, device: torch.device) -> float:
        """Mean PSNR in dB of 8-bit results, seed 0; infinite where one equals its truth."""
        runner = ModelRunner(model, RunOptions(str(device), Precision.FP32))
        scores = []
        for lq, gt in self.pairs:
            truth = gt if runner.info.needs_truth else None
            holes = lq[:, :, 3] > 0 if runner.info.takes_mask else None
            hq = runner.restore(lq if holes is None else lq[:, :, :3], gt=truth, mask=holes)
            scores.append(self._score(hq, gt, holes))
        return sum(scores) / len(scores)

    def _score(
        self, hq: NDArray[np.uint8], gt: NDArray[np.uint8], holes: NDArray[np.bool_] | None
    ) -> float:
        if holes is not None:
            return psnr(hq[holes], gt[holes])
        first, second = shave(hq, self.border), shave(gt, self.border)
        if self.kind in (Degradation.SHAKE, Degradation.FRAMES):
            return psnr(first, second)
        return psnr(luma(first), luma(second))


def _check_sizes(photos: Iterable[NDArray[np.uint8]], scale: int, chosen: ValidationRecipe) -> None:
    """Refuse photos of which nothing would count.

    Raises:
        InputError: when there is one.
    """
    smallest = max(-(-(2 * chosen.border + 1) // scale) * scale, _SMALLEST)
    for photo in photos:
        if min(photo.shape[:2]) < smallest:
            raise InputError(
                f"a validation photo in {chosen.gt} is too small: "
                f"{photo.shape[1]}×{photo.shape[0]} pixels",
                f"leave out images with a side under {smallest} pixels",
            )


_SMALLEST = 8
"""Smaller ones cannot hold a mask."""


def _readable(pairs: Sequence[Pair], prior: Prior | None) -> Sequence[Pair]:
    """Pairs whose LQ is what the network reads: a prior takes seconds, so it is made once."""
    if prior is None:
        return pairs
    return [(to_levels(prior.behind(to_tensor(lq))[0]), gt) for lq, gt in pairs]
