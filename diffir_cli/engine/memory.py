"""What a run of a given size needs, and whether the machine has it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from diffir_cli.config import ModelConfig, Tail
from diffir_cli.errors import DeviceError

_FEATURE_MAPS = {Tail.CONV: 42, Tail.SHUFFLE_ONCE: 42, Tail.SHUFFLE_TWO: 42, Tail.SHUFFLE: 100}
"""Feature maps of `dim` channels that are alive at the worst moment, as measured on a CPU in fp32:
28 to 41 with the small tails, 85 to 99 with the one whose last maps have 16 times the pixels."""

_GIB = 2**30


def needed_bytes(config: ModelConfig, width: int, height: int) -> int:
    """Upper estimate of the memory that restoring an image takes, beside weights and pictures.

    Args:
        config: The network.
        width: LQ pixels.
        height: LQ pixels.
    """
    pixels = width * height // config.unshuffle**2
    return pixels * config.dim * 4 * _FEATURE_MAPS[config.tail]


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [value for value in (_free_of_linux(), _free_of_container()) if value is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(config: ModelConfig, width: int, height: int, device: torch.device) -> None:
    """Refuse an image that the device's memory cannot hold.

    Raises:
        DeviceError: when more is needed than there is.
    """
    needed, available = needed_bytes(config, width, height), available_bytes(device)
    if available is not None and needed > available:
        raise DeviceError(
            f"an image of {width}×{height} pixels needs about {needed / _GIB:.1f} GiB on {device}, "
            f"and {available / _GIB:.1f} GiB are free",
            "cut or shrink the picture, or use a machine with more memory",
        )


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
