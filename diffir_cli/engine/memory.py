"""What a run of a given size needs, and whether the machine has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from diffir_cli.config import Engine, ModelConfig, Tail
from diffir_cli.errors import DeviceError

_PLAIN_MAPS = {Tail.CONV: 42, Tail.SHUFFLE_ONCE: 42, Tail.SHUFFLE_TWO: 42, Tail.SHUFFLE: 100}
"""Feature maps of `dim` channels that are alive in the plain modules at the worst moment, as
measured on a CPU in fp32: 28 to 41 with the small tails, 85 to 99 with the one whose last maps have
16 times the pixels."""

_STREAMED_MAPS = 3.5
"""Feature maps of `dim` channels that are alive between strips at the worst moment: the skip of
level 1, the twice as wide map that it is copied into, and level 2 half as large as one."""

_STRIP_MAPS = 64
"""Numbers that the windows and strips of a chain of stages hold, for each number of a strip."""

CONDITION_NUMBERS = 2**25
"""Numbers of CPEN's widest feature that are worked on at a time where memory does not matter."""

_FEWEST_CONDITION_NUMBERS = 2**20
_CONDITION_BYTES, _CONDITION_BASE = 11, 2**25
"""Bytes that CPEN takes for each of them, and in any case, as measured: input and output of its
widest layer, and what the library of convolutions keeps."""

_GIB = 2**30
_SHARE = 0.9
"""Of what is free, how much is used unless a limit is given."""
CANVAS_SHARE = 0.25
"""Of the budget, how much the result of tiles may take before it is put into a file."""
_SMALLEST_TILE = 64
"""Smaller ones are not chosen, but can be asked for."""
_SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Plan:
    """How an image will be executed."""

    needed: int
    """Bytes, beside weights and pictures."""
    tile: int = 0
    """Side of a tile in LQ pixels; 0 for the whole image at once."""
    condition: int = CONDITION_NUMBERS
    """Numbers of CPEN's widest feature that are worked on at a time."""


@dataclass(frozen=True)
class Wish:
    """What a user wants of tiles and memory."""

    max_memory: int = 0
    """Bytes that a run may take; 0 for a share of what is free."""
    tile: int | None = None
    """Side of tiles in LQ pixels; 0 for none ever, None for tiles only where nothing else fits."""
    overlap: int = 32
    """LQ pixels that two tiles share."""

    def __post_init__(self) -> None:
        if min(self.max_memory, self.tile or 0, self.overlap) < 0:
            raise ValueError("neither memory nor tiles nor their overlap can be negative")
        if self.tile and self.tile < max(2 * self.overlap, _SMALLEST_SIDE):
            raise ValueError(
                f"tiles of {self.tile} pixels are too small: at least {_SMALLEST_SIDE}, and twice "
                f"their overlap of {self.overlap}"
            )


def needed_bytes(
    config: ModelConfig,
    width: int,
    height: int,
    engine: Engine = Engine.STREAMING,
    itemsize: int = 4,
    strip: int = 0,
) -> int:
    """What restoring an image takes, beside weights and pictures; an upper estimate for plain.

    Args:
        config: The network.
        width: LQ pixels.
        height: LQ pixels.
        engine: How it is executed.
        itemsize: Bytes of a number of the feature maps.
        strip: Numbers of a feature that are worked on at a time.
    """
    wide, high = config.padded(width), config.padded(height)
    feature = wide * high // config.unshuffle**2 * config.dim
    # A gated network mixes two images into a third.
    out = config.out_channels + 3 * config.gated
    images = 4 * wide * high * (2 * config.in_channels + out * config.scale**2)
    if engine is Engine.REFERENCE:
        return feature * 4 * _PLAIN_MAPS[config.tail] + images
    # A strip is one row at least, which of a wide image may be more than a strip's numbers.
    row = wide // config.unshuffle * config.dim
    return round(
        itemsize * (_STREAMED_MAPS * feature + _STRIP_MAPS * max(min(strip, feature), row)) + images
    )


