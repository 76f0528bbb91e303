"""Watches the loss of a run for the moment at which it collapses."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

_SMOOTHED_OVER = 8
"""Iterations whose mean is judged, so that one hard batch is no collapse."""
_REMEMBERED = 200
"""Iterations that say what is usual."""


class Guard:
    """Compares the loss of the last iterations with that of many before them.

    Args:
        factor: How many times the usual loss is a spike; 0 for no guard.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.losses: deque[float] = deque(maxlen=_REMEMBERED)

    def has_collapsed(self, loss: float) -> bool:
        """Take the loss of an iteration; whether it is no number, or the last ones are a spike."""
        if not math.isfinite(loss):
            return True
        self.losses.append(loss)
        return bool(self.factor) and self._excess() > self.factor

    @property
    def is_calm(self) -> bool:
        """Whether the state may be kept as a good one."""
        return not self.factor or self._excess() < math.sqrt(self.factor)

    def _excess(self) -> float:
        """The last losses over the usual; 1 as long as little is known."""
        seen = list(self.losses)
        before = seen[:-_SMOOTHED_OVER]
        if len(before) < 2 * _SMOOTHED_OVER:
            return 1.0
        return sum(seen[-_SMOOTHED_OVER:]) / _SMOOTHED_OVER / max(median(before), 1e-12)

    def state(self) -> list[float]:
        """What it remembers."""
        return list(self.losses)

    def restore(self, losses: Sequence[float]) -> None:
        """Remember what it once did."""
        self.losses = deque(losses, maxlen=_REMEMBERED)
