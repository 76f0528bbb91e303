"""How each family of networks is trained, imported when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffir_cli.training.parallel import World
    from diffir_cli.training.recipe import Recipe
    from diffir_cli.training.trainable import Trainable


@dataclass(frozen=True)
class TrainingEntry:
    """Where the training of a family is found."""

    faults: str
    """`module:function` that names what is wrong with a recipe; loads no torch."""
    trainable: str
    """`module:class` of its `Trainable`, made of a recipe and a world."""


TRAINING: dict[str, TrainingEntry] = {
    "diffir": TrainingEntry(
        "diffir_cli.training.diffir.faults:faults",
        "diffir_cli.training.diffir.trainable:TrainableDiffIR",
    ),
    "resshift": TrainingEntry(
        "diffir_cli.training.resshift.faults:faults",
        "diffir_cli.training.resshift.trainable:TrainableResShift",
    ),
}
"""The families that can be trained, by name."""


def family_faults(recipe: Recipe) -> Iterator[str]:
    """What is wrong with a recipe for networks of its family."""
    if recipe.family not in TRAINING:
        yield f"family must be one of {', '.join(TRAINING)}, not {recipe.family!r}"
        return
    faults: Callable[[Recipe], Iterator[str]] = resolve_name(TRAINING[recipe.family].faults)
    yield from faults(recipe)


def build_trainable(recipe: Recipe, world: World) -> Trainable:
    """What a recipe trains, on the device of a process.

    Raises:
        CheckpointError: when a file that the recipe names does not fit.
        RecipeError: when nothing of such a file fits.
    """
    trainable: Trainable = resolve_name(TRAINING[recipe.family].trainable)(recipe, world)
    return trainable
