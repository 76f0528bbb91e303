"""`diffir evaluate`: say how close results are to the truth, and how close others come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from diffir_cli.cli import evaluate_console, evaluate_options, options, output_files
from diffir_cli.cli.console import print_message, working
from diffir_cli.cli.option_values import read_run_options
from diffir_cli.cli.weights import located, task_for
from diffir_cli.errors import InputError
from diffir_cli.evaluation.kinds import Baseline, Metric, ProtocolName
from diffir_cli.options import ColorFix, Engine, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.evaluation.evaluate import Loaded, Method
    from diffir_cli.evaluation.perceptual import Perceptual
    from diffir_cli.runtime.runner import ModelRunner


def evaluate(
    context: typer.Context,
    results: evaluate_options.Results = None,
    truth: evaluate_options.Truth = None,
    gt: evaluate_options.Sharp = None,
    lq: evaluate_options.Degraded = None,
    mask: evaluate_options.Masks = None,
    task: evaluate_options.TaskName = Task.SR,
    weights: options.Weights = None,
    scale: options.Scale = None,
    registry: options.Registry = None,
    offline: options.Offline = False,
    protocol: evaluate_options.Protocol = None,
    baseline: evaluate_options.Baselines = None,
    metric: evaluate_options.Metrics = None,
    align: evaluate_options.Align = 0,
    csv: output_files.CsvFile = None,
    markdown: output_files.MarkdownFile = None,
    report: output_files.HtmlReport = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    engine: options.EngineName = Engine.STREAMING,
    max_memory: options.MaxMemory = "",
    tile: options.Tile = "auto",
    tile_overlap: options.TileOverlap = 32,
    color_fix: options.ColorFixName = ColorFix.AUTO,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure quality: of finished results, or restore first.

    `diffir evaluate RESULTS GT` measures finished results. `diffir evaluate --gt GT --lq LQ --task
    T` restores first. For sr, LQ images are made by bicubic downscaling; inpaint needs --mask.
    Files are paired by name. Stage-1 weights get the ground truth that they need.
    """
    task = task_for(context, task, weights, registry)
    # Faces have no benchmark with conventions of its own.
    usual = ProtocolName.REALSR if task is Task.FACE else ProtocolName(task.value)
    name = protocol or usual
    fills = results is None and task is Task.INPAINT
    run_options = read_run_options(context)
    evaluate_options.check_options(context, task, name)
    files = {"csv": csv, "markdown": markdown, "report": report}
    output_files.check_reports(files, overwrite)

    samples = evaluate_console.find_samples(results, truth, gt, lq, mask, task, name, quiet)
    if results is None:
        # A network of stage 1 sees the truth, which is here.
        quiet_download = quiet or json
        chosen = located(weights, task, registry, offline, quiet_download, scale, teachers=True)

    # From here on torch is needed.
    from diffir_cli.evaluation.evaluate import evaluate as measure
    from diffir_cli.evaluation.html import Gallery
    from diffir_cli.evaluation.protocol import PROTOCOLS

    methods: dict[str, Method] = {"results": lambda loaded: loaded.lq}
    used: dict[str, Any] = {}
    tiled: dict[str, int] = {}
    if results is None:
        from diffir_cli.runtime.loading import load_runner

        runner = load_runner(chosen, task, run_options, any_stage=True)
        used = {
            "weights": {"name": chosen.name, "sha256": chosen.sha256},
            "engine": engine.value,
            "precision": runner.precision_for().value,
            "seed": seed,
        }
        scale = runner.info.scale
        restored = _restored(runner, seed, tiled)
        masked = mask is not None
        methods = _methods(restored, chosen.name, runner.info.scale, baseline, task, masked)
    rules = PROTOCOLS[name].aligned(align)
    what = "finished results" if results is not None else task.value
    caption = f"{what}, protocol {name.value}: {rules.summary}"
    gallery = Gallery(f"diffir evaluate: {', '.join(methods)}", caption) if report else None
    with working("measuring", quiet or json) as status:
        metrics = _learned(metric or (), device, offline)
        view = evaluate_console.viewer(gallery, results is not None, fills)
        measured = measure(samples.found, methods, scale or 1, rules, metrics, status, view)
    about = {
        "task": None if results is not None else task.value,
        "protocol": name.value,
        "conventions": rules.summary,
        "align": align,
        **used,
        **({"tiles": tiled} if used else {}),
    }
    if tiled and not quiet:
        print_message(
            f"note: {len(tiled)} images were processed in tiles of {max(tiled.values())} pixels"
        )
    about_all = evaluate_console.with_missing(caption, measured, samples.unmatched)
    # What is measured is kept wherever it can be: neither stdout nor a report may cost the other.
    try:
        evaluate_console.write_reports(measured, about_all, files, gallery, overwrite)
    finally:
        evaluate_console.print_methods(measured, caption, about, samples.unmatched, json, quiet)
    if measured.failures:
        raise typer.Exit(InputError.exit_code)


def _restored(runner: ModelRunner, seed: int, tiled: dict[str, int]) -> Method:
    """A function that restores an image and notes in `tiled` the side of tiles, if any."""

    def restored(loaded: Loaded) -> Any:
        truth = loaded.gt if runner.info.needs_truth else None
        holes = loaded.holes if runner.info.takes_mask else None
        found = runner.run(loaded.lq, seed, truth, holes)
        if found.tile:
            tiled[loaded.name] = found.tile
        return found.pixels

    return restored


def _methods(
    restored: Method,
    name: str,
    scale: int,
    requested: Sequence[Baseline] | None,
    task: Task,
    masked: bool,
) -> dict[str, Method]:
    """The network first, then the baselines."""
    from functools import partial

    from diffir_cli.evaluation.baselines import USUAL, check_baseline, run_baseline

    usual = [kind for kind in USUAL[task] if scale > 1 or task is not Task.REALSR]
    kinds = [kind for kind in requested or usual if kind is not Baseline.NONE]
    for kind in kinds:
        check_baseline(kind, scale, masked)

    def baseline(kind: Baseline, loaded: Loaded) -> Any:
        return run_baseline(kind, loaded.lq, scale, loaded.holes)

    if name in set(Baseline):
        name = f"{name} (weights)"
    return {name: restored, **{kind.value: partial(baseline, kind) for kind in kinds}}


def _learned(
    metric: Sequence[Metric], device: str, offline: bool
) -> Callable[[], Iterable[Perceptual]]:
    """What makes the learned metrics of a method; a network is loaded only if one was requested."""

    def make() -> Iterable[Perceptual]:
        if not metric:
            return []
        from diffir_cli.evaluation.perceptual import Perceptual
        from diffir_cli.runtime.device import choose_device
        from diffir_cli.weights.download import is_offline

        off = offline or is_offline()
        return [Perceptual(kind, choose_device(device), off) for kind in metric]

    return make
