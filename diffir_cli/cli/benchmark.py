"""`diffir benchmark`: say what networks cost, in Mult-Adds, time and memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import be_quiet, working
from diffir_cli.config import Engine, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.benchmark.growth import Growth
    from diffir_cli.benchmark.run import Result, Settings, Size
    from diffir_cli.benchmark.subject import Subject

_Task = Annotated[
    Task | None,
    typer.Option("--task", help="Its embedded weights; sr by default.", show_default=False),
]
_Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights by name or file, again for each; random ones where they are not at hand.",
        show_default=False,
    ),
]
_All = Annotated[bool, typer.Option("--all", help="Every network of the registry.")]
_Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="WxH",
        help="Width and height of the input in pixels; several by commas or again; 256x256.",
        show_default=False,
    ),
]
_Sweep = Annotated[
    str | None,
    typer.Option(
        "--sweep",
        metavar="FIRST..LAST",
        help="Squares whose side doubles, until the budget ends.",
        show_default=False,
    ),
]
_Budget = Annotated[
    float, typer.Option("--budget", min=0, metavar="SECONDS", help="Of each sweep.")
]
_CostOnly = Annotated[
    bool, typer.Option("--cost-only", help="Count parameters and Mult-Adds, run nothing.")
]
_Parts = Annotated[
    bool, typer.Option("--modules", help="Also each level and block kind, in the plain modules.")
]
_Paper = Annotated[bool, typer.Option("--paper", help="The paper's figures beside ours, no more.")]
_Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="auto|fp32|…",
        help="Number formats, compared by turns; several by commas or again.",
        show_default=False,
    ),
]
_Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="streaming|reference",
        help="Engines, compared by turns; several by commas or again.",
        show_default=False,
    ),
]
_Repeats = Annotated[int, typer.Option("--repeats", min=1, max=10_000, help="Turns.")]
_NoFresh = Annotated[
    bool,
    typer.Option("--no-fresh", help="Leave out cold start and memory, which need new processes."),
]
_Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw latency over size, as PNG.", show_default=False
    ),
]
_Quality = Annotated[
    list[Path] | None,
    typer.Option(
        "--quality",
        metavar="FILE",
        help="What diffir evaluate --json printed: drawn over cost.",
        show_default=False,
    ),
]
_Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="FILE",
        help="What diffir benchmark --json printed: fail where this run is worse.",
        show_default=False,
    ),
]
_Tolerance = Annotated[
    float, typer.Option("--tolerance", min=0, help="By which share a figure may be worse.")
]

_NOT_WITH_PAPER = (
    *("task", "weights", "all_", "size", "sweep", "cost_only", "modules", "device", "precision"),
    *("engine", "threads", "repeats", "no_fresh", "plot", "quality", "compare", "csv"),
)
_NOT_WITH_COST_ONLY = ("sweep", "precision", "engine", "threads", "repeats", "no_fresh")


def benchmark(
    context: typer.Context,
    task: _Task = None,
    weights: _Weights = None,
    all_: _All = False,
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
    no_fresh: _NoFresh = False,
    csv: options.CsvFile = None,
    markdown: options.MarkdownFile = None,
    plot: _Plot = None,
    quality: _Quality = None,
    compare: _Compare = None,
    tolerance: _Tolerance = 0.2,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure what networks cost: Mult-Adds, time and memory.

    Engines and precisions named together are measured by turns and compared. The first of them is
    what the others are compared with.
    """
    _check_options(context, paper, cost_only, bool(plot), bool(quality))
    sizes, sides = _parse_sizes(size or ["256x256"]), _parse_sweep(sweep)
    engines = _parse_names(Engine, engine or ["streaming"], "--engine")
    precisions = _parse_names(Precision, precision or ["auto"], "--precision")
    be_quiet(quiet)
    files = {"csv": csv, "markdown": markdown, "plot": plot}
    options.check_reports(files, overwrite)

    import torch

    from diffir_cli.benchmark import growth, run
    from diffir_cli.benchmark.machine import describe_machine
    from diffir_cli.cli import benchmark_talk as talk

    if paper:
        talk.tell_paper(markdown, overwrite, json, quiet)
        return
    if threads is not None:
        torch.set_num_threads(threads)
    settings = _settings(device, engines, precisions, repeats, not no_fresh and not sides, modules)
    subjects = _subjects(task, weights, all_)
    steps = growth.sweep_sizes(*sides) if sides else sizes
    cases = run.cases_of(subjects, steps, settings)
    old, qualities = talk.read_others(compare, quality or (), plot, cases)
    machine = describe_machine(torch.device(settings.device))
    results: list[Result] = []
    growths: list[Growth] = []
    roofs = run.Roofs(torch.device(settings.device))
    with working("measuring", quiet or json) as status:
        for subject in subjects:
            if cost_only:
                results += run.count_only(subject, steps, settings)
            elif sides:
                found, left = run.sweep(subject, steps, settings, roofs, budget, status)
                results += found
                growths += growth.fit_growth(found, left)
            else:
                results += run.measure(subject, steps, settings, roofs, status)
    told = talk.Told(machine, settings, results, growths, modules)
    if plot:
        told.draw(plot, qualities, overwrite)
    worse = told.compare(old, tolerance) if old is not None else 0
    told.write(csv, markdown, overwrite)
    told.tell(json, quiet)
    told.finish(worse, tolerance)


