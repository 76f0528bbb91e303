"""The learning rate of an iteration."""

from __future__ import annotations

import math

from diffir_cli.training.kinds import LearningRate
from diffir_cli.training.recipe import OptimizerRecipe


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
        fall = recipe.final + (1 - recipe.final) * _cosine(share)
        return recipe.lr * rise * fall
    # The share may round to just below the iteration it stands for.
    place = max(iteration, math.floor(share * iterations))
    if recipe.schedule is LearningRate.STEP:
        return recipe.lr * rise * _factor(recipe, place)
    return rise * _cycled(recipe, place)


def _cosine(share: float) -> float:
    """From 1 to 0."""
    return (1 + math.cos(math.pi * share)) / 2


def _factor(recipe: OptimizerRecipe, place: int) -> float:
    passed = sum(1 for stone in recipe.milestones if 0 < stone <= place)
    if any(recipe.factors):
        return recipe.factors[passed - 1] if passed else 1.0
    return recipe.gamma**passed


def _cycled(recipe: OptimizerRecipe, place: int) -> float:
    begin = 0
    for length, end in zip(recipe.cycles, recipe.ends, strict=True):
        if place < begin + length:
            return end + (recipe.lr - end) * _cosine((place - begin) / length)
        begin += length
    return recipe.ends[-1]
