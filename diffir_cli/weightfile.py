"""From what a user calls weights to a file on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from diffir_cli.config import ModelConfig, Task
from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.registry import WeightSpec, default_weights, find_weights, read_registry


@dataclass(frozen=True)
class WeightFile:
    """Weights that lie on this machine."""

    name: str
    """The registry's name, or the file's."""
    path: Path
    """Where they lie."""
    sha256: str
    """Hash of the file."""
    config: ModelConfig | None
    """What the registry says of the network; None for a file of the user's."""


def locate_weights(wish: str | None, task: Task) -> WeightFile:
    """The file for a registry name, a path, or by default the task's embedded weights.

    Raises:
        WeightsError: when the name is unknown, or the weights are not on this machine.
        ChecksumError: when an embedded file is not what the registry promises.
    """
    if wish is None:
        return _embedded(default_weights(task))
    path = Path(wish)
    if wish not in read_registry() and (path.is_file() or path.suffix):
        if not path.is_file():
            raise WeightsError(f"no such weights file: {path}", f"known names: {_names(task)}")
        return WeightFile(path.name, path, _sha256(path), None)
    spec = find_weights(wish)
    if spec.task is not task:
        raise WeightsError(
            f"the weights {spec.name!r} are for task {spec.task.value!r}, not {task.value!r}",
            f"add --task {spec.task.value}",
        )
    return _embedded(spec)


def _embedded(spec: WeightSpec) -> WeightFile:
    if not spec.embedded:
        raise WeightsError(
            f"the weights {spec.name!r} are not part of this version",
            f"download {spec.file} from {spec.source} and add --weights FILE",
        )
    found = _sha256(spec.path)
    if found != spec.sha256:
        raise ChecksumError(
            f"{spec.path} is damaged: its sha256 is {found} instead of {spec.sha256}",
            "install diffir again",
        )
    return WeightFile(spec.name, spec.path, found, spec.model)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def _names(task: Task) -> str:
    return ", ".join(spec.name for spec in read_registry().values() if spec.task is task)
