"""`diffir batch`: a folder of any size."""

from __future__ import annotations

from dataclasses import replace

import typer

from diffir_cli.cli import batch_options, options, picture_options
from diffir_cli.cli.batch_console import Reporter, show_plan
from diffir_cli.cli.batch_run import run_batch
from diffir_cli.cli.option_values import read_run_options
from diffir_cli.cli.output_files import check_reports
from diffir_cli.cli.weights import located, task_for
from diffir_cli.options import AlphaMode, ColorFix, Engine, OnExist, Precision, Task


def batch(
    context: typer.Context,
    inputs: batch_options.Inputs,
    output: batch_options.Folder = None,
    in_place: batch_options.InPlace = False,
    recursive: batch_options.Recursive = False,
    name: batch_options.Name = "{stem}",
    suffix: batch_options.Suffix = "",
    task: options.TaskName = Task.REALSR,
    weights: options.Weights = None,
    scale: options.Scale = None,
    registry: options.Registry = None,
    offline: options.Offline = False,
    device: options.Devices = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    engine: options.EngineName = Engine.STREAMING,
    max_memory: options.MaxMemory = "",
    tile: options.Tile = "auto",
    tile_overlap: options.TileOverlap = 32,
    color_fix: options.ColorFixName = ColorFix.AUTO,
    mask: batch_options.Masks = None,
    mask_invert: picture_options.MaskInvert = False,
    mask_dilate: picture_options.MaskDilate = 0,
    mask_from_alpha: picture_options.MaskFromAlpha = False,
    alpha: picture_options.Alpha = AlphaMode.LANCZOS,
    background: picture_options.Background = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    jobs: batch_options.Jobs = 2,
    workers: batch_options.Workers = 1,
    shard: batch_options.Shard = "",
    ray: batch_options.Ray = "",
    ray_workers: batch_options.RayWorkers = 0,
    gpus_per_worker: batch_options.GpusPerWorker = 0,
    outscale: picture_options.OutScale = None,
    size: picture_options.ResultSize = None,
    long_side: picture_options.LongSide = None,
    strength: picture_options.Strength = 1.0,
    max_pixels: picture_options.MaxPixels = None,
    allow_truncated: picture_options.AllowTruncated = False,
    format_name: picture_options.FormatName = None,
    quality: picture_options.Quality = None,
    lossless: picture_options.Lossless = False,
    strip_metadata: picture_options.StripMetadata = False,
    on_exist: batch_options.OnExistOption = OnExist.ERROR,
    overwrite: options.Overwrite = False,
    skip_existing: batch_options.SkipExisting = False,
    fail_fast: batch_options.FailFast = False,
    dry_run: batch_options.DryRun = False,
    report: batch_options.Report = None,
    json: options.Json = False,
    no_progress: batch_options.NoProgress = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Restore many images. Run the same command again to resume."""
    task = task_for(context, task, weights, registry)
    run_options = read_run_options(context)
    from diffir_cli.batch.stores import check_results_place, parse_place

    if suffix:
        name += suffix.replace("{", "{{").replace("}", "}}")
    folder = None if output is None else parse_place(output)
    if folder is not None:
        check_results_place(folder)
    part = batch_options.check_options(context, folder, in_place, shard)
    settings = picture_options.read_options(context, task)
    from diffir_cli.batch.find import check_inputs

    check_reports({"report": report}, overwrite=True)
    batch_options.check_replaced(report, overwrite)
    check_inputs(inputs)
    chosen = located(weights, task, registry, offline, quiet or json, scale)

    # From here on torch is needed.
    from diffir_cli.batch.cluster import Cluster
    from diffir_cli.batch.naming import Naming
    from diffir_cli.batch.request import Request, results_locked
    from diffir_cli.batch.work import Work

    devices = tuple(device.split(","))
    run_options = replace(run_options, device=devices[0])
    work = Work(task, chosen, settings, run_options, quality, lossless)
    # A machine that only hands out need not have the devices of those that compute.
    here = replace(run_options, device="cpu", precision=Precision.AUTO) if ray else run_options
    at_home = replace(work, run_options=here)
    restorer = at_home.runner()
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
        run_batch(request, restorer, report, Reporter(json, quiet, no_progress))
