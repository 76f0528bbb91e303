"""`diffir convert`: any known container to safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_json, print_message
from diffir_cli.cli.output_files import output_file
from diffir_cli.errors import CheckpointError


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
    half: Annotated[bool, typer.Option("--half", help="Store as fp16: half the size.")] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a DiffIR checkpoint to safetensors."""
    target = output_file(output or target, ".safetensors", overwrite, source)
    if not source.exists():
        raise CheckpointError(f"no such file: {source}", "check its name")

    from diffir_cli.models.diffir.checkpoint import load_checkpoint, rebuild, save_weights
    from diffir_cli.weights.imports import describe

    checkpoint = load_checkpoint(source)
    model = rebuild(checkpoint)
    save_weights(target, model, describe(source, checkpoint), half)
    count = sum(parameter.numel() for parameter in model.parameters())
    size = target.stat().st_size
    if json:
        found = {"stage": checkpoint.stage, "parameters": count, "bytes": size}
        print_json({"input": str(source), "output": str(target), **found})
    elif not quiet:
        print_message(f"{target}: stage {checkpoint.stage}, {count:,} parameters, {size:,} bytes")
