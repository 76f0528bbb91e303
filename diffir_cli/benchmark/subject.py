"""Which networks are measured, with their weights or, where none are at hand, with random ones."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffir_cli.checkpoint import load_model
from diffir_cli.config import ModelConfig, Task
from diffir_cli.downloads.cache import find_installed
from diffir_cli.networks import DiffIRS2
from diffir_cli.registry import find_weights, read_registry
from diffir_cli.weightfile import locate_weights


@dataclass(frozen=True)
class Subject:
    """A network to be measured."""

    name: str
    """The registry's name of its weights, or the file's; its path where two files have one name."""
    config: ModelConfig
    """What it looks like."""
    path: Path | None = None
    """Its weights; None for random ones, which cost the same."""
    sha256: str | None = None
    """Hash of its weights; None for random ones."""

    @property
    def digest(self) -> str:
        """A short word for what the network looks like, the same wherever it is measured."""
        text = json.dumps(self.config.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

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
        config = self.config.to_dict()
        return {"name": self.name, "config": config, "path": path, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Subject:
        """What `to_dict` gave."""
        path = None if values["path"] is None else Path(values["path"])
        config = ModelConfig.from_dict(values["config"])
        return cls(values["name"], config, path, values["sha256"])


_HOLES = 0.25
"""Share of the pixels that an inpainting network fills; its cost does not depend on it."""


def subjects_of(names: Sequence[str], registry: Path | None = None) -> list[Subject]:
    """The networks of names of the registry and of files, each once.

    Args:
        names: Of the registry, or paths; files of one name are told apart by these.
        registry: The user's own; None for that of the environment.

    Raises:
        WeightsError: when a name is unknown, or a file is missing.
        ChecksumError: when weights are damaged.
        CheckpointError: when a file cannot be read or trusted, or is of stage 1.
    """
    found: dict[str | Path, tuple[str, Subject]] = {}
    for name in dict.fromkeys(names):
        subject = _subject(name, registry)
        # One file is one network, however its path is spelt.
        which = subject.path.resolve() if subject.path and subject.name != name else name
        found.setdefault(which, (name, subject))
    common = Counter(subject.name for _, subject in found.values())
    return [
        replace(subject, name=name) if common[subject.name] > 1 else subject
        for name, subject in found.values()
    ]


def _subject(name: str, registry: Path | None) -> Subject:
    path = Path(name)
    if name not in read_registry(registry) and (path.is_file() or path.suffix):
        # The task of a file matters only to what it is used for.
        file = locate_weights(name, Task.SR, registry)
        return Subject(file.name, load_model(file.path).config, file.path, file.sha256)
    spec = find_weights(name, registry)
    if find_installed(spec) is None:
        return Subject(name, spec.model)
    file = locate_weights(name, spec.task, registry)
    return Subject(name, spec.model, file.path, file.sha256)
