"""One picture of many: what decides over its result, and the first two of the three steps to it.

The steps are apart so that reading runs ahead of the network and writing (`batch/writing.py`)
behind it.
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
from diffir_cli.batch.stores import fetch, home_of, is_remote, store_errors
from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.imaging import Picture
from diffir_cli.imaging.opening import decode_errors
from diffir_cli.imaging.source import PictureOptions, Source, check_source, read_source, result_size
from diffir_cli.models.progress import Progress
from diffir_cli.options import ColorFix, RunOptions, Task
from diffir_cli.runtime.loading import load_runner
from diffir_cli.runtime.pictures import check_holes, restore_source
from diffir_cli.runtime.runner import ModelRunner
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
        # What only decides whether there is a result counts as if it were left out.
        default = PictureOptions()
        chosen = dataclasses.asdict(
            dataclasses.replace(
                self.picture_options,
                max_pixels=default.max_pixels,
                allow_truncated=default.allow_truncated,
            )
        )
        for name in ("strength", "size", "long_side"):
            if chosen[name] == getattr(default, name):
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


@dataclass(frozen=True)
class Computed:
    """A result that is to be written."""

    picture: Picture
    """What was restored."""
    record: Record
    """What the journal will say, but for the file."""
    outcome: Outcome
    """What will have become of it, with the seconds until now."""


def load(job: Job, work: Work, runner: ModelRunner) -> Loaded:
    """Read a picture, if it will fit into memory.

    Raises:
        InputError: when it or its mask cannot be read; at once where that is known, since it may
            take for ever to find out.
        DeviceError: when one of its size needs more than the limit of memory.
    """
    if job.error:
        raise InputError(job.error, job.hint)
    # Without a limit what counts is what is free once the picture before it is done.
    if all(job.size) and work.run_options.limits.max_memory:
        final = result_size(job.size, work.picture_options, runner.info.scale)
        runner.plan(*job.size, job.deep, work.picture_options.strength, final)
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
) -> Computed:
    """Restore a picture.

    Raises:
        InputError: when its format cannot hold the result, or a mask is missing or too much.
        DeviceError: when it does not fit into memory.
        WeightsError: when the network produced NaN or infinite values.
    """
    started, source = time.monotonic(), loaded.source
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
    found = restore_source(runner, source, work.picture_options, work.weights, progress)
    outcome = Outcome(
        job,
        seconds=loaded.seconds + time.monotonic() - started,
        size=found.picture.size,
        tiles=found.tile,
        redone=found.redone,
        precision=found.precision.value,
    )
    record = dataclasses.replace(loaded.record, precision=outcome.precision)
    return Computed(found.picture, record, outcome)


def failed(job: Job, work: Work, error: Exception) -> Outcome:
    """A failure of any kind, noted in the journal where that can be written."""
    fault = error
    if not isinstance(fault, DiffIRError):
        fault = DiffIRError(f"{job.source} failed: {type(error).__name__}: {error}")
    with suppress(OSError):
        work.note(job, Record(str(job.source), job.output, error=fault.message))
    full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
    return Outcome(job, fault.message, fault.hint, disk_full=full)
