"""What a run of a given size needs, and whether the machine has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from diffir_cli.errors import DeviceError
from diffir_cli.models.base import ModelInfo, RestorationModel
from diffir_cli.options import ColorFix, MemoryLimits
from diffir_cli.util.byte_sizes import format_bytes
from diffir_cli.util.device_memory import available_bytes

_SHARE = 0.9
"""Of what is free, how much is used unless a limit is given."""
CANVAS_SHARE = 0.25
"""Of the budget, how much the result of tiles may take before it is put into a file."""
STRIP_ROWS = 512
"""Rows of a result that are finished at a time, a multiple of every scale."""
_SMALLEST_TILE = 64
"""Smaller ones are not chosen, but can be asked for."""


@dataclass(frozen=True)
class Plan:
    """How an image will be executed."""

    needed: int
    """Bytes, beside weights and pictures."""
    tile: int = 0
    """Side of a tile in LQ pixels; 0 for the whole image at once."""
    budget: int | None = None
    """Bytes that may be used; None for no limit."""


@dataclass(frozen=True)
class Finish:
    """What is done with a result once the network is through."""

    strength: float = 1.0
    """Share of the network in it; the rest is the image, resized."""
    color_fix: ColorFix = ColorFix.NONE
    """Where its colours come from."""
    size: tuple[int, int] | None = None
    """(width, height) that it is resized to; None for the one that it has."""
    copies: int = 1
    """Pictures of that size that are alive at the end, such as three to compare two of them."""

    def memory(self, width: int, height: int) -> int:
        """Bytes that this takes beside a result of so many pixels."""
        strip = width * min(height, STRIP_ROWS)
        final = 0
        if self.size and (self.copies > 1 or self.size != (width, height)):
            final = (_RESIZE_BYTES + self.copies * _PICTURE_BYTES) * self.size[0] * self.size[1]
        return final + max(
            _BLEND_BYTES * strip if self.strength < 1 else 0,
            _WAVELET_BYTES * strip if self.color_fix is ColorFix.WAVELET else 0,
        )


_RESIZE_BYTES, _PICTURE_BYTES = 10, 8
"""For each pixel of a picture that is resized, plane by plane, and of one of 16 bits with alpha."""
_BLEND_BYTES, _WAVELET_BYTES = 41, 264
"""For each pixel of a strip that is blended with the input or gets its colours, as measured."""


def plan_run(
    model: RestorationModel,
    width: int,
    height: int,
    device: torch.device,
    limits: MemoryLimits,
    finish: Finish | None = None,
) -> Plan:
    """The whole image where it fits, else the largest tiles that do.

    Networks that are made for tiles get theirs, or smaller ones.

    Args:
        model: The network.
        width: LQ pixels.
        height: LQ pixels.
        device: Where it runs.
        limits: What the user allows.
        finish: What is done with the result; None for as little as possible.

    Raises:
        DeviceError: when more is needed than there is, and tiles are not wanted or do not help.
    """
    info = model.info
    available = available_bytes(device)
    budget = limits.max_memory or (None if available is None else int(_SHARE * available))
    context = model.context_memory(width, height, budget)
    lq, hq = (4 * width * height * channels for channels in (info.channels, 3 * info.scale**2))
    finishing = (finish or Finish()).memory(info.scale * width, info.scale * height)
    # Beyond that share the result of tiles lies in a file.
    canvas = lq + (hq if budget is None else min(hq, int(CANVAS_SHARE * budget)))

    def in_tiles(side: int) -> int:
        tile = model.memory(min(side, width), min(side, height))
        return max(canvas + max(tile, finishing), context)

    if limits.tile:
        side = max(_multiple(limits.tile, info), smallest_tile(info, limits.overlap))
        if budget is None or finishing <= budget:
            _check_tiles(side, in_tiles(side), limits)
            return Plan(in_tiles(side), side, budget)
    whole = max(model.memory(width, height), context, lq + hq + finishing)
    # What a network was made for holds unless the user wants no tiles at all.
    wanted = info.tiling.tile if limits.tile is None else 0
    if (budget is None or whole <= budget) and not 0 < wanted < max(width, height):
        return Plan(whole, 0, budget)
    if limits.tile is None:
        for side in _tile_sides(max(width, height), wanted, limits.overlap, info):
            if budget is None or in_tiles(side) <= budget:
                return Plan(in_tiles(side), side, budget)
    what = f"an image of {width}×{height} pixels"
    if finish and finish.size:
        what += f" and its result of {finish.size[0]}×{finish.size[1]}"
    raise DeviceError(
        f"{what} needs about {format_bytes(whole)} on {device}, "
        f"but only {format_bytes(budget or 0)} may be used",
        _ways_out(limits, resized=finishing > whole // 2),
    )


def _ways_out(limits: MemoryLimits, resized: bool) -> str:
    """What a user can change where an image does not fit, or mostly its resized result."""
    if limits.tile == 0:
        return "allow tiles with --tile auto"
    if resized:
        return "choose a smaller --size, --long-side or --outscale, or raise --max-memory"
    return "raise --max-memory, or use a machine with more memory"


def _check_tiles(side: int, needed: int, limits: MemoryLimits) -> None:
    """Refuse tiles that a user has chosen and that need more than the limit."""
    if limits.max_memory and needed > limits.max_memory:
        raise DeviceError(
            f"tiles of {side} pixels need about {format_bytes(needed)}, and --max-memory "
            f"allows {format_bytes(limits.max_memory)}",
            "use a smaller --tile, or raise --max-memory",
        )


def _tile_sides(longest: int, wanted: int, overlap: int, info: ModelInfo) -> Iterator[int]:
    """Sides of tiles to try, each three quarters of the one before."""
    side = _multiple(longest, info)
    if wanted:
        side = _multiple(wanted, info)
        yield side
    smallest = smallest_tile(info, overlap)
    while side > max(_SMALLEST_TILE, 2 * overlap, smallest):
        side = max(_multiple(side * 3 // 4, info), smallest)
        yield side


def smallest_tile(info: ModelInfo, overlap: int) -> int:
    """Side of the smallest tiles that a network takes and that can overlap, in LQ pixels."""
    return max(info.multiple, 2 * info.tiling.step if overlap else 0)


def _multiple(side: int, info: ModelInfo) -> int:
    return side // info.multiple * info.multiple