def _check_options(
    context: typer.Context, paper: bool, cost_only: bool, plot: bool, quality: bool
) -> None:
    """Refuse options that contradict each other, or would be parsed and never used."""

    def given(*names: str) -> list[str]:
        return [
            f"--{name.strip('_').replace('_', '-')}"
            for name in names
            if options.is_given(context, name)
        ]

    which = given("task", "weights", "all_")
    if len(which) > 1:
        raise typer.BadParameter(f"give {' or '.join(which)}, not both")
    if paper and (found := given(*_NOT_WITH_PAPER)):
        raise typer.BadParameter(f"{found[0]} has no use with --paper")
    if cost_only and (found := given(*_NOT_WITH_COST_ONLY)):
        raise typer.BadParameter(f"{found[0]} has no use with --cost-only")
    if len(found := given("size", "sweep")) > 1:
        raise typer.BadParameter("give --size or --sweep, not both")
    for name, other in (("budget", "sweep"), ("tolerance", "compare"), ("quality", "plot")):
        if given(name) and not given(other):
            raise typer.BadParameter(f"--{name} needs --{other}")
    if plot and cost_only and not quality:
        raise typer.BadParameter("--plot with --cost-only needs --quality: there is no latency")
    if given("no_fresh") and given("sweep"):
        raise typer.BadParameter("--no-fresh has no use with --sweep, which leaves them out anyway")


_Named = TypeVar("_Named", Engine, Precision)


def _parse_names(kind: type[_Named], texts: Sequence[str], option: str) -> list[_Named]:
    """Members of an enumeration, several by commas; each once, in their order."""
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in set(kind):
            raise typer.BadParameter(f"{option} must be of {', '.join(kind)}, not {name!r}")
    return [kind(name) for name in dict.fromkeys(names)]


def _parse_sizes(texts: Sequence[str]) -> list[Size]:
    """Widths and heights, several by commas; each once, in their order."""
    sizes = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = re.fullmatch(r"(\d+)[x×](\d+)", text, re.ASCII | re.IGNORECASE)
        if not match:
            raise typer.BadParameter(f"--size must be such as 640x480, not {text!r}")
        sizes.append((_side(match[1], "--size"), _side(match[2], "--size")))
    return list(dict.fromkeys(sizes))


def _parse_sweep(text: str | None) -> tuple[int, int] | None:
    """The first and the last side of a sweep."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text, re.ASCII)
    if not match:
        raise typer.BadParameter(f"--sweep must be such as 128..2048, not {text!r}")
    first, last = _side(match[1], "--sweep"), _side(match[2], "--sweep")
    if last <= first:
        raise typer.BadParameter(f"--sweep must grow, which {text} does not")
    return first, last


_LARGEST = 16384


def _side(text: str, option: str) -> int:
    side = int(text)
    if not 1 <= side <= _LARGEST:
        raise typer.BadParameter(f"{option} takes sides of 1 to {_LARGEST} pixels, not {side}")
    return side


def _settings(
    device: str,
    engines: Sequence[Engine],
    precisions: Sequence[Precision],
    repeats: int,
    fresh: bool,
    parts: bool,
) -> Settings:
    """How it is measured, with what the device has; engines first, as a user named them."""
    from diffir_cli.benchmark.case import Variant
    from diffir_cli.benchmark.run import Settings
    from diffir_cli.engine.device import choose_device, choose_precision

    chosen = choose_device(device)
    formats = dict.fromkeys(choose_precision(each, chosen) for each in precisions)
    variants = tuple(Variant(engine, each) for each in formats for engine in engines)
    return Settings(str(chosen), variants, repeats, fresh, parts)


def _subjects(task: Task | None, weights: Sequence[str] | None, all_: bool) -> list[Subject]:
    from diffir_cli.benchmark.subject import all_names, subjects_of
    from diffir_cli.registry import default_weights

    if all_:
        return subjects_of(all_names())
    return subjects_of(list(weights or [default_weights(task or Task.SR).name]))
