"""Measure `diffir batch` against the bare engine: python scripts/measure_batch.py FOLDER.

The same pictures, decoded beforehand, through the same network without reading and writing; by
turns in one process. The result is the share of the engine's speed that a run reaches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from diffir_cli.batch.plan import Job
from diffir_cli.batch.run import Pipeline
from diffir_cli.batch.work import Outcome, Work
from diffir_cli.imaging import list_pictures, read_picture
from diffir_cli.imaging.formats import FORMATS
from diffir_cli.imaging.source import PictureOptions
from diffir_cli.options import Task
from diffir_cli.weights.locate import locate_weights


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", type=Task, default=Task.DEBLUR)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", type=int, default=20, help="pictures in a turn")
    options = parser.parse_args()
    work = Work(options.task, locate_weights(None, options.task), PictureOptions()).on("cpu")
    runner = work.runner()
    paths = list_pictures(options.folder)
    bare: list[float] = []
    whole: list[float] = []
    for turn in range(options.repeats):
        part = paths[turn * options.part : (turn + 1) * options.part]
        pictures = [read_picture(path) for path in part]
        runner.restore(pictures[0].rgb)
        started = time.perf_counter()
        for picture in pictures:
            runner.restore(picture.rgb)
        bare.append(time.perf_counter() - started)
        outcomes: list[Outcome] = []
        with tempfile.TemporaryDirectory() as folder:
            jobs = [
                Job(path, f"{path.stem}.png", Path(folder, f"{path.stem}.png"), FORMATS[0])
                for path in part
            ]
            started = time.perf_counter()
            line = Pipeline(work, runner, 2, threading.Event(), lambda _job: None, outcomes.append)
            line.run(iter(jobs))
            whole.append(time.perf_counter() - started)
        assert not any(outcome.error for outcome in outcomes)
        print(f"turn {turn}: bare {bare[-1]:.1f} s, batch {whole[-1]:.1f} s", flush=True)
    share = statistics.median(one / other for one, other in zip(bare, whole, strict=True))
    print(f"batch reaches {100 * share:.1f} % of the bare engine on {len(paths)} pictures")


if __name__ == "__main__":
    main()
