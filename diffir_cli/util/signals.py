"""What ends a command from outside: a closed terminal, `timeout`, `docker stop`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals by which users and systems end a process; Windows has no SIGHUP."""


Handler = Callable[[int, FrameType | None], object]
"""Called with the number of a signal."""


@contextmanager
def handled(handler: Handler | None = None, once: bool = False) -> Iterator[None]:
    """Let a function handle these signals while the block runs; then they do what they did before.

    What `nohup` ignores stays ignored. Outside the main thread, which alone may say what a signal
    does, nothing changes.

    Args:
        handler: The function; None only takes back what the block itself, such as a library, sets.
        once: Whether a second signal does what it did before.
    """
    main = threading.current_thread() is threading.main_thread()
    found = {kind: signal.getsignal(kind) for kind in (ENDING if main else ())}
    # None of those that a program around Python has set, which cannot be set again.
    before = {kind: own for kind, own in found.items() if own is not None}

    def restore() -> None:
        for kind, own in before.items():
            signal.signal(kind, own)

    def handle(number: int, frame: FrameType | None) -> None:
        if once:
            restore()
        if handler:
            handler(number, frame)

    for kind, own in before.items():
        if handler and own is not signal.SIG_IGN:
            signal.signal(kind, handle)
    try:
        yield
    finally:
        restore()


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP end the process as an exception does: nothing half written is left.

    What somebody has set before, such as `nohup`, stays.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for kind in ENDING[1:]:
        if signal.getsignal(kind) is signal.SIG_DFL:
            signal.signal(kind, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # A second one is not to interrupt the cleaning up.
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