def condition_numbers(budget: int | None) -> int:
    """How much of its widest feature CPEN may work on at a time: within half of the budget."""
    if budget is None:
        return CONDITION_NUMBERS
    return min(CONDITION_NUMBERS, max(budget // (2 * _CONDITION_BYTES), _FEWEST_CONDITION_NUMBERS))


def condition_bytes(config: ModelConfig, width: int, height: int, numbers: int) -> int:
    """What CPEN takes for an image, with so many numbers of its widest feature at a time."""
    wide, high = width // config.lq_unshuffle, height // config.lq_unshuffle
    row = wide * config.ipr_dim
    halo = 2 * (2 * config.cpen_blocks + 4)
    rows = min(max(numbers // max(row, 1), 1) + halo, high)
    return _CONDITION_BYTES * rows * row + _CONDITION_BASE


def plan_run(
    config: ModelConfig,
    width: int,
    height: int,
    device: torch.device,
    wish: Wish,
    engine: Engine = Engine.STREAMING,
    itemsize: int = 4,
    strip: int = 0,
) -> Plan:
    """The whole image where it fits, else the largest tiles that do.

    Raises:
        DeviceError: when more is needed than there is, and tiles are not wanted or do not help.
    """
    need = partial(needed_bytes, config, engine=engine, itemsize=itemsize, strip=strip)
    available = available_bytes(device)
    budget = wish.max_memory or (None if available is None else int(_SHARE * available))
    # CPEN looks at the whole image even where the DIRformer does not.
    numbers = condition_numbers(budget)
    looking = condition_bytes(config, width, height, numbers)
    if wish.tile:
        side = max(_multiple(wish.tile, config), config.multiple)
        tiled = max(need(min(side, width), min(side, height)), looking)
        if wish.max_memory and tiled > wish.max_memory:
            raise DeviceError(
                f"tiles of {side} pixels need about {said(tiled)}, and --max-memory allows "
                f"{said(wish.max_memory)}",
                "use a smaller --tile, or raise --max-memory",
            )
        return Plan(tiled, side, numbers)
    whole = max(need(width, height), looking)
    if budget is None or whole <= budget:
        return Plan(whole, 0, numbers)
    lq, hq = (
        4 * width * height * channels for channels in (config.in_channels, 3 * config.scale**2)
    )
    # Beyond that share the result lies in a file.
    canvas = lq + min(hq, int(CANVAS_SHARE * budget))
    side = _multiple(max(width, height), config)
    while wish.tile is None and side > max(_SMALLEST_TILE, 2 * wish.overlap):
        side = _multiple(side * 3 // 4, config)
        needed = max(canvas + need(min(side, width), min(side, height)), looking)
        if needed <= budget:
            return Plan(needed, side, numbers)
    raise DeviceError(
        f"an image of {width}×{height} pixels needs about {said(whole)} on {device}, "
        f"and {said(budget)} may be used",
        "use a machine with more memory, or raise --max-memory"
        if wish.tile is None
        else "allow tiles with --tile auto",
    )


def said(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"


def _multiple(side: int, config: ModelConfig) -> int:
    return side // config.multiple * config.multiple


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "xpu":
        total = int(torch.xpu.get_device_properties(device).total_memory)
        return total - torch.xpu.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = [value for value in (_free_of_linux(), _free_of_container()) if value is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_linux() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(values[0]) * 1024 if values else None


def _free_of_container() -> int | None:
    """What the limit of a control group leaves, where there is one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        # Cached files count as used, but give way when memory is wanted.
        cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return None if limit == "max" else int(limit) - used + cached
    except (OSError, ValueError, IndexError):
        return None


_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "MPS backend out of memory",
    # oneDNN, which allocates where it makes a primitive.
    "could not create a primitive",
    "could not create a memory object",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator had nothing left; and nothing else."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(said in str(error) for said in _OUT_OF_MEMORY)


@contextmanager
def worded_out_of_memory(message: str, hint: str) -> Iterator[None]:
    """An allocator that has nothing left, in words.

    Raises:
        DeviceError: with these words, when the block runs out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(message, hint) from error
