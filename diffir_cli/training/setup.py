"""What a run starts from: its folder, its network, and what a saved state is compared by."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffir_cli.checkpoint import Network, load_checkpoint, load_model, load_stage1, load_state
from diffir_cli.config import ModelConfig
from diffir_cli.errors import CheckpointError, DiffIRError, RecipeError
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.initial import initialise, initialise_cpen
from diffir_cli.training.recipe import Optimization, Recipe, digest

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

    That is the one in `start`, or a fresh one with the teacher's DIRformer or what fits of `init`.

    Raises:
        CheckpointError: when `start` holds no such network.
        RecipeError: when nothing of `init` fits.
    """
    if recipe.start:
        started = load_model(recipe.start, _as_deep_as_the_file(recipe.start, recipe.model))
        return deepened(started, recipe.model).requires_grad_(True).train()
    if teacher is not None:
        student = DiffIRS2(recipe.model)
        initialise_cpen(student.cpen)
        student.dirformer.load_state_dict(teacher.dirformer.state_dict())
        return student
    model = DiffIRS1(recipe.model)
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


def trainable(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """The parameters that learn."""
    if recipe.stage == 2 and recipe.loss.optimization is Optimization.TRADITIONAL:
        model.get_submodule("dirformer").requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@contextmanager
def whole_state(path: Path, device: torch.device) -> Iterator[dict[str, Any]]:
    """What a run saved, for those who take it apart.

    Raises:
        CheckpointError: when the file is damaged, or a part of it is missing or of another form.
    """
    try:
        yield torch.load(path, map_location=device, weights_only=True)
    except (DiffIRError, torch.OutOfMemoryError):
        raise
    # A damaged file makes torch raise almost anything, and one of an earlier version misses parts.
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or of another version, so the run cannot go on",
            "remove it to begin again",
        ) from error


def refuse_other_run(name: str, path: Path, known: dict[str, str], wanted: dict[str, str]) -> None:
    """Only the recipe and files that a state was made with go on from it.

    Raises:
        RecipeError: when they are others.
    """
    if changed := difference(known, wanted):
        raise RecipeError(
            name,
            [f"{path} was made with another {changed}"],
            f"name another folder with --out, or remove {path.parent} to begin again",
        )


def difference(known: dict[str, str], wanted: dict[str, str]) -> str:
    """In which parts two identities differ.

    A field that is absent from what is known was added by a later version: it had its default.
    """
    usual = digest(Recipe())
    return " and ".join(
        name
        for name, value in wanted.items()
        if known.get(name, usual.get(name, "")) != value
        and not _grown(known.get(name), value, usual.get(name, ""))
    )


def _grown(known: str | None, wanted: str, usual: str) -> bool:
    """Whether two tables differ only by new fields at their defaults."""
    if not all(text and text.startswith("{") for text in (known, wanted, usual)):
        return False
    before, after, default = (json.loads(text or "{}") for text in (known, wanted, usual))
    return after == {**{name: default.get(name) for name in after}, **before}


def identity(recipe: Recipe) -> dict[str, str]:
    """What a state must share with a recipe and its files to be continued by them."""
    named = {name: _hash(getattr(recipe, name)) for name in ("init", "start")}
    return {**digest(recipe), **named}


def _hash(path: str) -> str:
    """sha256 of a file, or nothing for no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
