"""One picture of many: what decides over its result, and the three steps to it.

The steps are apart so that reading runs ahead of the network and writing behind it.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffir_cli.batch.journal import Record, append
from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import adopt, fetch, home_of, is_remote, put, store_errors
from diffir_cli.errors import DiffIRError
from diffir_cli.imaging import Picture, encode_picture, write_picture
from diffir_cli.imaging.opening import decode_errors
from diffir_cli.imaging.source import PictureOptions, Source, check_source, read_source
from diffir_cli.models.progress import Progress
from diffir_cli.options import ColorFix, RunOptions, Task
from diffir_cli.runtime.loading import load_runner
from diffir_cli.runtime.pictures import RestoredPicture, check_holes, restore_source
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.util.files import file_sha256, unfinished_name
from diffir_cli.weights.locate import WeightFile


@dataclass(frozen=True)
class Work:
    """Everything that is the same for all pictures of a run; a worker process is given it whole."""

    task: Task
    """What is wrong with them."""
    weights: WeightFile
    """What they are restored with."""
    picture_options: PictureOptions
    """What else is done with them."""
    run_options: RunOptions = field(default_factory=RunOptions)
    """How the network is run."""
    quality: int | None = None
    """Of lossy formats."""
    lossless: bool = False
    """Whether formats that can lose nothing do so."""
    journal: Path | None = None
    """Where finished files are noted; None for nowhere."""
    in_place: bool = False
    """Whether each file is noted beside itself instead, so that it is known whatever is named."""
    owner: str = ""
    """Whose unfinished files are; empty for this process."""

    def runner(self) -> ModelRunner:
        """The network on its device.

        Raises:
            WeightsError: when the weights cannot be used for the task.
            DeviceError: when the machine cannot provide device or precision.
        """
        return load_runner(self.weights, self.task, self.run_options)

    def on(self, device: str) -> Work:
        """The same on another device."""
        return dataclasses.replace(
            self, run_options=dataclasses.replace(self.run_options, device=device)
        )

    def note(self, job: Job, record: Record) -> None:
        """Add a line to the journal of a picture; in place, to those beside all its names.

        Raises:
            OSError: when it cannot be written.
        """
        if not self.journal:
            return
        if not self.in_place:
            append(self.journal, record)
            return
        for folder in {path.parent for path in (job.target, *job.links)}:
            append(home_of(folder) / self.journal.name, record)

    def digest(self) -> str:
        """A short hash of all that decides over the bytes of results beside sources and weights."""
        chosen = dataclasses.asdict(self.picture_options)
        for name in ("strength", "size", "long_side"):
            if chosen[name] == getattr(PictureOptions(), name):
                # Left out by default, so that results of earlier versions are still known.
                del chosen[name]
        run = self.run_options
        # How much memory a run may take does not decide over a pixel.
        limits = dataclasses.replace(run.limits, max_memory=0)
        values: dict[str, Any] = {
            "treatment": chosen,
            "task": self.task,
            "precision": run.precision,
            "engine": run.engine,
            "limits": dataclasses.astuple(limits),
            "quality": self.quality,
            "lossless": self.lossless,
        }
        if run.color_fix is not ColorFix.AUTO:
            # Left out by default, so that results of earlier versions are still known.
            values["color_fix"] = run.color_fix
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True)
class Loaded:
    """A picture that was read, and what the journal will say of its files."""

    source: Source
    """What was read."""
    record: Record
    """What the journal will say, but for the result."""
    seconds: float
    """What reading took."""


@dataclass(frozen=True)
class Staged:
    """A result that is written and has not got its name yet."""

    record: Record
    """What the journal will say."""
    file: Path
    """Where it is meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """What became of a picture."""

    job: Job
    """Which."""
    error: str = ""
    """Why there is no result; empty where there is one."""
    hint: str = ""
    """What may help."""
    seconds: float = 0.0
    """From reading to writing."""
    size: tuple[int, int] = (0, 0)
    """(width, height) of the result in pixels."""
    tiles: int = 0
    """Side of the tiles in LQ pixels; 0 where it was done whole."""
    redone: int = 0
    """How often fp32 took the place of half precision."""
    precision: str = ""
    """The number format of the DIRformer."""
    disk_full: bool = False
    """Whether there was no space for it."""


def load(job: Job, work: Work, runner: ModelRunner) -> Loaded:
    """Read a picture, if it will fit into memory.

    Raises:
        InputError: when it or its mask cannot be read.
        DeviceError: when one of its size needs more than the limit of memory.
    """
    # Without a limit what counts is what is free once the picture before it is done.
    if all(job.size) and work.run_options.limits.max_memory:
        runner.plan(*job.size, job.deep, work.picture_options.strength)
    started = time.monotonic()
    # Hashed and decoded from the same bytes, even if the file changes meanwhile.
    changed, data = _content(job.source, work)
    mask_data = _content(job.mask, work)[1] if job.mask else None
    source = read_source(job.source, work.picture_options, job.mask, data, mask_data)
    record = Record(
        input=str(job.source.absolute()),
        output=job.output,
        size=len(data),
        mtime_ns=changed,
        sha256=hashlib.sha256(data).hexdigest(),
        mask_sha256="" if mask_data is None else hashlib.sha256(mask_data).hexdigest(),
        options=work.digest(),
        weights=work.weights.sha256,
    )
    return Loaded(source, record, time.monotonic() - started)


