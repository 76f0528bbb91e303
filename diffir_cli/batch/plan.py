"""What a run will do: which pictures, under which names, and what stands in the way."""

from __future__ import annotations

import glob
import hashlib
import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from diffir_cli.config import Task
from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.imaging.formats import IMAGE_SUFFIXES, Format, format_like, format_of
from diffir_cli.imaging.probe import Probe, probe_picture
from diffir_cli.imaging.source import Treatment
from diffir_cli.imaging.write import check_coding, check_fit

_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_FIELDS = ("reldir", "stem", "ext", "task", "scale", "weights")


@dataclass(frozen=True)
class Found:
    """A file that may be a picture."""

    path: Path
    """As it was found."""
    below: PurePosixPath
    """Its path below the folder that was named; its bare name where a file was."""
    named: bool
    """Whether it was named itself, so that it must be a picture."""


@dataclass(frozen=True)
class Job:
    """One picture to restore."""

    source: Path
    """Where it lies."""
    output: str
    """Path of the result below the folder of results, with slashes."""
    target: Path
    """The same, in full."""
    format: Format
    """What the result is written as."""
    mask: Path | None = None
    """The file that marks the holes."""
    pixels: int = 0
    """Of the source; 0 where it could not be told."""
    bytes: int = 0
    """Of the source's file."""
    error: str = ""
    """Why it will fail, where that is known beforehand."""
    overwrite: bool = False
    """Whether the result may replace a file."""
    redone: str = ""
    """Why a finished result is made again."""


@dataclass(frozen=True)
class Naming:
    """How results are called and written."""

    template: str
    """With fields in braces; without `{reldir}` the tree is kept in front."""
    task: Task
    """For `{task}`."""
    weights: str
    """For `{weights}`."""
    scale: float
    """For `{scale}`: side of the result over that of the source."""
    format: str | None = None
    """An ending; None for that of the source where it can be written."""
    quality: int | None = None
    """Of lossy formats."""
    lossless: bool = False
    """Whether formats that can lose nothing do so."""


def find_sources(inputs: Sequence[str], recursive: bool, skip: Path | None) -> list[Found]:
    """All files that inputs name: files, folders and patterns, each once.

    Hidden files and those of operating systems are left out of folders.

    Args:
        inputs: As the user wrote them.
        recursive: Whether folders are searched to the bottom.
        skip: A folder whose files are no sources: that of the results.

    Raises:
        InputError: when one of them names nothing.
    """
    found: dict[Path, Found] = {}
    barred = skip.resolve() if skip else None
    for text in inputs:
        path, count = Path(text), len(found)
        if path.is_dir():
            for file in sorted(_files_in(path, recursive)):
                if (
                    barred is None
                    or barred == path.resolve()
                    or barred not in file.resolve().parents
                ):
                    below = PurePosixPath(file.relative_to(path).as_posix())
                    found.setdefault(file.absolute(), Found(file, below, False))
            continue
        matches = [path] if path.exists() or path.is_symlink() else _matches(text)
        if not matches:
            raise InputError(f"no such file or folder: {text}", "check its name")
        for file in matches:
            if not file.is_dir():
                found.setdefault(file.absolute(), Found(file, PurePosixPath(file.name), True))
        if len(found) == count and all(file.is_dir() for file in matches):
            raise InputError(f"{text} names folders only", "name the folders themselves")
    return list(found.values())


