"""Options of `diffir download-weights` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffir_cli.cli import panels
from diffir_cli.cli.conflicts import exclude, exclude_with
from diffir_cli.errors import UsageError
from diffir_cli.options import Task

Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Names of weights in the registry.")
]
OfTask = Annotated[Task | None, panels.weights("--task", help="All weights of this task.")]
All = Annotated[bool, panels.weights("--all", help="All weights of the registry.")]
List = Annotated[bool, panels.weights("--list", help="List all weights and their state.")]
Verify = Annotated[bool, panels.weights("--verify", help="Verify the hashes of installed weights.")]
PrintUrls = Annotated[bool, panels.weights("--print-urls", help="Only print the download links.")]
Remove = Annotated[
    bool, panels.weights("--remove", help="Delete the named weights from this machine.")
]
From = Annotated[
    Path | None,
    panels.input_output(
        "--from", metavar="FILE", help="Install a checkpoint that you downloaded by hand."
    ),
]
Folder = Annotated[
    Path | None,
    panels.input_output(
        "--output", "-o", metavar="DIR", help="Download to this folder instead of the cache."
    ),
]
AcceptLicense = Annotated[
    list[str] | None,
    panels.weights("--accept-license", metavar="NAME", help="Accept the licence of these weights."),
]

_ACTIONS = ("listing", "verify", "print_urls", "remove", "source")
"""Parameters that ask for something else than a download."""


def check_options(context: typer.Context) -> None:
    """Refuse options that contradict each other, and a command that names nothing.

    Raises:
        UsageError: when they do, or it does.
    """
    given = context.params
    actions = [name for name in _ACTIONS if given[name]]
    if actions != ["listing", "verify"]:
        exclude(context, *_ACTIONS)
    exclude(context, "everything", "names")
    exclude(context, "everything", "task")
    for name in actions:
        exclude(context, "output", name)
        if name in ("listing", "print_urls") and not given["json"]:
            exclude(context, "quiet", name)
    if "source" in actions:
        exclude_with(context, "--from", "task", "everything")
        if len(given["names"] or []) > 1:
            raise UsageError("--from takes one name at most", "run the command for each file")
    some = bool(given["names"] or given["task"] or given["everything"])
    if not some and (not actions or actions == ["remove"]):
        raise UsageError("NAME is missing", "name weights, or add --task or --all; see --list")
