"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop reads when it is ready."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from diffir_cli.util.signals import ENDING


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that these signals fill while the block runs; a second signal acts as ever."""
    caught: list[int] = []
    before = {name: signal.getsignal(name) for name in ENDING}
    # What `nohup` ignores stays ignored.
    before = {name: handler for name, handler in before.items() if handler is not signal.SIG_IGN}

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
