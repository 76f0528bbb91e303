"""Texts of options to the values that they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import typer

from diffir_cli.benchmark.sizes import LARGEST, Size
from diffir_cli.options import Engine, MemoryLimits, Precision
from diffir_cli.util.byte_sizes import parse_bytes

_Named = TypeVar("_Named", Engine, Precision)


def limits_of(max_memory: str, tile: str, tile_overlap: int) -> MemoryLimits:
    """Limits of memory and tiles from the options of a command.

    Raises:
        BadParameter: when one of them cannot be understood.
    """
    return MemoryLimits(parse_size(max_memory), parse_tile(tile, tile_overlap), tile_overlap)


def parse_size(text: str) -> int:
    """Bytes of `4G`, `800M` or `1.5GiB`; 0 for an empty text.

    Raises:
        BadParameter: when it is no such size.
    """
    try:
        return parse_bytes(text) if text else 0
    except ValueError:
        raise typer.BadParameter(
            f"--max-memory must be a size such as 4G or 800M, not {text!r}"
        ) from None


def parse_tile(text: str, overlap: int) -> int | None:
    """The side of tiles: 0 for `off`, None for `auto`.

    Raises:
        BadParameter: when it is no side, or not more than the overlap.
    """
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not (text.isascii() and text.isdigit() and int(text)):
        raise typer.BadParameter(f"--tile must be auto, off or a number of pixels, not {text!r}")
    if int(text) < max(2 * overlap, 32):
        raise typer.BadParameter(
            f"--tile {text} is too small: at least 32 pixels, and twice --tile-overlap {overlap}"
        )
    return int(text)


def parse_names(kind: type[_Named], texts: Sequence[str], option: str) -> list[_Named]:
    """Members of an enumeration, several by commas; each once, in their order.

    Raises:
        BadParameter: when one of them is none.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in set(kind):
            raise typer.BadParameter(f"{option} must be one of {', '.join(kind)}, not {name!r}")
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
        BadParameter: when one of them is no size, or too large.
    """
    sizes = []
    for text in (part.strip() for whole in texts for part in whole.split(",")):
        match = re.fullmatch(r"(\d+)[x×](\d+)", text, re.ASCII | re.IGNORECASE)
        if not match:
            raise typer.BadParameter(f"--size must be WIDTHxHEIGHT such as 640x480, not {text!r}")
        sizes.append((_side(match[1], "--size"), _side(match[2], "--size")))
    return list(dict.fromkeys(sizes))


def parse_sweep(text: str | None) -> tuple[int, int] | None:
    """The first and the last side of a sweep.

    Raises:
        BadParameter: when they are no sides, or do not grow.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text, re.ASCII)
    if not match:
        raise typer.BadParameter(f"--sweep must be FIRST..LAST such as 128..2048, not {text!r}")
    first, last = _side(match[1], "--sweep"), _side(match[2], "--sweep")
    if last <= first:
        raise typer.BadParameter(f"--sweep must go from small to large, not {text}")
    return first, last


def _side(text: str, option: str) -> int:
    # Python refuses to read thousands of digits.
    side = int(text) if len(text) < 10 else LARGEST + 1
    if not 1 <= side <= LARGEST:
        raise typer.BadParameter(f"{option} takes sides of 1 to {LARGEST} pixels, not {text:.20}")
    return side
