"""Checkpoints that were downloaded by hand: which they are, and how they are installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffir_cli.errors import ChecksumError, InputError, WeightsError
from diffir_cli.models.families import find_family
from diffir_cli.models.families import recognise as recognise_names
from diffir_cli.tensorfiles.containers import parameter_names
from diffir_cli.util.files import unfinished_name
from diffir_cli.weights.cache import (
    cache_errors,
    imported_path,
    locked,
    promised_sha256,
    remedy,
    weights_folder,
    weights_sha256,
)
from diffir_cli.weights.download import DownloadPolicy, check_license
from diffir_cli.weights.http import check_space
from diffir_cli.weights.policy import pin
from diffir_cli.weights.registry import WeightSpec, read_registry


def import_weights(source: Path, spec: WeightSpec, policy: DownloadPolicy) -> Path:
    """Install a checkpoint that was downloaded by hand, rewritten as safetensors.

    Raises:
        InputError: when there is no such file.
        WeightsError: when it cannot be read, is of another network or stage, is not the file that
            was promised, or its licence was not agreed to.
    """
    _check_file(source)
    if spec.files:
        spec = _part_of(spec, source)
    if spec.embedded:
        raise WeightsError(f"{spec.label} is part of this package", "there is nothing to import")
    check_license(spec, policy)
    sha256, promised = weights_sha256(source), promised_sha256(spec)
    if promised not in (None, sha256):
        raise ChecksumError(
            f"{source} is not the file of {spec.label}: its sha256 is {sha256} instead of "
            f"{promised}",
            remedy(spec),
        )
    folder = weights_folder(spec)
    metadata = {
        "name": spec.owner or spec.name,
        "task": spec.task.value,
        "license": spec.license,
        "source": spec.source,
        "source_file": source.name,
        "source_sha256": sha256,
    }
    with cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            check_space(folder, 2 * source.stat().st_size)
            staged = unfinished_name(folder / "import")
            # Strictly as the registry says: nothing else is installed under this name.
            family = find_family(spec.family)
            family.rewrite(spec.component, source, staged, spec.model, metadata)
            imported = weights_sha256(staged)
            target = imported_path(spec, imported)
            staged.replace(target)
            pin(spec.name, imported=imported, published=sha256)
            for other in folder.glob(f"{spec.name}-*.safetensors"):
                if other != target:
                    other.unlink()
    return target


def _check_file(source: Path) -> None:
    if not source.is_file():
        raise InputError(f"no such file: {source}", "check its name")


def describe(
    source: Path, config: Any, header: Mapping[str, str], registry: Path | None = None
) -> dict[str, str]:
    """What the header of a converted file says of where it comes from.

    Name, licence and source are the registry's where the file is the one that it promises; the task
    also where only one has such networks.

    Args:
        source: The file.
        config: What its network looks like.
        header: What the file says of itself, which is kept.
        registry: The user's own registry; None for that of the environment.

    Raises:
        WeightsError: when the file cannot be read.
    """
    sha256 = weights_sha256(source)
    found = {**header, "source_file": source.name, "source_sha256": sha256}
    specs = [spec for spec in read_registry(registry).values() if not spec.embedded]
    for part in (part for spec in specs for part in spec.parts):
        if promised_sha256(part) == sha256:
            known = {
                "name": part.owner or part.name,
                "license": part.license,
                "source": part.source,
            }
            return {**known, "task": part.task.value, **found}
    tasks = {spec.task for spec in specs if spec.model == config}
    return {"task": tasks.pop().value, **found} if len(tasks) == 1 else found


def _part_of(spec: WeightSpec, source: Path) -> WeightSpec:
    """Which file of an entry with several a checkpoint is.

    Raises:
        WeightsError: when it is none of them.
    """
    component = find_family(spec.family).recognise(parameter_names(source))
    for part in spec.files:
        if part.component == component:
            return part
    wanted = " or ".join(part.component for part in spec.files)
    files = ", ".join(f"{part.file} ({part.component})" for part in spec.files)
    raise WeightsError(f"{source} is not the {wanted} of {spec.name}", f"the files are: {files}")


def recognise(source: Path, registry: Path | None = None) -> WeightSpec:
    """The entry that a checkpoint belongs to, by its hash, its name or its network.

    Raises:
        WeightsError: when it is of none, or could be of several.
    """
    known = [spec for spec in read_registry(registry).values() if not spec.embedded]
    # Entries that share a file have one part between them.
    parts = list({part.name: part for spec in known for part in spec.parts}.values())
    _check_file(source)
    sha256 = weights_sha256(source)
    for part in parts:
        if promised_sha256(part) == sha256:
            return part
    family, component = recognise_names(parameter_names(source), source)
    parts = [part for part in parts if (part.family, part.component) == (family.name, component)]
    named = [part for part in parts if part.file.lower() == source.name.lower()]
    fitting = [part for part in parts if family.fits(component, source, part.model)]
    chosen = [part for part in fitting if part in named] or fitting
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise WeightsError(
            f"the network in {source} is not in the registry", "use it with --weights FILE"
        )
    names = " or ".join(part.owner or part.name for part in chosen)
    raise WeightsError(
        f"{source} could be {names}: their networks are the same",
        "give its name: diffir download-weights NAME --from FILE",
    )
