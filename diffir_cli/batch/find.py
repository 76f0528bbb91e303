"""Which files a run is about: what its inputs name, less what belongs to other shards."""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from diffir_cli.batch.stores import (
    below,
    fetch,
    is_remote,
    matching_objects,
    objects_in,
    parse_place,
    real_path,
    store_errors,
    without_detours,
)
from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.imaging.formats import IMAGE_SUFFIXES
from diffir_cli.imaging.probe import Probe, probe_picture
from diffir_cli.imaging.raw import RAW_SUFFIXES
from diffir_cli.util.files import is_folder, may_enter

_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A file that may be a picture."""

    path: Path
    """As it was found."""
    below: PurePosixPath
    """Its path below the folder that was named; its bare name where a file was."""
    named: bool
    """Whether it was named itself, so that it must be a picture."""
    index: int = 0
    """Its place among all photos of a run, from 1."""


def find_sources(inputs: Sequence[str], recursive: bool, skip: Path | None) -> list[Found]:
    """All files that inputs name: files, folders and patterns, each once.

    Hidden files and those of operating systems are left out of folders.

    Args:
        inputs: As the user wrote them.
        recursive: Whether folders are searched to the bottom.
        skip: A folder whose files are no sources where one above it is searched: that of the
            results.

    Raises:
        InputError: when one of them names nothing.
    """
    found: dict[str, Found] = {}
    barred = None if skip is None else real_path(skip)
    for text in inputs:
        listed = _listed(text, recursive)
        # Results inside a folder that is searched are no sources.
        inside = barred is not None and real_path(listed.root) in barred.parents
        for file in listed.files:
            if not listed.named and inside and barred in real_path(file).parents:
                continue
            place = below(file, listed.root) if listed.keeps_tree else PurePosixPath(file.name)
            found.setdefault(str(without_detours(file)), Found(file, place, listed.named))
    return list(found.values())


def check_inputs(inputs: Sequence[str]) -> None:
    """Refuse inputs on this machine that name nothing, without looking into folders.

    Raises:
        InputError: when one of them does.
    """
    for text in inputs:
        path = parse_place(text)
        if not (is_remote(path) or os.path.lexists(path) or _matches(path)):
            raise _names_nothing(text)


@dataclass(frozen=True)
class _Listed:
    """What one input names."""

    root: Path
    files: list[Path]
    named: bool
    keeps_tree: bool


def _listed(text: str, recursive: bool) -> _Listed:
    path = parse_place(text)
    with store_errors(path):
        if _is_folder(path):
            return _Listed(path, sorted(files_in(path, recursive)), False, True)
        named = path.exists() if is_remote(path) else os.path.lexists(path)
    if named:
        return _Listed(path.parent, [path], True, False)
    found = _matches(path)
    files = [file for file in found if is_remote(file) or not is_folder(file)]
    if recursive:
        folders = [folder for folder in found if folder not in files]
        files += [file for folder in folders for file in sorted(files_in(folder, True))]
    if not found:
        raise _names_nothing(text)
    if not files:
        raise InputError(f"{text} matches only folders", "name the folders themselves")
    return _Listed(fixed_part(path), files, False, recursive)


def _names_nothing(text: str) -> InputError:
    return InputError(f"no such file or folder: {text}", "check its name")


def fixed_part(pattern: Path) -> Path:
    """The folder below which a pattern looks."""
    path = pattern
    while glob.has_magic(str(path)) and not _is_folder(path):
        path = path.parent
    return path if _is_folder(path) else path.parent


def _is_folder(path: Path) -> bool:
    return path.is_dir() if is_remote(path) else is_folder(path)


def _is_left_out(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def files_in(folder: Path, recursive: bool) -> Iterator[Path]:
    """All files of a folder but hidden ones and those of operating systems."""
    if is_remote(folder):
        for path in objects_in(folder, recursive):
            hidden = any(part.startswith(".") for part in below(path, folder).parts)
            if not (hidden or _is_left_out(path)):
                yield path
        return
    try:
        entries = list(folder.iterdir())
        if not may_enter(folder):
            # It can be listed, but nothing in it can be read.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _log.warning("%s is left out: %s", folder, error.strerror)
        return
    for path in entries:
        if _is_left_out(path):
            continue
        if is_folder(path):
            # A link to a folder could lead round in a circle.
            if recursive and not path.is_symlink():
                yield from files_in(path, True)
        else:
            yield path


def _matches(path: Path) -> list[Path]:
    if is_remote(path):
        matches = matching_objects(path)
    else:
        # A whole pattern, which may begin with a slash.
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    return [path for path in matches if not _is_left_out(path)]


def probe_all(
    found: Sequence[Found],
    limit: int,
    workers: int,
    allow_truncated: bool = False,
    holds_alpha: Callable[[str], bool] | None = None,
) -> Iterator[tuple[Found, Probe | DiffIRError]]:
    """What the header of each file says, or why it cannot be read; others than pictures left out.

    A file that was not named itself must have the content or the ending of a picture, or that of
    a camera's raw file, which is refused. `holds_alpha` is that of `probe_picture`.
    """
    probe_file = partial(
        probe_picture, max_pixels=limit, allow_truncated=allow_truncated, holds_alpha=holds_alpha
    )
    look = partial(_probed, probe_file=probe_file)
    with ThreadPoolExecutor(workers) as pool:
        items = iter(found)
        # A listing may be long: never more than a part of it at once.
        while part := list(islice(items, 1024)):
            for item, probe in zip(part, pool.map(look, part), strict=True):
                known = item.named or item.path.suffix.lower() in IMAGE_SUFFIXES | RAW_SUFFIXES
                if known or isinstance(probe, Probe):
                    yield item, probe


def _probed(item: Found, probe_file: Callable[..., Probe]) -> Probe | DiffIRError:
    try:
        if not is_remote(item.path):
            return probe_file(item.path)
        return _probed_object(item, probe_file)
    except DiffIRError as error:
        return error


def _probed_object(item: Found, probe_file: Callable[..., Probe]) -> Probe:
    """As the first bytes say, or all of them where those do not tell.

    Raises:
        InputError: when it is no picture, or the store does not give it.
    """
    start = fetch(item.path, _HEAD)
    try:
        # The rest is there, however the file ends.
        return probe_file(item.path, data=start, allow_truncated=False)
    except InputError:
        likely = item.named or item.path.suffix.lower() in IMAGE_SUFFIXES
        if len(start) < _HEAD or not likely:
            raise
    return probe_file(item.path, data=fetch(item.path))


_HEAD = 2**17
"""Bytes that tell of most pictures how large they are: one request."""


def parse_shard(text: str) -> tuple[int, int]:
    """Number and count of `3/8`.

    Raises:
        ValueError: when it is no such part.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count <= 10**6:
        raise ValueError(text)
    return number, count


def of_shard(found: Sequence[Found], number: int, count: int) -> list[Found]:
    """The part of shard `number` of `count`, which depends on each path below its folder alone."""

    def shard(item: Found) -> int:
        digest = hashlib.sha256(os.fsencode(str(item.below))).digest()
        return int.from_bytes(digest[:8], "big") % count + 1

    return [item for item in found if shard(item) == number]