def _files_in(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name.lower() in _SYSTEM:
            continue
        if path.is_dir():
            # A link to a folder could lead round in a circle.
            if recursive and not path.is_symlink():
                yield from _files_in(path, True)
        else:
            yield path


def _matches(pattern: str) -> list[Path]:
    # A whole pattern, which may begin with a slash.
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207


def of_shard(found: Sequence[Found], number: int, count: int) -> list[Found]:
    """The part of shard `number` of `count`, which depends on each path below its folder alone."""

    def shard(item: Found) -> int:
        digest = hashlib.sha256(str(item.below).encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % count + 1

    return [item for item in found if shard(item) == number]


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


def plan_jobs(
    probed: Sequence[tuple[Found, Probe | str]],
    folder: Path | None,
    naming: Naming,
    treatment: Treatment,
    masks: Path | None,
) -> list[Job]:
    """What becomes of each picture.

    Args:
        probed: As `probe_all` gives them.
        folder: Where results go; None for the place of each source.
        naming: How they are called and written.
        treatment: What is done with them.
        masks: A mask for all, or a folder of them.

    Raises:
        InputError: when two results would have one name, or a result would replace a source.
    """
    check_template(naming.template)
    twins = _masks_in(masks) if masks and masks.is_dir() else None
    jobs = []
    for item, probe in probed:
        job = _job(item, probe, folder, naming, treatment)
        if masks and not job.error:
            mask = masks if twins is None else _twin(item.path.stem, twins)
            fault = "" if mask else f"{item.path} has no mask in {masks}"
            job = replace(job, mask=mask, error=fault)
        jobs.append(job)
    _check_collisions(jobs)
    if folder is not None:
        _check_sources(jobs)
    return jobs


def _job(
    item: Found, probe: Probe | str, folder: Path | None, naming: Naming, treatment: Treatment
) -> Job:
    error = probe if isinstance(probe, str) else ""
    size = item.path.stat().st_size if item.path.exists() else 0
    try:
        format_ = _format(item, probe, naming)
    except InputError as fault:
        # The same for all: nothing would be written.
        if naming.format:
            raise
        format_, error = format_like("PNG"), fault.message
    if folder is None:
        output, target = str(item.below), item.path
        if isinstance(probe, Probe) and format_like(probe.format).name != _own(probe.format):
            error = f"{item.path} is {probe.format}, which cannot be written in its place"
    else:
        ending = _ending(item.path, format_)
        output = _name(item, naming) + ending
        target = folder / output
    pixels = 0
    if isinstance(probe, Probe):
        pixels = probe.size[0] * probe.size[1]
        width, height = (max(1, round(side * naming.scale)) for side in probe.size)
        alpha = probe.alpha and treatment.keeps_alpha
        try:
            check_fit(target, (width, height), alpha, probe.deep, format_)
            check_coding(target, naming.quality, naming.lossless, format_)
        except InputError as fault:
            error = error or fault.message
    return Job(
        item.path, output, target, format_, None, pixels, size, error, overwrite=folder is None
    )


def _own(name: str) -> str:
    return "JPEG" if name == "MPO" else name


def _format(item: Found, probe: Probe | str, naming: Naming) -> Format:
    if naming.format:
        return format_of(Path(item.path.stem), naming.format)
    return format_like(probe.format if isinstance(probe, Probe) else "PNG")


def _ending(path: Path, format_: Format) -> str:
    """The source's own ending where that is one of the format's."""
    own = path.suffix.lower()
    return own if own in format_.endings else format_.endings[0]


def check_template(template: str) -> None:
    """Refuse a template with fields that do not exist.

    Raises:
        InputError: when it has one.
    """
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(
            f"--name {template!r} cannot be understood: {error}", "write {{ for a brace itself"
        ) from error
    for name in names:
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise InputError(f"--name has no field {{{name}}}", f"use {known}")


def _name(item: Found, naming: Naming) -> str:
    """Path of a result below its folder, without ending."""
    parent = item.below.parent
    scale = f"{naming.scale:g}"
    values = {
        "reldir": "" if str(parent) == "." else str(parent),
        "stem": item.path.stem,
        "ext": item.path.suffix[1:].lower(),
        "task": naming.task.value,
        "scale": scale,
        "weights": Path(naming.weights).stem,
    }
    name = naming.template.format(**values)
    path = PurePosixPath(name.lstrip("/"))
    if "{reldir}" not in naming.template:
        path = parent / path
    if ".." in path.parts or not path.name:
        raise InputError(f"--name {naming.template!r} leaves the folder: {name!r}", "leave .. out")
    return str(path)


def _masks_in(folder: Path) -> dict[str, list[Path]]:
    masks: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            masks.setdefault(unicodedata.normalize("NFC", path.stem), []).append(path)
    return masks


def _twin(stem: str, masks: dict[str, list[Path]]) -> Path | None:
    """The mask of the same name, or of that name with `_mask` behind it."""
    stem = unicodedata.normalize("NFC", stem)
    for name in (stem, f"{stem}_mask"):
        if name in masks:
            return masks[name][0]
    return None


def _check_collisions(jobs: Sequence[Job]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        # As file systems that ignore case, or how accents are written, would see it.
        key = unicodedata.normalize("NFC", job.output).casefold()
        other = taken.setdefault(key, job)
        if other is not job:
            raise InputError(
                f"{other.source} and {job.source} would both become {job.target}",
                "add --name '{stem}_{ext}', or -r to keep folders apart",
            )


def _check_sources(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in sources:
            raise InputError(
                f"{job.target} would replace a source",
                "name another folder with -o, or say --in-place",
            )


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
