"""Time of the official ResShift model for ×4: python scripts/measure_resshift.py.

Random weights, which cost what trained ones do. All ways of execution are timed by turns in one
process, by the clock and in seconds of processors, which other programs on the machine change less.
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
from diffir_cli.models.resshift.family import FAMILY
from diffir_cli.models.resshift.model import ResShiftModel
from diffir_cli.options import Engine

WAYS = {
    "plain fp32": (torch.float32, Engine.REFERENCE),
    "fp32": (torch.float32, Engine.STREAMING),
    "bf16": (torch.bfloat16, Engine.STREAMING),
}


@torch.inference_mode()
def main() -> None:
    """Print a row for each way of execution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64, help="Side of the input in pixels.")
    parser.add_argument("--turns", type=int, default=3, help="Number of timed runs of each.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="Which.")
    asked = parser.parse_args()
    models = {}
    for name in asked.ways:
        # Layout is a property of the weights, so that each needs some of its own.
        torch.manual_seed(0)
        models[name] = FAMILY.build(REALSR_V3).to(torch.device("cpu"), *WAYS[name])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for turn in range(asked.turns + 1):
        for name, model in models.items():
            taken = _seconds(model, asked.side)
            if turn or not asked.turns:
                times[name].append(taken)
    first = times[asked.ways[0]]
    print("| | seconds | CPU seconds | ratio of CPU seconds |")
    print("|---|---:|---:|---:|")
    for name, found in times.items():
        clock, processors = (statistics.median(column) for column in zip(*found, strict=True))
        ratio = statistics.median(a[1] / b[1] for a, b in zip(first, found, strict=True))
        print(f"| {name} | {clock:.1f} | {processors:.1f} | {ratio:.2f} |")


def _seconds(model: ResShiftModel, side: int) -> tuple[float, float]:
    """By the clock, and of all processors together."""
    lq = torch.rand(1, 3, side, side)
    clock, processors = time.perf_counter(), time.process_time()
    context = model.context(lq, 0)
    height, width = context.lq.shape[2:]
    model.restore(context.lq, Window(0, 0, width, height), context)
    return time.perf_counter() - clock, time.process_time() - processors


if __name__ == "__main__":
    main()
