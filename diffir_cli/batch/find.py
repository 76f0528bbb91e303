"""Which files a run is about: what its inputs name, less what belongs to other shards."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.imaging.formats import IMAGE_SUFFIXES
from diffir_cli.imaging.probe import Probe, probe_picture

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
    barred = None if skip is None else Path(os.path.realpath(skip))
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            root, named = path, False
            files = sorted(files_in(path, recursive))
        else:
            named = os.path.lexists(path)
            root, files = (path.parent, [path]) if named else (fixed_part(text), _matches(text))
            if not files:
                raise InputError(f"no such file or folder: {text}", "check its name")
            if all(file.is_dir() for file in files):
                raise InputError(f"{text} names folders only", "name the folders themselves")
        # Results inside a folder that is searched are no sources.
        inside = barred is not None and Path(os.path.realpath(root)) in barred.parents
        for file in files:
            if file.is_dir() or (not named and inside and barred in real_path(file).parents):
                continue
            keeps_tree = root is path or (recursive and not named)
            below = file.relative_to(root) if keeps_tree else Path(file.name)
            item = Found(file, PurePosixPath(below.as_posix()), named)
            found.setdefault(str(file.absolute()), item)
    return list(found.values())


def fixed_part(pattern: str) -> Path:
    """The folder below which a pattern looks."""
    path = Path(pattern)
    while glob.has_magic(str(path)):
        path = path.parent
    return path if path.is_dir() else path.parent


def real_path(path: Path) -> Path:
    """Where links lead in the end; unlike `resolve` it bears one that leads to itself."""
    return Path(os.path.realpath(path))


def _is_left_out(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def files_in(folder: Path, recursive: bool) -> Iterator[Path]:
    """All files of a folder but hidden ones and those of operating systems."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        _log.warning("%s is left out: %s", folder, error.strerror)
        return
    for path in entries:
        if _is_left_out(path):
            continue
        if path.is_dir():
            # A link to a folder could lead round in a circle.
            if recursive and not path.is_symlink():
                yield from files_in(path, True)
        else:
            yield path


def _matches(pattern: str) -> list[Path]:
    # A whole pattern, which may begin with a slash.
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    return [path for path in map(Path, matches) if not _is_left_out(path)]


def probe_all(
    found: Sequence[Found], limit: int, workers: int
) -> Iterator[tuple[Found, Probe | str]]:
    """What the header of each file says, or why it cannot be read; others than pictures left out.

    A file that was not named itself must have the content or the ending of a picture.
    """
    look = partial(_probed, limit=limit)
    with ThreadPoolExecutor(workers) as pool:
        items = iter(found)
        # A listing may be long: never more than a part of it at once.
        while part := list(islice(items, 1024)):
            for item, probe in zip(part, pool.map(look, part), strict=True):
                known = item.named or item.path.suffix.lower() in IMAGE_SUFFIXES
                if known or isinstance(probe, Probe):
                    yield item, probe


def _probed(item: Found, limit: int) -> Probe | str:
    try:
        return probe_picture(item.path, limit)
    except DiffIRError as error:
        return error.message


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
        digest = hashlib.sha256(str(item.below).encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % count + 1

    return [item for item in found if shard(item) == number]