def _content(path: Path, work: Work) -> tuple[int, bytes]:
    """When a file was last changed, in ns, and its bytes.

    Raises:
        InputError: when it cannot be read.
    """
    if is_remote(path):
        with store_errors(path):
            return path.stat().st_mtime_ns, fetch(path)
    with decode_errors(path, None, work.picture_options.max_pixels):
        return path.stat().st_mtime_ns, fetch(path)


def compute(
    job: Job, work: Work, runner: ModelRunner, loaded: Loaded, progress: Progress | None = None
) -> RestoredPicture:
    """Restore a picture.

    Raises:
        InputError: when its format cannot hold the result, or a mask is missing or too much.
        DeviceError: when it does not fit into memory.
        WeightsError: when the network produced NaN or infinite values.
    """
    source = loaded.source
    check_holes(runner, source.holes is not None, work.weights.name)
    check_source(
        source,
        job.source,
        job.target,
        job.format,
        work.picture_options,
        runner.info.scale,
        work.in_place,
    )
    return restore_source(runner, source, work.picture_options, work.weights, progress)


def save(job: Job, work: Work, record: Record, result: Picture, seconds: float) -> float:
    """Write a result, noted in the journal before it gets its name.

    Args:
        job: Which.
        work: How.
        record: What the journal will say, but for the result.
        result: The picture.
        seconds: What it took until now.

    Returns:
        What it took in all, for writing too.

    Raises:
        InputError: when it cannot be written.
    """
    started = time.monotonic()

    def passed() -> float:
        return seconds + time.monotonic() - started

    if is_remote(job.target):
        data = _encoded(job, work, result)
        finished = _uploaded_record(record, data, passed())
        work.note(job, finished)
        put(job.target, data, job.overwrite)
        _note_time(job, work, finished)
        return passed()

    def note(temporary: Path) -> None:
        if work.journal:
            work.note(job, _finished_record(record, temporary, passed()))

    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_picture(result, job.target, job.overwrite, work.quality, work.lossless, job.format, note)
    _link(job, work)
    return passed()


def _link(job: Job, work: Work) -> None:
    """Let all other names of the file that was replaced lead to the result too.

    Raises:
        OSError: when a folder does not allow it.
    """
    for link in job.links:
        temporary = unfinished_name(link, work.owner)
        temporary.hardlink_to(job.target)
        temporary.replace(link)


def stage(job: Job, work: Work, record: Record, result: Picture, seconds: float) -> Staged:
    """Write a result under a name that nobody else uses.

    Raises:
        InputError: when it cannot be written.
        OSError: when its folder cannot be made.
    """
    file = unfinished_name(job.target, work.owner)
    if is_remote(file):
        data = _encoded(job, work, result)
        put(file, data, True)
        return Staged(_uploaded_record(record, data, seconds), file)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_picture(result, file, False, work.quality, work.lossless, job.format)
    return Staged(_finished_record(record, file, seconds), file)


def settle(job: Job, work: Work, staged: Staged) -> None:
    """Note a result in the journal and give it its name.

    Raises:
        FileExistsError: when it may not replace a file that has it.
        InputError: when a store does not do it.
        OSError: when a folder does not.
    """
    work.note(job, staged.record)
    adopt(staged.file, job.target, job.overwrite)
    _link(job, work)
    if is_remote(job.target):
        _note_time(job, work, staged.record)


def _encoded(job: Job, work: Work, result: Picture) -> bytes:
    return encode_picture(result, job.target, job.format, work.quality, work.lossless)


def _uploaded_record(record: Record, data: bytes, seconds: float) -> Record:
    """What the journal says of a picture before a store has taken it."""
    return dataclasses.replace(
        record,
        output_sha256=hashlib.sha256(data).hexdigest(),
        output_size=len(data),
        seconds=round(seconds, 3),
    )


def _note_time(job: Job, work: Work, record: Record) -> None:
    """Note when a store has taken a result, so that it need not be read to know it again."""
    if work.journal:
        with suppress(DiffIRError), store_errors(job.target):
            changed = job.target.stat().st_mtime_ns
            work.note(job, dataclasses.replace(record, output_mtime_ns=changed))


def _finished_record(record: Record, file: Path, seconds: float) -> Record:
    """What the journal says of a picture once its result is in a file.

    Raises:
        OSError: when the file cannot be read.
    """
    found = file.stat()
    return dataclasses.replace(
        record,
        output_sha256=file_sha256(file),
        output_size=found.st_size,
        output_mtime_ns=found.st_mtime_ns,
        seconds=round(seconds, 3),
    )


def failed(job: Job, work: Work, error: DiffIRError) -> Outcome:
    """A failure, noted in the journal where that can be written."""
    with suppress(OSError):
        work.note(job, Record(str(job.source), job.output, error=error.message))
    full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
    return Outcome(job, error.message, error.hint, disk_full=full)
