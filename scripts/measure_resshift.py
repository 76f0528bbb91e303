"""Time and peak memory of the official ResShift model for ×4: python scripts/measure_resshift.py.

Random weights, which cost what trained ones do. Streaming and reference are timed by turns in one
process; memory is that of a process of its own for each format.
"""

from __future__ import annotations

import argparse
import statistics
import time

from diffir_cli.util.process import prepare_process

prepare_process()

import torch

from diffir_cli.models.base import Window
from diffir_cli.models.resshift.config import REALSR_V3
from diffir_cli.models.resshift.model import FAMILY, ResShiftModel
from diffir_cli.options import Engine

CPU = torch.device("cpu")


@torch.inference_mode()
def main() -> None:
    """Print a row for each way of execution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64, help="Side of the input in pixels.")
    parser.add_argument("--turns", type=int, default=3, help="Number of timed runs of each.")
    asked = parser.parse_args()
    plain = FAMILY.build(REALSR_V3)
    models = {
        "plain modules, fp32": plain.to(CPU, torch.float32, Engine.REFERENCE),
        "channels-last, bf16": plain.to(CPU, torch.bfloat16, Engine.STREAMING),
    }
    # Layout is a property of the weights, so that this one needs some of its own.
    torch.manual_seed(0)
    models["channels-last, fp32"] = FAMILY.build(REALSR_V3).to(CPU, torch.float32, Engine.STREAMING)
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(asked.turns + 1):
        for name, model in models.items():
            taken = _seconds(model, asked.side)
            if turn:
                times[name].append(taken)
    first = statistics.median(times["plain modules, fp32"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"| {name} | {asked.side}×{asked.side} | {median:.1f} | {first / median:.2f} |")


def _seconds(model: ResShiftModel, side: int) -> float:
    lq = torch.rand(1, 3, side, side)
    started = time.perf_counter()
    context = model.context(lq, 0)
    height, width = context.lq.shape[2:]
    model.restore(context.lq, Window(0, 0, width, height), context)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
