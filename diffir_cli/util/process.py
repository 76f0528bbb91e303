"""What a process sets before torch is loaded: its threads, and what becomes of freed memory.

libgomp, whose threads torch uses on Linux, reads its environment once, when torch is loaded. So
`prepare_process` must run before that; processes that are started later inherit the variables.
"""

from __future__ import annotations

import ctypes
import os
from math import ceil
from pathlib import Path

from diffir_cli.util.control_groups import MEMBERSHIP, MOUNTS, control_groups, read_value

SPIN = {"GOMP_SPINCOUNT": "1000"}
"""How often an idle thread looks for work before it sleeps. By default it spins for milliseconds
where there are as many threads as cores: beside another busy program each parallel section then
waits for a thread that a spinning one keeps from its core."""

_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`, from its malloc.h."""
_KEPT, _MAPPED = 2**28, 2**26
"""Bytes of free memory that stay with the process, and from which size on a block is mapped by
itself and given back at once."""
_ALLOCATOR_CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def prepare_process() -> None:
    """Set what torch's threads need to know, unless the user has; before torch is loaded."""
    keep_freed_memory()
    os.environ.update(spin_variables())
    limit = cpu_limit()
    if "OMP_NUM_THREADS" not in os.environ and limit < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(limit)


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, up to 256 MiB, unless the user has set its parameters.

    Left to itself it gives the strips of a picture back to the system and takes them again, page
    by page, hundreds of times a picture: about a tenth of the time of an image in fp32.

    Returns:
        Whether it will; False with any other C library.
    """
    if any(name in os.environ for name in _ALLOCATOR_CHOSEN_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows.
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def spin_variables() -> dict[str, str]:
    """Variables for a short spin, or those by which the user has chosen a way of waiting."""
    return {name: os.environ[name] for name in _CHOSEN_BY_USER if name in os.environ} or SPIN


def cpu_limit() -> int:
    """CPUs that this process may use: by affinity, and by the quota of its control groups."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def cpu_quota(membership: Path = MEMBERSHIP, mounts: Path = MOUNTS) -> float | None:
    """CPUs that the control groups of this process may use together; None where nothing limits.

    Args:
        membership: Names the groups of a process, a line for each hierarchy.
        mounts: Where the hierarchies are mounted.
    """
    quotas = [
        (_quota_v2 if version == 2 else _quota_v1)(folder)
        for version, folder in control_groups("cpu", membership, mounts)
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    text = read_value(folder / "cpu.max").split()
    return _ratio(*text) if len(text) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(read_value(folder / "cpu.cfs_quota_us"), read_value(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """CPUs of a quota in each period, both in microseconds; `max` and −1 stand for no limit."""
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)
