"""Faults that Typer finds in a command line, in our words: what is wrong, and what to type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import typer

from diffir_cli.errors import UsageError

# Typer carries its own Click, so its class has no name that may be imported.
TyperUsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What Typer raises for a command line that it cannot understand."""


def explain(error: Any) -> UsageError:
    """A fault that Typer found, as one of ours.

    Args:
        error: A `TyperUsageError`.
    """
    context = error.ctx
    parameter: Any = getattr(error, "param", None)
    kind = type(error).__name__
    if kind == "NoSuchOption":
        known = [name for one in context.command.params for name in one.opts if not one.hidden]
        return _unknown("option", error.option_name, known, _help(context))
    if kind == "MissingParameter":
        name = parameter.metavar or parameter.name
        what = name if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
        return UsageError(f"{what} is missing", _usage(context))
    if kind == "BadOptionUsage":
        needs = "needs a value" if "requires" in error.message else "takes no value"
        return UsageError(f"{error.option_name} {needs}", _help(context))
    if parameter is not None:
        return _bad_value(error, parameter, context)
    if match := re.match(r"No such command '(.*?)'\.", error.message, re.DOTALL):
        return _unknown("command", match[1], context.command.commands, _help(context))
    if match := re.match(r"Got unexpected extra argument\S* \((.*)\)", error.message, re.DOTALL):
        named = "name the result with -o FILE, or use diffir batch for several images"
        hint = named if context.command.name == "restore" else _usage(context)
        return UsageError(f"unexpected argument: {match[1]}", hint)
    return UsageError(error.message.rstrip("."), _help(context))


def _bad_value(error: Any, parameter: Any, context: Any) -> UsageError:
    """A value that its option does not take."""
    name = max(parameter.opts, key=len) if parameter.opts[0][0] == "-" else parameter.metavar
    kind = parameter.type_descriptor
    faults = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    value = str(faults[0]["input"]) if faults else ""
    found = f", not {value!r:.60}" if faults else ""
    if kind.choices:
        choices = [str(getattr(one, "value", one)) for one in kind.choices]
        hint = _nearest(value, choices) or _help(context)
        return UsageError(f"{name} must be one of {', '.join(choices)}{found}", hint)
    number = "a whole number" if int in _types(kind.annotation) else "a number"
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is not None and high is not None:
        number += f" from {low} to {high}"
    elif low is not None:
        number += f" of at least {low}"
    return UsageError(f"{name} must be {number}{found}", _help(context))


def _types(annotation: Any) -> list[Any]:
    return [annotation, *getattr(annotation, "__args__", ())]


def _unknown(kind: str, name: str, known: Iterable[str], hint: str) -> UsageError:
    return UsageError(f"no such {kind}: {name}", _nearest(name, known) or hint)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), list(known), 1)
    return f"did you mean {near[0]}?" if near else ""


def _help(context: Any) -> str:
    return f"see diffir {context.command.name} --help" if context.parent else "see diffir --help"


def _usage(context: Any) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return f"usage: diffir {' '.join([context.command.name, *pieces])}"
