"""`diffir degrade`: look at what training does to photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import options
from diffir_cli.cli.talk import say
from diffir_cli.training.degradation.kinds import SheetKind


def degrade(
    source: Annotated[Path, typer.Argument(metavar="IN", readable=False, help="A sharp photo.")],
    output: options.Output,
    kind: Annotated[SheetKind, typer.Option("--kind", help="What to show.")] = SheetKind.REALWORLD,
    count: Annotated[int, typer.Option("--count", min=1, max=99, help="How many versions.")] = 8,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Show what training does to a photo."""
    from diffir_cli.errors import InputError
    from diffir_cli.imaging import Picture, check_target, read_picture, write_picture
    from diffir_cli.training.degradation.sheet import contact_sheet

    check_target(output, overwrite)
    photo = read_picture(source).rgb
    if min(photo.shape[:2]) < 64:
        raise InputError(
            f"{source} is too small: {photo.shape[1]}×{photo.shape[0]} pixels",
            "give a photo of at least 64×64 pixels",
        )
    sheet = contact_sheet(photo, kind, count, seed)
    write_picture(Picture(sheet), output, overwrite)
    say(f"{output}: the photo, then {count} times {kind.value}")
