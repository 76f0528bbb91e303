"""What a run will do: which pictures, under which names, and what stands in the way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from diffir_cli.batch.find import Found
from diffir_cli.batch.masks import Masks
from diffir_cli.batch.naming import Naming, check_collisions
from diffir_cli.batch.stores import is_remote, real_path, store_errors
from diffir_cli.errors import DiffIRError, InputError, UsageError
from diffir_cli.imaging.fitting import check_only_copy
from diffir_cli.imaging.formats import Format, format_like
from diffir_cli.imaging.masks import check_mask_size, no_transparency
from diffir_cli.imaging.probe import Probe, probe_picture
from diffir_cli.imaging.source import PictureOptions, result_size
from diffir_cli.imaging.write import check_coding, check_fit
from diffir_cli.util.files import is_taken_by_file

_log = logging.getLogger(__name__)


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
    hint: str = ""
    """What may help then."""
    overwrite: bool = False
    """Whether the result may replace a file."""
    redone: str = ""
    """Why a finished result is made again."""
    software: str = ""
    """What the source says has made it."""
    links: tuple[Path, ...] = ()
    """Further names of the file that is replaced, which become names of the result."""

    def failing(self, fault: DiffIRError) -> Job:
        """The same, known to fail."""
        return replace(self, error=fault.message, hint=fault.hint)


def plan_jobs(
    probed: Sequence[tuple[Found, Probe | DiffIRError]],
    folder: Path | None,
    naming: Naming,
    picture_options: PictureOptions,
    masks: Masks | None,
    others: Sequence[Found] = (),
) -> list[Job]:
    """What becomes of each picture.

    Args:
        probed: As `probe_all` gives them.
        folder: Where results go; None for the place of each source.
        naming: How they are called and written.
        picture_options: What is done with them.
        masks: Those of the run; None for none.
        others: What other shards restore.

    Raises:
        InputError: when two results would have one name, or one would replace a source.
    """
    jobs = [_job(item, probe, folder, naming, picture_options) for item, probe in probed]
    if masks:
        pairs = zip(probed, jobs, strict=True)
        jobs = [_masked(job, item, masks, picture_options) for (item, _), job in pairs]
    if folder is None:
        return _once_each(jobs)
    named = [(item, job.output) for (item, _), job in zip(probed, jobs, strict=True)]
    named += [(item, naming.name_unprobed(item)) for item in others]
    check_collisions(named, naming, folder)
    _check_sources(jobs, [item.path for item in others])
    return jobs


def _job(
    item: Found,
    probe: Probe | DiffIRError,
    folder: Path | None,
    naming: Naming,
    picture_options: PictureOptions,
) -> Job:
    fault = None if isinstance(probe, Probe) else probe
    with store_errors(item.path):
        size = item.path.stat().st_size if not fault and item.path.exists() else 0
    kind = probe.format if isinstance(probe, Probe) else "PNG"
    format_ = naming.chosen_format() or format_like(kind)
    if folder is None:
        # What a link leads to is restored, and the link stays.
        target = real_path(item.path)
        output = str(target)
        if isinstance(probe, Probe):
            if format_like(probe.format).name != _own(probe.format):
                fault = InputError(
                    f"{item.path} has the format {probe.format}, which diffir cannot write",
                    "give --output instead of --in-place",
                )
            elif probe.frames > 1:
                fault = InputError(
                    f"{item.path} has {probe.frames} frames, and only one would remain",
                    "give --output instead of --in-place",
                )
    else:
        output = naming.name(item) + _ending(item.path, format_)
        target = folder / output
    if isinstance(probe, Probe):
        width, height = result_size(probe.size, picture_options, naming.scale)
        alpha = probe.alpha and picture_options.keeps_alpha
        try:
            if folder is None:
                check_only_copy(item.path, probe.lost, picture_options.strip_metadata)
            if picture_options.mask_from_alpha and not probe.alpha:
                raise no_transparency(item.path)
            if not is_remote(target):
                is_taken_by_file(target)
            check_fit(target, (width, height), alpha, probe.deep, format_)
            check_coding(
                target, naming.quality if format_.lossy else None, naming.lossless, format_
            )
        except (InputError, UsageError) as error:
            fault = fault or error
    job = Job(item.path, output, target, format_, bytes=size, overwrite=folder is None)
    if fault:
        job = job.failing(fault)
    if not isinstance(probe, Probe):
        return job
    pixels = probe.size[0] * probe.size[1]
    return replace(job, pixels=pixels, size=probe.size, deep=probe.deep, software=probe.software)


def _masked(job: Job, item: Found, masks: Masks, picture_options: PictureOptions) -> Job:
    """A job with its mask, or without one where its error says why."""
    mask = masks.of(item)
    if job.error:
        return job
    if mask is None:
        return job.failing(
            InputError(f"{item.path} has no mask in {masks.place}", "name it like the photo")
        )
    if not is_remote(mask):
        limits = picture_options.max_pixels, None, picture_options.allow_truncated
        try:
            check_mask_size(mask, probe_picture(mask, *limits).size, job.size)
        except InputError as fault:
            return replace(job.failing(fault), mask=mask)
    return replace(job, mask=mask)


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


def _ending(path: Path, format_: Format) -> str:
    """The source's own ending where that is one of the format's."""
    own = path.suffix.lower()
    return own if own in format_.endings else format_.endings[0]


def _check_sources(jobs: Sequence[Job], others: Sequence[Path]) -> None:
    """Refuse results that would replace a source, of any shard, or a mask."""
    kept = {real_path(path) for job in jobs for path in (job.source, job.mask) if path}
    kept |= {real_path(path) for path in others}
    for job in jobs:
        if real_path(job.target) in kept:
            raise InputError(
                f"{job.target} would replace a source or a mask", "name another folder with -o"
            )
