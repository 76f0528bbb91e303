"""Measure strips against the plain modules by turns: python scripts/measure_engine.py.

Networks of the official sizes with random weights, which cost the same as trained ones.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer
from diffir_cli.runtime.clock import peak, seconds
from diffir_cli.weights.registry import read_registry

WORK = (
    ("deblur-gopro", 256),
    ("deblur-gopro", 512),
    ("inpaint-places", 256),
    ("inpaint-places", 512),
    ("sr-x4", 64),
    ("sr-x4", 128),
)


def measure(
    name: str, side: int, dtype: torch.dtype, repeats: int
) -> tuple[float, float, float, float]:
    """GFLOP, median seconds of plain modules and strips, and the median of their ratios."""
    config = read_registry()[name].model
    torch.manual_seed(0)
    network = DIRformer(config).eval()
    lq = torch.rand(1, config.in_channels, side, side)
    ipr = torch.randn(1, config.ipr_dim)
    stream = StreamingDIRformer(network, dtype)

    def plain() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
            hq: Tensor = network(lq.contiguous(memory_format=torch.channels_last), ipr)
        return hq

    with torch.inference_mode():
        stream(lq, ipr)
        with FlopCounterMode(display=False) as counter:
            network(lq, ipr)
        plain()
        pairs = [(seconds(plain), seconds(lambda: stream(lq, ipr))) for _ in range(repeats)]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return counter.get_total_flops() / 1e9, first, second, ratio


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", default="", help="the names that begin so")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    limit = peak(torch.device("cpu")) / 1e9
    print(f"{options.threads} threads, {dtype}, GEMM {limit:.0f} GFLOP/s\n")
    print("| network | input | GFLOP | plain (s) | strips (s) | ratio | GFLOP/s | of the roof |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, side in WORK:
        if name.startswith(options.only):
            work, one, other, ratio = measure(name, side, dtype, options.repeats)
            speed = work / other
            print(
                f"| {name} | {side}×{side} | {work:.1f} | {one:.2f} | {other:.2f} | {ratio:.2f} "
                f"| {speed:.0f} | {100 * speed / limit:.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
