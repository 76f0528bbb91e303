"""Options that contradict each other are refused, in one wording."""

from __future__ import annotations

import typer


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and has not its default."""
    # By name: typer brings a click of its own.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_mask_options(mask: object | None, invert: bool, dilate: int, from_alpha: bool) -> None:
    """Refuse options of masks that contradict each other or would have no effect.

    Raises:
        BadParameter: when they do.
    """
    if mask and from_alpha:
        raise typer.BadParameter("give --mask or --mask-from-alpha, not both")
    if invert and not mask:
        raise typer.BadParameter("--mask-invert needs --mask")
    if dilate and not (mask or from_alpha):
        raise typer.BadParameter("--mask-dilate needs --mask or --mask-from-alpha")
