"""Memory of this process and of its GPU, and how far a call raises it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Memory:
    """By how much a call raised what was in use before it, in bytes."""

    resident: int | None
    """Of the process, at its peak; None where the system does not know."""
    allocated: int | None = None
    """Of the GPU by tensors, at its peak; None without one."""
    reserved: int | None = None
    """Of the GPU by torch, at its peak; None without one."""


def peak_of(run: Callable[[], object], device: torch.device) -> Memory:
    """How far a call raises the peak of this process.

    Only the first large call of a process can tell: later ones find memory that is theirs already.
    """
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        allocated, reserved = (
            torch.cuda.memory_allocated(device),
            torch.cuda.memory_reserved(device),
        )
    _forget_peak()
    before = resident_bytes()
    run()
    peak = peak_bytes()
    resident = None if before is None or peak is None else max(peak - before, 0)
    if not cuda:
        return Memory(resident)
    return Memory(
        resident,
        torch.cuda.max_memory_allocated(device) - allocated,
        torch.cuda.max_memory_reserved(device) - reserved,
    )


def resident_bytes() -> int | None:
    """Memory of this process in bytes: now, or its peak where the system knows nothing else."""
    return _of_linux("VmRSS") or _peak_of_unix()


def peak_bytes() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not know."""
    return _of_linux("VmHWM") or _peak_of_unix()


def _forget_peak() -> None:
    """Let Linux count the peak of this process anew, where it may: loading has one of its own."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _of_linux(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    return next(found, None)


def _peak_of_unix() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # KiB, but bytes on a Mac.
    return peak if sys.platform == "darwin" else peak * 1024
