"""`diffir restore`: one image in, one image out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import be_quiet, print_json, say, working
from diffir_cli.config import AlphaMode, Engine, Precision, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diffir_cli.imaging import Picture


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="IN", readable=False, help="The image to restore.")
    ],
    output: options.Output,
    task: options.TaskName = Task.SR,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.PrecisionName = Precision.AUTO,
    engine: options.EngineName = Engine.STREAMING,
    max_memory: options.MaxMemory = "",
    tile: options.Tile = "auto",
    tile_overlap: options.TileOverlap = 32,
    mask: options.Mask = None,
    mask_invert: options.MaskInvert = False,
    mask_dilate: options.MaskDilate = 0,
    mask_from_alpha: options.MaskFromAlpha = False,
    alpha: options.Alpha = AlphaMode.LANCZOS,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    outscale: options.OutScale = None,
    compare: options.Compare = None,
    max_pixels: options.MaxPixels = None,
    allow_truncated: options.AllowTruncated = False,
    quality: options.Quality = None,
    lossless: options.Lossless = False,
    strip_metadata: options.StripMetadata = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore one image."""
    from diffir_cli.imaging import (
        check_coding,
        check_fit,
        check_target,
        read_picture,
        write_picture,
    )
    from diffir_cli.imaging.read import MAX_PIXELS
    from diffir_cli.version import __version__
    from diffir_cli.weightfile import locate_weights

    started = time.monotonic()
    limits = (options.parse_size(max_memory), options.parse_tile(tile, tile_overlap), tile_overlap)
    be_quiet(quiet)
    # Whatever can be refused is refused before the slow part: a typo costs nothing.
    check_target(output, overwrite)
    check_coding(output, quality, lossless)
    if compare:
        _check_compare(compare, output, overwrite)
    picture = read_picture(source, True, max_pixels or MAX_PIXELS, allow_truncated)
    holes = _holes(picture, source, mask, mask_invert, mask_dilate, mask_from_alpha)
    if mask_from_alpha or (alpha is AlphaMode.DROP and picture.alpha is not None):
        # What is filled is no longer transparent.
        picture = replace(picture, alpha=None)
    chosen = locate_weights(weights, task)
    with working(f"restoring {source.name}", quiet or json):
        from diffir_cli.engine.loading import restorer_of
        from diffir_cli.engine.memory import Wish
        from diffir_cli.engine.pictures import restore_picture

        restorer = restorer_of(chosen, task, device, precision, threads, engine, Wish(*limits))
        _check_mask(restorer.takes_mask, holes is not None, chosen.name)
        width, height = (
            max(1, round(side * (outscale or restorer.config.scale))) for side in picture.size
        )
        check_fit(output, (width, height), picture.alpha is not None, picture.deep)
        if compare:
            check_fit(compare, (2 * width, height), False, picture.deep)
        origin = f"diffir {__version__} ({chosen.name}, sha256 {chosen.sha256}, seed {seed})"
        result = restore_picture(restorer, picture, seed, holes, alpha, origin)
        result = result.resized((width, height))
        if strip_metadata:
            result = result.stripped()
        write_picture(result, output, overwrite, quality, lossless)
        if compare:
            write_picture(picture.resized(result.size).beside(result), compare, overwrite)
    seconds = time.monotonic() - started
    if json:
        paths = {"input": str(source), "output": str(output)}
        sizes = {"input_size": list(picture.size), "output_size": list(result.size)}
        used = {"name": chosen.name, "sha256": chosen.sha256}
        how = {"device": str(restorer.device), "precision": restorer.precision}
        done = {"engine": engine.value, "tile": restorer.tiles}
        what = {"task": task.value, "weights": used, "seed": seed, "seconds": round(seconds, 3)}
        print_json({**paths, **sizes, **what, **how, **done})
    elif not quiet:
        tiles = f", in tiles of {restorer.tiles} pixels" if restorer.tiles else ""
        size = f"{result.size[0]}×{result.size[1]} pixels"
        say(f"{output}: {size} in {seconds:.1f} s, {chosen.name}{tiles}")


def _check_compare(compare: Path, output: Path, overwrite: bool) -> None:
    from diffir_cli.imaging import check_target

    check_target(compare, overwrite)
    if compare.resolve() == output.resolve():
        raise typer.BadParameter("--compare and --output must name different files")


def _holes(
    picture: Picture,
    source: Path,
    mask: Path | None,
    invert: bool,
    dilate: int,
    from_alpha: bool,
) -> NDArray[np.bool_] | None:
    """Where to fill, from a file or from the picture's own transparency; None for nowhere."""
    from diffir_cli.imaging import mask_from_alpha, read_mask

    if mask and from_alpha:
        raise typer.BadParameter("give --mask or --mask-from-alpha, not both")
    if (invert or dilate) and not mask:
        raise typer.BadParameter("--mask-invert and --mask-dilate need --mask")
    if from_alpha:
        return mask_from_alpha(picture, source)
    return read_mask(mask, picture.size, invert, dilate) if mask else None


def _check_mask(wanted: bool, given: bool, name: str) -> None:
    from diffir_cli.errors import InputError

    if wanted and not given:
        raise InputError(
            f"the inpainting weights {name} need a mask", "add --mask FILE, or --mask-from-alpha"
        )
    if given and not wanted:
        raise InputError(f"the weights {name} take no mask", "leave --mask out")
