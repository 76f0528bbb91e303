"""What the options of `diffir benchmark` mean, and which of them contradict each other."""

from __future__ import annotations

from pathlib import Path

import typer

from diffir_cli.cli.conflicts import is_given

_NOT_WITH_PAPER = (
    *("task", "weights", "all_", "registry", "size", "sweep", "budget", "cost_only", "modules"),
    *("device", "precision", "engine", "threads", "repeats", "no_subprocess", "plot", "quality"),
    *("compare", "tolerance", "csv"),
)
_NOT_WITH_COST_ONLY = (
    "sweep",
    "device",
    "precision",
    "engine",
    "threads",
    "repeats",
    "no_subprocess",
)


def check_options(context: typer.Context, paper: bool, cost_only: bool, quality: bool) -> None:
    """Refuse options that contradict each other, or would be parsed and never used.

    Args:
        context: Of the command.
        paper: Whether only the paper's figures are told.
        cost_only: Whether nothing is run.
        quality: Whether quality is drawn over cost.

    Raises:
        BadParameter: when they do.
    """
    which = _given(context, "task", "weights", "all_")
    if len(which) > 1:
        raise typer.BadParameter(f"give {' or '.join(which)}, not both")
    if paper and (found := _given(context, *_NOT_WITH_PAPER)):
        raise typer.BadParameter(f"{found[0]} has no effect with --paper")
    if cost_only and (found := _given(context, *_NOT_WITH_COST_ONLY)):
        raise typer.BadParameter(f"{found[0]} has no effect with --cost-only")
    if len(found := _given(context, "size", "sweep")) > 1:
        raise typer.BadParameter("give --size or --sweep, not both")
    for name, other in (("budget", "sweep"), ("tolerance", "compare"), ("quality", "plot")):
        if _given(context, name) and not _given(context, other):
            raise typer.BadParameter(f"--{name} needs --{other}")
    if _given(context, "plot") and cost_only and not quality:
        raise typer.BadParameter("--plot with --cost-only needs --quality: there is no latency")
    if _given(context, "no_subprocess") and _given(context, "sweep"):
        raise typer.BadParameter(
            "--no-subprocess has no effect with --sweep, which never measures them"
        )


def check_files(
    context: typer.Context,
    csv: Path | None,
    markdown: Path | None,
    plot: Path | None,
    silent: bool,
) -> None:
    """Refuse reports of a kind that is not made, and options of reports that were not requested.

    Args:
        context: Of the command.
        csv: Where numbers go.
        markdown: Where the tables go.
        plot: Where the picture goes.
        silent: Whether nothing is printed.

    Raises:
        BadParameter: when there are any.
    """
    if plot and plot.suffix.lower() != ".png":
        raise typer.BadParameter(f"--plot writes PNG: name a file that ends in .png, not {plot}")
    if _given(context, "overwrite") and not (csv or markdown or plot):
        raise typer.BadParameter("--overwrite needs --csv, --markdown or --plot")
    if silent and _given(context, "paper") and not markdown:
        raise typer.BadParameter("--quiet with --paper needs --markdown or --json")


def _given(context: typer.Context, *names: str) -> list[str]:
    """Those of the options that stand on the command line."""
    return [f"--{name.strip('_').replace('_', '-')}" for name in names if is_given(context, name)]
