"""Weights of the registry onto this machine: by a network, or from a file that is here."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from diffir_cli.checkpoint import Checkpoint, load_checkpoint, load_model, rebuild, save_weights
from diffir_cli.downloads import gdrive, http
from diffir_cli.downloads.cache import (
    check_installed,
    file_sha256,
    find_installed,
    imported_path,
    promised_sha256,
    remedy,
    weights_folder,
)
from diffir_cli.downloads.decisions import (
    IMPORTED,
    PUBLISHED,
    accept_license,
    has_accepted,
    pin,
    pins_file,
)
from diffir_cli.downloads.http import Part, Patience, Refused
from diffir_cli.errors import CheckpointError, ChecksumError, InputError, WeightsError
from diffir_cli.registry import WeightSpec, read_registry

_log = logging.getLogger(__name__)
_SPARE = 2**24
"""Bytes that stay free beside a download."""


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return any(
        os.environ.get(name, "").lower() not in ("", "0", "false", "no", "off")
        for name in ("DIFFIR_OFFLINE", "HF_HUB_OFFLINE")
    )


@dataclass(frozen=True)
class Means:
    """How weights may be obtained."""

    offline: bool = field(default_factory=is_offline)
    """Whether the network is forbidden."""
    folder: Path | None = None
    """Where files go instead of the cache."""
    patience: Patience = field(default_factory=Patience)
    """When to give up."""
    tell: Callable[[int, int], None] = lambda _here, _whole: None
    """Called with the bytes that are there and those of the whole, 0 where not known."""
    agree: Callable[[WeightSpec], bool] = lambda _spec: False
    """Asks whether the user agrees to a licence."""


def obtain(spec: WeightSpec, means: Means) -> Path:
    """The file of an entry on this machine, downloaded if it is not there.

    It gets its name only when size and sha256 are what was promised. A file that nobody has
    promised anything about must hold the network of the entry; its hash is the promise then.

    Raises:
        WeightsError: when it cannot be had, or its licence was not agreed to.
        ChecksumError: when it is another file than was promised.
    """
    if spec.embedded and means.folder is None:
        return spec.path
    path = (means.folder or weights_folder(spec)) / spec.file
    if (kept := _kept(spec, path, means)) is not None:
        return kept
    _check_obtainable(spec, means)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            # Another process may have brought it meanwhile.
            kept = _kept(spec, path, means)
            return kept if kept is not None else _downloaded(spec, path, means)
    except OSError as error:
        raise WeightsError(
            f"cannot write into {path.parent}: {error.strerror or error}",
            "free some space, or set DIFFIR_HOME to another folder",
        ) from error


def _kept(spec: WeightSpec, path: Path, means: Means) -> Path | None:
    """A file that is there already and is the right one."""
    if means.folder is None:
        found = find_installed(spec)
        if found is None:
            return None
        sha256 = check_installed(spec, found)
        if found.sha256 is None:
            _trust(spec, found.path, sha256, found.kind)
        return found.path
    if not path.exists():
        return None
    promised = promised_sha256(spec)
    if promised and file_sha256(path) == promised:
        return path
    raise WeightsError(f"{path} exists already and is another file", "name another folder")


def _check_obtainable(spec: WeightSpec, means: Means) -> None:
    """Refuse what would need a network, a link or a consent that is not there.

    Raises:
        WeightsError: when it would.
    """
    if spec.embedded:
        return
    if means.offline:
        raise WeightsError(
            f"{spec.name} is not on this machine and the network is switched off", by_hand(spec)
        )
    if not spec.urls:
        raise WeightsError(f"no direct link to {spec.name} is known", by_hand(spec))
    if spec.accept and not has_accepted(spec.name):
        if not means.agree(spec):
            raise WeightsError(
                f"{spec.name} is under the licence {spec.license!r}, which you have to agree to",
                f"read {spec.source} and add --accept-license {spec.name}",
            )
        accept_license(spec.name, spec.license)


def by_hand(spec: WeightSpec) -> str:
    """How a person gets the weights without this program."""
    promised = promised_sha256(spec)
    facts = [f"{spec.size:,} bytes"] if spec.size else []
    facts += [f"sha256 {promised}"] if promised else []
    about = f" ({', '.join(facts)})" if facts else ""
    return (
        f"open {spec.source}, download {spec.file}{about}, then: "
        f"diffir download-weights {spec.name} --from {spec.file}; "
        f"or put it into {weights_folder(spec)}"
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the place of a file, so that two processes make one download."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("another process is downloading %s: waiting for it", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _downloaded(spec: WeightSpec, path: Path, means: Means) -> Path:
    part = Part(path.with_name(f"{path.name}.part"))
    if spec.embedded:
        shutil.copyfile(spec.path, part.path)
        return _named(spec, part, path)
    missing = spec.size - part.size
    free = shutil.disk_usage(path.parent).free
    if spec.size and free < missing + _SPARE:
        raise WeightsError(
            f"{spec.name} needs {missing:,} more bytes in {path.parent}, and {free:,} are free",
            "free some space, or set DIFFIR_HOME to another folder",
        )
    faults = []
    for url in spec.urls:
        try:
            return _from(url, spec, part, path, means)
        except (Refused, ChecksumError, CheckpointError) as error:
            _log.info("%s: %s", url, error)
            faults.append(f"{url}: {error}")
            if isinstance(error, ChecksumError) and len(spec.urls) == 1:
                raise
    raise WeightsError(f"{spec.name} cannot be downloaded: {'; '.join(faults)}", by_hand(spec))


def _from(url: str, spec: WeightSpec, part: Part, path: Path, means: Means) -> Path:
    resumed = part.size > 0
    if url.startswith(gdrive.PREFIX):
        gdrive.fetch(url, part)
    else:
        http.fetch(url, part, spec.size, means.patience, means.tell)
    try:
        return _named(spec, part, path)
    except (ChecksumError, CheckpointError):
        part.remove()
        if not resumed:
            raise
    # What was there before was a part of something else.
    return _from(url, spec, part, path, means)


def _named(spec: WeightSpec, part: Part, path: Path) -> Path:
    """Give a whole file its name if it is the right one.

    Raises:
        ChecksumError: when its hash is not the promised one.
        CheckpointError: when nothing is promised and it does not hold the network.
    """
    sha256, promised = part.sha256(), promised_sha256(spec)
    if promised is None:
        _trust(spec, part.path, sha256)
    elif sha256 != promised:
        raise ChecksumError(
            f"what was downloaded for {spec.name} is another file: its sha256 is {sha256} instead "
            f"of {promised}",
            remedy(spec),
        )
    part.path.replace(path)
    part.forget_note()
    return path


def _trust(spec: WeightSpec, path: Path, sha256: str, kind: str = PUBLISHED) -> None:
    """Take a file that nobody has promised anything about for the right one from now on.

    Raises:
        CheckpointError: when it does not hold the network.
    """
    # A page that says sorry must not become what everything is measured by.
    load_model(path, spec.model)
    _log.warning(
        "the sha256 of %s is not known to the registry: from now on it must be %s, says %s",
        spec.name,
        sha256,
        pins_file(),
    )
    pin(spec.name, sha256, kind)


def import_weights(source: Path, spec: WeightSpec) -> Path:
    """Install a checkpoint that was downloaded by hand, rewritten as safetensors.

    Raises:
        WeightsError: when it cannot be read, is of another network or stage, or is not the file
            that was promised.
    """
    if spec.embedded:
        raise WeightsError(f"{spec.name} is part of this package", "there is nothing to import")
    sha256, promised = file_sha256(source), promised_sha256(spec)
    if promised not in (None, sha256):
        raise ChecksumError(
            f"{source} is not the file of {spec.name}: its sha256 is {sha256} instead of "
            f"{promised}",
            remedy(spec),
        )
    # Strictly as the registry says, so that nothing else is installed under this name.
    model = load_model(source, spec.model)
    target = imported_path(spec)
    metadata = {
        "name": spec.name,
        "task": spec.task.value,
        "license": spec.license,
        "source": spec.source,
        "source_file": source.name,
        "source_sha256": sha256,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            save_weights(target, model, metadata)
            pin(spec.name, file_sha256(target), IMPORTED)
            pin(spec.name, sha256)
    except OSError as error:
        raise WeightsError(
            f"cannot write into {target.parent}: {error.strerror or error}",
            "free some space, or set DIFFIR_HOME to another folder",
        ) from error
    return target


def describe(source: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """What the header of a converted checkpoint says of where it comes from.

    Name, task and licence are those of the registry's entry, where only one fits.

    Raises:
        WeightsError: when the file cannot be read.
    """
    sha256 = file_sha256(source)
    found = {**checkpoint.metadata, "source_file": source.name, "source_sha256": sha256}
    specs = [spec for spec in read_registry().values() if not spec.embedded]
    same = [spec for spec in specs if promised_sha256(spec) == sha256]
    fitting = same or [spec for spec in specs if spec.model == checkpoint.config]
    if len(fitting) == 1:
        spec = fitting[0]
        known = {"name": spec.name, "license": spec.license, "source": spec.source}
        found = {**known, "task": spec.task.value, **found}
    elif len({spec.task for spec in fitting}) == 1:
        found = {"task": fitting[0].task.value, **found}
    return found


def recognise(source: Path, registry: Path | None = None) -> WeightSpec:
    """The entry that a checkpoint is of, told from its hash, its name or its network.

    Raises:
        WeightsError: when it is of none, or could be of several.
    """
    specs = [spec for spec in read_registry(registry).values() if not spec.embedded]
    if not source.is_file():
        raise InputError(f"no such file: {source}", "check its name")
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
