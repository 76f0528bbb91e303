"""How far the work on an image is: shares that parts of it report, put together to that of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Progress = Callable[[float], None]
"""Called now and then, from the thread that restores, with the share of the work that is done, 0 to
1. The share is one of the products to compute, so that it grows about as time passes. It begins
again where something has to be done again, such as in fp32. An exception ends the work."""


def part_of(progress: Progress | None, begin: float, end: float) -> Progress | None:
    """What a part of the work reports its own share to.

    Args:
        progress: What all of the work reports to.
        begin: Share of all that is done before the part.
        end: Share of all that is done behind it.
    """
    if progress is None:
        return None
    return lambda share: progress(begin + (end - begin) * share)


class Meter:
    """Adds up pieces of work and reports their share of all.

    Args:
        progress: Called after each piece.
        total: All of the work, in any unit.
    """

    def __init__(self, progress: Progress, total: float) -> None:
        self.progress, self.total, self.done = progress, max(total, 1e-9), 0.0

    def add(self, work: float) -> None:
        """A piece is done."""
        self.done += work
        self.progress(min(self.done / self.total, 1.0))


@contextmanager
def counted(work: Mapping[nn.Module, float], meter: Meter) -> Iterator[None]:
    """Add the work of modules to a meter, each time that one of them has run in the block."""
    handles = [
        module.register_forward_hook(lambda *_arguments, one=one: meter.add(one))
        for module, one in work.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
