"""What a run will do: which pictures, under which names, and what stands in the way."""

from __future__ import annotations

import logging
import string
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from diffir_cli.batch.find import Found, files_in
from diffir_cli.batch.stores import below, is_remote, real_path, store_errors
from diffir_cli.errors import InputError
from diffir_cli.imaging.formats import Format, format_like, format_of
from diffir_cli.imaging.probe import Probe
from diffir_cli.imaging.source import PictureOptions, result_size
from diffir_cli.imaging.write import check_coding, check_fit
from diffir_cli.options import Task

_log = logging.getLogger(__name__)

_FIELDS = ("reldir", "stem", "ext", "task", "scale", "weights")


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
    size: tuple[int, int] = (0, 0)
    """(width, height) of the source; (0, 0) where it is unknown."""
    deep: bool = False
    """Whether the source has 16 bits a channel."""
    bytes: int = 0
    """Of the source's file."""
    error: str = ""
    """Why it will fail, where that is known beforehand."""
    overwrite: bool = False
    """Whether the result may replace a file."""
    redone: str = ""
    """Why a finished result is made again."""
    software: str = ""
    """What the source says has made it."""
    links: tuple[Path, ...] = ()
    """Further names of the file that is replaced, which become names of the result."""


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


def plan_jobs(
    probed: Sequence[tuple[Found, Probe | str]],
    folder: Path | None,
    naming: Naming,
    picture_options: PictureOptions,
    masks: Path | None,
    others: Sequence[Found] = (),
) -> list[Job]:
    """What becomes of each picture.

    Args:
        probed: As `probe_all` gives them.
        folder: Where results go; None for the place of each source.
        naming: How they are called and written.
        picture_options: What is done with them.
        masks: A mask for all, or a folder of them.
        others: What other shards restore.

    Raises:
        InputError: when two results would have one name, a result would replace a source, or there
            are no masks where they should be.
    """
    check_template(naming.template)
    pairs_by_name = _pairs_by_name(masks) if masks else None
    jobs = []
    for item, probe in probed:
        job = _job(item, probe, folder, naming, picture_options)
        if masks and not job.error:
            mask = masks if pairs_by_name is None else _partner(item.below, pairs_by_name)
            fault = "" if mask else f"{item.path} has no mask in {masks}"
            job = replace(job, mask=mask, error=fault)
        jobs.append(job)
    if folder is None:
        jobs = _once_each(jobs)
    else:
        named = [(job.source, job.output) for job in jobs]
        named += [(item.path, _unprobed_name(item, naming)) for item in others]
        _check_collisions(named, folder)
        _check_sources(jobs, [item.path for item in others])
    return jobs


def _unprobed_name(item: Found, naming: Naming) -> str:
    """How the result of another shard is called, told from its source's name alone."""
    ending = "." + naming.format.lower().removeprefix(".") if naming.format else item.path.suffix
    return _name(item, naming) + ending.lower()


def _job(
    item: Found,
    probe: Probe | str,
    folder: Path | None,
    naming: Naming,
    picture_options: PictureOptions,
) -> Job:
    error = probe if isinstance(probe, str) else ""
    with store_errors(item.path):
        size = item.path.stat().st_size if item.path.exists() else 0
    try:
        format_ = _format(item, probe, naming)
    except InputError as fault:
        # The same for all: nothing would be written.
        if naming.format:
            raise
        format_, error = format_like("PNG"), fault.message
    if folder is None:
        # What a link leads to is restored, and the link stays.
        target = real_path(item.path)
        output = str(target)
        if isinstance(probe, Probe):
            if format_like(probe.format).name != _own(probe.format):
                error = f"{item.path} has the format {probe.format}, which diffir cannot write"
            elif probe.frames > 1:
                error = f"{item.path} has {probe.frames} frames, and only one would remain"
    else:
        ending = _ending(item.path, format_)
        output = _name(item, naming) + ending
        target = folder / output
    if isinstance(probe, Probe):
        width, height = result_size(probe.size, picture_options, naming.scale)
        alpha = probe.alpha and picture_options.keeps_alpha
        try:
            check_fit(target, (width, height), alpha, probe.deep, format_)
            check_coding(target, naming.quality, naming.lossless, format_)
        except InputError as fault:
            error = error or fault.message
    job = Job(item.path, output, target, format_, bytes=size, error=error, overwrite=folder is None)
    if not isinstance(probe, Probe):
        return job
    pixels = probe.size[0] * probe.size[1]
    return replace(job, pixels=pixels, size=probe.size, deep=probe.deep, software=probe.software)


