"""Stage 2: the diffusion learns to imagine the IPR of a frozen CPEN_S1 (DiffIR, Sec. 4.2, Alg. 1).

Z = CPEN_S1(LQ, GT)                                no gradient
x_T = √ᾱ_T Z + √(1 − ᾱ_T) ε                        (Eq. 10)
D = CPEN_S2(LQ);  Ẑ from x_T in T steps            (Eqs. 12, 11), gradients through all of them
L_all = |GT − DIRformer(LQ, Ẑ)| + L_diff(Ẑ, Z)      (Eq. 13)
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffir_cli.config import Prediction
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import Batch
from diffir_cli.training.losses import ipr_loss, reconstruction_loss
from diffir_cli.training.recipe import LossRecipe, Optimization


def stage2_losses(
    student: DiffIRS2,
    teacher: DiffIRS1,
    batch: Batch,
    recipe: LossRecipe,
    generator: torch.Generator,
    with_image: bool = True,
) -> dict[str, Tensor]:
    """The terms of the loss of one batch; their sum is what is made small.

    Args:
        student: The network that is trained.
        teacher: The stage-1 network; only its CPEN is used.
        batch: Crops in [0, 1].
        recipe: Which L_diff, its weight, and joint or traditional optimisation.
        generator: A CPU generator for all noise of the batch.
        with_image: Whether the DIRformer runs and L_rec counts; not while the IPR warms up.
    """
    with torch.no_grad():
        z = teacher.ipr(batch.lq, batch.gt)
    condition = student.condition(batch.lq)
    if recipe.optimization is Optimization.TRADITIONAL:
        return {
            "diff": recipe.ipr_weight * _one_step_loss(student, z, condition, recipe, generator)
        }
    schedule = student.schedule
    x_T = schedule.add_noise(z, _noise(z, generator), schedule.steps - 1)
    noise = None
    if recipe.variance_noise:
        noise = torch.stack([_noise(z, generator) for _ in range(schedule.steps)])
    z_hat = student.sample(condition, x_T, noise)
    terms = {"diff": recipe.ipr_weight * ipr_loss(z_hat, z, recipe.ipr)}
    if with_image:
        terms["rec"] = reconstruction_loss(student.dirformer(batch.lq, z_hat), batch.gt)
    return terms


def _one_step_loss(
    student: DiffIRS2,
    z: Tensor,
    condition: Tensor,
    recipe: LossRecipe,
    generator: torch.Generator,
) -> Tensor:
    """L_diff at one random step for each sample, as traditional diffusion models train (Eq. 4)."""
    schedule = student.schedule
    t = torch.randint(schedule.steps, (len(z),), generator=generator)
    noise = _noise(z, generator)
    x_t = torch.cat(
        [schedule.add_noise(z[i : i + 1], noise[i : i + 1], int(step)) for i, step in enumerate(t)]
    )
    estimate = student.denoiser(x_t, t.to(z.device), condition)
    target = noise if student.config.prediction is Prediction.EPSILON else z
    return ipr_loss(estimate, target, recipe.ipr)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of a vector's shape, drawn on the CPU."""
    return torch.randn(like.shape, generator=generator).to(like)
