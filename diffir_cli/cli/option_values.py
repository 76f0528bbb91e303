"""Texts of options to the values that they mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import typer

from diffir_cli.benchmark.sizes import LARGEST, Size
from diffir_cli.cli.conflicts import (
    exclude_with,
    is_from_environment,
    is_from_file,
    is_given,
    refuse,
)
from diffir_cli.errors import UsageError
from diffir_cli.options import Engine, MemoryLimits, Precision, RunOptions
from diffir_cli.util.byte_sizes import parse_bytes
from diffir_cli.util.folders import SETTINGS_FILE

_UNKNOWN_TO_OPENVINO = re.compile(r"(^|,)(cuda|mps|\d)")
"""Devices, of which commands may name several, on which OpenVINO does not run."""

_Named = TypeVar("_Named", Engine, Precision)


def read_run_options(context: typer.Context) -> RunOptions:
    """How a network is run, from the options of a command.

    Raises:
        UsageError: when one of them cannot be understood.
    """
    given = context.params
    tile, overlap = given["tile"], given["tile_overlap"]
    if tile == "off":
        exclude_with(context, "--tile off", "tile_overlap")
    engine = given["engine"]
    if is_from_file(context, "engine") and is_given(context, "device"):
        # What is typed goes before what a file says.
        engine = Engine.STREAMING if _UNKNOWN_TO_OPENVINO.search(given["device"]) else engine
    if engine is Engine.OPENVINO and _UNKNOWN_TO_OPENVINO.search(given["device"]):
        named = "--device "
        if is_from_environment(context, "device"):
            named = "DIFFIR_DEVICE="
        elif is_from_file(context, "device"):
            named = f"the device of {SETTINGS_FILE}, "
        refuse(context, "engine", f"{named}{given['device']}", "use --device cpu or xpu")
    limits = MemoryLimits(parse_size(given["max_memory"]), parse_tile(tile, overlap), overlap)
    names = ("device", "precision", "color_fix", "threads")
    return RunOptions(engine=engine, limits=limits, **{name: given[name] for name in names})


def parse_size(text: str) -> int:
    """Bytes of `4G`, `800M` or `1.5GiB`; 0 for an empty text.

    Raises:
        UsageError: when it is no such size.
    """
    try:
        return parse_bytes(text) if text else 0
    except ValueError:
        raise UsageError(
            f"--max-memory must be a size, not {text!r:.40}", "write 4G or 800M"
        ) from None


def parse_tile(text: str, overlap: int) -> int | None:
    """The side of tiles: 0 for `off`, None for `auto`.

    Raises:
        UsageError: when it is no side, or not more than the overlap.
    """
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not re.fullmatch(r"0*[1-9]\d{0,6}", text, re.ASCII):
        raise UsageError(
            f"--tile must be auto, off or a number of pixels, not {text!r:.40}", "write --tile 256"
        )
    if int(text) < max(2 * overlap, 32):
        raise UsageError(
            f"--tile {text} is too small: at least 32 pixels, and twice --tile-overlap {overlap}",
            f"write --tile {max(2 * overlap, 32)}",
        )
    return int(text)


def parse_names(kind: type[_Named], texts: Sequence[str], option: str) -> list[_Named]:
    """Members of an enumeration, several by commas; each once, in their order.

    Raises:
        UsageError: when one of them is none.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in set(kind):
            near = difflib.get_close_matches(name, kind, 1)
            raise UsageError(
                f"{option} must be one of {', '.join(kind)}, not {name!r:.40}",
                f"did you mean {near[0]}?" if near else "separate several by commas",
            )
    return [kind(name) for name in dict.fromkeys(names)]


def parse_weights(texts: Sequence[str]) -> list[str]:
    """Names and files, several by commas but where a file has a comma in its name."""
    return [
        name.strip()
        for text in texts
        for name in ([text] if Path(text).is_file() else text.split(","))
    ]


def parse_sizes(texts: Sequence[str]) -> list[Size]:
    """Widths and heights, several by commas; each once, in their order.

    Raises:
        UsageError: when one of them is no size, or too large.
    """
    sizes = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = re.fullmatch(r"(\d+)[x×](\d+)", text, re.ASCII | re.IGNORECASE)
        if not match:
            raise UsageError(
                f"--input-size must be WIDTHxHEIGHT, not {text!r:.40}", "write 640x480"
            )
        sizes.append((_side(match[1], "--input-size"), _side(match[2], "--input-size")))
    return list(dict.fromkeys(sizes))


def parse_sweep(text: str | None) -> tuple[int, int] | None:
    """The first and the last side of a sweep.

    Raises:
        UsageError: when they are no sides, or do not grow.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text, re.ASCII)
    if not match:
        raise UsageError(f"--sweep must be FIRST..LAST, not {text!r:.40}", "write 128..2048")
    first, last = _side(match[1], "--sweep"), _side(match[2], "--sweep")
    if last <= first:
        raise UsageError(f"--sweep must go from small to large, not {text}", "write 128..2048")
    return first, last


def _side(text: str, option: str) -> int:
    # Python refuses to read thousands of digits.
    side = int(text) if len(text) < 10 else LARGEST + 1
    if not 1 <= side <= LARGEST:
        raise UsageError(
            f"{option} takes sides of 1 to {LARGEST} pixels, not {text:.20}", "write a smaller side"
        )
    return side
