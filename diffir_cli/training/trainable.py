"""What the training loop knows of a network that learns: the only thing it knows of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffir_cli.models.base import RestorationModel


@dataclass(frozen=True)
class Batch:
    """Crops in [0, 1]."""

    lq: Tensor
    """(B, C, patch, patch): RGB, with the mask or with the prior of the network behind it."""
    gt: Tensor
    """(B, 3, scale·patch, scale·patch)."""
    natural: Tensor | None = None
    """Where `gt` is sharpened, the truth as it was."""
    soft: Tensor | None = None
    """What another network made of `lq`, of the shape of `gt`, to be learned from beside it."""

    def to(self, device: torch.device) -> Batch:
        """The same crops on a device, in the channels-last layout."""
        tensors = (self.lq, self.gt, self.natural, self.soft)
        return Batch(*(_moved(tensor, device) for tensor in tensors))  # type: ignore[arg-type]

    @property
    def real(self) -> Tensor:
        """What a discriminator must take for real: a sharpened truth would teach it halos."""
        return self.gt if self.natural is None else self.natural


def _moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device, memory_format=torch.channels_last)


@dataclass
class Noise:
    """The random numbers of one batch, the same however many processes share it.

    Drawn on the CPU for the whole batch; each process takes the rows of its own samples.
    """

    seed: int
    """Where they come from; another one for each iteration."""
    batch: int
    """Samples over all processes."""
    rank: int = 0
    world: int = 1
    _generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape of (B, …), this process's share of the batch."""
        drawn = torch.randn(self.batch, *like.shape[1:], generator=self._generator)
        return drawn[self.rank :: self.world].to(like)

    def steps(self, count: int) -> list[int]:
        """A step in 0 … count − 1 for each sample."""
        drawn = torch.randint(count, (self.batch,), generator=self._generator)
        return drawn[self.rank :: self.world].tolist()


Prepare = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Makes of the LQ of a crop, (h, w, C) in 0–255, what a network reads."""


class Prior(Protocol):
    """A slow classical method whose result a network reads behind RGB."""

    def of_windows(self, windows: Sequence[Tensor], whole: Tensor) -> list[Tensor]:
        """The prior of each window, (3, h, w) in [0, 1], of a picture (3, H, W)."""

    def behind(self, lq: Tensor) -> Tensor:
        """A picture (1, 3, H, W) in [0, 1] with its prior behind it, (1, 6, H, W)."""


class Trainable(Protocol):
    """A network that learns, with whatever else its loss needs."""

    @property
    def network(self) -> nn.Module:
        """What learns, on its device; parameters that do not learn require no gradient."""

    @property
    def parts(self) -> Iterable[nn.Module]:
        """Its parts, of each of which the first and the last layer work on pixels or vectors."""

    @property
    def prior(self) -> Prior | None:
        """What it reads behind RGB, where it does."""

    @property
    def prepare(self) -> Prepare | None:
        """What is done to the LQ of each crop before it is read, if anything."""

    def losses(self, batch: Batch, noise: Noise, iteration: int) -> dict[str, Tensor]:
        """The terms of the loss of one batch; their sum is what is made small."""

    def after_update(self, batch: Batch, lr_share: float, lr_factor: float) -> float:
        """Let whatever opposes the network learn from the batch it was just updated with.

        Args:
            batch: The batch.
            lr_share: How much the schedule leaves of the network's learning rate.
            lr_factor: What rollbacks leave of every learning rate.

        Returns:
            Its loss; 0 where nothing opposes the network.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a continued run needs beside the network."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""

    def restoration_model(self, network: nn.Module) -> RestorationModel:
        """A network of the same kind, such as the averaged one, ready for pictures."""

    def save(self, path: Path, network: nn.Module, header: Mapping[str, str]) -> None:
        """Write a network of the same kind as a weights file.

        Raises:
            CheckpointError: when it cannot be written.
        """
