"""Seconds of calls on the clock of a device, and how fast the device multiplies."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from diffir_cli.options import Precision
from diffir_cli.runtime.device import dtype_of, tf32

Call = Callable[[], object]

_CPU_SIDE, _GPU_SIDE = 2048, 8192
"""Side of the matrices whose product is taken for the peak."""


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
