"""Watches the loss of a run for the moment at which it collapses, and counts what follows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from diffir_cli.training.kinds import PixelLoss
from diffir_cli.training.losses import typical_error

_SMOOTHED_OVER = 8
"""Iterations whose mean is judged, so that one hard batch is no collapse."""
_REMEMBERED = 200
"""Iterations that say what is usual."""
_DECAY_AFTER = 4000
"""Iterations without a collapse that take back one return to an earlier state."""


class Guard:
    """Compares each term of the loss in the last iterations with that of many before them.

    Each term is judged by itself: one that joins later, as L_rec does behind a warm-up of the IPR,
    begins its own memory, and a large one does not hide what happens to a small one.

    Args:
        factor: How many times the usual size is a spike; 0 where only what is no number is one.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.terms: dict[str, deque[float]] = {}

    def has_collapsed(self, terms: Mapping[str, float]) -> bool:
        """Take an iteration's terms; whether one is no number, or the last ones are a spike."""
        if not all(math.isfinite(value) for value in terms.values()):
            return True
        for name, value in terms.items():
            self.terms.setdefault(name, deque(maxlen=_REMEMBERED)).append(value)
        return bool(self.factor) and self._excess() > self.factor

    @property
    def is_calm(self) -> bool:
        """Whether the state may be kept as a good one."""
        return not self.factor or self._excess() < math.sqrt(self.factor)

    def _excess(self) -> float:
        """The largest ratio of last to usual; 1 as long as little is known."""
        return max(map(_excess, self.terms.values()), default=1.0)

    def state(self) -> dict[str, list[float]]:
        """What it remembers."""
        return {name: list(values) for name, values in self.terms.items()}

    def restore(self, terms: Mapping[str, Sequence[float]]) -> None:
        """Remember what it once did."""
        self.terms = {name: deque(values, maxlen=_REMEMBERED) for name, values in terms.items()}


@dataclass
class Rollbacks:
    """How often a run went back to an earlier state, each time to a lower learning rate."""

    count: int = 0
    """Those that are not taken back."""
    at: int = 0
    """Iteration of the last one, or in which one was taken back."""

    @property
    def lr_factor(self) -> float:
        """Factor of the learning rate: halved by each of them."""
        return 0.5**self.count

    def decay(self, iteration: int) -> None:
        """Take one back once the run has gone well for long."""
        if self.count and iteration - self.at >= _DECAY_AFTER:
            self.count, self.at = self.count - 1, iteration


def _excess(values: Iterable[float]) -> float:
    """The mean of the last values over the median of those before."""
    seen = list(values)
    before = seen[:-_SMOOTHED_OVER]
    if len(before) < 2 * _SMOOTHED_OVER:
        return 1.0
    return sum(seen[-_SMOOTHED_OVER:]) / _SMOOTHED_OVER / max(median(before), 1e-12)


def sizes(terms: Mapping[str, float], pixel: PixelLoss) -> dict[str, float]:
    """The terms of a loss that tell a collapse, as numbers whose ratio means something.

    What a discriminator makes of results, and the distances of its features, grow as it learns,
    which is no collapse; and a loss in decibels hardly moves when one comes.
    """
    judged = {name: value for name, value in terms.items() if name not in ("gan", "features")}
    if pixel is PixelLoss.PSNR and "rec" in judged:
        judged["rec"] = typical_error(judged["rec"])
    return judged
