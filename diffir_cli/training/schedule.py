"""The learning rate of an iteration."""

from __future__ import annotations

import math

from diffir_cli.training.recipe import LearningRate, OptimizerRecipe


def learning_rate(recipe: OptimizerRecipe, iteration: int, share: float, iterations: int) -> float:
    """The learning rate of an iteration.

    Args:
        recipe: The schedule.
        iteration: The iteration, counted from 0.
        share: How much of the schedule is done, in [0, 1]; ahead of the iterations in a run whose
            time is limited.
        iterations: Iterations of the whole schedule.
    """
    rise = min(1.0, (iteration + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule is LearningRate.COSINE:
        fall = recipe.final + (1 - recipe.final) * (1 + math.cos(math.pi * share)) / 2
    else:
        # The share may round to just below the iteration it stands for.
        place = max(iteration, math.floor(share * iterations))
        fall = recipe.gamma ** sum(1 for stone in recipe.milestones if 0 < stone <= place)
    return recipe.lr * rise * fall
