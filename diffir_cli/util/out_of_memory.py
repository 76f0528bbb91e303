"""Errors of allocators that had nothing left, apart from all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from diffir_cli.errors import DeviceError

Result = TypeVar("Result")

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "MPS backend out of memory",
    # oneDNN, which allocates where it makes a primitive.
    "could not create a primitive",
    "could not create a memory object",
    # OpenCV.
    "Insufficient memory",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator had nothing left; and nothing else."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(text in str(error) for text in _OUT_OF_MEMORY)


def unless_out_of_memory(function: Callable[[], Result]) -> Result | None:
    """The function's result, or None where an allocator had nothing left."""
    try:
        return function()
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the block, so that nothing of the failed attempt is alive any more.
    return None


@contextmanager
def oom_errors(message: str, hint: str) -> Iterator[None]:
    """An allocator that has nothing left as an error for the user.

    Raises:
        DeviceError: with these words, when the block runs out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(message, hint) from error
