"""What a network costs: parameters and Mult-Adds, by its parts.

A Mult-Add is a multiplication with the addition behind it, two FLOPs. What counts are convolutions,
linear layers and the products of attention; norms, activations and sums do not. There are two
conventions:

    exact   all of these, each module as often as it runs
    paper   as the paper of the family counts, which may leave out the products of attention
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
class ModulePart:
    """A part of a network, or several parts of one kind on one level."""

    network: str
    """Which of the networks of the family."""
    level: str
    """Where in it; the network's own name where it has no levels."""
    kind: str
    """What the part does."""


@dataclass(frozen=True)
class Cost:
    """What a network costs at one size."""

    width: int
    """LQ pixels, as the network pads them."""
    height: int
    """LQ pixels, as the network pads them."""
    parameters: Mapping[str, int]
    """Numbers that were learned, by network, shared ones once."""
    parts: Mapping[ModulePart, Count]
    """Mult-Adds of each part, in the order in which an image passes."""
    paper: int
    """Mult-Adds as the paper counts."""

    @property
    def total_parameters(self) -> int:
        """Of all networks."""
        return sum(self.parameters.values())

    @property
    def exact(self) -> int:
        """Mult-Adds, every product that is computed, once."""
        return sum(count.mult_adds for count in self.parts.values())

    def network(self, network: str) -> Count:
        """What one of the networks costs."""
        found = (count for part, count in self.parts.items() if part.network == network)
        return sum(found, Count(0))
