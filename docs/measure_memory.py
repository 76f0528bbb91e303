"""Measure the memory and time of a restoration: python docs/measure_memory.py NAME WIDTHxHEIGHT.

A network of the registry with random weights, which costs the same as trained ones, on the CPU. Run
one at a time: the figure is how far the peak of this process rose above what it held before.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from diffir_cli.config import Engine, Precision
from diffir_cli.engine.memory import Wish, needed_bytes
from diffir_cli.engine.restorer import ModelRestorer
from diffir_cli.engine.streaming import strip_numbers
from diffir_cli.networks import DiffIRS2
from diffir_cli.registry import read_registry


def status(field: str) -> int:
    """Bytes that Linux says of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Print a line of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("size")
    parser.add_argument("--engine", type=Engine, default=Engine.STREAMING)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    config = read_registry()[options.name].model
    width, height = map(int, options.size.split("x"))
    precision = Precision.BF16 if options.bf16 else Precision.FP32
    torch.manual_seed(0)
    restorer = ModelRestorer(DiffIRS2(config), "cpu", precision, options.engine, Wish(tile=0))
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    holes = pixels[:, :, 0] < 64 if restorer.takes_mask else None
    corner = None if holes is None else holes[:64, :64]
    restorer.restore(pixels[:64, :64], mask=corner)
    before, started = status("VmRSS"), time.perf_counter()
    restorer.restore(pixels, mask=holes)
    seconds, grown = time.perf_counter() - started, status("VmHWM") - before
    itemsize = restorer.dtype.itemsize
    said = needed_bytes(config, width, height, options.engine, itemsize, strip_numbers())
    print(
        f"| {options.name} | {width}×{height} | {options.engine.value} | {restorer.precision} "
        f"| {grown / 2**30:.2f} | {said / 2**30:.2f} | {seconds:.0f} |"
    )


if __name__ == "__main__":
    main()
