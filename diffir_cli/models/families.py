"""The families of networks, each imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from diffir_cli.errors import CheckpointError
from diffir_cli.models.base import ModelConfig, ModelFamily


@dataclass(frozen=True)
class FamilyEntry:
    """Where a family is found."""

    config: str
    """`module:class` of its configuration, which loads no torch."""
    family: str
    """`module:object` of the family."""
    teachers: tuple[str, ...] = ()
    """Names of files that hold a network of their own which only teaches another one."""


FAMILIES: dict[str, FamilyEntry] = {
    "diffir": FamilyEntry(
        "diffir_cli.models.diffir.config:ModelConfig",
        "diffir_cli.models.diffir.family:FAMILY",
        teachers=("stage1",),
    ),
    "resshift": FamilyEntry(
        "diffir_cli.models.resshift.config:ResShiftConfig",
        "diffir_cli.models.resshift.family:FAMILY",
    ),
}
"""Known families by name; the first is that of registry entries which name none."""

DEFAULT_FAMILY = "diffir"


def config_of(name: str, values: Mapping[str, Any]) -> ModelConfig:
    """The configuration of a network of a family, from a table of TOML or JSON.

    Raises:
        ValueError: when there is no such family, or the table has a fault.
    """
    return config_type(name).from_dict(values)


def config_type(name: str) -> type[ModelConfig]:
    """The class of the configurations of a family's networks.

    Raises:
        ValueError: when there is no such family.
    """
    kind: type[ModelConfig] = resolve_name(_entry(name).config)
    return kind


def teachers_of(name: str) -> tuple[str, ...]:
    """Names of the files of a family that hold a network which only teaches another one.

    Raises:
        ValueError: when there is no such family.
    """
    return _entry(name).teachers


def _entry(name: str) -> FamilyEntry:
    if name not in FAMILIES:
        raise ValueError(f"there is no family {name!r}, only {', '.join(FAMILIES)}")
    return FAMILIES[name]


def find_family(name: str) -> ModelFamily:
    """The family of a name that is known."""
    family: ModelFamily = resolve_name(FAMILIES[name].family)
    return family


def recognise(names: Sequence[str], path: Path) -> tuple[ModelFamily, str]:
    """Family and component that have parameters of these names.

    Raises:
        CheckpointError: when none has.
    """
    for name in FAMILIES:
        family = find_family(name)
        component = family.recognise(names)
        if component is not None:
            return family, component
    raise CheckpointError(
        f"{path} has weights of an unknown network", f"known families are {', '.join(FAMILIES)}"
    )
