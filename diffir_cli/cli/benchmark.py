"""`diffir benchmark`: say what networks cost, in Mult-Adds, time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffir_cli.benchmark.sizes import sweep_sizes
from diffir_cli.cli import benchmark_options, option_values, options, output_files
from diffir_cli.cli.console import working
from diffir_cli.options import Engine, Precision, Task
from diffir_cli.util.json_files import read_json

if TYPE_CHECKING:
    from diffir_cli.benchmark import run
    from diffir_cli.benchmark.run import Result, Settings


def benchmark(
    context: typer.Context,
    task: benchmark_options.OfTask = None,
    weights: benchmark_options.Weights = None,
    all_: benchmark_options.All = False,
    registry: options.Registry = None,
    input_size: benchmark_options.Sizes = None,
    sweep: benchmark_options.Sweep = None,
    budget: benchmark_options.Budget = 120.0,
    cost_only: benchmark_options.CostOnly = False,
    modules: benchmark_options.Parts = False,
    paper: benchmark_options.Paper = False,
    device: options.Device = "auto",
    precision: benchmark_options.Precisions = None,
    engine: benchmark_options.Engines = None,
    threads: options.Threads = None,
    repeats: benchmark_options.Repeats = 5,
    no_subprocess: benchmark_options.NoSubprocess = False,
    csv: output_files.CsvFile = None,
    markdown: output_files.MarkdownFile = None,
    plot: benchmark_options.Plot = None,
    scores: benchmark_options.Scores = None,
    compare: benchmark_options.Compare = None,
    tolerance: benchmark_options.Tolerance = 0.2,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure Mult-Adds, time and memory of networks.

    Several engines or precisions are measured in alternating runs. Ratios are relative to the first
    one.
    """
    benchmark_options.check_options(context)
    sizes, sides = (
        option_values.parse_sizes(input_size or ["256x256"]),
        option_values.parse_sweep(sweep),
    )
    engines = option_values.parse_names(Engine, engine or ["streaming"], "--engine")
    precisions = option_values.parse_names(Precision, precision or ["auto"], "--precision")
    output_files.check_reports({"csv": csv, "markdown": markdown, "plot": plot}, overwrite)

    # What is not there is refused before torch is loaded.
    names = _names(task, weights, all_, registry)
    for path in (compare, *(scores or ())):
        if path:
            read_json(path)

    import torch

    from diffir_cli.benchmark import run
    from diffir_cli.benchmark.machine import describe_machine
    from diffir_cli.benchmark.subject import subjects_of
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
    subjects = subjects_of(names, registry)
    steps = sweep_sizes(*sides) if sides else sizes
    cases = run.cases_of(subjects, steps, settings)
    old, qualities = benchmark_console.read_others(compare, scores or (), plot, cases, cost_only)
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
    # What is measured is kept wherever it can be: neither stdout nor a report may cost the other.
    try:
        reporter.write(csv, markdown, overwrite)
        if plot:
            reporter.draw(plot, qualities, overwrite)
    finally:
        reporter.show(json, quiet)
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


def _names(
    task: Task | None, weights: Sequence[str] | None, all_: bool, registry: Path | None
) -> list[str]:
    """Names of the registry, and paths, that are known to be there.

    Raises:
        WeightsError: when one is not.
    """
    from diffir_cli.weights.locate import known_weights
    from diffir_cli.weights.registry import default_weights, read_registry

    if all_:
        return list(read_registry(registry))
    names = option_values.parse_weights(weights or [default_weights(task or Task.SR).name])
    for name in names:
        known_weights(name, Task.SR, registry)
    return names
