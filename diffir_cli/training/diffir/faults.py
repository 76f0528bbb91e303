"""What is wrong with a recipe for a DiffIR network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffir_cli.degradations.kinds import Degradation
from diffir_cli.models.diffir.config import SMALLEST_WINDOW
from diffir_cli.training.kinds import Discriminator, Optimization
from diffir_cli.training.recipe import (
    AdversarialRecipe,
    LossRecipe,
    PerceptualRecipe,
    Recipe,
)


def faults(recipe: Recipe) -> Iterator[str]:
    """What has no sense or no effect; each fault begins with its field."""
    if recipe.autoencoder:
        yield "autoencoder has an effect on latent networks only"
    yield from _stage_faults(recipe)
    yield from _loss_faults(recipe)
    yield from _prior_faults(recipe)
    yield from _discriminator_faults(recipe)


def _stage_faults(recipe: Recipe) -> Iterator[str]:
    stage, adversarial = recipe.stage, recipe.adversarial
    if stage not in (1, 2, 3):
        yield f"stage must be 1, 2 or 3, not {stage}"
    alone = not recipe.init and (bool(recipe.start) or not recipe.loss.ipr_weight)
    if stage == 2 and not (recipe.init or alone):
        yield (
            "init must name stage-1 weights, or start must name stage-2 weights to continue; "
            "loss.ipr_weight 0 trains a new network from images alone"
        )
    if stage == 3 and not recipe.start:
        yield "start must name the stage-2 weights when stage is 3"
    if stage in (2, 3) and alone:
        # A weight of 0 says the same as no stage-1 weights.
        taught = ("ipr", "ipr_only", "optimization", *["ipr_weight"] * bool(recipe.loss.ipr_weight))
        for name in recipe.loss.changed(*taught):
            yield f"loss.{name} has no effect without stage-1 weights in init"
    if stage == 1 and recipe.start:
        yield "start has no effect in stage 1; init may name weights of either stage"
    for name, before in (("init", "1"), ("start", "2")):
        path = getattr(recipe, name)
        if path and not Path(path).is_file():
            without = ", or leave it empty to learn from images alone" * alone
            more = without if name == "init" else ""
            yield (
                f"{name} names neither a file nor known weights: {path}; "
                f"run stage {before} first, or set {name}{more}"
            )
    if stage != 3:
        if adversarial != AdversarialRecipe():
            yield "adversarial has an effect in stage 3 only"
        if recipe.perceptual != PerceptualRecipe():
            yield "perceptual has an effect in stage 3 only"
    elif recipe.loss.optimization is Optimization.TRADITIONAL:
        yield "loss.optimization must be joint in stage 3"
    elif adversarial.discriminator is Discriminator.NONE and not recipe.perceptual.weights:
        yield "adversarial.discriminator or perceptual.weights must be given in stage 3"


def _loss_faults(recipe: Recipe) -> Iterator[str]:
    weights = {name: getattr(recipe.loss, name) for name in _IN_ALL_STAGES}
    if recipe.stage == 1 and recipe.loss != LossRecipe(**weights):
        yield f"loss has an effect in stages 2 and 3 only, but for {', '.join(_IN_ALL_STAGES)}"
    if recipe.loss.optimization is Optimization.TRADITIONAL:
        for name in ("ipr_only", "variance_noise"):
            if getattr(recipe.loss, name):
                yield f"loss.{name} has no effect on traditional optimisation"
    if not recipe.model.steps and (
        recipe.loss.variance_noise or recipe.loss.optimization is Optimization.TRADITIONAL
    ):
        yield "model.steps 0 leaves no diffusion for traditional optimisation or variance noise"


def _prior_faults(recipe: Recipe) -> Iterator[str]:
    data, kind = recipe.data, recipe.data.degradation
    if not recipe.model.has_prior:
        if data.changed("windows", "window"):
            yield "data.windows and data.window have an effect with model.in_channels 6 only"
        if data.pairs_below:
            yield "data.pairs_below has an effect with model.in_channels 6 only"
        return
    if kind not in (Degradation.SHAKE, Degradation.FRAMES):
        yield f"data.degradation {kind.value} does not go with model.in_channels 6"
    if data.windows < 1:
        yield f"data.windows must be at least 1, not {data.windows}"
    if data.window < max(patch for _, patch, _ in data.sizes()):
        yield f"data.window must hold the largest crop, not be {data.window}"
    if data.window < SMALLEST_WINDOW:
        yield f"data.window must be at least {SMALLEST_WINDOW} for a kernel, not {data.window}"


def _discriminator_faults(recipe: Recipe) -> Iterator[str]:
    data = recipe.data
    if recipe.adversarial.discriminator is Discriminator.UNET:
        patches = [("patch", data.patch)]
        patches += [("progressive_patch", patch) for _, patch, _ in data.sizes()[1:]]
        for name, patch in patches:
            if patch * recipe.model.scale % 8:
                yield (
                    f"data.{name} must give HQ crops of a multiple of 8 for discriminator unet, "
                    f"not {patch * recipe.model.scale}"
                )


_IN_ALL_STAGES = ("pixel", "known_weight", "hole_weight", "frequency_weight", "soft_weight")
