"""`diffir degrade`: look at what training does to photos, or make a test set of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.conflicts import exclude_with
from diffir_cli.cli.console import print_message, print_result, working
from diffir_cli.degradations.kinds import PreviewKind
from diffir_cli.errors import DeviceError, InputError, UsageError
from diffir_cli.util.files import check_reachable


def degrade(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", readable=False, help="Sharp photo, or a folder of photos."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Output image (contact sheet), or output folder.",
        ),
    ],
    kind: Annotated[
        PreviewKind, typer.Option("--kind", help="Type of degradation or mask.")
    ] = PreviewKind.REALWORLD,
    scale: Annotated[
        int,
        typer.Option(
            "--scale",
            "-s",
            metavar="N",
            min=1,
            max=4,
            help="Downscaling factor of bicubic and realworld.",
        ),
    ] = 4,
    count: Annotated[
        int,
        typer.Option(
            "--count", metavar="N", min=1, max=99, help="Number of versions on the contact sheet."
        ),
    ] = 8,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make degraded photos: a contact sheet, or a test set.

    For one photo, writes a contact sheet of several versions. For a folder, writes one degraded
    image or mask per photo, as PNG with the same name, for `diffir evaluate`. Photos that cannot be
    read are reported and skipped.
    """
    if kind not in (PreviewKind.BICUBIC, PreviewKind.REALWORLD):
        exclude_with(context, f"--kind {kind.value}", "scale")
    if kind in (PreviewKind.BICUBIC, PreviewKind.SHARPEN):
        exclude_with(context, f"--kind {kind.value}", "seed")
    check_reachable(source)
    if not source.exists():
        raise InputError(f"no such file or folder: {source}", "check its name")
    if source.is_dir():
        exclude_with(context, "a folder", "count")
        written, failed = _degrade_folder(
            source, output, kind, scale, seed, overwrite, quiet or json
        )
        text = f"{output}: {written} times {kind.value}"
    else:
        _write_preview(source, output, kind, scale, count, seed, overwrite)
        written, failed = count, []
        text = f"{output}: the photo, then {count} times {kind.value}"
    found = {"output": str(output), "kind": kind.value, "count": written, "seed": seed}
    print_result(json, quiet, {**found, "failed": failed}, text)
    if failed:
        raise typer.Exit(InputError.exit_code)


def _write_preview(
    source: Path,
    output: Path,
    kind: PreviewKind,
    scale: int,
    count: int,
    seed: int,
    overwrite: bool,
) -> None:
    from diffir_cli.imaging import Picture, check_target, read_levels, write_picture

    check_target(output, overwrite)
    photo = read_levels(source)
    if min(photo.shape[:2]) < 64:
        raise InputError(
            f"{source} is too small: {photo.shape[1]}×{photo.shape[0]} pixels",
            "give a photo of at least 64×64 pixels",
        )
    from diffir_cli.degradations.preview import contact_sheet

    write_picture(Picture(contact_sheet(photo, kind, count, seed, scale)), output, overwrite)


def _degrade_folder(
    source: Path,
    output: Path,
    kind: PreviewKind,
    scale: int,
    seed: int,
    overwrite: bool,
    quiet: bool,
) -> tuple[int, list[dict[str, str]]]:
    """How many photos were degraded, and which could not be, with their errors."""
    from diffir_cli.imaging import check_target, list_pictures
    from diffir_cli.util.files import make_folder, remove_unfinished
    from diffir_cli.util.names import by_stem

    paths = by_stem(list_pictures(source)).values()
    targets = {output / f"{path.stem}.png": path for path in paths}
    if output.exists() and output.samefile(source):
        raise UsageError(f"{output} is the folder of the photos", "name another one")
    make_folder(output)
    remove_unfinished(output)
    for target in targets:
        check_target(target, overwrite)
    from diffir_cli.degradations.write import write_degraded

    failed = []
    with working("degrading", quiet) as status:
        for target, path in targets.items():
            status(path.name)
            try:
                write_degraded(path, target, kind, scale, seed, overwrite)
            except (InputError, DeviceError) as error:
                failed.append({"name": path.name, "error": str(error)})
    for fault in failed:
        print_message(f"error: {fault['error']}")
    return len(targets) - len(failed), failed
