"""What is wrong with a recipe for a ResShift model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from diffir_cli.training.kinds import PixelLoss
from diffir_cli.training.recipe import AdversarialRecipe, DistillRecipe, Recipe


def faults(recipe: Recipe) -> Iterator[str]:
    """What has no sense or no effect; each fault begins with its field."""
    for name in recipe.changed("stage", "init"):
        yield f"{name} has an effect with family diffir only"
    for name in recipe.loss.changed(*_OF_DIFFIR):
        yield f"loss.{name} has an effect with family diffir only"
    if recipe.loss.pixel is PixelLoss.RELATIVE:
        yield "loss.pixel relative goes with family diffir only"
    for name in recipe.data.changed("windows", "window", "pairs_below"):
        yield f"data.{name} has an effect with family diffir only"
    if recipe.adversarial != AdversarialRecipe():
        yield "adversarial has an effect with family diffir only"
    if recipe.distill != DistillRecipe():
        yield "distill.weights has an effect with family diffir only"
    for name in ("start", "autoencoder"):
        path = getattr(recipe, name)
        if path and not Path(path).is_file():
            yield f"{name} names neither a file nor known weights: {path}"
    if recipe.model.latent and not recipe.autoencoder:
        yield "autoencoder must name the weights that encode and decode when model.latent is true"
    if not recipe.model.latent and recipe.autoencoder:
        yield "autoencoder has an effect on latent networks only"


_OF_DIFFIR = (
    *("known_weight", "hole_weight", "ipr", "ipr_weight", "optimization", "variance_noise"),
    "ipr_only",
)
"""Fields of the loss that the training of ResShift does not read."""
