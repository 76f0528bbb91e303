"""The registry `weights.toml` as typed values, and how a name is found in it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from diffir_cli.config import ModelConfig, Task
from diffir_cli.errors import WeightsError

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class WeightSpec:
    """One entry of the registry."""

    name: str
    """Lower case with hyphens, such as `sr-x4-lite`."""
    task: Task
    """What it restores."""
    scale: int
    """Side of the output over side of the input."""
    summary: str
    """One line for a listing."""
    license: str
    """SPDX name of the weights' licence, or what is known of it."""
    source: str
    """The page that the weights come from."""
    file: str
    """Name of the file."""
    model: ModelConfig
    """What the network looks like."""
    size: int = 0
    """Bytes; 0 where they are not known."""
    sha256: str = "unpinned"
    """Hash of the file, or `unpinned` where it is not known."""
    urls: tuple[str, ...] = ()
    """Where the file can be had; empty where only the page is known."""
    embedded: bool = False
    """Whether the file is part of this package."""

    training: Mapping[str, Any] = field(default_factory=dict)
    """How this project trained them: recipe, photos, minutes, hardware, scores."""

    @property
    def path(self) -> Path:
        """Where an embedded file lies."""
        return _PACKAGE / "weights" / self.file


@cache
def read_registry() -> Mapping[str, WeightSpec]:
    """Every entry by name, in the order of the file.

    An installed package holds a copy of the file; in a checkout it is read from the top folder.
    """
    packaged = _PACKAGE / "weights.toml"
    path = packaged if packaged.exists() else _PACKAGE.parent / "weights.toml"
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _parse(name, entry) for name, entry in entries.items()}


def find_weights(name: str) -> WeightSpec:
    """The entry of a name.

    Raises:
        WeightsError: when there is none, with the nearest name as a hint.
    """
    registry = read_registry()
    if name in registry:
        return registry[name]
    near = difflib.get_close_matches(name.lower(), registry, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(registry)}"
    raise WeightsError(f"no weights named {name!r}", hint)


def default_weights(task: Task) -> WeightSpec:
    """The embedded entry of a task.

    Raises:
        WeightsError: when no weights for the task are part of this package.
    """
    known = [spec for spec in read_registry().values() if spec.task is task]
    embedded = [spec for spec in known if spec.embedded]
    if embedded:
        return embedded[0]
    raise WeightsError(
        f"no weights for task {task.value!r} are part of this version",
        f"download a checkpoint from {known[0].source} and add --weights FILE" if known else "",
    )


def _parse(name: str, entry: Mapping[str, Any]) -> WeightSpec:
    model = ModelConfig.from_dict(entry["model"])
    return WeightSpec(
        name=name,
        task=Task(entry["task"]),
        scale=entry["scale"],
        summary=entry["summary"],
        license=entry["license"],
        source=entry["source"],
        file=entry["file"],
        model=model,
        size=entry.get("size", 0),
        sha256=entry.get("sha256", "unpinned"),
        urls=tuple(entry.get("urls", ())),
        embedded=entry.get("embedded", False),
        training=entry.get("training", {}),
    )
