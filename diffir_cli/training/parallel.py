"""Several processes as one: the variables that `accelerate launch` and `torchrun` set.

Gradients are averaged by hand instead of wrapping the network, so that it keeps its methods and one
process runs the same code as many.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffir_cli.errors import DeviceError


@dataclass(frozen=True)
class World:
    """Which process this is of how many."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: torch.device) -> World:
        """The world that the environment describes; a single process where it describes none.

        Raises:
            DeviceError: when it describes one that cannot be joined.
        """
        size = _whole_number("WORLD_SIZE", 1)
        if size == 1:
            return cls(0, 1, device)
        if device.type == "cuda":
            device = torch.device("cuda", _whole_number("LOCAL_RANK", 0))
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (ValueError, RuntimeError) as error:
            raise DeviceError(
                f"WORLD_SIZE is {size}, but the processes do not find each other: {error}",
                "start them with accelerate launch or torchrun, or unset WORLD_SIZE",
            ) from error
        return cls(dist.get_rank(), size, device)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter], terms: Tensor) -> list[float]:
        """Give every process the mean of all gradients; returns the means of their loss terms."""
        if self.size == 1:
            return terms.tolist()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([terms, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        flat /= self.size
        count = len(terms)
        parts = flat[count:].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[:count].tolist()

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over all processes, so that all decide alike."""
        if self.size == 1:
            return list(values)
        shared: Tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()

    def leave(self) -> None:
        """Wait for the others and part."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()


def _whole_number(name: str, usual: int) -> int:
    """The value of an environment variable, or the usual one where it is not set.

    Raises:
        DeviceError: when it is no whole number that is as large as the usual one.
    """
    text = os.environ.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and int(text) >= usual):
        raise DeviceError(
            f"{name} in the environment must be a whole number from {usual}, not {text!r:.40}",
            f"start with accelerate launch or torchrun, or unset {name}",
        )
    return int(text)
