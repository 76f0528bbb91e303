"""How much memory a device has left."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from diffir_cli.util.control_groups import MEMBERSHIP, MOUNTS, control_groups, read_value


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device; None where the system does not know."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    # Without it OpenVINO runs there, mostly on GPUs that share the memory of the system.
    if device.type == "xpu" and torch.xpu.is_available():
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


def _free_of_container(membership: Path = MEMBERSHIP, mounts: Path = MOUNTS) -> int | None:
    """What the limits of control groups leave, where there are any."""
    left = (
        _left_v2(folder) if version == 2 else _left_v1(folder)
        for version, folder in control_groups("memory", membership, mounts)
    )
    return min((value for value in left if value is not None), default=None)


def _left_v2(group: Path) -> int | None:
    return _left(group, "memory.max", "memory.current", "inactive_file")


def _left_v1(group: Path) -> int | None:
    limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
    return _left(group, limit, used, "total_inactive_file")


def _left(group: Path, limit: str, used: str, cached: str) -> int | None:
    most, taken = read_value(group / limit), read_value(group / used)
    if not (most.isdigit() and taken.isdigit()):
        return None
    lines = (line.split() for line in read_value(group / "memory.stat").splitlines())
    # Cached files count as used, but give way when memory is wanted.
    files = sum(int(line[1]) for line in lines if line[0] == cached)
    return int(most) - int(taken) + files
