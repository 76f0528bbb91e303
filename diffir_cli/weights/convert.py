"""A weights file of any family, written again as safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffir_cli.errors import WeightsError
from diffir_cli.models.families import recognise
from diffir_cli.tensorfiles.containers import parameter_names, read_tensors
from diffir_cli.weights.cache import promised_sha256, weights_sha256
from diffir_cli.weights.imports import describe
from diffir_cli.weights.registry import WeightSpec, find_weights, read_registry


@dataclass(frozen=True)
class Converted:
    """What was written."""

    family: str
    """Of which family of networks the file is."""
    component: str
    """Which part of a network it holds."""
    parameters: int
    """How many numbers."""


def convert_weights(
    source: Path,
    target: Path,
    half: bool = False,
    name: str | None = None,
    registry: Path | None = None,
) -> Converted:
    """Write a weights file as safetensors, with the configuration of its network in the header.

    Args:
        source: Any container that is known, of any family.
        target: The new file; replaced atomically if it exists.
        half: Store fp16 instead of fp32.
        name: The entry of the registry that the file is of, for what it does not show itself.
        registry: The user's own registry; None for that of the environment.

    Raises:
        CheckpointError: when the source cannot be read or trusted, is of an unknown network, or
            leaves its configuration open, or the target cannot be written.
        WeightsError: when there is no such entry, or it has no such part.
    """
    family, component = recognise(parameter_names(source), source)
    if name is None:
        known = [part.model for part in _candidates(source, family.name, component, registry)]
        config = family.config_of(component, source, known)
    else:
        config = _part_of(name, family.name, component, source, registry).model
    header = describe(source, config, read_tensors(source)[1], registry)
    family.rewrite(component, source, target, config, header, half)
    written = read_tensors(target)[0].values()
    return Converted(family.name, component, sum(tensor.numel() for tensor in written))


def _part_of(
    name: str, family: str, component: str, source: Path, registry: Path | None
) -> WeightSpec:
    """What an entry says of a component.

    Raises:
        WeightsError: when there is no such entry, or it has no such component.
    """
    for part in find_weights(name, registry).parts:
        if (part.family, part.component) == (family, component):
            return part
    raise WeightsError(
        f"{source} is the {component} of a {family} network, which {name} does not have",
        "name another entry, or none",
    )


def _candidates(
    source: Path, family: str, component: str, registry: Path | None
) -> list[WeightSpec]:
    """The files of the registry that a file may be: by its hash, else by its name, else all."""
    specs = [spec for spec in read_registry(registry).values() if not spec.embedded]
    parts = [
        part
        for spec in specs
        for part in spec.parts
        if (part.family, part.component) == (family, component)
    ]
    sha256 = weights_sha256(source)
    same = [part for part in parts if promised_sha256(part) == sha256]
    named = [part for part in parts if part.file.lower() == source.name.lower()]
    return same or named or parts
