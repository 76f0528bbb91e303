"""Options of `diffir batch` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.options import OnExist

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
        help="Output names. Fields: {stem}, {ext}, {reldir}, {task}, {scale}, {weights}.",
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


def check_options(
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
