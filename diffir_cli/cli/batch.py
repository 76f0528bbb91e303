"""`diffir batch`: a folder of any size."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.batch_console import Reporter, print_summary, show_plan
from diffir_cli.cli.console import be_quiet, print_json, print_message
from diffir_cli.cli.progress import make_progress
from diffir_cli.cli.weights import located, task_for
from diffir_cli.options import AlphaMode, ColorFix, Engine, OnExist, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.batch.batch import Request
    from diffir_cli.batch.plan import Job
    from diffir_cli.batch.work import Outcome
    from diffir_cli.runtime.runner import ModelRunner

_FEW = 20
"""Pictures of which each line can still be seen at the end."""
FAILED, INTERRUPTED = 3, 130
"""Exit codes for pictures that failed, and for a run that was stopped."""

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="Images, folders or patterns such as 'scans/*.tif'. s3:// and gs:// work too.",
    ),
]
Folder = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Output folder, or a URI such as s3://bucket/folder.",
        show_default=False,
    ),
]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Replace each image with its result (instead of -o).")
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive", "-r", help="Include subfolders. The output keeps the folder structure."
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--name",
        metavar="TEMPLATE",
        help="Output names. Fields: {stem}, {ext}, {parent}, {index}, {reldir}, {task}, {scale}, "
        "{weights}.",
    ),
]
Suffix = Annotated[
    str,
    typer.Option(
        "--suffix",
        metavar="TEXT",
        help="Text to append to the output names, such as _x4.",
        show_default=False,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="FILE|DIR",
        help="Masks for inpainting: one file for all, or a folder with a mask per image, by name.",
        show_default=False,
    ),
]
OnExistOption = Annotated[
    OnExist,
    typer.Option(
        "--on-exist", help="What to do if an output file exists and no earlier run has made it."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", min=1, max=64, help="Number of reader threads, and of writer threads."
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", min=1, max=256, help="Number of processes, each with --threads threads."
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Process only part K of N, to share the work between N machines.",
        show_default=False,
    ),
]
Ray = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="auto|ADDRESS",
        help="Run on a Ray cluster. Its machines must see the same files.",
        show_default=False,
    ),
]
RayWorkers = Annotated[
    int,
    typer.Option(
        "--ray-workers", min=0, help="Number of workers on the cluster. 0: as many as fit."
    ),
]
GpusPerWorker = Annotated[
    float, typer.Option("--gpus-per-worker", min=0, help="GPUs per worker. 0: CPU only.")
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write an HTML page with before/after sliders, failures and times.",
        show_default=False,
    ),
]


def batch(
    context: typer.Context,
    inputs: Inputs,
    output: Folder = None,
    in_place: InPlace = False,
    recursive: Recursive = False,
    name: Name = "{stem}",
    suffix: Suffix = "",
    task: options.TaskName = Task.REALSR,
    weights: options.Weights = None,
    scale: options.Scale = None,
    registry: options.Registry = None,
    no_download: options.NoDownload = False,
    device: options.Device = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    engine: options.EngineName = Engine.STREAMING,
    max_memory: options.MaxMemory = "",
    tile: options.Tile = "auto",
    tile_overlap: options.TileOverlap = 32,
    color_fix: options.ColorFixName = ColorFix.AUTO,
    mask: Masks = None,
    mask_invert: options.MaskInvert = False,
    mask_dilate: options.MaskDilate = 0,
    mask_from_alpha: options.MaskFromAlpha = False,
    alpha: options.Alpha = AlphaMode.LANCZOS,
    background: options.Background = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    jobs: Jobs = 2,
    workers: Workers = 1,
    shard: Shard = "",
    ray: Ray = "",
    ray_workers: RayWorkers = 0,
    gpus_per_worker: GpusPerWorker = 0,
    outscale: options.OutScale = None,
    size: options.ResultSize = None,
    long_side: options.LongSide = None,
    strength: options.Strength = 1.0,
    max_pixels: options.MaxPixels = None,
    allow_truncated: options.AllowTruncated = False,
    format_name: options.FormatName = None,
    quality: options.Quality = None,
    lossless: options.Lossless = False,
    strip_metadata: options.StripMetadata = False,
    on_exist: OnExistOption = OnExist.ERROR,
    overwrite: Annotated[bool, typer.Option("--overwrite", hidden=True)] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", hidden=True)] = False,
    fail_fast: FailFast = False,
    dry_run: DryRun = False,
    report: Report = None,
    json: options.Json = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No bar, but lines.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Restore many images. Run the same command again to resume."""
    be_quiet(quiet, verbose)
    task = task_for(context, task, weights, registry)
    limits = options.limits_of(max_memory, tile, tile_overlap)
    options.check_mask_options(mask, mask_invert, mask_dilate, mask_from_alpha)
    from diffir_cli.batch.stores import check_results_place, parse_place

    if suffix:
        if name != "{stem}":
            raise typer.BadParameter("give --name or --suffix, not both")
        name += suffix.replace("{", "{{").replace("}", "}}")
    folder = None if output is None else parse_place(output)
    if folder is not None:
        check_results_place(folder)
    part = _check(folder, in_place, shard, name, format_name, report)
    if task is Task.INPAINT and not (mask or mask_from_alpha):
        raise typer.BadParameter("--task inpaint needs --mask FILE|DIR or --mask-from-alpha")
    picture_options = options.picture_options(
        seed=seed,
        alpha=alpha,
        background=background,
        outscale=outscale,
        size=size,
        long_side=long_side,
        strength=strength,
        mask_invert=mask_invert,
        mask_dilate=mask_dilate,
        mask_from_alpha=mask_from_alpha,
        max_pixels=max_pixels,
        allow_truncated=allow_truncated,
        strip_metadata=strip_metadata,
    )
    from diffir_cli.batch.find import check_inputs
    from diffir_cli.util.files import check_new_file

    policies = {
        "--overwrite": overwrite,
        "--skip-existing": skip_existing,
        "--on-exist": options.is_given(context, "on_exist"),
    }
    given = [name for name, chosen in policies.items() if chosen]
    if len(given) > 1:
        raise typer.BadParameter(f"give {given[0]} or {given[1]}, not both")
    if (ray_workers or gpus_per_worker) and not ray:
        raise typer.BadParameter("--ray-workers and --gpus-per-worker need --ray")
    if ray and (workers > 1 or "," in device):
        raise typer.BadParameter("--workers and several devices have no effect with --ray")
    if report and report.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(
            f"--report writes HTML: use a name that ends in .html, not {report}"
        )
    if report:
        check_new_file(report, True)
    check_inputs(inputs)
    chosen = located(weights, task, registry, no_download, quiet or json, scale)

    # From here on torch is needed.
    from diffir_cli.batch.batch import Request, results_locked
    from diffir_cli.batch.cluster import Cluster
    from diffir_cli.batch.naming import Naming
    from diffir_cli.batch.work import Work
    from diffir_cli.runtime.pictures import check_holes

    devices = tuple(device.split(","))
    work = Work(
        task,
        chosen,
        picture_options,
        devices[0],
        precision,
        engine,
        limits,
        threads,
        quality,
        lossless,
        color_fix=color_fix,
    )
    # A machine that only hands out need not have the devices of those that compute.
    at_home = replace(work, device="cpu", precision=Precision.AUTO) if ray else work
    restorer = at_home.runner()
    check_holes(restorer, bool(mask or mask_from_alpha), chosen.name)
    factor = outscale or restorer.info.scale
    chosen_policy = {overwrite: OnExist.OVERWRITE, skip_existing: OnExist.SKIP}.get(True, on_exist)
    request = Request(
        inputs=tuple(inputs),
        folder=folder,
        naming=Naming(name, task, chosen.name, factor, format_name, quality, lossless),
        work=work,
        recursive=recursive,
        masks=None if mask is None else parse_place(mask),
        on_exist=chosen_policy,
        shard=part,
        devices=devices * workers if len(devices) > 1 or workers > 1 else (),
        helpers=jobs,
        fail_fast=fail_fast,
        cluster=Cluster(ray, ray_workers, gpus_per_worker) if ray else None,
    )
    if dry_run:
        show_plan(request, restorer, json)
        return
    with results_locked(request):
        _run(request, restorer, report, Reporter(json, quiet, no_progress))


