"""From what a user calls weights to a file on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffir_cli.errors import WeightsError
from diffir_cli.options import Task
from diffir_cli.util.files import check_reachable, is_file, is_folder
from diffir_cli.weights.cache import check_installed, find_installed, weights_sha256
from diffir_cli.weights.registry import WeightSpec, default_weights, find_weights, read_registry

Obtain = Callable[[WeightSpec], object]
"""Brings all files of an entry onto this machine, or says why not."""


@dataclass(frozen=True)
class WeightFile:
    """Weights that lie on this machine."""

    name: str
    """The registry's name, or the file's."""
    path: Path
    """Where they lie; of several files the first."""
    sha256: str
    """Hash of the file; of several files that of their hashes."""
    config: Any
    """What the registry says of the network; None for a file of the user's."""
    family: str | None = None
    """The registry's family of networks; None for a file of the user's."""

    others: Mapping[str, Path] = field(default_factory=dict)
    """Where each component lies, for a network of several files."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Where each component lies."""
        component = self.config.components[0] if self.config is not None else "model"
        return self.others or {component: self.path}


def locate_weights(
    name_or_path: str | None,
    task: Task,
    registry: Path | None = None,
    obtain: Obtain | None = None,
    scale: int | None = None,
    teachers: bool = False,
) -> WeightFile:
    """The file for a registry name, a path, or by default the task's embedded weights.

    Args:
        name_or_path: What the user wrote; None for the default.
        task: What the weights must be for.
        registry: The user's own registry; None for that of the environment.
        obtain: Asked for weights that are not on this machine; None for a refusal.
        scale: What the network must enlarge by, where nothing is named; None for the task's own.
        teachers: Whether an entry will do that is of use for training only.

    Raises:
        WeightsError: when the name is unknown or of a teacher, or the weights cannot be had.
        ChecksumError: when a file is not what was promised.
    """
    if name_or_path is None:
        return _checked(default_weights(task, scale, registry), obtain)
    spec = known_weights(name_or_path, task, registry)
    if spec is None:
        path = Path(name_or_path)
        return WeightFile(path.name, path, weights_sha256(path), None)
    if spec.task is not task:
        raise WeightsError(
            f"the weights {spec.name!r} are for task {spec.task.value!r}, not {task.value!r}",
            f"add --task {spec.task.value}",
        )
    if spec.teaches and not teachers:
        raise WeightsError(
            f"the weights {spec.name!r} are of stage 1, which sees the ground truth: they are for "
            "training",
            f"use --weights {default_weights(task, spec.scale, registry).name}",
        )
    return _checked(spec, obtain)


def known_weights(name_or_path: str, task: Task, registry: Path | None = None) -> WeightSpec | None:
    """The entry of a name in the registry; None for the path of a file.

    Raises:
        WeightsError: when it is neither; names for the task are hinted at.
    """
    path, known = Path(name_or_path), read_registry(registry)
    if is_folder(path) and name_or_path not in known:
        file = min(path.glob("*.safetensors"), default=path / "NAME.safetensors")
        raise WeightsError(f"{path} is a folder, not a weights file", f"name a file in it: {file}")
    if name_or_path in known or not (is_file(path) or path.suffix):
        return find_weights(name_or_path, registry)
    check_reachable(path, WeightsError)
    if not path.is_file():
        names = ", ".join(spec.name for spec in known.values() if spec.task is task)
        raise WeightsError(f"no such weights file: {path}", f"known names: {names}")
    return None


def _checked(spec: WeightSpec, obtain: Obtain | None) -> WeightFile:
    """An entry's files on this machine, brought there where that is allowed.

    Raises:
        WeightsError: when they cannot be had.
        ChecksumError: when a file is not what was promised.
    """
    found = [find_installed(part) for part in spec.parts]
    if obtain and (spec.accept or any(one is None or one.sha256 is None for one in found)):
        obtain(spec)
        found = [find_installed(part) for part in spec.parts]
    paths, hashes = {}, []
    for part, file in zip(spec.parts, found, strict=True):
        if file is None:
            raise WeightsError(f"the weights {spec.name!r} are not on this machine", spec.command)
        paths[part.component] = file.path
        hashes.append(check_installed(part, file))
    first = next(iter(paths.values()))
    if not spec.files:
        return WeightFile(spec.name, first, hashes[0], spec.model, spec.family)
    sha256 = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return WeightFile(spec.name, first, sha256, spec.model, spec.family, paths)
