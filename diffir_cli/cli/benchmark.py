"""`diffir benchmark`: say what networks cost, in Mult-Adds, time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.benchmark.sizes import sweep_sizes
from diffir_cli.cli import benchmark_options, option_values, options, report_options
from diffir_cli.cli.console import be_quiet, working
from diffir_cli.options import Engine, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.benchmark import run
    from diffir_cli.benchmark.run import Result, Settings
    from diffir_cli.benchmark.subject import Subject

_Task = Annotated[
    Task | None,
    typer.Option(
        "--task", help="Measure the embedded weights of this task. Default: sr.", show_default=False
    ),
]
_Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: names or files, comma-separated or repeated. Random if not installed.",
        show_default=False,
    ),
]
_All = Annotated[bool, typer.Option("--all", help="Measure all networks of the registry.")]
_Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="Input sizes in pixels, comma-separated or repeated. Default: 256x256.",
        show_default=False,
    ),
]
_Sweep = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        metavar="FIRST..LAST",
        help="Square inputs with doubling sides, until --budget is spent.",
        show_default=False,
    ),
]
_Budget = Annotated[
    float,
    typer.Option("--budget", min=0, metavar="SECONDS", help="Time limit of each sweep in seconds."),
]
_CostOnly = Annotated[
    bool, typer.Option("--cost-only", help="Only count parameters and Mult-Adds.")
]
_Parts = Annotated[
    bool, typer.Option("--modules", help="Also measure each level and block type (plain network).")
]
_Paper = Annotated[
    bool, typer.Option("--paper", help="Only compare Mult-Adds with those printed in the paper.")
]
_Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="auto|fp32|…",
        help="Number formats to compare in alternating runs, comma-separated or repeated.",
        show_default=False,
    ),
]
_Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="streaming|reference",
        help="Engines to compare in alternating runs, comma-separated or repeated.",
        show_default=False,
    ),
]
_Repeats = Annotated[
    int, typer.Option("--repeats", min=1, max=10_000, help="Number of timed runs.")
]
_NoSubprocess = Annotated[
    bool,
    typer.Option(
        "--no-subprocess",
        help="Skip cold start and memory, which need new processes.",
    ),
]
_Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Write a PNG plot of latency over size.", show_default=False
    ),
]
_Quality = Annotated[
    list[Path] | None,
    typer.Option(
        "--quality",
        metavar="FILE",
        help="Add a plot of quality over cost: JSON printed by diffir evaluate --json.",
        show_default=False,
    ),
]
_Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="FILE",
        help="Compare with JSON of an earlier run. Exit code 1 if this run is worse.",
        show_default=False,
    ),
]
_Tolerance = Annotated[
    float,
    typer.Option("--tolerance", min=0, help="Relative increase of a figure that --compare allows."),
]


def benchmark(
    context: typer.Context,
    task: _Task = None,
    weights: _Weights = None,
    all_: _All = False,
    registry: options.Registry = None,
    size: _Sizes = None,
    sweep: _Sweep = None,
    budget: _Budget = 120.0,
    cost_only: _CostOnly = False,
    modules: _Parts = False,
    paper: _Paper = False,
    device: options.Device = "auto",
    precision: _Precisions = None,
    engine: _Engines = None,
    threads: options.Threads = None,
    repeats: _Repeats = 5,
    no_subprocess: _NoSubprocess = False,
    csv: report_options.CsvFile = None,
    markdown: report_options.MarkdownFile = None,
    plot: _Plot = None,
    quality: _Quality = None,
    compare: _Compare = None,
    tolerance: _Tolerance = 0.2,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the cost of networks: Mult-Adds, time and memory.

    Several engines or precisions are measured in alternating runs. Ratios are relative to the first
    one.
    """
    benchmark_options.check_options(context, paper, cost_only, bool(quality))
    benchmark_options.check_files(context, csv, markdown, plot, quiet and not json)
    sizes, sides = (
        option_values.parse_sizes(size or ["256x256"]),
        option_values.parse_sweep(sweep),
    )
    engines = option_values.parse_names(Engine, engine or ["streaming"], "--engine")
    precisions = option_values.parse_names(Precision, precision or ["auto"], "--precision")
    be_quiet(quiet)
    report_options.check_reports({"csv": csv, "markdown": markdown, "plot": plot}, overwrite)

    import torch

    from diffir_cli.benchmark import run
    from diffir_cli.benchmark.machine import describe_machine
    from diffir_cli.cli import benchmark_console

    if paper:
        benchmark_console.print_paper(markdown, overwrite, json, quiet)
        return
    if threads is not None:
        torch.set_num_threads(threads)
    # To count needs no device, whatever the environment names.
    requested = "cpu" if cost_only else device
    settings = _settings(
        requested, engines, precisions, repeats, not no_subprocess and not sides, modules
    )
    subjects = _subjects(task, weights, all_, registry)
    steps = sweep_sizes(*sides) if sides else sizes
    cases = run.cases_of(subjects, steps, settings)
    old, qualities = benchmark_console.read_others(compare, quality or (), plot, cases, cost_only)
    reporter = benchmark_console.Reporter(
        describe_machine(torch.device(settings.device)), settings, modules
    )
    peaks = run.PeakRates(torch.device(settings.device))

    def measured(report: run.Report) -> Iterator[Result]:
        for subject in subjects:
            if cost_only:
                yield from run.count_only(subject, steps, settings)
            elif sides:
                yield from run.sweep(subject, steps, settings, peaks, budget, report)
            else:
                yield from run.measure(subject, steps, settings, peaks, report)

    with working("measuring", quiet or json) as report:
        reporter.take(measured(report), each=not (cost_only or quiet or json))
    reporter.conclude(peaks, steps if sides else ())
    worse = reporter.compare(old, tolerance) if old is not None else 0
    reporter.show(json, quiet)
    reporter.write(csv, markdown, overwrite)
    if plot:
        reporter.draw(plot, qualities, overwrite)
    reporter.finish(worse, tolerance)


def _settings(
    device: str,
    engines: Sequence[Engine],
    precisions: Sequence[Precision],
    repeats: int,
    in_subprocess: bool,
    parts: bool,
) -> Settings:
    """How it is measured, with what the device has; engines first, as a user named them."""
    from diffir_cli.benchmark.case import Variant
    from diffir_cli.benchmark.run import Settings
    from diffir_cli.runtime.device import choose_device, choose_precision

    chosen = choose_device(device)
    # One device has one name, by which results are compared.
    name = chosen.type if chosen.type in ("cpu", "mps") else f"{chosen.type}:{chosen.index or 0}"
    formats = dict.fromkeys(choose_precision(each, chosen) for each in precisions)
    variants = tuple(Variant(engine, each) for each in formats for engine in engines)
    return Settings(name, variants, repeats, in_subprocess, parts)


def _subjects(
    task: Task | None, weights: Sequence[str] | None, all_: bool, registry: Path | None
) -> list[Subject]:
    from diffir_cli.benchmark.subject import subjects_of
    from diffir_cli.weights.registry import default_weights, read_registry

    if all_:
        return subjects_of(list(read_registry(registry)), registry)
    names = option_values.parse_weights(weights or [default_weights(task or Task.SR).name])
    return subjects_of(names, registry)
