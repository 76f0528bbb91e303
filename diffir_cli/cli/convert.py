"""`diffir convert`: any known container to safetensors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_result
from diffir_cli.cli.output_files import output_file
from diffir_cli.errors import CheckpointError
from diffir_cli.util.files import check_reachable


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            readable=False,
            help="Checkpoint: .pth, .ckpt, .safetensors or a training state.",
        ),
    ],
    target: options.OldTarget = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file (.safetensors). Required.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="NAME",
            help="Registry entry that the file belongs to, if the file does not show it: needed "
            "for renamed ResShift denoisers.",
            show_default=False,
        ),
    ] = None,
    registry: options.Registry = None,
    half: Annotated[bool, typer.Option("--half", help="Store as fp16: half the size.")] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a checkpoint of any family to safetensors."""
    target = output_file(output or target, ".safetensors", overwrite, source)
    check_reachable(source, CheckpointError)
    if not source.exists():
        raise CheckpointError(f"no such file: {source}", "check its name")

    from diffir_cli.weights.convert import convert_weights

    done = convert_weights(source, target, half, weights, registry)
    size = target.stat().st_size
    found = {"input": str(source), "output": str(target), **asdict(done), "bytes": size}
    what = f"{done.family} {done.component}, {done.parameters:,} parameters"
    print_result(json, quiet, found, f"{target}: {what}, {size:,} bytes")
