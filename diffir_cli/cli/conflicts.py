"""Options that contradict each other are refused, in one wording."""

from __future__ import annotations

from typing import Any

import typer

from diffir_cli.errors import UsageError

_EXCLUSIVE = (
    ("quiet", "verbose"),
    ("json", "verbose"),
    ("output", "in_place"),
    ("in_place", "name"),
    ("in_place", "suffix"),
    ("in_place", "format_name"),
    ("in_place", "report"),
    ("in_place", "skip_existing"),
    ("name", "suffix"),
    ("overwrite", "skip_existing", "on_exist"),
    ("weights", "scale"),
    ("mask", "mask_from_alpha"),
    ("mask_from_alpha", "alpha"),
    ("mask_from_alpha", "background"),
    ("outscale", "size", "long_side"),
    ("lossless", "quality"),
    ("dry_run", "report"),
    ("dry_run", "fail_fast"),
    ("ray", "workers"),
    ("sweep", "input_size"),
    ("sweep", "no_subprocess"),
    ("dynamic", "input_size"),
    ("output", "target"),
)
"""Parameters of which a command takes one at most, where it has them."""

_NEEDED = {
    "mask_invert": ("mask",),
    "mask_dilate": ("mask", "mask_from_alpha"),
    "ray_workers": ("ray",),
    "gpus_per_worker": ("ray",),
    "budget": ("sweep",),
    "tolerance": ("compare",),
    "scores": ("plot",),
}
"""Parameters that have an effect only beside one of others."""


def check_conflicts(context: typer.Context) -> None:
    """Refuse what no command takes together, before a command begins.

    Raises:
        UsageError: when two options contradict each other, or one would have no effect.
    """
    for names in _EXCLUSIVE:
        exclude(context, *names)
    for name, others in _NEEDED.items():
        require(context, name, *others)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, even with the value of its default."""
    return _source(context, name) == "COMMANDLINE"


def is_from_environment(context: typer.Context, name: str) -> bool:
    """Whether an environment variable gave a parameter its value."""
    return _source(context, name) == "ENVIRONMENT"


def is_from_file(context: typer.Context, name: str) -> bool:
    """Whether a settings file gave a parameter its value."""
    return _source(context, name) == "DEFAULT_MAP"


def _source(context: typer.Context, name: str) -> str:
    # By name: typer brings a click of its own.
    source = context.get_parameter_source(name)
    return "" if source is None else str(source.name)


def exclude(context: typer.Context, *names: str) -> None:
    """Refuse more than one of some parameters.

    Raises:
        UsageError: when the command line has two of them.
    """
    given = [name for name in names if is_given(context, name)]
    if len(given) > 1:
        refuse(context, given[0], flag(context, given[1]), "leave one of them out")


def exclude_with(context: typer.Context, what: str, *names: str) -> None:
    """Refuse parameters that have no effect with something else.

    Args:
        context: Of the command.
        what: The option and value, or the kind of input, that they have no effect with.
        names: The parameters.

    Raises:
        UsageError: when the command line has one of them.
    """
    for name in names:
        if is_given(context, name):
            refuse(context, name, what)


def refuse(context: typer.Context, name: str, what: str, hint: str = "") -> None:
    """Say that a parameter contradicts something else.

    Raises:
        UsageError: always.
    """
    option = flag(context, name)
    raise UsageError(f"{option} cannot be used with {what}", hint or f"leave {option} out")


def require(context: typer.Context, name: str, *others: str) -> None:
    """Refuse a parameter that needs one of others.

    Raises:
        UsageError: when the command line has it alone.
    """
    known = [other for other in others if _parameter(context, other)]
    if known and is_given(context, name) and not any(is_given(context, one) for one in known):
        options = " or ".join(flag(context, other) for other in known)
        raise UsageError(f"{flag(context, name)} needs {options}", f"add {options}")


def flag(context: typer.Context, name: str) -> str:
    """What a user types for a parameter: its long option, or the word for an argument."""
    parameter = _parameter(context, name)
    assert parameter is not None, name
    return str(parameter.metavar if parameter.opts[0] == name else max(parameter.opts, key=len))


def _parameter(context: typer.Context, name: str) -> Any:
    return next((one for one in context.command.params if one.name == name), None)
