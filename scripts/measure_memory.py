"""Measure the memory and time of a restoration: python scripts/measure_memory.py NAME WIDTHxHEIGHT.

A network of the registry on the CPU. Run one at a time: the figure is how far the peak of this
process rose above what it held before, beside what `runtime/memory.py` predicts.
"""

from __future__ import annotations

import argparse

from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.memory import peak_of
from diffir_cli.benchmark.subject import subjects_of
from diffir_cli.options import Engine, Precision
from diffir_cli.runtime.clock import seconds


def main() -> None:
    """Print a line of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("size")
    parser.add_argument("--engine", type=Engine, default=Engine.STREAMING)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    (subject,) = subjects_of([options.name])
    width, height = map(int, options.size.split("x"))
    variant = Variant(options.engine, Precision.BF16 if options.bf16 else Precision.FP32)
    runner = Case(subject, width, height, variant, "cpu").restorer()
    runner.restore(**subject.picture(64, 64))
    picture = subject.picture(width, height)
    taken: list[float] = []
    memory = peak_of(
        lambda: taken.append(seconds(lambda: runner.restore(**picture))), runner.device
    )
    needed = runner.plan(width, height).needed
    print(
        f"| {options.name} | {width}×{height} | {options.engine.value} | {variant.precision.value} "
        f"| {(memory.resident or 0) / 2**30:.2f} | {needed / 2**30:.2f} | {taken[0]:.0f} |"
    )


if __name__ == "__main__":
    main()
