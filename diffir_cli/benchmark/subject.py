"""Which networks are measured, with their weights or, where none are at hand, with random ones."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import realpath
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffir_cli.models.base import ModelInfo, RestorationModel
from diffir_cli.models.cost import Cost
from diffir_cli.models.families import DEFAULT_FAMILY, find_family
from diffir_cli.options import Task
from diffir_cli.runtime.loading import load_weights
from diffir_cli.weights.cache import find_installed
from diffir_cli.weights.locate import WeightFile, known_weights, locate_weights


@dataclass(frozen=True)
class Subject:
    """A network to be measured."""

    name: str
    """The registry's name of its weights, or the file's; its path where two files have one name."""
    config: Any
    """What it looks like."""
    path: Path | None = None
    """Its weights; None for random ones, which cost the same."""
    sha256: str | None = None
    """Hash of its weights; None for random ones."""
    family: str = DEFAULT_FAMILY
    """Which family of networks it is of."""
    other_files: Mapping[str, Path] = field(default_factory=dict, hash=False)
    """Where each component lies, for a network of several files."""

    @property
    def digest(self) -> str:
        """A short word for what the network looks like, the same wherever it is measured."""
        text = json.dumps(self.config.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def info(self) -> ModelInfo:
        """What may be asked of the network."""
        return find_family(self.family).info(self.config)

    def cost(self, width: int, height: int) -> Cost:
        """What the network costs for an image of so many LQ pixels."""
        return find_family(self.family).cost(self.config, width, height)

    def build(self) -> RestorationModel:
        """The network, in eval mode on the CPU.

        Raises:
            CheckpointError: when its file does not fit.
        """
        if self.path is not None:
            return load_weights(self.file)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return find_family(self.family).build(self.config)

    @property
    def file(self) -> WeightFile:
        """Its weights, where it has some."""
        assert self.path is not None and self.sha256 is not None
        return WeightFile(
            self.name, self.path, self.sha256, self.config, self.family, self.other_files
        )

    def picture(self, width: int, height: int) -> dict[str, Any]:
        """Arguments for `ModelRunner.restore`: noise, with holes where a network fills them."""
        rng = np.random.default_rng(0)
        lq = rng.integers(0, 256, (height, width, 3), np.uint8)
        if not self.info.takes_mask:
            return {"lq": lq}
        return {"lq": lq, "mask": rng.random((height, width)) < _HOLES}


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
        which = realpath(subject.path) if subject.path and subject.name != name else name
        found.setdefault(which, (name, subject))
    common = Counter(subject.name for _, subject in found.values())
    return [
        replace(subject, name=name) if common[subject.name] > 1 else subject
        for name, subject in found.values()
    ]


def _subject(name: str, registry: Path | None) -> Subject:
    # The task of a file matters only to what it is used for.
    spec = known_weights(name, Task.SR, registry)
    if spec is None:
        file = locate_weights(name, Task.SR, registry)
        return Subject(file.name, load_weights(file).config, file.path, file.sha256)
    if any(find_installed(part) is None for part in spec.parts):
        return Subject(name, spec.model, family=spec.family)
    file = locate_weights(name, spec.task, registry)
    return Subject(name, spec.model, file.path, file.sha256, spec.family, file.others)
