"""Where the parts of a network stand: in which network, on which level, and of what kind.

The parts are chosen so that none holds another, and no convolution or product is outside of them:
what they cost adds up to what the network costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from torch import nn

from diffir_cli.config import LEVELS


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


@dataclass(frozen=True)
class Place:
    """A part of a network, or several parts of one kind on one level."""

    network: Network
    level: str
    """`level 1 down` to `level 4` to `level 1 up`, `refinement` or `tail`; the network's own name
    for CPEN and the denoiser."""
    kind: Kind


def places(model: nn.Module) -> Iterator[tuple[str, nn.Module, Place]]:
    """The parts of a network of either stage, with their names in it, in no promised order."""
    for name, module in model.named_modules():
        place = _place(name)
        if place is not None:
            yield name, module, place


_BLOCK = r"(?:\.\d+)\.(norm1|norm2|dmta|dgfn)"
_KINDS = {"norm1": Kind.NORM, "norm2": Kind.NORM, "dmta": Kind.DMTA, "dgfn": Kind.DGFN}


def _place(name: str) -> Place | None:
    """Where a module of this name stands; None for what holds parts, or is inside of one."""
    # CPEN's halves, since the engine calls them and not CPEN itself where an image is large.
    if name in ("cpen.features", "cpen.mlp"):
        return Place(Network.CPEN, Network.CPEN.value, Kind.CPEN)
    if name == "denoiser":
        return Place(Network.DENOISER, Network.DENOISER.value, Kind.DENOISER)
    if not name.startswith("dirformer."):
        return None
    part = name.removeprefix("dirformer.")
    if part == "patch_embed":
        return Place(Network.DIRFORMER, "level 1 down", Kind.EMBED)
    if part == "tail":
        return Place(Network.DIRFORMER, "tail", Kind.TAIL)
    if match := re.fullmatch(r"(down|up|reduce)\.(\d)", part):
        return Place(Network.DIRFORMER, _level(match[1], int(match[2])), Kind.RESAMPLE)
    if match := re.fullmatch(rf"(encoder|decoder)\.(\d){_BLOCK}", part):
        return Place(Network.DIRFORMER, _level(match[1], int(match[2])), _KINDS[match[3]])
    if match := re.fullmatch(rf"(latent|refinement){_BLOCK}", part):
        level = "refinement" if match[1] == "refinement" else f"level {LEVELS}"
        return Place(Network.DIRFORMER, level, _KINDS[match[2]])
    return None


def _level(part: str, place: int) -> str:
    """The level of the PLACE-th module of a list: from the top on the way down, else upwards."""
    if part in ("encoder", "down"):
        return f"level {place + 1} down"
    return f"level {LEVELS - 1 - place} up"
