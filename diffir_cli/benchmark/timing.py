"""Seconds of calls: on the clock of the device, by turns, with a spread.

Calls that are to be compared are made by turns, A B A B, so that what slows a machine down for a
while slows all of them, and their ratio is taken turn by turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diffir_cli.errors import DiffIRError
from diffir_cli.options import Precision
from diffir_cli.runtime.device import dtype_of, tf32

Call = Callable[[], object]

FAULTS = (DiffIRError, RuntimeError, MemoryError)
"""What a network may raise that cannot be run here: no reason to lose the figures of others."""

FEW = 20
"""Calls below which p99 would be no more than the slowest of them."""

NOISY = 0.2
"""Spread from which a figure is not worth citing."""

_CPU_SIDE, _GPU_SIDE = 2048, 8192
"""Side of the matrices whose product is taken for the peak."""


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


def seconds(run: Call, device: torch.device | None = None) -> float:
    """How long one call takes: by CUDA's own events there, else by the clock on the wall."""
    if device is not None and device.type == "cuda":
        return _by_events(run, device)
    settle(device)
    started = time.perf_counter()
    run()
    settle(device)
    return time.perf_counter() - started


def _by_events(run: Call, device: torch.device) -> float:
    with torch.cuda.device(device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000


def settle(device: torch.device | None) -> None:
    """Wait until a device that works on its own has done what it was given."""
    if device is None or device.type == "cpu":
        return
    if device.type == "mps":
        torch.mps.synchronize()
    else:
        (torch.cuda if device.type == "cuda" else torch.xpu).synchronize(device)


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


def peak(
    device: torch.device, precision: Precision = Precision.FP32, side: int | None = None
) -> float:
    """FLOP/s of a product of two square matrices, the best of five: what no network can exceed.

    Args:
        device: Where it is computed.
        precision: In which format.
        side: Of the matrices; by default large enough for the device.
    """
    side = side or (_CPU_SIDE if device.type == "cpu" else _GPU_SIDE)
    one = torch.rand(side, side, device=device).to(dtype_of(precision))
    with torch.inference_mode(), tf32(precision is Precision.TF32):
        _, *times = (seconds(lambda: one @ one, device) for _ in range(6))
    return 2 * side**3 / min(times)
