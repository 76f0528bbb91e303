"""Seconds of calls by turns, with a spread.

Calls that are to be compared are made by turns, A B A B, so that what slows a machine down for a
while slows all of them, and their ratio is taken turn by turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diffir_cli.errors import DiffIRError
from diffir_cli.runtime.clock import Call, seconds

FAULTS = (DiffIRError, RuntimeError, MemoryError)
"""What a network may raise that cannot be run here: no reason to lose the figures of others."""

FEW = 20
"""Calls below which p99 would be no more than the slowest of them."""

NOISY = 0.2
"""Spread from which a figure is not worth citing."""


@dataclass(frozen=True)
class Timing:
    """Seconds of the same call, again and again."""

    seconds: tuple[float, ...]
    """In the order of the calls, at least one."""

    def percentile(self, percent: float) -> float:
        """The time within which so many percent of the calls were done, between two of them."""
        return float(np.percentile(self.seconds, percent))

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def p99(self) -> float | None:
        """The time within which nearly all calls were done; None where they are too few."""
        return self.percentile(99) if len(self.seconds) >= FEW else None

    @property
    def best(self) -> float:
        """The shortest."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """From p10 to p90, over the median."""
        return (self.percentile(90) - self.percentile(10)) / self.p50


@dataclass(frozen=True)
class Ratio:
    """How many times as long as another call, turn by turn."""

    median: float
    low: float
    """The smallest of all turns."""
    high: float
    """The largest of all turns."""

    @classmethod
    def of(cls, seconds: Sequence[float], others: Sequence[float]) -> Ratio:
        """Of two calls that were made by turns."""
        ratios = [one / other for one, other in zip(seconds, others, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


def by_turns(
    calls: Sequence[Call],
    repeats: int,
    device: torch.device,
    report: Callable[[int], None] = lambda _turn: None,
) -> list[Timing | Exception]:
    """Time calls by turns.

    A call that raises one of `FAULTS` is not made again, and the others go on.

    Args:
        calls: What is to be compared, each called once before, which does not count.
        repeats: Turns, at least one.
        device: Where they compute.
        report: Called with the number of each turn before it.

    Returns:
        The times of each call, or what it raised.
    """
    times: list[list[float]] = [[] for _ in calls]
    raised: dict[int, Exception] = {}
    for turn in range(repeats):
        report(turn)
        for place, call in enumerate(calls):
            if place in raised:
                continue
            try:
                times[place].append(seconds(call, device))
            except FAULTS as error:
                raised[place] = error
    return [raised.get(place) or Timing(tuple(taken)) for place, taken in enumerate(times)]
