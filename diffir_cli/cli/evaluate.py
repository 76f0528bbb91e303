"""`diffir evaluate`: restore a benchmark and say how close the results are to the truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import print_json, print_table, working
from diffir_cli.config import Precision, Task


def evaluate(
    gt: Annotated[Path, typer.Option("--gt", metavar="DIR", help="The folder of sharp images.")],
    task: options.TaskName = Task.SR,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure super-resolution on a folder of sharp images.

    Each image is reduced by the benchmarks' bicubic, restored, and compared on its luma without a
    border of 4 pixels, by PSNR and SSIM; bicubic enlargement is measured beside it. A stage-1 file
    is shown the truth that it needs.
    """
    from dataclasses import asdict

    from diffir_cli.imaging import list_pictures
    from diffir_cli.weightfile import locate_weights

    paths = list_pictures(gt)
    chosen = locate_weights(weights, task)

    from diffir_cli.engine.loading import load_any_stage
    from diffir_cli.evaluation.evaluate import evaluate_sr, mean_score

    restorer = load_any_stage(chosen, device, precision, threads)
    with working("restoring", quiet or json) as status:
        scores = list(evaluate_sr(restorer, paths, seed, report=lambda path: status(path.name)))
    mean = mean_score(scores)
    if json:
        print_json(
            {
                "weights": {"name": chosen.name, "sha256": chosen.sha256},
                "images": [_finite(asdict(score)) for score in scores],
                "mean": _finite(asdict(mean)),
            }
        )
    elif not quiet:
        print_table(
            ("image", "PSNR", "SSIM", "bicubic PSNR", "bicubic SSIM"),
            [
                (
                    row.name,
                    f"{row.psnr:.2f}",
                    f"{row.ssim:.4f}",
                    f"{row.bicubic_psnr:.2f}",
                    f"{row.bicubic_ssim:.4f}",
                )
                for row in [*scores, mean]
            ],
        )


def _finite(score: dict[str, Any]) -> dict[str, Any]:
    """A score without infinities, which JSON does not have: equal images have no PSNR."""
    return {name: None if value == math.inf else value for name, value in score.items()}
