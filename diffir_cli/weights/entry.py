"""All files of an entry onto this machine, refused, announced and counted as one download."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from diffir_cli.util.folders import cache_folder
from diffir_cli.weights.cache import cache_errors, find_installed
from diffir_cli.weights.download import DownloadPolicy, check_obtainable, obtain
from diffir_cli.weights.http import check_space, content_length
from diffir_cli.weights.registry import WeightSpec

Rewrite = Callable[[Path, WeightSpec, DownloadPolicy], Path]
"""Installs a file as safetensors; it may load torch, which refusals need no time for."""


def obtain_entry(spec: WeightSpec, policy: DownloadPolicy, rewrite: Rewrite) -> list[Path]:
    """The files of an entry on this machine, with those downloaded that are not there.

    What can be refused is refused before the first byte. A file of several is read once as a
    pickle, and from then on as what loads faster and cannot run anything.

    Args:
        spec: Which.
        policy: How; its `notify` counts the bytes of all files that come.
        rewrite: What installs a file of several, as `import_weights` does.

    Raises:
        WeightsError: when a file cannot be had, or the licence was not agreed to.
        ChecksumError: when a file is another one than was promised.
    """
    missing = [] if spec.embedded else [one for one in spec.parts if _is_missing(one, policy)]
    for part in missing:
        check_obtainable(part, policy)
    sizes = [_size(part, policy, alone=len(missing) == 1) for part in missing]
    rewritten = bool(spec.files) and policy.folder is None
    if len(missing) > 1:
        # Each is written again, which takes its size twice meanwhile.
        needed = sum(sizes) + (2 * max(sizes) if rewritten else 0)
        _check_room(policy.folder or cache_folder(), needed)
    total, done, paths = sum(sizes) if all(sizes) else 0, 0, []
    for part in spec.parts:

        def notify(here: int, whole: int, before: int = done) -> None:
            policy.notify(before + here, total or (whole if len(missing) == 1 else 0))

        path = obtain(part, replace(policy, notify=notify))
        if part in missing:
            done += path.stat().st_size
        paths.append(_rewritten(part, path, rewrite, policy) if rewritten else path)
    return paths


def _is_missing(part: WeightSpec, policy: DownloadPolicy) -> bool:
    there = policy.folder is not None and (policy.folder / part.file).exists()
    return not there and find_installed(part) is None


def _size(part: WeightSpec, policy: DownloadPolicy, alone: bool) -> int:
    """Bytes of a file, of which the server is asked where more than one are to be added up."""
    if part.size or alone or not part.links:
        return part.size
    return content_length(part.links[0], policy.retry)


def _check_room(folder: Path, needed: int) -> None:
    """Refuse what a disk has no room for.

    Raises:
        WeightsError: when it has none, or the folder cannot be made.
    """
    with cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, needed)


def _rewritten(part: WeightSpec, path: Path, rewrite: Rewrite, policy: DownloadPolicy) -> Path:
    """The file as safetensors."""
    if path.suffix == ".safetensors":
        return path
    kept = rewrite(path, part, policy)
    with suppress(OSError):
        path.unlink()
    return kept
