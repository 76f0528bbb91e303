"""Parameters and Mult-Adds, counted on the meta device: nothing is computed, nothing allocated.

A Mult-Add is a multiplication with the addition behind it, two FLOPs. What counts are convolutions,
linear layers and the products of attention; norms, activations and sums do not. There are two
conventions:

    exact   all of these, each module as often as it runs
    paper   without the products of attention, and with CPEN_S2 twice

The second is the one whose figures the paper prints (docs/benchmark.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.benchmark.places import Kind, Network, Place, places
from diffir_cli.config import ModelConfig
from diffir_cli.networks import DiffIRS1, DiffIRS2


@dataclass(frozen=True)
class Count:
    """Mult-Adds of a part."""

    mult_adds: int
    """All of them."""
    attention: int = 0
    """Those of the products of attention among them."""

    def __add__(self, other: Count) -> Count:
        return Count(self.mult_adds + other.mult_adds, self.attention + other.attention)


@dataclass(frozen=True)
class Cost:
    """What a network costs at one size."""

    stage: int
    """1 or 2."""
    width: int
    """LQ pixels, as the engine pads them."""
    height: int
    """LQ pixels, as the engine pads them."""
    parameters: Mapping[Network, int]
    """Numbers that were learned, shared ones once."""
    parts: Mapping[Place, Count]
    """Mult-Adds of each place, in the order in which an image passes."""

    @property
    def total_parameters(self) -> int:
        """Of all networks."""
        return sum(self.parameters.values())

    @property
    def exact(self) -> int:
        """Mult-Adds, every product that is computed, once."""
        return sum(count.mult_adds for count in self.parts.values())

    @property
    def paper(self) -> int:
        """Mult-Adds as the paper counts: without the products of attention, CPEN_S2 twice."""
        attention = sum(count.attention for count in self.parts.values())
        again = self.network(Network.CPEN).mult_adds if self.stage == 2 else 0
        return self.exact - attention + again

    def network(self, network: Network) -> Count:
        """What one of the networks costs."""
        found = (count for place, count in self.parts.items() if place.network is network)
        return sum(found, Count(0))


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
    parts: defaultdict[Place, Count] = defaultdict(lambda: Count(0))
    for name, _, place in sorted(places(model), key=lambda part: _order(part[2])):
        parts[place] += _count(counts.get(f"{type(model).__name__}.{name}", {}))
    cost = Cost(stage, wide, high, _parameters(model), dict(parts))
    # Else a part would be missing in `places`.
    assert cost.exact == counter.get_total_flops() // 2
    return cost


@lru_cache(maxsize=32)
def _on_meta(config: ModelConfig, stage: int) -> DiffIRS1 | DiffIRS2:
    """A network of shapes alone; to build it takes longer than to count it at one more size."""
    with torch.device("meta"):
        return (DiffIRS1 if stage == 1 else DiffIRS2)(config).eval()


def _count(operators: Mapping[Any, int]) -> Count:
    attention = sum(flops for operator, flops in operators.items() if "bmm" in str(operator))
    return Count(sum(operators.values()) // 2, attention // 2)


def _parameters(model: DiffIRS1 | DiffIRS2) -> dict[Network, int]:
    networks = {Network.CPEN: model.cpen, Network.DIRFORMER: model.dirformer}
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


def _order(place: Place) -> tuple[int, int]:
    return _LEVELS.index(place.level), list(Kind).index(place.kind)
