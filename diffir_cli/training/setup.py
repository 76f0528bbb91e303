"""What a run starts from: the network, of this recipe or of the files that it names."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.checkpoint import (
    Network,
    load_checkpoint,
    load_model,
    load_stage1,
    load_state,
    rebuild,
)
from diffir_cli.config import ModelConfig
from diffir_cli.errors import RecipeError
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.initial import initialise, initialise_cpen
from diffir_cli.training.losses import restore_batch
from diffir_cli.training.recipe import Optimization, Recipe

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


def load_distiller(recipe: Recipe, device: torch.device) -> Distiller | None:
    """The network of `distill.weights`; None where it names none.

    Raises:
        RecipeError: when the network is of another kind or scale than the recipe's.
    """
    if not recipe.distill.weights:
        return None
    network = rebuild(load_checkpoint(recipe.distill.weights))
    theirs, ours = network.config, recipe.model
    if not isinstance(network, DiffIRS2):
        raise RecipeError(recipe.name, ["distill.weights must be of stage 2"])
    for name in ("scale", "in_channels"):
        if getattr(theirs, name) != getattr(ours, name):
            fault = f"distill.weights has {name} {getattr(theirs, name)}, the recipe's model "
            raise RecipeError(recipe.name, [fault + str(getattr(ours, name))])
    return Distiller(network.requires_grad_(False).eval().to(device))


class Distiller:
    """A trained network that makes soft targets of the crops of a batch.

    Args:
        network: Of the scale and channels of the network that learns.
    """

    def __init__(self, network: DiffIRS2) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # As when pictures are restored: one vector of noise, whatever the batch.
        generator = torch.Generator().manual_seed(0)
        self.x_T = torch.randn(1, network.config.ipr_dim, generator=generator)

    @torch.no_grad()
    def __call__(self, lq: Tensor, bf16: bool) -> Tensor:
        """(B, in_channels, H, W) in [0, 1] → (B, 3, scale·H, scale·W) in [0, 1]."""
        multiple = self.network.config.multiple
        height, width = lq.shape[-2:]
        padding = (0, -width % multiple, 0, -height % multiple)
        padded = F.pad(lq, padding, mode="replicate") if any(padding) else lq
        ipr = self.network.ipr(padded, self.x_T.to(lq).expand(len(lq), -1))
        hq = restore_batch(self.network.dirformer, padded, ipr, bf16).clamp(0, 1)
        scale = self.network.config.scale
        return hq[..., : height * scale, : width * scale]


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
