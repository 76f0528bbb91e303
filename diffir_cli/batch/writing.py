"""The result of a picture into its file or a store: the last of the three steps of a batch."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from diffir_cli.batch.journal import Record
from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import adopt, is_remote, put, store_errors
from diffir_cli.batch.work import Computed, Outcome, Work
from diffir_cli.errors import DiffIRError, InputError
from diffir_cli.imaging import Picture, encode_picture, write_picture
from diffir_cli.util.files import file_sha256, unfinished_name


@dataclass(frozen=True)
class Staged:
    """A result that is written and has not got its name yet."""

    record: Record
    """What the journal will say."""
    file: Path
    """Where it is meanwhile."""


def write_fault(job: Job, error: OSError) -> InputError:
    """What is wrong where a folder does not take a result."""
    fault = InputError(f"cannot write {error.filename or job.target}: {error.strerror}")
    fault.__cause__ = error
    return fault


def save(job: Job, work: Work, computed: Computed) -> Outcome:
    """Write a result, noted in the journal before it gets its name.

    Args:
        job: Which.
        work: How.
        computed: The result.

    Returns:
        What has become of it, with what it took in all.

    Raises:
        InputError: when it cannot be written.
        OSError: when a folder does not allow it.
    """
    started, result = time.monotonic(), computed.picture

    def passed() -> float:
        return computed.outcome.seconds + time.monotonic() - started

    if is_remote(job.target):
        data = _encoded(job, work, result)
        finished = _uploaded_record(computed.record, data, passed())
        work.note(job, finished)
        put(job.target, data, job.overwrite)
        _note_time(job, work, finished)
        return replace(computed.outcome, seconds=round(passed(), 3))

    def note(temporary: Path) -> None:
        if work.journal:
            work.note(job, _finished_record(computed.record, temporary, passed()))

    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_picture(result, job.target, job.overwrite, work.quality, work.lossless, job.format, note)
    _link(job, work)
    return replace(computed.outcome, seconds=round(passed(), 3))


def _link(job: Job, work: Work) -> None:
    """Let all other names of the file that was replaced lead to the result too.

    Raises:
        OSError: when a folder does not allow it.
    """
    for link in job.links:
        temporary = unfinished_name(link, work.owner)
        temporary.hardlink_to(job.target)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink()
            raise


def stage(job: Job, work: Work, computed: Computed) -> Staged:
    """Write a result under a name that nobody else uses.

    Raises:
        InputError: when it cannot be written.
        OSError: when its folder cannot be made.
    """
    file, seconds = unfinished_name(job.target, work.owner), computed.outcome.seconds
    if is_remote(file):
        data = _encoded(job, work, computed.picture)
        put(file, data, True)
        return Staged(_uploaded_record(computed.record, data, seconds), file)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_picture(computed.picture, file, False, work.quality, work.lossless, job.format)
    return Staged(_finished_record(computed.record, file, seconds), file)


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
    return replace(
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
            work.note(job, replace(record, output_mtime_ns=changed))


def _finished_record(record: Record, file: Path, seconds: float) -> Record:
    """What the journal says of a picture once its result is in a file.

    Raises:
        OSError: when the file cannot be read.
    """
    found = file.stat()
    return replace(
        record,
        output_sha256=file_sha256(file),
        output_size=found.st_size,
        output_mtime_ns=found.st_mtime_ns,
        seconds=round(seconds, 3),
    )
