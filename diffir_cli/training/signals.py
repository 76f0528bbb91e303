"""Ctrl-C and SIGTERM as a request that the loop reads when it is ready."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM fill while the block runs; a second signal acts as ever."""
    caught: list[int] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for name, handler in before.items():
            signal.signal(name, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        restore()

    for name in before:
        signal.signal(name, note)
    try:
        yield caught
    finally:
        restore()
