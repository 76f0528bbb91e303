"""Seconds of each part of a network, by level and block kind.

Parts have a time of their own only in the plain modules: in strips the norm, the DMTA and the DGFN
of a block, and the sums of the next, pass over the same rows at once.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from diffir_cli.models.base import RestorationModel
from diffir_cli.models.cost import ModulePart
from diffir_cli.models.families import find_family
from diffir_cli.runtime.clock import settle
from diffir_cli.runtime.runner import ModelRunner


def time_parts(
    restorer: ModelRunner, restore: Callable[[], object], repeats: int
) -> tuple[dict[ModulePart, float], float]:
    """Median seconds of each part and of the whole, which is more: sums of residuals, padding.

    Args:
        restorer: A network that is executed by the plain modules.
        restore: Restores a picture with it.
        repeats: How often, behind one that does not count.
    """
    restore()
    turns: list[dict[ModulePart, float]] = []
    wholes = []
    for _ in range(repeats):
        with _watched(restorer.model, restorer.device) as spent:
            started = time.perf_counter()
            restore()
            settle(restorer.device)
            wholes.append(time.perf_counter() - started)
        turns.append(spent)
    medians = {place: statistics.median(turn[place] for turn in turns) for place in turns[0]}
    return medians, statistics.median(wholes)


@contextmanager
def _watched(model: RestorationModel, device: torch.device) -> Iterator[dict[ModulePart, float]]:
    """Seconds that each place of a network takes while the block runs."""
    spent: defaultdict[ModulePart, float] = defaultdict(float)
    started = [0.0]

    def before(_module: nn.Module, _args: Any) -> None:
        settle(device)
        started[0] = time.perf_counter()

    def behind(place: ModulePart) -> Callable[[nn.Module, Any, Any], None]:
        def stop(_module: nn.Module, _args: Any, _output: Any) -> None:
            settle(device)
            spent[place] += time.perf_counter() - started[0]

        return stop

    handles = []
    modules = nn.ModuleDict(model.parts())
    # One start is enough, since no part holds another.
    for _, module, place in find_family(model.info.family).module_parts(modules):
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(behind(place)))
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
