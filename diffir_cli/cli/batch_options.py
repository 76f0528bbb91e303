"""Options of `diffir batch` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import exclude, exclude_with
from diffir_cli.errors import InputError, UsageError
from diffir_cli.options import OnExist

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN",
        help="Images, folders or patterns such as 'scans/*.tif'. s3:// and gs:// work too.",
    ),
]
Folder = Annotated[
    str | None,
    panels.input_output(
        "--output", "-o", metavar="DIR", help="Output folder, or a URI such as s3://bucket/folder."
    ),
]
InPlace = Annotated[
    bool,
    panels.input_output("--in-place", help="Replace each image with its result (instead of -o)."),
]
Recursive = Annotated[
    bool,
    panels.input_output(
        "--recursive", "-r", help="Include subfolders. The output keeps the folder structure."
    ),
]
Name = Annotated[
    str,
    panels.input_output(
        "--name",
        metavar="TEMPLATE",
        help="Output names. Fields: {stem}, {ext}, {parent}, {index}, {reldir}, {task}, {scale}, "
        "{weights}.",
    ),
]
Suffix = Annotated[
    str,
    panels.input_output(
        "--suffix",
        metavar="TEXT",
        help="Text to append to the output names, such as _x4.",
        show_default=False,
    ),
]
Masks = Annotated[
    str | None,
    panels.inpainting(
        "--mask",
        metavar="FILE|DIR",
        help="Masks for inpainting: one file for all, or a folder with a mask per image, by name.",
    ),
]
OnExistOption = Annotated[
    OnExist,
    panels.input_output(
        "--on-exist", help="What to do if an output file exists and no earlier run has made it."
    ),
]
DryRun = Annotated[bool, panels.messages("--dry-run", help="Print the plan, do nothing.")]
SkipExisting = Annotated[
    bool,
    panels.input_output(
        "--skip-existing", help="Skip images whose output file exists: the same as --on-exist skip."
    ),
]
NoProgress = Annotated[
    bool, panels.messages("--no-progress", help="Print a line per image instead of a progress bar.")
]
FailFast = Annotated[bool, panels.input_output("--fail-fast", help="Stop at the first failure.")]
Jobs = Annotated[
    int,
    panels.speed(
        "--jobs",
        "-j",
        min=1,
        max=64,
        metavar="N",
        help="Number of reader threads, and of writer threads.",
    ),
]
Workers = Annotated[
    int,
    panels.speed(
        "--workers",
        min=1,
        max=256,
        metavar="N",
        help="Number of processes, each with --threads threads.",
    ),
]
Shard = Annotated[
    str,
    panels.many(
        "--shard",
        metavar="K/N",
        help="Process only part K of N, to share the work between N machines.",
        show_default=False,
    ),
]
Ray = Annotated[
    str,
    panels.many(
        "--ray",
        metavar="auto|ADDRESS",
        help="Run on a Ray cluster. Its machines must see the same files.",
        show_default=False,
    ),
]
RayWorkers = Annotated[
    int,
    panels.many(
        "--ray-workers",
        min=0,
        metavar="N",
        help="Number of workers on the cluster. 0: as many as fit.",
    ),
]
GpusPerWorker = Annotated[
    float,
    panels.many("--gpus-per-worker", min=0, metavar="N", help="GPUs per worker. 0: CPU only."),
]
Report = Annotated[
    Path | None,
    panels.input_output(
        "--report",
        metavar="FILE",
        help="Write an HTML page with before/after sliders, failures and times.",
    ),
]


def check_replaced(report: Path | None, overwrite: bool) -> None:
    """Refuse a report that would replace a file other than an earlier report.

    Raises:
        InputError: when it would, and no file may be replaced.
    """
    if report is None or overwrite or not report.exists():
        return
    from diffir_cli.evaluation.html import is_page
    from diffir_cli.util.files import file_errors

    with file_errors(f"cannot read {report}", "name another file"):
        own = is_page(report)
    if not own:
        raise InputError(f"{report} already exists and is no report of diffir", "name another file")


def check_options(
    context: typer.Context, output: Path | None, in_place: bool, shard: str
) -> tuple[int, int]:
    """Number and count of the shard, where the options fit together.

    Raises:
        UsageError: when results have no place, a shard cannot be understood, or workers are asked
            for twice.
        InputError: when the output folder is a file.
    """
    from diffir_cli.batch.find import parse_shard
    from diffir_cli.batch.naming import check_template
    from diffir_cli.batch.stores import is_file
    from diffir_cli.imaging import check_coding, format_of

    if output is None and not in_place:
        raise UsageError("--output is missing", "add -o DIR, or --in-place to replace the images")
    if in_place and context.params["on_exist"] is not OnExist.OVERWRITE:
        exclude(context, "in_place", "on_exist")
    if context.params["dry_run"] and not context.params["json"]:
        exclude(context, "dry_run", "quiet")
    if "," in context.params["device"]:
        exclude_with(context, "several devices", "ray")
    if output is not None and is_file(output):
        raise InputError(f"{output} is a file, not a folder", "name a folder")
    check_template(context.params["name"])
    if format_name := context.params["format_name"]:
        result = Path("result")
        format_ = format_of(result, format_name)
        check_coding(result, context.params["quality"], context.params["lossless"], format_)
    try:
        return parse_shard(shard) if shard else (1, 1)
    except ValueError:
        raise UsageError(
            f"--shard must be K/N with K from 1 to N, not {shard!r:.40}", "write 1/4"
        ) from None
