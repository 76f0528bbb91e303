"""Weights of the registry onto this machine: by a network, or from a file that is here."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diffir_cli.errors import CheckpointError, ChecksumError, WeightsError
from diffir_cli.models.families import find_family
from diffir_cli.weights import gdrive, http
from diffir_cli.weights.cache import (
    cache_errors,
    check_installed,
    find_installed,
    locked,
    promised_sha256,
    remedy,
    weights_folder,
    weights_sha256,
)
from diffir_cli.weights.http import Part
from diffir_cli.weights.policy import PUBLISHED, accept_license, has_accepted, pin, pins_file
from diffir_cli.weights.registry import WeightSpec
from diffir_cli.weights.transfer import DownloadRefused, RetryPolicy

_log = logging.getLogger(__name__)


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return any(
        os.environ.get(name, "").lower() not in ("", "0", "false", "no", "off")
        for name in ("DIFFIR_OFFLINE", "HF_HUB_OFFLINE")
    )


@dataclass(frozen=True)
class DownloadPolicy:
    """How weights may be obtained."""

    offline: bool = field(default_factory=is_offline)
    """Whether the network is forbidden."""
    folder: Path | None = None
    """Where files go instead of the cache."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """When to give up."""
    notify: Callable[[int, int], None] = lambda _here, _whole: None
    """Called with the bytes that are there and those of the whole, 0 where not known."""
    agree: Callable[[WeightSpec], bool] = lambda _spec: False
    """Asks whether the user agrees to a licence."""


def obtain(spec: WeightSpec, policy: DownloadPolicy) -> Path:
    """The file of an entry on this machine, downloaded if it is not there.

    It gets its name only when size and sha256 are what was promised. A file that nobody has
    promised anything about must hold the network of the entry; its hash is the promise then.

    Raises:
        WeightsError: when it cannot be had, or its licence was not agreed to.
        ChecksumError: when it is another file than was promised.
    """
    if spec.embedded and policy.folder is None:
        return spec.path
    path = (policy.folder or weights_folder(spec)) / spec.file
    if (kept := _kept(spec, path, policy)) is not None:
        return kept
    if _in_cache(spec, policy) is None:
        check_obtainable(spec, policy)
    with cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent if policy.folder is None else path):
            # Another process may have brought it meanwhile.
            kept = _kept(spec, path, policy)
            return kept if kept is not None else _downloaded(spec, path, policy)


def _kept(spec: WeightSpec, path: Path, policy: DownloadPolicy) -> Path | None:
    """A file that is there already and is the right one."""
    if policy.folder is None:
        found = find_installed(spec)
        if found is None:
            return None
        sha256 = check_installed(spec, found)
        check_license(spec, policy)
        if found.sha256 is None:
            _trust(spec, found.path, sha256)
        return found.path
    if not path.exists():
        return None
    promised = promised_sha256(spec)
    if promised is None:
        raise WeightsError(
            f"{path} already exists, and nothing says whether it is the right file",
            "name another folder",
        )
    if weights_sha256(path) == promised:
        return path
    raise WeightsError(f"{path} already exists and is another file", "name another folder")


def _in_cache(spec: WeightSpec, policy: DownloadPolicy) -> Path | None:
    """The published file on this machine, where a copy of it is wanted elsewhere."""
    found = None if policy.folder is None else find_installed(spec)
    if found is None or found.kind != PUBLISHED or found.sha256 is None:
        return None
    check_installed(spec, found)
    return found.path


def check_obtainable(spec: WeightSpec, policy: DownloadPolicy) -> None:
    """Refuse what would need a network, a link or a consent that is not there.

    Raises:
        WeightsError: when it would.
    """
    if policy.offline:
        raise WeightsError(
            f"{spec.label} is not on this machine, and downloads are off", by_hand(spec)
        )
    if not spec.urls:
        raise WeightsError(
            f"{spec.label} is not on this machine and has no direct download link", by_hand(spec)
        )
    check_license(spec, policy)


def check_license(spec: WeightSpec, policy: DownloadPolicy) -> None:
    """Make sure that the user agrees to a licence that asks for it.

    Raises:
        WeightsError: when they do not.
    """
    name = spec.owner or spec.name
    if not spec.accept or has_accepted(name, spec.license):
        return
    if not policy.agree(spec):
        raise WeightsError(
            f"{name} has the licence {spec.license!r}, which you must accept first",
            f"read {spec.source} and type: {spec.command} --accept-license {name}",
        )
    accept_license(name, spec.license)


def by_hand(spec: WeightSpec) -> str:
    """How a person gets the weights without this program."""
    promised = promised_sha256(spec)
    facts = [f"{spec.size:,} bytes"] if spec.size else []
    facts += [f"sha256 {promised}"] if promised else []
    about = f" ({', '.join(facts)})" if facts else ""
    return (
        f"open {spec.source}, download {spec.file}{about}, then: "
        f"{spec.command} --from {shlex.quote(spec.file)}; "
        f"or put it into {weights_folder(spec)}"
    )


def _downloaded(spec: WeightSpec, path: Path, policy: DownloadPolicy) -> Path:
    part = Part(path.with_name(f"{path.name}.part"))
    if (copied := _in_cache(spec, policy)) is not None:
        http.check_space(path.parent, copied.stat().st_size)
        shutil.copyfile(copied, part.path)
        return _named(spec, part, path)
    http.check_space(path.parent, max(0, spec.size - part.size))
    faults = []
    for url in spec.urls:
        try:
            return _from(url, spec, part, path, policy)
        except (DownloadRefused, ChecksumError, CheckpointError) as error:
            _log.info("%s: %s", url, error)
            faults.append(f"{url}: {error}")
            if isinstance(error, ChecksumError) and len(spec.urls) == 1:
                raise
    raise WeightsError(f"{spec.label} cannot be downloaded: {'; '.join(faults)}", by_hand(spec))


def _from(url: str, spec: WeightSpec, part: Part, path: Path, policy: DownloadPolicy) -> Path:
    """A file from one address, again where there is reason to doubt what came."""
    for left in reversed(range(policy.retry.attempts)):
        # What is there may be of another file, and where nobody says how long a file is, its end
        # may be missing.
        resumed = part.size > 0
        if url.startswith(gdrive.PREFIXES):
            gdrive.fetch(url, part, policy.retry, policy.notify)
            sure = True
        else:
            sure = http.fetch(url, part, spec.size, policy.retry, policy.notify)
        try:
            return _named(spec, part, path)
        except (ChecksumError, CheckpointError):
            part.remove()
            if not left or (sure and not resumed):
                raise
    raise AssertionError("there is at least one attempt")


def _named(spec: WeightSpec, part: Part, path: Path) -> Path:
    """Give a whole file its name if it is the right one.

    Raises:
        ChecksumError: when its hash is not the promised one.
        CheckpointError: when nothing is promised and it does not hold the network.
    """
    sha256, promised = weights_sha256(part.path), promised_sha256(spec)
    if promised is None:
        _trust(spec, part.path, sha256)
    elif sha256 != promised:
        raise ChecksumError(
            f"what was downloaded for {spec.label} is another file: its sha256 is {sha256} instead "
            f"of {promised}",
            "either the server's file or the sha256 of the registry is wrong: ask who wrote them"
            if spec.sha256 != "unpinned"
            else remedy(spec),
        )
    part.path.replace(path)
    part.forget_note()
    return path


def _trust(spec: WeightSpec, path: Path, sha256: str) -> None:
    """Take a file that nobody has promised anything about for the right one from now on.

    Raises:
        CheckpointError: when it does not hold the network.
    """
    # A page that says sorry must not become what everything is measured by.
    find_family(spec.family).check(spec.component, path, spec.model)
    try:
        pin(spec.name, published=sha256)
    except WeightsError as error:
        _log.warning("the sha256 of %s cannot be noted: %s", spec.name, error.message)
        return
    _log.warning(
        "the sha256 of %s is not known to the registry: from now on it must be %s, says %s",
        spec.name,
        sha256,
        pins_file(),
    )
