"""What a run starts from: the network, of this recipe or of the files that it names."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import nn

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.checkpoint import (
    Network,
    load_checkpoint,
    load_model,
    load_stage1,
    load_state,
)
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.diffir.initial import initialise, initialise_cpen
from diffir_cli.training.kinds import Optimization
from diffir_cli.training.recipe import Recipe

_log = logging.getLogger(__name__)


def load_teacher(recipe: Recipe) -> DiffIRS1 | None:
    """The stage-1 network of `init`, as deep as the recipe's, which stages 2 and 3 learn from.

    None where `init` names none.

    Raises:
        CheckpointError: when `init` holds no such network.
    """
    if not recipe.init:
        return None
    teacher = load_stage1(recipe.init, _as_deep_as_the_file(recipe.init, recipe.model))
    return deepened(teacher, recipe.model).requires_grad_(False).eval()


def build(recipe: Recipe, teacher: DiffIRS1 | None) -> DiffIRS1 | DiffIRS2:
    """The network to begin with.

    That is the one in `start`, or a new one, with the teacher's DIRformer or what fits of `init`
    where `init` is given.

    Raises:
        CheckpointError: when `start` holds no such network.
        RecipeError: when nothing of `init` fits, or `start` was trained to compute something else.
    """
    if recipe.start:
        _check_meaning(recipe)
        started = load_model(recipe.start, _as_deep_as_the_file(recipe.start, recipe.model))
        return deepened(started, recipe.model).requires_grad_(True).train()
    if teacher is not None:
        student = DiffIRS2(recipe.model)
        initialise_cpen(student.cpen)
        student.dirformer.load_state_dict(teacher.dirformer.state_dict())
        return student
    model = DiffIRS1(recipe.model) if recipe.stage == 1 else DiffIRS2(recipe.model)
    initialise(model)
    if recipe.init:
        own = model.state_dict()
        taken = {
            name: value
            for name, value in load_state(recipe.init).items()
            if name in own and own[name].shape == value.shape
        }
        if not taken:
            raise RecipeError(recipe.name, [f"no tensor of {recipe.init} fits the model"])
        model.load_state_dict(taken, strict=False)
        _log.warning("%d of %d tensors come from %s", len(taken), len(own), recipe.init)
    return model


_MEANING = ("residual", "prefill", "steps", "beta_start", "beta_end", "schedule", "prediction")
"""Fields of a configuration that change what a network computes, but none of its parameters."""


def _check_meaning(recipe: Recipe) -> None:
    """Refuse to continue weights as another network than the one in the header of their file."""
    found = load_checkpoint(recipe.start)
    if "config" not in found.metadata:
        return
    faults = [
        f"model.{name} is {getattr(recipe.model, name)}, but {getattr(found.config, name)} in "
        f"{recipe.start}"
        for name in _MEANING
        if getattr(recipe.model, name) != getattr(found.config, name)
    ]
    if faults:
        raise RecipeError(recipe.name, faults)


@torch.no_grad()
def deepened(network: Network, config: ModelConfig) -> Network:
    """The same function with more blocks to learn with: the last layers of new ones are zero.

    Args:
        network: Whose blocks come first at each level.
        config: That of the network, but for more blocks.
    """
    if network.config == config:
        return network
    deeper, before = type(network)(config), network.state_dict()
    initialise(deeper)
    for name, parameter in deeper.named_parameters():
        if name not in before and name.endswith(".project_out.weight"):
            parameter.zero_()
    deeper.load_state_dict(before, strict=False)
    return deeper


def _as_deep_as_the_file(path: str, config: ModelConfig) -> ModelConfig:
    """A configuration with as many blocks as a file has, unless they are more at some level."""
    found = load_checkpoint(path).config
    depths, wanted = ((*it.num_blocks, it.refinement_blocks) for it in (found, config))
    if depths == wanted or any(depth > most for depth, most in zip(depths, wanted, strict=True)):
        return config
    _log.warning(
        "%s has %s blocks of %s; the new ones change nothing at first", path, [*depths], [*wanted]
    )
    return replace(config, num_blocks=found.num_blocks, refinement_blocks=found.refinement_blocks)


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Keep from learning what a recipe leaves at rest."""
    if recipe.stage == 2 and recipe.loss.optimization is Optimization.TRADITIONAL:
        model.get_submodule("dirformer").requires_grad_(False)
