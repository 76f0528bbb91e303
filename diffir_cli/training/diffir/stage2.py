"""Stage 2: the diffusion learns to imagine the IPR of a frozen CPEN_S1 (DiffIR, Sec. 4.2, Alg. 1).

Z = CPEN_S1(LQ, GT)                                no gradient
x_T = √ᾱ_T Z + √(1 − ᾱ_T) ε                        (Eq. 10)
D = CPEN_S2(LQ);  Ẑ from x_T in T steps            (Eqs. 12, 11), gradients through all of them
L_all = |GT − DIRformer(LQ, Ẑ)| + L_diff(Ẑ, Z)      (Eq. 13)

CPEN_S1 may be absent, for a network that has been through this, or for a new one: then x_T is
noise alone, as when it restores, and L_all is L_rec.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffir_cli.models.diffir.config import Prediction
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.diffir.losses import ipr_loss, restore_batch
from diffir_cli.training.kinds import Optimization
from diffir_cli.training.losses import image_losses
from diffir_cli.training.recipe import LossRecipe
from diffir_cli.training.trainable import Batch, Noise

Critic = Callable[[Tensor, Batch], dict[str, Tensor]]
"""Terms of the loss of HQ, (B, 3, scale·H, scale·W), for a batch."""


def stage2_losses(
    student: DiffIRS2,
    teacher: DiffIRS1 | None,
    batch: Batch,
    recipe: LossRecipe,
    noise: Noise,
    with_image: bool = True,
    bf16: bool = False,
    critic: Critic | None = None,
) -> dict[str, Tensor]:
    """The terms of the loss of one batch; their sum is what is made small.

    Args:
        student: The network that is trained.
        teacher: The stage-1 network; only its CPEN is used. None for no L_diff.
        batch: Crops in [0, 1].
        recipe: Which L_diff, its weight, and joint or traditional optimisation.
        noise: All random numbers of the batch.
        with_image: Whether the DIRformer runs and L_rec counts; not while the IPR warms up.
        bf16: Whether the DIRformer computes in bf16.
        critic: The further terms of stage 3.
    """
    condition = student.condition(batch.lq)
    z = None
    if teacher is not None:
        with torch.no_grad():
            z = teacher.ipr(batch.lq, batch.gt)
    if z is not None and recipe.optimization is Optimization.TRADITIONAL:
        loss = _one_step_loss(student, z, condition, recipe, noise)
        return {"diff": recipe.ipr_weight * loss}
    schedule = student.schedule
    x_T = noise.normal(condition)
    if z is not None:
        x_T = schedule.add_noise(z, x_T, schedule.steps - 1)
    variance_noise = None
    if recipe.variance_noise:
        variance_noise = torch.stack([noise.normal(x_T) for _ in range(schedule.steps)])
    z_hat = student.sample(condition, x_T, variance_noise)
    terms = {}
    if z is not None:
        terms["diff"] = recipe.ipr_weight * ipr_loss(z_hat, z, recipe.ipr)
    if with_image:
        hq = restore_batch(student.dirformer, batch.lq, z_hat, bf16)
        terms |= image_losses(hq, batch, recipe)
        if critic is not None:
            terms |= critic(hq, batch)
    return terms


def _one_step_loss(
    student: DiffIRS2, z: Tensor, condition: Tensor, recipe: LossRecipe, noise: Noise
) -> Tensor:
    """L_diff at one random step for each sample, as traditional diffusion models train (Eq. 4)."""
    schedule = student.schedule
    steps = noise.steps(schedule.steps)
    epsilon = noise.normal(z)
    rows = [schedule.add_noise(z[i], epsilon[i], t) for i, t in enumerate(steps)]
    estimate = student.denoiser(torch.stack(rows), torch.tensor(steps, device=z.device), condition)
    target = epsilon if student.config.prediction is Prediction.EPSILON else z
    return ipr_loss(estimate, target, recipe.ipr)