def _once_each(jobs: Sequence[Job]) -> list[Job]:
    """One job for each file that is replaced, however many names and links lead to it."""
    files: dict[tuple[object, int], Job] = {}
    for job in jobs:
        file = _identity(job.target)
        first = files.setdefault(file, job)
        if job.target not in (first.target, *first.links):
            files[file] = replace(first, links=(*first.links, job.target))
    for (_, names), job in files.items():
        if names > 1 + len(job.links):
            _log.warning("%s has names elsewhere, which keep the old picture", job.target)
    return list(files.values())


def _identity(path: Path) -> tuple[object, int]:
    """What is the same for all names of a file, and how many it has."""
    with suppress(OSError):
        if not is_remote(path) and (found := path.stat()).st_nlink > 1:
            return (found.st_dev, found.st_ino), found.st_nlink
    return str(path), 1


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
            f"--name {template!r} is not a valid template: {error}", "write {{ for a brace itself"
        ) from error
    for name in names:
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise InputError(f"--name has no field {{{name}}}", f"use {known}")
    try:
        template.format(**dict.fromkeys(_FIELDS, "x"))
    except (ValueError, LookupError, AttributeError) as error:
        raise InputError(
            f"--name {template!r} is not a valid template: {error}", "leave : and ! out of fields"
        ) from error


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
        raise InputError(
            f"--name {naming.template!r} points outside the output folder: {name!r}", "leave .. out"
        )
    return str(path)


def _pairs_by_name(folder: Path) -> dict[str, Path] | None:
    """Masks by their path below the folder, without ending; None where it is one mask."""
    with store_errors(folder):
        if not folder.is_dir():
            if not folder.exists():
                raise InputError(f"no such file or folder: {folder}", "check its name")
            return None
    masks: dict[str, Path] = {}
    for path in sorted(files_in(folder, True)):
        name = str(below(path, folder).with_suffix(""))
        masks.setdefault(unicodedata.normalize("NFC", name), path)
    return masks


def _partner(place: PurePosixPath, masks: dict[str, Path]) -> Path | None:
    """The mask of the same name, or of that name with `_mask` behind it; first in the same tree."""
    path = unicodedata.normalize("NFC", str(place.with_suffix("")))
    stem = unicodedata.normalize("NFC", place.stem)
    for name in (path, f"{path}_mask", stem, f"{stem}_mask"):
        if name in masks:
            return masks[name]
    return None


def _check_collisions(named: Sequence[tuple[Path, str]], folder: Path) -> None:
    taken: dict[str, Path] = {}
    for source, output in named:
        # As file systems that ignore case, or how accents are written, would see it.
        key = unicodedata.normalize("NFC", output).casefold()
        other = taken.setdefault(key, source)
        if other is not source:
            raise InputError(
                f"{other} and {source} would both become {folder / output}",
                "add --name '{stem}_{ext}', or -r to keep folders apart",
            )


def _check_sources(jobs: Sequence[Job], others: Sequence[Path]) -> None:
    """Refuse results that would replace a source, of any shard, or a mask."""
    kept = {real_path(path) for job in jobs for path in (job.source, job.mask) if path}
    kept |= {real_path(path) for path in others}
    for job in jobs:
        if real_path(job.target) in kept:
            raise InputError(
                f"{job.target} would replace a source or a mask",
                "name another folder with -o, or say --in-place",
            )
