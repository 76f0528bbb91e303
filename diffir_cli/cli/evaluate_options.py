"""Options of `diffir evaluate` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import exclude_with, is_given, refuse, require
from diffir_cli.errors import UsageError
from diffir_cli.evaluation.kinds import Baseline, Metric, ProtocolName
from diffir_cli.options import Task

Results = Annotated[
    Path | None, typer.Argument(metavar="RESULTS", help="Finished results (file or folder).")
]
TaskName = Annotated[
    Task,
    panels.model(
        "--task",
        help="Restoration task. Default: the task of --weights if given by name, else sr.",
        show_default=False,
    ),
]
Truth = Annotated[Path | None, typer.Argument(metavar="GT", help="Their ground truth.")]
Sharp = Annotated[
    Path | None, panels.input_output("--gt", metavar="FILE|DIR", help="Ground-truth images.")
]
Degraded = Annotated[
    Path | None,
    panels.input_output(
        "--lq",
        metavar="FILE|DIR",
        help="Degraded images to restore, paired by name. Optional for sr (made by bicubic).",
    ),
]
Masks = Annotated[
    Path | None,
    panels.inpainting("--mask", metavar="FILE|DIR", help="Masks for inpainting: white = fill."),
]
Protocol = Annotated[
    ProtocolName | None,
    panels.measurement(
        "--protocol", help="Conventions of the metrics. Default: those of the task."
    ),
]
Baselines = Annotated[
    list[Baseline] | None,
    panels.measurement(
        "--baseline",
        metavar="|".join(Baseline),
        help="Baseline to compare with. Repeatable. Default: depends on the task.",
    ),
]
Metrics = Annotated[
    list[Metric] | None,
    panels.measurement(
        "--metric", metavar="|".join(Metric), help="Additional metric, by torchmetrics. Repeatable."
    ),
]
Align = Annotated[
    int,
    panels.measurement(
        "--align",
        metavar="PIXELS",
        min=0,
        max=16,
        help="Measure PSNR and SSIM at the best shift of up to N pixels.",
    ),
]

_TO_RESTORE = (
    *("gt", "lq", "baseline", "weights", "scale", "registry", "precision", "engine"),
    *("max_memory", "tile", "tile_overlap", "color_fix", "seed", "threads"),
)
"""Parameters for images that are restored first."""


def check_options(context: typer.Context, task: Task, protocol: ProtocolName) -> None:
    """Refuse options that would be parsed and never used.

    Raises:
        UsageError: when there is one, or nothing says what is to be measured.
    """
    given = context.params
    if protocol is ProtocolName.INPAINT:
        exclude_with(context, "the protocol inpaint", "align")
    elif given["results"] and is_given(context, "mask"):
        refuse(context, "mask", f"the protocol {protocol.value}", "add --protocol inpaint")
    elif task is not Task.INPAINT:
        exclude_with(context, f"--task {task.value}", "mask")
    require(context, "overwrite", "csv", "markdown", "report")
    if Baseline.NONE in (given["baseline"] or []) and len(given["baseline"]) > 1:
        raise UsageError(
            "--baseline none cannot be used with another --baseline", "leave one of them out"
        )
    if given["results"] is None:
        if given["gt"] is None:
            raise UsageError(
                "RESULTS or --gt is missing",
                "diffir evaluate RESULTS GT, or diffir evaluate --gt DIR --lq DIR",
            )
        return
    if given["truth"] is None:
        raise UsageError("GT is missing", "diffir evaluate RESULTS GT")
    exclude_with(context, "finished results", *_TO_RESTORE)
    # The networks of some metrics run on it.
    if not given["metric"]:
        exclude_with(context, "finished results", "device")
