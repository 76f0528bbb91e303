"""`diffir evaluate`: say how close results are to the truth, and how close others come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import (
    be_quiet,
    print_json,
    print_message,
    print_table,
    print_text,
    working,
)
from diffir_cli.cli.weights import located
from diffir_cli.errors import InputError
from diffir_cli.evaluation.kinds import Baseline, Metric, ProtocolName
from diffir_cli.options import ColorFix, Engine, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.evaluation.evaluate import Loaded, Measured, Method, Viewer
    from diffir_cli.evaluation.html import Gallery
    from diffir_cli.evaluation.perceptual import Perceptual
    from diffir_cli.evaluation.samples import Samples
    from diffir_cli.runtime.runner import ModelRunner

_Results = Annotated[
    Path | None,
    typer.Argument(
        metavar="RESULTS", help="Finished results (file or folder).", show_default=False
    ),
]
_Truth = Annotated[
    Path | None, typer.Argument(metavar="GT", help="Their ground truth.", show_default=False)
]
_Sharp = Annotated[
    Path | None,
    typer.Option("--gt", metavar="DIR", help="Ground-truth images.", show_default=False),
]
_Degraded = Annotated[
    Path | None,
    typer.Option(
        "--lq",
        metavar="DIR",
        help="Degraded images to restore, paired by name. Optional for sr (made by bicubic).",
        show_default=False,
    ),
]
_Masks = Annotated[
    Path | None,
    typer.Option(
        "--mask", metavar="DIR", help="Masks for inpainting: white = fill.", show_default=False
    ),
]
_Protocol = Annotated[
    ProtocolName | None,
    typer.Option(
        "--protocol",
        help="Conventions of the metrics. Default: those of the task.",
        show_default=False,
    ),
]
_Baselines = Annotated[
    list[Baseline] | None,
    typer.Option(
        "--baseline",
        help="Baseline to compare with. Repeatable. Default: depends on the task.",
        show_default=False,
    ),
]
_Metrics = Annotated[
    list[Metric] | None,
    typer.Option(
        "--metric", help="Additional metric, by torchmetrics. Repeatable.", show_default=False
    ),
]
_Align = Annotated[
    int,
    typer.Option(
        "--align",
        metavar="PIXELS",
        min=0,
        max=16,
        help="Measure PSNR and SSIM at the best shift of up to N pixels.",
    ),
]


def evaluate(
    context: typer.Context,
    results: _Results = None,
    truth: _Truth = None,
    gt: _Sharp = None,
    lq: _Degraded = None,
    mask: _Masks = None,
    task: options.TaskName = Task.SR,
    weights: options.Weights = None,
    scale: options.Scale = None,
    registry: options.Registry = None,
    no_download: options.NoDownload = False,
    protocol: _Protocol = None,
    baseline: _Baselines = None,
    metric: _Metrics = None,
    align: _Align = 0,
    csv: options.CsvFile = None,
    markdown: options.MarkdownFile = None,
    html: options.HtmlFile = None,
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
) -> None:
    """Measure quality: of finished results, or restore first.

    `diffir evaluate RESULTS GT` measures finished results. `diffir evaluate --gt GT --lq LQ --task
    T` restores first. For sr, LQ images are made by bicubic downscaling; inpaint needs --mask.
    Files are paired by name. Stage-1 weights get the ground truth that they need.
    """
    name = protocol or ProtocolName(task.value)
    fills = results is None and task is Task.INPAINT
    mask_has_use = mask is None or fills or name is ProtocolName.INPAINT
    _check_options(context, results, truth, gt, mask_has_use)
    if align and name is ProtocolName.INPAINT:
        raise typer.BadParameter("--align has no effect with inpaint")
    be_quiet(quiet)
    limits = options.limits_of(max_memory, tile, tile_overlap)
    files = {"csv": csv, "markdown": markdown, "html": html}
    options.check_reports(files, overwrite)

    samples = _samples(results, truth, gt, lq, mask, task, name, quiet)
    if results is None:
        # A network of stage 1 sees the truth, which is here.
        chosen = located(weights, task, registry, no_download, quiet or json, scale, teachers=True)

    # From here on torch is needed.
    from diffir_cli.evaluation.evaluate import evaluate as measure
    from diffir_cli.evaluation.html import Gallery
    from diffir_cli.evaluation.protocol import PROTOCOLS

    methods: dict[str, Method] = {"results": lambda loaded: loaded.lq}
    used: dict[str, Any] = {}
    tiled: dict[str, int] = {}
    if results is None:
        from diffir_cli.runtime.loading import load_runner

        runner = load_runner(
            chosen,
            task,
            device,
            precision,
            threads,
            engine,
            limits,
            any_stage=True,
            color_fix=color_fix,
        )
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
    gallery = Gallery(f"diffir evaluate: {', '.join(methods)}", caption) if html else None
    with working("measuring", quiet or json) as status:
        metrics = _learned(metric or (), device)
        view = _viewer(gallery, results is not None, fills)
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
    _print_methods(measured, caption, about, samples.unmatched, json, quiet)
    _write(measured, _with_missing(caption, measured, samples.unmatched), files, gallery, overwrite)
    if measured.failures:
        raise typer.Exit(InputError.exit_code)


def _with_missing(caption: str, measured: Measured, unmatched: Sequence[Path]) -> str:
    """The caption of a report, which must not be taken for one of the whole set."""
    left_out = [failure.name for failure in measured.failures]
    left_out += [f"{path.name} (no matching file)" for path in unmatched]
    return f"{caption}. Not measured: {', '.join(left_out)}" if left_out else caption


def _check_options(
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
        if options.is_given(context, name):
            option = name.replace("_", "-")
            raise typer.BadParameter(f"--{option} has no effect on finished results")


def _samples(
    results: Path | None,
    truth: Path | None,
    gt: Path | None,
    lq: Path | None,
    mask: Path | None,
    task: Task,
    protocol: ProtocolName,
    quiet: bool,
) -> Samples:
    """What is to be measured; tells which files are left out, and which only seem to match."""
    from diffir_cli.evaluation.samples import samples_of_results, samples_to_restore

    if results is not None and truth is not None:
        samples = samples_of_results(results, truth, mask, protocol)
    else:
        assert gt is not None
        samples = samples_to_restore(task, gt, lq, mask, protocol)
    if not quiet:
        for path in samples.unmatched:
            print_message(f"warning: {path} has no matching file and is skipped")
        if samples.alike:
            first, partner = samples.alike[0]
            print_message(
                f"note: {len(samples.alike)} paired because their names begin alike: "
                f"{first.name} with {partner.name}" + (" …" if len(samples.alike) > 1 else "")
            )
    return samples


def _print_methods(
    measured: Measured,
    caption: str,
    about: Mapping[str, Any],
    unmatched: Sequence[Path],
    json: bool,
    quiet: bool,
) -> None:
    """What was measured on stdout, what could not be on stderr."""
    from diffir_cli.evaluation import report

    for failure in measured.failures:
        print_message(f"error: {failure.name}: {failure.error}")
    if json:
        missing = [str(path) for path in unmatched]
        failed = [
            {"name": failure.name, "error": str(failure.error)} for failure in measured.failures
        ]
        methods = report.as_dict(measured.scores)
        print_json({**about, "methods": methods, "unmatched": missing, "failed": failed})
    elif not quiet:
        print_table(*report.table(measured.scores))
        print_text(caption, *report.remarks(measured.scores))


def _write(
    measured: Measured,
    caption: str,
    files: Mapping[str, Path | None],
    gallery: Gallery | None,
    overwrite: bool,
) -> None:
    """The reports that were requested."""
    from diffir_cli.evaluation import report
    from diffir_cli.util.files import write_text

    if file := files["csv"]:
        write_text(file, report.as_csv(measured.scores), overwrite)
    if file := files["markdown"]:
        write_text(file, report.as_markdown(measured.scores, caption), overwrite)
    if (file := files["html"]) and gallery:
        gallery.caption = caption
        write_text(file, gallery.page(), overwrite)


def _restored(runner: ModelRunner, seed: int, tiled: dict[str, int]) -> Method:
    """What the network makes of an image; tells the side of tiles of those that were cut up."""

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


def _learned(metric: Sequence[Metric], device: str) -> Callable[[], Iterable[Perceptual]]:
    """What makes the learned metrics of a method; a network is loaded only if one was requested."""

    def make() -> Iterable[Perceptual]:
        if not metric:
            return []
        from diffir_cli.evaluation.perceptual import Perceptual
        from diffir_cli.runtime.device import choose_device

        return [Perceptual(kind, choose_device(device)) for kind in metric]

    return make


def _viewer(gallery: Gallery | None, finished: bool, fills: bool) -> Viewer:
    """Puts each image on the page, if there is one."""

    def view(loaded: Loaded, hq: Any, scores: Mapping[str, float]) -> None:
        if gallery is not None:
            lq = loaded.shown_lq() if fills else loaded.lq
            before = {} if finished else {"before": lq}
            gallery.add(loaded.name, {**before, "after": hq, "truth": loaded.gt}, scores)

    return view
