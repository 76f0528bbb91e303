"""Weights on this machine: a folder for each entry of the registry, and in what state they are."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from diffir_cli.downloads.decisions import IMPORTED, PUBLISHED, pinned, pins_file
from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.folders import cache_folder
from diffir_cli.registry import WeightSpec


class State(StrEnum):
    """How it stands with some weights."""

    EMBEDDED = "embedded"
    """Part of this package."""
    CACHED = "cached"
    """On this machine."""
    VERIFIED = "verified"
    """On this machine, and their hash was found right just now."""
    MISSING = "missing"
    """Not on this machine."""
    CORRUPT = "corrupt"
    """On this machine, but not what they should be."""


@dataclass(frozen=True)
class Installed:
    """A file of some weights on this machine."""

    path: Path
    """Where it lies."""
    kind: str
    """`published` as its authors did, or `imported` where it was rewritten here."""
    sha256: str | None
    """The hash that it must have; None where none is known yet."""


def weights_folder(spec: WeightSpec) -> Path:
    """Where the file of an entry belongs: one that is put there by hand is found too."""
    return cache_folder() / "weights" / spec.name


def imported_path(spec: WeightSpec) -> Path:
    """Where an import is installed."""
    return weights_folder(spec) / f"{spec.name}.safetensors"


def promised_sha256(spec: WeightSpec) -> str | None:
    """The hash of the published file: the registry's, or else the one first seen."""
    return pinned(spec.name) if spec.sha256 == "unpinned" else spec.sha256


def find_installed(spec: WeightSpec) -> Installed | None:
    """The file of an entry on this machine, whatever its content; None where there is none."""
    if spec.embedded:
        return Installed(spec.path, PUBLISHED, spec.sha256)
    path, imported = weights_folder(spec) / spec.file, imported_path(spec)
    sha256 = pinned(spec.name, IMPORTED)
    # Where the published file has the name of an import, only the hash tells them apart.
    if imported.is_file() and (sha256 or imported != path):
        return Installed(imported, IMPORTED, sha256)
    return Installed(path, PUBLISHED, promised_sha256(spec)) if path.is_file() else None


def check_installed(spec: WeightSpec, found: Installed) -> str:
    """The hash of a file, which is the promised one if any is.

    Raises:
        ChecksumError: when it is another.
        WeightsError: when the file cannot be read.
    """
    sha256 = file_sha256(found.path)
    if found.sha256 not in (None, sha256):
        raise ChecksumError(
            f"{found.path} is damaged: its sha256 is {sha256} instead of {found.sha256}",
            "install diffir again" if spec.embedded else remedy(spec),
        )
    return sha256


def remedy(spec: WeightSpec) -> str:
    """What to type where a file is not what it should be."""
    again = f"diffir download-weights --remove {spec.name}, then get it again"
    if spec.sha256 == "unpinned":
        return f"{again}; if its authors have replaced it, take it out of {pins_file()} too"
    return again


def state_of(spec: WeightSpec, verify: bool = False) -> State:
    """In what state weights are.

    Args:
        spec: Which.
        verify: Whether their file is read and hashed where a hash is known; else only its size is
            looked at.

    Raises:
        WeightsError: when a file cannot be read.
    """
    found = find_installed(spec)
    if found is None:
        return State.MISSING
    try:
        if found.kind == PUBLISHED and spec.size and found.path.stat().st_size != spec.size:
            return State.CORRUPT
        if verify and found.sha256:
            check_installed(spec, found)
            return State.VERIFIED
    except (ChecksumError, FileNotFoundError):
        return State.CORRUPT
    return State.EMBEDDED if spec.embedded else State.CACHED


def remove_installed(spec: WeightSpec) -> int:
    """Remove everything of an entry, finished or not; the bytes that became free.

    Raises:
        WeightsError: when there is nothing, or it is part of the package.
    """
    folder = weights_folder(spec)
    if spec.embedded:
        raise WeightsError(f"{spec.name} is part of this package", "uninstall diffir instead")
    if not folder.is_dir():
        raise WeightsError(f"{spec.name} is not on this machine", "diffir download-weights --list")
    freed = sum(path.stat().st_size for path in folder.iterdir())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise WeightsError(
            f"cannot remove {folder}: {error.strerror}", "look at its permissions"
        ) from error
    return freed


def file_sha256(path: Path) -> str:
    """The hash of a file.

    Raises:
        WeightsError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
