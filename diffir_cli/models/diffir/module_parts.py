"""The parts of a network: in which network, on which level, and of what kind.

The parts are chosen so that none holds another, and no convolution or product is outside of them:
what they cost adds up to what the network costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from torch import nn

from diffir_cli.models.cost import ModulePart
from diffir_cli.models.diffir.config import LEVELS


class Network(StrEnum):
    """Which of the networks of DiffIR."""

    CPEN = "CPEN"
    DENOISER = "denoiser"
    DIRFORMER = "DIRformer"


class Kind(StrEnum):
    """What a part does."""

    CPEN = "CPEN"
    DENOISER = "denoiser"
    EMBED = "embed"
    """The first convolution."""
    NORM = "norm"
    DMTA = "DMTA"
    """With its modulation."""
    DGFN = "DGFN"
    """With its modulation."""
    RESAMPLE = "resample"
    """Half or twice the side, and the 1×1 convolution behind a concatenation."""
    TAIL = "tail"


def module_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, ModulePart]]:
    """The parts of a network of either stage, with their names in it, in no promised order."""
    for name, module in model.named_modules():
        part = _part_of(name)
        if part is not None:
            yield name, module, part


_BLOCK = r"(?:\.\d+)\.(norm1|norm2|dmta|dgfn)"
_KINDS = {"norm1": Kind.NORM, "norm2": Kind.NORM, "dmta": Kind.DMTA, "dgfn": Kind.DGFN}


def _part_of(name: str) -> ModulePart | None:
    """The part that a module of this name is; None for what holds parts, or is inside of one."""
    # CPEN's halves, since the engine calls them and not CPEN itself where an image is large.
    if name in ("cpen.features", "cpen.mlp"):
        return ModulePart(Network.CPEN, Network.CPEN.value, Kind.CPEN)
    if name == "denoiser":
        return ModulePart(Network.DENOISER, Network.DENOISER.value, Kind.DENOISER)
    if not name.startswith("dirformer."):
        return None
    part = name.removeprefix("dirformer.")
    if part == "patch_embed":
        return ModulePart(Network.DIRFORMER, "level 1 down", Kind.EMBED)
    if part == "tail":
        return ModulePart(Network.DIRFORMER, "tail", Kind.TAIL)
    if match := re.fullmatch(r"(down|up|reduce)\.(\d)", part):
        return ModulePart(Network.DIRFORMER, _level(match[1], int(match[2])), Kind.RESAMPLE)
    if match := re.fullmatch(rf"(encoder|decoder)\.(\d){_BLOCK}", part):
        return ModulePart(Network.DIRFORMER, _level(match[1], int(match[2])), _KINDS[match[3]])
    if match := re.fullmatch(rf"(latent|refinement){_BLOCK}", part):
        level = "refinement" if match[1] == "refinement" else f"level {LEVELS}"
        return ModulePart(Network.DIRFORMER, level, _KINDS[match[2]])
    return None


def _level(part: str, place: int) -> str:
    """The level of the PLACE-th module of a list: from the top on the way down, else upwards."""
    if part in ("encoder", "down"):
        return f"level {place + 1} down"
    return f"level {LEVELS - 1 - place} up"
