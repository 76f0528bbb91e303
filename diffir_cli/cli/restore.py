"""`diffir restore`: one image in, one image out."""

from __future__ import annotations

import sys
import time
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import options, picture_options
from diffir_cli.cli.conflicts import exclude_with
from diffir_cli.cli.console import print_result, write_stdout
from diffir_cli.cli.option_values import read_run_options
from diffir_cli.cli.progress import restoring
from diffir_cli.cli.weights import located, task_for
from diffir_cli.errors import InputError, UsageError
from diffir_cli.options import AlphaMode, ColorFix, Engine, Precision, Task

if TYPE_CHECKING:
    from diffir_cli.imaging.formats import Format

_PIPE = Path("-")
_STDIN = Path("standard input")
_STDOUT = Path("standard output")
_LONGEST = 2**31
"""Bytes that are read from a pipe before it is taken for endless."""


def restore(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="IN", readable=False, help="Image to restore. - for stdin.")
    ],
    output: picture_options.Output = None,
    task: options.TaskName = Task.REALSR,
    weights: options.Weights = None,
    scale: options.Scale = None,
    registry: options.Registry = None,
    offline: options.Offline = False,
    device: options.Device = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    engine: options.EngineName = Engine.STREAMING,
    max_memory: options.MaxMemory = "",
    tile: options.Tile = "auto",
    tile_overlap: options.TileOverlap = 32,
    color_fix: options.ColorFixName = ColorFix.AUTO,
    mask: picture_options.Mask = None,
    mask_invert: picture_options.MaskInvert = False,
    mask_dilate: picture_options.MaskDilate = 0,
    mask_from_alpha: picture_options.MaskFromAlpha = False,
    alpha: picture_options.Alpha = AlphaMode.LANCZOS,
    background: picture_options.Background = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    outscale: picture_options.OutScale = None,
    size: picture_options.ResultSize = None,
    long_side: picture_options.LongSide = None,
    strength: picture_options.Strength = 1.0,
    compare: picture_options.Compare = None,
    max_pixels: picture_options.MaxPixels = None,
    allow_truncated: picture_options.AllowTruncated = False,
    format_name: picture_options.FormatName = None,
    quality: picture_options.Quality = None,
    lossless: picture_options.Lossless = False,
    strip_metadata: picture_options.StripMetadata = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Restore one image."""
    from diffir_cli.imaging import (
        check_coding,
        check_fit,
        encode_picture,
        format_like,
        write_picture,
    )
    from diffir_cli.imaging.probe import probe_picture
    from diffir_cli.imaging.source import check_source, read_source, result_size
    from diffir_cli.util.files import remove_unfinished

    started = time.monotonic()
    # Whatever can be refused is refused before the slow part: a typo costs nothing.
    task = task_for(context, task, weights, registry)
    run_options = read_run_options(context)
    settings = picture_options.read_options(context, task)
    if output is None:
        target, format_ = None, _named_format(source, format_name)
    else:
        target, format_ = _target(context, output, overwrite, format_name)
    if format_:
        check_coding(target or source, quality, lossless, format_)
    if compare:
        others = [output, source, mask]
        _check_compare(compare, [path for path in others if path], overwrite)
    shown, data = (_STDIN, _piped()) if source == _PIPE else (source, None)
    probe = probe_picture(shown, settings.max_pixels, data, allow_truncated)
    if format_ is None:
        format_ = format_like(probe.format)
        check_coding(target or source, quality, lossless, format_)
    if mask:
        if realpath(mask) == realpath(source):
            raise InputError(
                f"{mask} is the picture itself, not a mask of it",
                "draw the mask on a copy, or use --mask-from-alpha",
            )
        if output and realpath(mask) == realpath(output):
            raise UsageError(f"{mask} is named twice", "give --output a file of its own")
        probe_picture(mask, settings.max_pixels, None, allow_truncated)
    chosen = located(weights, task, registry, offline, quiet or json, scale)
    # A size in pixels is no factor that a name could tell.
    sized = size is not None or long_side is not None
    factor = outscale or (chosen.config and chosen.config.scale)
    if target is None and (sized or factor):
        target = _beside(source, task, None if sized else factor, format_, overwrite)
    with restoring(f"restoring {shown.name}", quiet or json) as progress:
        from diffir_cli.runtime.loading import load_runner
        from diffir_cli.runtime.pictures import check_holes, restore_source

        runner = load_runner(chosen, task, run_options)
        check_holes(runner, mask is not None or mask_from_alpha, chosen.name)
        if target is None:
            target = _beside(source, task, runner.info.scale, format_, overwrite)
        # What will not fit into memory is not decoded.
        final = result_size(probe.size, settings, runner.info.scale)
        runner.plan(*probe.size, probe.deep, strength, final, copies=3 if compare else 1)
        loaded = read_source(shown, settings, mask, data)
        check_source(
            loaded,
            shown,
            target,
            format_,
            settings,
            runner.info.scale,
            in_place=_is_same_file(source, target),
        )
        if compare:
            width, height = loaded.size_of_result(settings, runner.info.scale)
            check_fit(compare, (2 * width, height), False, loaded.picture.deep)
        found = restore_source(runner, loaded, settings, chosen, progress)
        result = found.picture
        for path in filter(None, (compare, None if output == _PIPE else target)):
            remove_unfinished(path.parent)
        if output == _PIPE:
            # In memory first, since some encoders go back in what they have written.
            write_stdout(encode_picture(result, _STDOUT, format_, quality, lossless))
        else:
            write_picture(result, target, overwrite, quality, lossless, format_)
        if compare:
            behind = settings.background or (0, 0, 0)
            before = loaded.picture.over(behind).resized(result.size)
            write_picture(before.beside(result.over(behind)), compare, overwrite)
    seconds = time.monotonic() - started
    about = {
        "input": str(source),
        "output": str(output or target),
        "input_size": list(loaded.picture.size),
        "output_size": list(result.size),
        "format": format_.name.lower(),
        "task": task.value,
        "weights": {"name": chosen.name, "sha256": chosen.sha256},
        "seed": seed,
        "seconds": round(seconds, 3),
        "device": str(runner.device),
        "precision": found.precision.value,
        "engine": engine.value,
        "tile": found.tile,
        "redone_in_fp32": found.redone,
    }
    tiles = f", in tiles of {found.tile} pixels" if found.tile else ""
    pixels = f"{result.size[0]}×{result.size[1]} pixels"
    print_result(json, quiet, about, f"{target}: {pixels} in {seconds:.1f} s, {chosen.name}{tiles}")


def _named_format(source: Path, requested: str | None) -> Format | None:
    """The requested format of a result that gets a name of its own; None for that of the input."""
    from diffir_cli.imaging import format_of

    if source == _PIPE:
        raise UsageError("what is piped in has no name", "add --output FILE")
    return format_of(Path("result"), requested) if requested else None


def _beside(
    source: Path, task: Task, factor: float | None, format_: Format, overwrite: bool
) -> Path:
    """Where the result of a picture goes without --output: beside it.

    Args:
        source: The picture.
        task: A part of its name.
        factor: Side of the result over that of the picture, for its name, or None.
        format_: Of the result.
        overwrite: Whether it may replace a file.

    Raises:
        InputError: when that file exists, or its folder cannot be written into.
    """
    from diffir_cli.imaging import check_target

    ending = source.suffix if source.suffix.lower() in format_.endings else format_.endings[0]
    enlarged = f"_x{factor:g}" if factor else ""
    target = source.with_name(f"{source.stem}_{task.value}{enlarged}{ending}")
    check_target(target, overwrite, ending)
    return target


def _target(
    context: typer.Context, output: Path, overwrite: bool, requested: str | None
) -> tuple[Path, Format | None]:
    """What messages call the target, and its format; None for that of the input."""
    from diffir_cli.imaging import check_target, format_of

    if output != _PIPE:
        return output, check_target(output, overwrite, requested)
    exclude_with(context, "-o -", "json")
    if sys.stdout is None or sys.stdout.isatty():
        raise UsageError("-o - would write image data to a terminal", "redirect it with > or |")
    return _STDOUT, format_of(_STDOUT, requested) if requested else None


def _piped() -> bytes:
    """What stands in standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("nothing is piped into standard input", "cat photo.png | diffir restore -")
    data = sys.stdin.buffer.read(_LONGEST + 1)
    if not data:
        raise InputError("standard input is empty", "did the command before it fail?")
    if len(data) > _LONGEST:
        raise InputError("standard input is longer than 2 GiB", "name a file instead")
    return data


def _is_same_file(source: Path, target: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)


def _check_compare(compare: Path, others: list[Path], overwrite: bool) -> None:
    from diffir_cli.imaging import check_target

    check_target(compare, overwrite)
    if realpath(compare) in map(realpath, others):
        raise UsageError(f"{compare} is named twice", "give --compare a file of its own")
