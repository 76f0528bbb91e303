"""Control groups of Linux, by which containers limit CPUs and memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMBERSHIP = Path("/proc/self/cgroup")
"""Names the groups of a process, a line for each hierarchy."""
MOUNTS = Path("/sys/fs/cgroup")
"""Where the hierarchies are mounted."""


def control_groups(
    controller: str, membership: Path = MEMBERSHIP, mounts: Path = MOUNTS
) -> Iterator[tuple[int, Path]]:
    """Version and folder of each group that may limit a resource of this process.

    Args:
        controller: The resource: `cpu` or `memory`.
        membership: As `MEMBERSHIP`.
        mounts: As `MOUNTS`.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield from ((2, folder) for folder in _upwards(mounts, group))
        elif controller in controllers.split(","):
            for root in (mounts / controllers, mounts / controller):
                yield from ((1, folder) for folder in _upwards(root, group))


def _upwards(root: Path, group: str) -> Iterator[Path]:
    """The folder of a group and of all groups around it; a container may see only the root."""
    folder = root / group.strip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root


def read_value(path: Path) -> str:
    """The text of a file of a group; empty where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
