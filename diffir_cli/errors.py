"""Everything that a user can fix, each with the exit code that the command line returns.

A message is one sentence in lower case without a final stop: it names the thing, what was expected
and what was found. A hint is something to type or to do.
"""

from __future__ import annotations

from typing import ClassVar


class DiffIRError(Exception):
    """A fault with a message and, where there is one, a way out.

    Args:
        message: What is wrong, one sentence in lower case without a final stop.
        hint: What the user can type or change, empty when there is nothing to say.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DiffIRError):
    """Options or arguments that contradict each other or cannot be understood."""

    exit_code = 2


class InputError(DiffIRError):
    """An image, mask or folder that cannot be used as it is."""

    exit_code = 3


class WeightsError(DiffIRError):
    """Weights that are unknown or cannot be had."""

    exit_code = 4


class CheckpointError(WeightsError):
    """A weights file whose content does not fit or cannot be trusted."""


class ChecksumError(WeightsError):
    """A weights file whose content is not the content that was promised."""


class DeviceError(DiffIRError):
    """A device or precision that this machine cannot provide."""

    exit_code = 5


class MissingLibraryError(InputError):
    """An optional library that a requested format, store or feature needs."""

    exit_code = 1


class RecipeError(DiffIRError):
    """A training recipe with faults, all of them named at once."""

    exit_code = 6

    def __init__(self, source: str, faults: list[str], hint: str = "") -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(
            f"{source} has {count}: " + "; ".join(faults),
            hint or "fix it, or override single fields with --set KEY=VALUE",
        )
        self.faults = faults
