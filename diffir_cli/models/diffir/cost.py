"""Parameters and Mult-Adds, counted on the meta device: nothing is computed, nothing allocated.

The paper's figures leave out the products of attention and count CPEN_S2 twice (docs/benchmark.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.models.cost import Cost, Count, ModulePart
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.module_parts import Kind, Network, module_parts
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2


@lru_cache(maxsize=256)
def count_cost(config: ModelConfig, width: int, height: int, stage: int = 2) -> Cost:
    """What the network of a configuration costs for an image of a size.

    Args:
        config: The network.
        width: LQ pixels.
        height: LQ pixels.
        stage: 1 for the network that sees the truth, 2 for the one that imagines it.
    """
    model = _on_meta(config, stage)
    wide, high = config.padded(width), config.padded(height)
    lq = torch.empty(1, config.in_channels, high, wide, device="meta")
    second = (1, 3, high * config.scale, wide * config.scale) if stage == 1 else (1, config.ipr_dim)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(lq, torch.empty(second, device="meta"))
    counts = counter.get_flop_counts()
    parts: defaultdict[ModulePart, Count] = defaultdict(lambda: Count(0))
    for name, _, part in sorted(module_parts(model), key=lambda found: _order(found[2])):
        parts[part] += _count(counts.get(f"{type(model).__name__}.{name}", {}))
    total = sum(parts.values(), Count(0))
    # Else a part would be missing in `module_parts`.
    assert total.mult_adds == counter.get_total_flops() // 2
    cpen = sum((count for part, count in parts.items() if part.kind == Kind.CPEN), Count(0))
    paper = total.mult_adds - total.attention + (cpen.mult_adds if stage == 2 else 0)
    return Cost(wide, high, _parameters(model), dict(parts), paper)


@lru_cache(maxsize=32)
def _on_meta(config: ModelConfig, stage: int) -> DiffIRS1 | DiffIRS2:
    """A network of shapes alone; to build it takes longer than to count it at one more size."""
    with torch.device("meta"):
        return (DiffIRS1 if stage == 1 else DiffIRS2)(config).eval()


def _count(operators: Mapping[Any, int]) -> Count:
    attention = sum(flops for operator, flops in operators.items() if "bmm" in str(operator))
    return Count(sum(operators.values()) // 2, attention // 2)


def _parameters(model: DiffIRS1 | DiffIRS2) -> dict[str, int]:
    networks: dict[str, nn.Module] = {Network.CPEN: model.cpen, Network.DIRFORMER: model.dirformer}
    if isinstance(model, DiffIRS2):
        networks[Network.DENOISER] = model.denoiser
    return {
        name: sum(parameter.numel() for parameter in network.parameters())
        for name, network in networks.items()
    }


_LEVELS = (
    "CPEN",
    "denoiser",
    *(f"level {level} down" for level in (1, 2, 3)),
    "level 4",
    *(f"level {level} up" for level in (3, 2, 1)),
    "refinement",
    "tail",
)


def _order(part: ModulePart) -> tuple[int, int]:
    return _LEVELS.index(part.level), list(Kind).index(Kind(part.kind))
