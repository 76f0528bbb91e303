"""Options of `diffir benchmark` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import exclude, exclude_with, refuse, require
from diffir_cli.errors import UsageError
from diffir_cli.options import Engine, Task

OfTask = Annotated[
    Task | None,
    panels.model("--task", help="Measure the embedded weights of this task. Default: sr."),
]
Weights = Annotated[
    list[str] | None,
    panels.model(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: names or files, comma-separated or repeated. Random if not installed.",
    ),
]
All = Annotated[bool, panels.model("--all", help="Measure all networks of the registry.")]
Sizes = Annotated[
    list[str] | None,
    panels.measurement(
        "--input-size",
        metavar="WxH",
        help="Input sizes in pixels, comma-separated or repeated. Default: 256x256.",
    ),
]
Sweep = Annotated[
    str | None,
    panels.measurement(
        "--sweep",
        metavar="FIRST..LAST",
        help="Square inputs with doubling sides, until --budget is spent.",
    ),
]
Budget = Annotated[
    float,
    panels.measurement(
        "--budget", min=0, metavar="SECONDS", help="Time limit of each sweep in seconds."
    ),
]
CostOnly = Annotated[
    bool, panels.measurement("--cost-only", help="Only count parameters and Mult-Adds.")
]
Parts = Annotated[
    bool,
    panels.measurement("--modules", help="Also measure each level and block type (plain network)."),
]
Paper = Annotated[
    bool,
    panels.measurement("--paper", help="Only compare Mult-Adds with those printed in the paper."),
]
Precisions = Annotated[
    list[str] | None,
    panels.speed(
        "--precision",
        metavar="auto|fp32|…",
        help="Number formats to compare in alternating runs, comma-separated or repeated.",
    ),
]
Engines = Annotated[
    list[str] | None,
    panels.speed(
        "--engine",
        metavar="|".join(Engine),
        help="Engines to compare in alternating runs, comma-separated or repeated.",
    ),
]
Repeats = Annotated[
    int,
    panels.measurement("--repeats", min=1, max=10_000, metavar="N", help="Number of timed runs."),
]
NoSubprocess = Annotated[
    bool,
    panels.measurement(
        "--no-subprocess", help="Skip cold start and memory, which need new processes."
    ),
]
Plot = Annotated[
    Path | None,
    panels.input_output("--plot", metavar="FILE", help="Write a PNG plot of latency over size."),
]
Scores = Annotated[
    list[Path] | None,
    panels.measurement(
        "--scores",
        metavar="FILE",
        help="Add a plot of quality over cost: JSON printed by diffir evaluate --json.",
    ),
]
Compare = Annotated[
    Path | None,
    panels.input_output(
        "--compare",
        metavar="FILE",
        help="Compare with JSON of an earlier run. Exit code 1 if this run is worse.",
    ),
]
Tolerance = Annotated[
    float,
    panels.measurement(
        "--tolerance",
        min=0,
        metavar="N",
        help="Relative increase of a figure that --compare allows.",
    ),
]

_NOT_WITH_PAPER = (
    *("task", "weights", "all_", "registry", "input_size", "sweep", "budget", "cost_only"),
    *("modules", "device", "precision", "engine", "threads", "repeats", "no_subprocess", "plot"),
    *("scores", "compare", "tolerance", "csv"),
)
_NOT_WITH_COST_ONLY = (
    *("sweep", "device", "precision", "engine", "threads", "repeats", "no_subprocess"),
)


def check_options(context: typer.Context) -> None:
    """Refuse options that contradict each other, or would be parsed and never used.

    Raises:
        UsageError: when there is one.
    """
    given = context.params
    exclude(context, "task", "weights", "all_")
    if given["paper"]:
        exclude_with(context, "--paper", *_NOT_WITH_PAPER)
        if given["quiet"] and not (given["json"] or given["markdown"]):
            refuse(context, "quiet", "--paper", "add --markdown or --json")
    if given["cost_only"]:
        exclude_with(context, "--cost-only", *_NOT_WITH_COST_ONLY)
        if given["plot"] and not given["scores"]:
            raise UsageError(
                "--plot with --cost-only needs --scores: there is no latency", "add --scores FILE"
            )
    require(context, "overwrite", "csv", "markdown", "plot")
