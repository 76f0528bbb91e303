"""Stage 2: where gradients go, and where noise comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from diffir_cli.models.diffir.config import Prediction
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.diffir.stage2 import stage2_losses
from diffir_cli.training.recipe import LossRecipe, Optimization
from diffir_cli.training.trainable import Noise
from tests.conftest import TINY
from tests.training_helpers import random_batch


def _gradients(model: DiffIRS2) -> dict[str, bool]:
    """Which parts of the network got a gradient."""
    return {
        name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        for name, part in model.named_children()
    }


def _loss(model: DiffIRS2, teacher: DiffIRS1, recipe: LossRecipe, image: bool = True) -> Tensor:
    terms = stage2_losses(model, teacher, random_batch(), recipe, Noise(0, 2), image)
    return torch.stack(list(terms.values())).sum()


def test_joint_optimisation_reaches_every_part_and_no_teacher(s1: DiffIRS1, s2: DiffIRS2) -> None:
    _loss(s2, s1, LossRecipe()).backward()
    assert _gradients(s2) == {"cpen": True, "denoiser": True, "dirformer": True}
    assert all(parameter.grad is None for parameter in s1.parameters())


@pytest.mark.parametrize("prediction", Prediction)
def test_traditional_optimisation_leaves_the_dirformer_alone(
    prediction: Prediction, s1: DiffIRS1
) -> None:
    model = DiffIRS2(dataclasses.replace(TINY, prediction=prediction))
    _loss(model, s1, LossRecipe(optimization=Optimization.TRADITIONAL)).backward()
    assert _gradients(model) == {"cpen": True, "denoiser": True, "dirformer": False}


def test_the_warm_up_of_the_ipr_leaves_the_dirformer_alone(s1: DiffIRS1, s2: DiffIRS2) -> None:
    _loss(s2, s1, LossRecipe(), image=False).backward()
    assert _gradients(s2) == {"cpen": True, "denoiser": True, "dirformer": False}


def test_gradients_flow_through_all_steps(s1: DiffIRS1, s2: DiffIRS2) -> None:
    """Each of the T calls of the denoiser gets a gradient, not the last alone."""
    lengths: list[float] = []

    def note(_module: object, _inputs: object, gradients: Any) -> None:
        lengths.append(float(gradients[0].norm()))

    s2.denoiser.layers[0].register_full_backward_hook(note)
    _loss(s2, s1, LossRecipe(), image=False).backward()
    assert len(lengths) == s2.config.steps == 4
    assert all(length > 0 for length in lengths)


def test_the_loss_starts_from_the_diffused_target(s1: DiffIRS1, s2: DiffIRS2) -> None:
    """With a denoiser that returns its noisy input, Ẑ is a known mixture of Z and the noise."""
    batch, noise = random_batch(), Noise(5, 2)
    z = s1.ipr(batch.lq, batch.gt).detach()
    epsilon = Noise(5, 2).normal(z)
    s2.denoiser.forward = lambda x_t, *_rest: x_t  # type: ignore[method-assign]
    term = stage2_losses(s2, s1, batch, LossRecipe(), noise, with_image=False)["diff"]
    x_t = s2.schedule.add_noise(z, epsilon, 3)
    for t in (3, 2, 1, 0):
        x_t = sum(s2.schedule.posterior_coefficients(t)) * x_t
    assert float(term) == pytest.approx(float((x_t - z).abs().mean()), rel=1e-5)


def test_without_a_teacher_the_image_alone_teaches_from_noise_alone(s2: DiffIRS2) -> None:
    batch = random_batch()
    terms = stage2_losses(s2, None, batch, LossRecipe(), Noise(5, 2))
    assert list(terms) == ["rec"]
    with torch.no_grad():
        noise = Noise(5, 2).normal(torch.empty(2, s2.config.ipr_dim))
        restored = s2.dirformer(batch.lq, s2.sample(s2.condition(batch.lq), noise))
    assert terms["rec"].item() == pytest.approx(float((restored - batch.gt).abs().mean()), rel=1e-5)
    terms["rec"].backward()
    assert _gradients(s2) == {"cpen": True, "denoiser": True, "dirformer": True}


def test_noise_does_not_depend_on_the_number_of_processes() -> None:
    whole = Noise(3, 6).normal(torch.zeros(6, 5))
    for rank in range(2):
        share = Noise(3, 6, rank, 2).normal(torch.zeros(3, 5))
        assert torch.equal(share, whole[rank::2])
