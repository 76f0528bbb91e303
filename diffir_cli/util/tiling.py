"""Overlapping tiles: pure geometry.

They are for images whose features no budget can hold, and for what belongs to a neighbourhood, such
as the kernel of a shake. Attention that sees a tile and not the image gives another result; a
raised cosine across the overlap hides where one tile ends.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from diffir_cli.errors import DeviceError
from diffir_cli.util.byte_sizes import format_bytes


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: evenly, the last ending with it.

    Args:
        side: Pixels.
        tile: Pixels of a tile.
        overlap: Fewest pixels that two neighbours share, less than a tile.
    """
    if side <= tile:
        return [0]
    count = math.ceil((side - overlap) / (tile - overlap))
    return [round(number * (side - tile) / (count - 1)) for number in range(count)]


def tile_places(
    height: int, width: int, tile: int, overlap: int, step: int = 1
) -> list[tuple[int, int]]:
    """Top and left of each tile of an image, in the order in which they are restored."""
    tops, lefts = (_begins(side, tile, overlap, step) for side in (height, width))
    return list(itertools.product(tops, lefts))


def _begins(side: int, tile: int, overlap: int, step: int) -> list[int]:
    """Where tiles begin along a side, at multiples of `step`."""
    cells = side // step, tile // step, -(-overlap // step)
    return [step * begin for begin in starts(*cells)]


def ramp(length: int, overlap: int, at_start: bool, at_end: bool) -> Tensor:
    """Weights of a tile along a side, (length,): a raised cosine where another tile overlaps."""
    weights = torch.ones(length)
    if not overlap:
        return weights
    rise = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(overlap) + 0.5) / overlap)
    if at_start:
        weights[:overlap] = rise
    if at_end:
        weights[-overlap:] *= rise.flip(0)
    return weights


def blended(
    lq: Tensor,
    scale: int,
    tile: int,
    overlap: int,
    step: int,
    restore: Callable[[Tensor, int, int], Tensor],
    bound: float = math.inf,
    mapped: Callable[..., Iterable[Tensor]] = map,
) -> Tensor:
    """Restore an image tile by tile and blend the results.

    Args:
        lq: (1, C, H, W); H and W multiples of `step`.
        scale: Side of the result over side of `lq`.
        tile: Side of a tile in LQ pixels, a multiple of `step`.
        overlap: Fewest LQ pixels that two tiles share, at most those of a tile less `step`.
        step: What the place of a tile is a multiple of.
        restore: Restores one tile: (1, C, h, w), its left and its top → (1, 3, scale·h, scale·w).
        bound: Bytes from which on the result lies in a file instead of memory.
        mapped: What applies `restore` to all tiles, in their order; `map`, or that of an executor.

    Returns:
        (1, 3, scale·H, scale·W), fp32 on the CPU.

    Raises:
        DeviceError: when there is no space for the file.
    """
    height, width = lq.shape[2:]
    canvas = _canvas((1, 3, scale * height, scale * width), bound)
    per_side = []
    for side in (height, width):
        begins = _begins(side, tile, overlap, step)
        total = torch.zeros(scale * side)
        for begin in begins:
            weights = _weights(begin, begins, side, tile, overlap, scale)
            total[scale * begin :][: len(weights)] += weights
        per_side.append((begins, total))
    (tops, total_rows), (lefts, total_columns) = per_side
    places = list(itertools.product(tops, lefts))
    tiles = (lq[:, :, top : top + tile, left : left + tile] for top, left in places)
    tops_of_tiles, lefts_of_tiles = zip(*places, strict=True)
    results = mapped(restore, tiles, lefts_of_tiles, tops_of_tiles)
    for (top, left), hq in zip(places, results, strict=True):
        rows = _weights(top, tops, height, tile, overlap, scale)
        columns = _weights(left, lefts, width, tile, overlap, scale)
        area = canvas[:, :, scale * top :, scale * left :][:, :, : len(rows), : len(columns)]
        area += hq.float().cpu() * rows[:, None] * columns
    canvas /= total_rows[:, None]
    canvas /= total_columns
    return canvas


def _weights(
    begin: int, begins: list[int], side: int, tile: int, overlap: int, scale: int
) -> Tensor:
    """Weights of the tile that begins there, in HQ pixels."""
    end = min(begin + tile, side)
    return ramp(
        scale * (end - begin), scale * overlap, at_start=begin > 0, at_end=begin != begins[-1]
    )


def _canvas(shape: tuple[int, ...], bound: float) -> Tensor:
    """Zeros in memory, or beyond `bound` bytes in a file that vanishes with them.

    Raises:
        DeviceError: when there is no space for the file.
    """
    if math.prod(shape) * 4 <= bound:
        return torch.zeros(shape)
    size = math.prod(shape) * 4
    try:
        with tempfile.TemporaryFile() as file:
            # A disk that is full later would end the process without a word.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
    except OSError as error:
        raise DeviceError(
            f"no temporary file of {format_bytes(size)} can be made: {error.strerror or error}",
            "free some space in the folder for temporary files, or set TMPDIR to another one",
        ) from error
