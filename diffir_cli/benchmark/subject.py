"""Which networks are measured, with their weights or, where none are at hand, with random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffir_cli.checkpoint import load_model
from diffir_cli.config import ModelConfig, Task
from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.networks import DiffIRS2
from diffir_cli.registry import WeightSpec, find_weights, read_registry
from diffir_cli.weightfile import locate_weights


@dataclass(frozen=True)
class Subject:
    """A network to be measured."""

    name: str
    """The registry's name of its weights, or the file's."""
    config: ModelConfig
    """What it looks like."""
    path: Path | None = None
    """Its weights; None for random ones, which cost the same."""

    def build(self) -> DiffIRS2:
        """The network, in eval mode on the CPU.

        Raises:
            CheckpointError: when its file does not fit.
        """
        if self.path is not None:
            return load_model(self.path, self.config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return DiffIRS2(self.config).eval()

    def picture(self, width: int, height: int) -> dict[str, Any]:
        """Arguments for `ModelRestorer.restore`: noise, with holes where a network fills them."""
        draw = np.random.default_rng(0)
        lq = draw.integers(0, 256, (height, width, 3), np.uint8)
        if self.config.in_channels != 4:
            return {"lq": lq}
        return {"lq": lq, "mask": draw.random((height, width)) < _HOLES}

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        path = None if self.path is None else str(self.path)
        return {"name": self.name, "config": self.config.to_dict(), "path": path}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Subject:
        """What `to_dict` gave."""
        path = None if values["path"] is None else Path(values["path"])
        return cls(values["name"], ModelConfig.from_dict(values["config"]), path)


_HOLES = 0.25
"""Share of the pixels that an inpainting network fills; its cost does not depend on it."""


def subjects_of(names: list[str]) -> list[Subject]:
    """The networks of names of the registry and of files.

    Raises:
        WeightsError: when a name is unknown, or a file is missing.
        ChecksumError: when weights that are part of the package are damaged.
        CheckpointError: when a file cannot be read or trusted, or is of stage 1.
    """
    return [_subject(name) for name in dict.fromkeys(names)]


def all_names() -> list[str]:
    """Every name of the registry."""
    return list(read_registry())


def _subject(name: str) -> Subject:
    path = Path(name)
    if name not in read_registry() and (path.is_file() or path.suffix):
        # The task of a file matters only to what it is used for.
        file = locate_weights(name, Task.SR)
        return Subject(file.name, load_model(file.path).config, file.path)
    spec = find_weights(name)
    return Subject(name, spec.model, _path(spec))


def _path(spec: WeightSpec) -> Path | None:
    """Where the weights of an entry lie; None where they are not at hand."""
    try:
        return locate_weights(spec.name, spec.task).path
    except ChecksumError:
        raise
    except WeightsError:
        return None
