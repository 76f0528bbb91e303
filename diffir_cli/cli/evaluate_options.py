"""Options of `diffir evaluate` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli.conflicts import is_given
from diffir_cli.evaluation.kinds import Baseline, Metric, ProtocolName

Results = Annotated[
    Path | None,
    typer.Argument(
        metavar="RESULTS", help="Finished results (file or folder).", show_default=False
    ),
]
Truth = Annotated[
    Path | None, typer.Argument(metavar="GT", help="Their ground truth.", show_default=False)
]
Sharp = Annotated[
    Path | None,
    typer.Option("--gt", metavar="DIR", help="Ground-truth images.", show_default=False),
]
Degraded = Annotated[
    Path | None,
    typer.Option(
        "--lq",
        metavar="DIR",
        help="Degraded images to restore, paired by name. Optional for sr (made by bicubic).",
        show_default=False,
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--mask", metavar="DIR", help="Masks for inpainting: white = fill.", show_default=False
    ),
]
Protocol = Annotated[
    ProtocolName | None,
    typer.Option(
        "--protocol",
        help="Conventions of the metrics. Default: those of the task.",
        show_default=False,
    ),
]
Baselines = Annotated[
    list[Baseline] | None,
    typer.Option(
        "--baseline",
        help="Baseline to compare with. Repeatable. Default: depends on the task.",
        show_default=False,
    ),
]
Metrics = Annotated[
    list[Metric] | None,
    typer.Option(
        "--metric", help="Additional metric, by torchmetrics. Repeatable.", show_default=False
    ),
]
Align = Annotated[
    int,
    typer.Option(
        "--align",
        metavar="PIXELS",
        min=0,
        max=16,
        help="Measure PSNR and SSIM at the best shift of up to N pixels.",
    ),
]


def check_options(
    context: typer.Context,
    results: Path | None,
    truth: Path | None,
    gt: Path | None,
    mask_has_use: bool,
) -> None:
    """Refuse options that would be parsed and never used."""
    if not mask_has_use:
        raise typer.BadParameter("--mask is only for inpaint")
    if results is None:
        if gt is None:
            raise typer.BadParameter(
                "give RESULTS and GT, or --gt DIR and what the task needs (--lq or --mask)"
            )
        return
    if truth is None:
        raise typer.BadParameter("RESULTS needs a ground truth: diffir evaluate RESULTS GT")
    idle = "gt lq baseline weights scale registry no_download precision engine max_memory tile"
    for name in (*idle.split(), "tile_overlap", "seed", "threads"):
        if is_given(context, name):
            option = name.replace("_", "-")
            raise typer.BadParameter(f"--{option} has no effect on finished results")
