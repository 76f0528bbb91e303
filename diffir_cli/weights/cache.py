"""Weights on this machine: a folder for each entry of the registry, and in what state they are."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from diffir_cli.errors import ChecksumError, WeightsError
from diffir_cli.util.files import file_errors, file_sha256, is_file
from diffir_cli.util.folders import cache_folder
from diffir_cli.util.lock import locked_file
from diffir_cli.weights.policy import IMPORTED, PUBLISHED, pinned, pins_file
from diffir_cli.weights.registry import WeightSpec

_log = logging.getLogger(__name__)


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


def imported_path(spec: WeightSpec, sha256: str) -> Path:
    """Where an import with this hash is installed: another one never takes its place."""
    return weights_folder(spec) / f"{spec.name}-{sha256[:12]}.safetensors"


def promised_sha256(spec: WeightSpec) -> str | None:
    """The hash of the published file: the registry's, or else the one first seen."""
    return pinned(spec.name) if spec.sha256 == "unpinned" else spec.sha256


def find_installed(spec: WeightSpec) -> Installed | None:
    """The file of an entry on this machine, whatever its content; None where there is none.

    An import is one of the entry only while what it was made of is what the registry promises.

    Raises:
        WeightsError: when the file of hashes cannot be read.
    """
    if spec.embedded:
        return Installed(spec.path, PUBLISHED, spec.sha256)
    imported = pinned(spec.name, IMPORTED)
    if imported and pinned(spec.name) == promised_sha256(spec):
        path = imported_path(spec, imported)
        if is_file(path):
            return Installed(path, IMPORTED, imported)
    path = weights_folder(spec) / spec.file
    return Installed(path, PUBLISHED, promised_sha256(spec)) if is_file(path) else None


@contextmanager
def locked(place: Path, wait: bool = True) -> Iterator[None]:
    """Keep other processes from a folder of weights, or a file, while the block runs.

    Args:
        place: What is to be held.
        wait: Whether to wait for another process.

    Raises:
        WeightsError: when another process has it and nobody waits.
        OSError: when the cache cannot be written.
    """

    def report() -> None:
        if not wait:
            raise WeightsError(f"another process is using {place}", "wait for it, or end it")
        _log.warning("another process is using %s: waiting for it", place.name)

    # Beside the folders, since a lock must not be removed with what it protects.
    name = hashlib.sha256(os.fsencode(place.absolute())).hexdigest()
    with locked_file(cache_folder() / "locks" / f"{name[:16]}.lock", report):
        yield


def check_installed(spec: WeightSpec, found: Installed) -> str:
    """The hash of a file, which is the promised one if any is.

    Raises:
        ChecksumError: when it is another.
        WeightsError: when the file cannot be read.
    """
    sha256 = weights_sha256(found.path)
    if found.sha256 not in (None, sha256):
        changed = "" if spec.embedded else ", or no longer what the registry promises"
        raise ChecksumError(
            f"{found.path} is damaged{changed}: its sha256 is {sha256} instead of {found.sha256}",
            "install diffir-cli again" if spec.embedded else remedy(spec),
        )
    return sha256


def remedy(spec: WeightSpec) -> str:
    """What to type where a file is not what it should be."""
    again = f"{spec.command} --remove, then get it again"
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
        WeightsError: when the file of hashes cannot be read.
    """
    if spec.files:
        states = [state_of(part, verify) for part in spec.files]
        # The worst of them: what is missing or damaged makes all of it useless.
        return max(states, key=list(State).index)
    found = find_installed(spec)
    if found is None:
        return State.MISSING
    try:
        if found.kind == PUBLISHED and spec.size and found.path.stat().st_size != spec.size:
            return State.CORRUPT
        if verify and found.sha256:
            check_installed(spec, found)
            return State.VERIFIED
    except (WeightsError, OSError):
        # One that cannot be read is of no more use than a damaged one.
        return State.CORRUPT
    return State.EMBEDDED if spec.embedded else State.CACHED


def remove_installed(spec: WeightSpec) -> int:
    """Remove everything of an entry, finished or not; the bytes that became free.

    Raises:
        WeightsError: when there is nothing, it is part of the package, or another process is at it.
    """
    folder = weights_folder(spec)
    if spec.embedded:
        raise WeightsError(f"{spec.label} is part of this package", "uninstall diffir-cli instead")
    with file_errors(f"cannot remove {folder}", "check its permissions", WeightsError):
        if not (folder.is_dir() and any(folder.iterdir())):
            raise WeightsError(
                f"{spec.label} is not on this machine", "diffir download-weights --list"
            )
        with locked(folder, wait=False):
            freed = sum(path.lstat().st_size for path in folder.iterdir())
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
    return freed


def weights_sha256(path: Path) -> str:
    """The hash of a file.

    Raises:
        WeightsError: when it cannot be read.
    """
    with file_errors(f"cannot read {path}", kind=WeightsError):
        return file_sha256(path)


def cache_errors(folder: Path) -> AbstractContextManager[None]:
    """Say of an error of the file system in the block that a folder takes no weights.

    Raises:
        WeightsError: when there is one.
    """
    hint = "free some space, or set DIFFIR_HOME to another folder"
    return file_errors(f"cannot write into {folder}", hint, WeightsError)
