"""One thing that is tried: how it ended, and what was found.

Nothing here fails: a check that raises is one that says why. So even torch is imported inside the
checks only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from diffir_cli.errors import DiffIRError
from diffir_cli.version import __version__


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    ABSENT = "absent"
    """Something that one can do without is not there."""
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    section: str
    name: str
    state: State
    text: str
    """What was found, or why it failed; a home folder is written as ~."""
    seconds: float
    """How long it took."""

    def line(self) -> str:
        """For people; a failure begins with the word."""
        reporter = f"failed: {self.text}" if self.state is State.FAILED else self.text
        return f"{self.name}: {reporter}"


Found = tuple[State, str]


def tried(section: str, name: str, check: Callable[[], Found]) -> Check:
    """What a check found; an exception of whatever kind is a finding too."""
    started = time.perf_counter()
    try:
        state, text = check()
    except DiffIRError as error:
        state, text = State.FAILED, error.message
    except ImportError as error:
        # The section of the libraries says which of them are broken.
        reason = f"{type(error).__name__}: {error}"
        state, text = (
            State.FAILED,
            reason if section == "versions" else f"could not be tried: {reason}",
        )
    except Exception as error:
        state, text = State.FAILED, f"{type(error).__name__}: {error}"
    taken = time.perf_counter() - started
    return Check(section, name, state, _private(" ".join(text.split())), taken)


def _private(text: str) -> str:
    """Text without the path of the user's home, which has a name in it."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 1 else text


def failures(checks: Sequence[Check]) -> list[Check]:
    """Those that failed."""
    return [check for check in checks if check.state is State.FAILED]


def as_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """Checks as values that JSON can hold."""
    return {
        "diffir": __version__,
        "ok": not failures(checks),
        "checks": [asdict(check) for check in checks],
    }
