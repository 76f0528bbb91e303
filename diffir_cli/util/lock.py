"""Locks between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def locked_file(path: Path, on_busy: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keep other processes from whatever a file stands for while the block runs.

    The lock belongs to the process and not to its file, so that a process that was killed leaves
    none. The file stays, unless the block removes it.

    Args:
        path: The file of the lock; its folder is made if it is not there.
        on_busy: Called when another process has the lock. If it raises nothing, that process is
            waited for.

    Raises:
        OSError: when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_busy()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
