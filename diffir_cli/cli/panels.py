"""Panels of `--help`, in their order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import typer

INPUT_OUTPUT = "Input & output"
WEIGHTS = "Weights"
MODEL = "Model"
INPAINTING = "Inpainting"
RESULT = "Result"
MEASUREMENT = "Measurement"
SPEED = "Speed & memory"
MANY = "Many machines"
MESSAGES = "Messages"
_ORDER = (INPUT_OUTPUT, WEIGHTS, MODEL, INPAINTING, RESULT, MEASUREMENT, SPEED, MANY, MESSAGES)


def _option(panel: str) -> Callable[..., Any]:
    """`typer.Option` for the options of a panel."""
    return partial(typer.Option, rich_help_panel=panel)


input_output, weights, model = _option(INPUT_OUTPUT), _option(WEIGHTS), _option(MODEL)
inpainting, result, measurement = _option(INPAINTING), _option(RESULT), _option(MEASUREMENT)
speed, many, messages = _option(SPEED), _option(MANY), _option(MESSAGES)

_FEW = 10
"""Options, besides --help, up to which a command needs no panels."""


def panels_of(options: list[Any]) -> dict[str, list[Any]]:
    """The visible options of a command by panel, in the order of the panels.

    Args:
        options: Of Typer, in the order of their declaration.
    """
    shown = [option for option in options if not option.hidden]
    if sum(option.name != "help" for option in shown) <= _FEW:
        return {"Options": shown}
    # What has no panel, such as --help, is about messages.
    sorted_ = {
        panel: [one for one in shown if (one.rich_help_panel or MESSAGES) == panel]
        for panel in _ORDER
    }
    return {panel: some for panel, some in sorted_.items() if some}