def _check(
    output: Path | None,
    in_place: bool,
    shard: str,
    name: str,
    format_name: str | None,
    report: Path | None,
) -> tuple[int, int]:
    """Number and count of the shard, where the options fit together."""
    from diffir_cli.batch.find import parse_shard
    from diffir_cli.batch.stores import is_file

    if (output is None) is not in_place:
        both = "" if output is None else ", not both"
        raise typer.BadParameter(f"give -o DIR or --in-place{both}")
    if in_place and report:
        raise typer.BadParameter("--report needs the original images, which --in-place replaces")
    if in_place and (name != "{stem}" or format_name):
        raise typer.BadParameter(
            "--in-place keeps names and formats: leave --name, --suffix and --format out"
        )
    if output is not None and is_file(output):
        raise typer.BadParameter(f"-o {output} is a file, not a folder")
    try:
        return parse_shard(shard) if shard else (1, 1)
    except ValueError:
        raise typer.BadParameter(f"--shard must be K/N with K from 1 to N, not {shard!r}") from None


def _run(request: Request, restorer: ModelRunner, report: Path | None, reporter: Reporter) -> None:
    from diffir_cli.batch.batch import make_plan, run_plan

    started = time.monotonic()
    plan = make_plan(request, None if request.cluster else restorer)
    reporter.planned(plan, request.naming.scale, request.place)
    outcomes: list[Outcome] = []
    todo = plan.remaining.todo
    stop = threading.Event()
    quiet = reporter.quiet or reporter.json or reporter.no_progress
    with make_progress(len(todo), plan.pixels, quiet) as progress, _stopping(stop, reporter.quiet):

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.advance(outcome.job.pixels)
            reporter.finished(outcome, progress)

        def begin(job: Job) -> None:
            progress.current(str(job.source))

        run_plan(plan, request, restorer, stop, begin, done, progress.share)
    failures = [outcome for outcome in outcomes if outcome.error]
    interrupted = len(outcomes) < len(todo) and not (request.fail_fast and failures)
    summary = {
        "summary": True,
        "done": len(outcomes) - len(failures),
        "failed": len(failures),
        "finished_before": len(plan.remaining.finished),
        "left_out": len(plan.remaining.kept),
        "not_begun": len(todo) - len(outcomes),
        "seconds": round(time.monotonic() - started, 3),
        "interrupted": interrupted,
    }
    if report and (todo or not report.exists()):
        from diffir_cli.batch.report import write_report

        write_report(report, request, outcomes, summary)
    elif report and not reporter.quiet:
        print_message(f"nothing was done: {report} stays as it was")
    if reporter.fault:
        raise reporter.fault
    if reporter.json:
        print_json(summary)
    elif not reporter.quiet:
        print_summary(summary)
    if len(outcomes) > _FEW and failures and not reporter.json:
        # Those said on the way have scrolled away.
        for outcome in failures:
            print_message(f"failed: {outcome.error}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if failures:
        raise typer.Exit(FAILED)


@contextmanager
def _stopping(stop: threading.Event, quiet: bool) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the run after the current picture, a second one at once."""

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if not quiet:
            print_message("finishing the current image; press Ctrl-C again to stop now")

    from diffir_cli.util.signals import ENDING

    # Only the main thread may say what a signal does.
    main = threading.current_thread() is threading.main_thread()
    before = {kind: signal.getsignal(kind) for kind in (ENDING if main else ())}
    # What `nohup` ignores stays ignored.
    before = {kind: handler for kind, handler in before.items() if handler is not signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, handle)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
