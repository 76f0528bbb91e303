"""How much memory a device has left."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def available_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device; None where the system does not tell."""
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
