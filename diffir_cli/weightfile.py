"""From what a user calls weights to a file on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffir_cli.config import ModelConfig, Task
from diffir_cli.downloads.cache import Installed, check_installed, file_sha256, find_installed
from diffir_cli.downloads.decisions import PUBLISHED
from diffir_cli.errors import WeightsError
from diffir_cli.registry import WeightSpec, default_weights, find_weights, read_registry

Obtain = Callable[[WeightSpec], Path]
"""Brings weights onto this machine, or says why not."""


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


def locate_weights(
    wish: str | None,
    task: Task,
    registry: Path | None = None,
    obtain: Obtain | None = None,
    scale: int | None = None,
) -> WeightFile:
    """The file for a registry name, a path, or by default the task's embedded weights.

    Args:
        wish: What the user wrote; None for the default.
        task: What the weights must be for.
        registry: The user's own registry; None for that of the environment.
        obtain: Asked for weights that are not on this machine; None for a refusal.
        scale: What the network must enlarge by, where nothing is named; None for the task's own.

    Raises:
        WeightsError: when the name is unknown, or the weights cannot be had.
        ChecksumError: when a file is not what was promised.
    """
    if wish is None:
        return _checked(default_weights(task, scale, registry), obtain)
    path = Path(wish)
    if wish not in (known := read_registry(registry)) and (path.is_file() or path.suffix):
        if not path.is_file():
            names = ", ".join(spec.name for spec in known.values() if spec.task is task)
            raise WeightsError(f"no such weights file: {path}", f"known names: {names}")
        return WeightFile(path.name, path, file_sha256(path), None)
    spec = find_weights(wish, registry)
    if spec.task is not task:
        raise WeightsError(
            f"the weights {spec.name!r} are for task {spec.task.value!r}, not {task.value!r}",
            f"add --task {spec.task.value}",
        )
    return _checked(spec, obtain)


def _checked(spec: WeightSpec, obtain: Obtain | None) -> WeightFile:
    found = find_installed(spec)
    if found is None and obtain is None:
        raise WeightsError(
            f"the weights {spec.name!r} are not on this machine",
            spec.command,
        )
    if obtain and (found is None or found.sha256 is None or spec.accept):
        obtained = obtain(spec)
        found = find_installed(spec) or Installed(obtained, PUBLISHED, None)
    assert found is not None
    return WeightFile(spec.name, found.path, check_installed(spec, found), spec.model)
