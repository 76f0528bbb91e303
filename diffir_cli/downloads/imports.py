"""Checkpoints that were downloaded by hand: which they are, and how they are installed."""

from __future__ import annotations

from pathlib import Path

from diffir_cli.checkpoint import Checkpoint, load_checkpoint, load_model, rebuild, save_weights
from diffir_cli.downloads.cache import (
    file_sha256,
    held,
    imported_path,
    promised_sha256,
    remedy,
    weights_folder,
)
from diffir_cli.downloads.decisions import pin
from diffir_cli.downloads.http import check_space
from diffir_cli.downloads.obtain import Means, check_license
from diffir_cli.errors import ChecksumError, InputError, WeightsError
from diffir_cli.files import unfinished_name
from diffir_cli.registry import WeightSpec, read_registry


def import_weights(source: Path, spec: WeightSpec, means: Means) -> Path:
    """Install a checkpoint that was downloaded by hand, rewritten as safetensors.

    Raises:
        InputError: when there is no such file.
        WeightsError: when it cannot be read, is of another network or stage, is not the file that
            was promised, or its licence was not agreed to.
    """
    _check_file(source)
    if spec.embedded:
        raise WeightsError(f"{spec.name} is part of this package", "there is nothing to import")
    check_license(spec, means)
    sha256, promised = file_sha256(source), promised_sha256(spec)
    if promised not in (None, sha256):
        raise ChecksumError(
            f"{source} is not the file of {spec.name}: its sha256 is {sha256} instead of "
            f"{promised}",
            remedy(spec),
        )
    # Strictly as the registry says, so that nothing else is installed under this name.
    model = load_model(source, spec.model)
    folder = weights_folder(spec)
    metadata = {
        "name": spec.name,
        "task": spec.task.value,
        "license": spec.license,
        "source": spec.source,
        "source_file": source.name,
        "source_sha256": sha256,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            check_space(folder, 2 * source.stat().st_size)
            staged = unfinished_name(folder / "import")
            save_weights(staged, model, metadata)
            imported = file_sha256(staged)
            target = imported_path(spec, imported)
            staged.replace(target)
            pin(spec.name, imported=imported, published=sha256)
            for other in folder.glob(f"{spec.name}-*.safetensors"):
                if other != target:
                    other.unlink()
    except OSError as error:
        raise WeightsError(
            f"cannot write into {folder}: {error.strerror or error}",
            "free some space, or set DIFFIR_HOME to another folder",
        ) from error
    return target


def _check_file(source: Path) -> None:
    if not source.is_file():
        raise InputError(f"no such file: {source}", "check its name")


def describe(source: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """What the header of a converted checkpoint says of where it comes from.

    Name, licence and source are the registry's where the file is the one that it promises; the task
    also where only one has such networks.

    Raises:
        WeightsError: when the file cannot be read.
    """
    sha256 = file_sha256(source)
    found = {**checkpoint.metadata, "source_file": source.name, "source_sha256": sha256}
    specs = [spec for spec in read_registry().values() if not spec.embedded]
    for spec in specs:
        if promised_sha256(spec) == sha256:
            known = {"name": spec.name, "license": spec.license, "source": spec.source}
            return {**known, "task": spec.task.value, **found}
    tasks = {spec.task for spec in specs if spec.model == checkpoint.config}
    return {"task": tasks.pop().value, **found} if len(tasks) == 1 else found


def recognise(source: Path, registry: Path | None = None) -> WeightSpec:
    """The entry that a checkpoint is of, told from its hash, its name or its network.

    Raises:
        WeightsError: when it is of none, or could be of several.
    """
    specs = [spec for spec in read_registry(registry).values() if not spec.embedded]
    _check_file(source)
    sha256 = file_sha256(source)
    for spec in specs:
        if promised_sha256(spec) == sha256:
            return spec
    checkpoint = load_checkpoint(source)
    rebuild(checkpoint)
    fitting = [spec for spec in specs if spec.model == checkpoint.config]
    named = [spec for spec in fitting if spec.file.lower() == source.name.lower()]
    if len(named or fitting) == 1:
        return (named or fitting)[0]
    if not fitting:
        raise WeightsError(
            f"the network in {source} is none of the registry's", "use it with --weights FILE"
        )
    names = " or ".join(spec.name for spec in named or fitting)
    raise WeightsError(
        f"{source} could be {names}: their networks are the same", "name one of them in front"
    )
