"""`diffir restore`: one image in, one image out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import be_quiet, print_json, say, working
from diffir_cli.config import Engine, Precision, Task


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
    seed: options.Seed = 0,
    threads: options.Threads = None,
    strip_metadata: options.StripMetadata = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore one image."""
    from diffir_cli.imaging import (
        check_fit,
        check_target,
        read_mask,
        read_picture,
        write_picture,
    )
    from diffir_cli.version import __version__
    from diffir_cli.weightfile import locate_weights

    started = time.monotonic()
    limits = (options.parse_size(max_memory), options.parse_tile(tile, tile_overlap), tile_overlap)
    be_quiet(quiet)
    # Whatever can be refused is refused before the slow part: a typo costs nothing.
    check_target(output, overwrite)
    picture = read_picture(source, deep=True)
    holes = read_mask(mask, picture.size, mask_invert, mask_dilate) if mask else None
    chosen = locate_weights(weights, task)
    with working(f"restoring {source.name}", quiet or json):
        from diffir_cli.engine.loading import restorer_of
        from diffir_cli.engine.memory import Wish

        restorer = restorer_of(chosen, task, device, precision, threads, engine, Wish(*limits))
        _check_mask(restorer.takes_mask, holes is not None, chosen.name)
        width, height = (side * restorer.config.scale for side in picture.size)
        check_fit(output, (width, height), picture.alpha is not None, picture.deep)
        origin = f"diffir {__version__} ({chosen.name}, sha256 {chosen.sha256}, seed {seed})"
        result = picture.restored(restorer.restore(picture.rgb, seed, mask=holes), origin)
        write_picture(result.stripped() if strip_metadata else result, output, overwrite)
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
        say(f"{output}: {result.size[0]}×{result.size[1]} pixels in {seconds:.1f} s, {chosen.name}")


def _check_mask(wanted: bool, given: bool, name: str) -> None:
    from diffir_cli.errors import InputError

    if wanted and not given:
        raise InputError(f"the inpainting weights {name} need a mask", "add --mask FILE")
    if given and not wanted:
        raise InputError(f"the weights {name} take no mask", "leave --mask out")
