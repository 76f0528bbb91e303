"""What ends a command from outside: a closed terminal, `timeout`, `docker stop`."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals by which users and systems end a process; Windows has no SIGHUP."""


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
