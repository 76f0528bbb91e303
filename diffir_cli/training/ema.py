"""The running average of weights that is released instead of the last ones."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """An exponential moving average of a network's parameters.

    The decay starts small and grows to its final value: the first weights are soon forgotten.

    Args:
        model: The network that is trained.
        decay: Share of the average that each update keeps in the long run.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, iteration: int) -> None:
        """Move the average towards the model behind an iteration, counted from 0."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        averages: list[Tensor] = list(self.average.parameters())
        parameters: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - decay)
