"""How fast a run learns between two reports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.flop_counter import FlopCounterMode


class Pace:
    """Counts what a run does from one report to the next."""

    def __init__(self) -> None:
        self.flops_per_pixel: float | None = None
        """Of the forward and the backward pass; None where they are still to be counted."""
        self.start(0)

    def start(self, iteration: int) -> None:
        """Count from an iteration on."""
        self.began, self.iteration, self.pixels = time.monotonic(), iteration, 0

    def rates(self, iteration: int) -> tuple[float, float, float]:
        """Iterations, LQ pixels and FLOPs a second since the start; the FLOPs are counted anew."""
        took = max(time.monotonic() - self.began, 1e-9)
        pixels = self.pixels / took
        flops = pixels * (self.flops_per_pixel or 0.0)
        # A pass may have other parts by now, as behind `loss.ipr_only`.
        self.flops_per_pixel = None
        return (iteration - self.iteration) / took, pixels, flops

    @contextmanager
    def counted(self, pixels: int) -> Iterator[None]:
        """Count the FLOPs of the first forward pass over so many LQ pixels."""
        if self.flops_per_pixel is not None:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        # The backward pass takes twice as many; torch does not count those of grouped convolutions.
        self.flops_per_pixel = 3 * counter.get_total_flops() / pixels
