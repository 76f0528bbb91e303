"""What waiting threads cost on an idle machine and beside another busy program.

For each way of waiting, one process restores a 128×128 picture with `sr-x4-lite`, or takes training
steps of 16 crops of 48×48 pixels, again and again; the ways take turns, so that a change in the
speed of the machine hits all of them.

    python scripts/measure_contention.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict

WAYS: dict[str, dict[str, str]] = {
    "default": {},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "GOMP_SPINCOUNT=500": {"GOMP_SPINCOUNT": "500"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=2000": {"GOMP_SPINCOUNT": "2000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}

_INFERENCE = """
import numpy as np
from diffir_cli import Restorer
picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
restorer = Restorer("sr", device="cpu", precision="fp32")
work = lambda: restorer.restore(picture)
"""

_TRAINING = """
import torch
from diffir_cli.models.diffir.networks import DiffIRS2
from diffir_cli.weights.registry import find_weights
torch.manual_seed(0)
network = DiffIRS2(find_weights("sr-x4-lite").model).to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
lq = torch.rand(16, 3, 48, 48).to(memory_format=torch.channels_last)
gt = torch.rand(16, 3, 192, 192)
x_T = torch.randn(16, network.config.ipr_dim)
def work():
    optimizer.zero_grad()
    (network(lq, x_T) - gt).abs().mean().backward()
    optimizer.step()
"""

_MEASURE = """
import json, time
work()
times = []
for _ in range({repeats}):
    started = time.perf_counter()
    work()
    times.append(time.perf_counter() - started)
print(json.dumps(times))
"""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of all ways")
    parser.add_argument("--work", choices=("inference", "training", "both"), default="both")
    options = parser.parse_args()
    kinds = ("inference", "training") if options.work == "both" else (options.work,)
    print("| work | machine | threads wait by | median (s) | speed, default = 1 |")
    print("|---|---|---|---:|---:|")
    for kind in kinds:
        for busy in (False, True):
            times = defaultdict(list)
            for _ in range(options.rounds):
                for name, variables in WAYS.items():
                    times[name].append(_measured(kind, variables, busy))
            # Turn by turn, so that a slow minute does not decide.
            for name in WAYS:
                turns = zip(times["default"], times[name], strict=True)
                speed = statistics.median(first / second for first, second in turns)
                seconds = statistics.median(times[name])
                machine = "one core busy" if busy else "idle"
                print(f"| {kind} | {machine} | {name} | {seconds:.3f} | {speed:.2f} |", flush=True)


def _measured(kind: str, variables: dict[str, str], busy: bool) -> float:
    """The median seconds of some calls in a process of their own."""
    work, repeats = (_INFERENCE, 7) if kind == "inference" else (_TRAINING, 2)
    chosen = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in chosen}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", work + _MEASURE.format(repeats=repeats)],
            env={**clean, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return statistics.median(json.loads(done.stdout))


if __name__ == "__main__":
    main()
