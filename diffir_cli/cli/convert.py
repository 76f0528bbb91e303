"""`diffir convert`: any known container to safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.console import print_message


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            readable=False,
            help="Checkpoint: .pth, .ckpt, .safetensors or a training state.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Output file (.safetensors).")],
    half: Annotated[bool, typer.Option("--half", help="Store as fp16: half the size.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Convert a checkpoint to safetensors."""
    from diffir_cli.errors import CheckpointError, InputError
    from diffir_cli.util.files import check_new_file

    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the file to read", "name another one")
    if target.suffix != ".safetensors":
        raise InputError(
            f"{target} must end in .safetensors", f"write {target.with_suffix('.safetensors')}"
        )
    check_new_file(target, overwrite)
    if not source.exists():
        raise CheckpointError(f"no such file: {source}", "check its name")

    from diffir_cli.models.diffir.checkpoint import load_checkpoint, rebuild, save_weights
    from diffir_cli.weights.imports import describe

    checkpoint = load_checkpoint(source)
    model = rebuild(checkpoint)
    save_weights(target, model, describe(source, checkpoint), half)
    count = sum(parameter.numel() for parameter in model.parameters())
    print_message(
        f"{target}: stage {checkpoint.stage}, {count:,} parameters, {target.stat().st_size:,} bytes"
    )
