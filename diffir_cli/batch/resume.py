"""What is left to do of a plan, where results are there already."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from diffir_cli.batch.journal import Record, is_current, is_intact, is_of
from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import is_taken, store_errors
from diffir_cli.errors import InputError
from diffir_cli.options import OnExist
from diffir_cli.util.files import file_sha256

Records = Mapping[str, Sequence[Record]]
"""What was finished under each name, the newest last."""


@dataclass(frozen=True)
class Remaining:
    """A plan, sorted by what is there."""

    todo: list[Job]
    """To be restored."""
    finished: list[Job]
    """Done before, with the same source, options and weights."""
    kept: list[Job]
    """Left out, since a file has their name."""


def remaining(
    jobs: Sequence[Job],
    records: Records,
    options: str,
    weights: str,
    on_exist: OnExist,
    in_place: bool,
    is_there: Callable[[Path], bool] = is_taken,
) -> Remaining:
    """Sort a plan by what is there.

    Args:
        jobs: The plan.
        records: What the journal says, by output.
        options: Digest of this run's options.
        weights: The sha256 of its weights.
        on_exist: What becomes of files that the journal does not know.
        in_place: Whether results lie where their sources were.
        is_there: Whether anything has a name.

    Raises:
        InputError: when files are in the way and `on_exist` is `error`.
    """
    found = Remaining([], [], [])
    in_the_way = []
    taken = {job.output for job in jobs}
    for planned in jobs:
        job, record = planned, _made(planned, records)
        if on_exist is OnExist.RENAME and record is None:
            job = _renamed(planned, taken, records, is_there)
            record = _made(job, records)
        if not is_there(job.target):
            found.todo.append(job)
        elif job.error:
            # Whatever was made of it before stays.
            found.todo.append(job)
        elif record:
            # In place, the source is the result and cannot have changed.
            why = "" if in_place else _change(record, job, options, weights)
            if why:
                found.todo.append(replace(job, overwrite=True, redone=why))
            else:
                found.finished.append(job)
        elif in_place or on_exist is OnExist.OVERWRITE:
            found.todo.append(replace(job, overwrite=True))
        elif on_exist is OnExist.SKIP:
            found.kept.append(job)
        else:
            in_the_way.append(job)
    if in_the_way:
        more = f" and {len(in_the_way) - 1} more results" if len(in_the_way) > 1 else ""
        raise InputError(
            f"{in_the_way[0].target}{more} already exist"
            if more
            else f"{in_the_way[0].target} already exists",
            "add --on-exist skip, overwrite or rename",
        )
    return found


def _made(job: Job, records: Records) -> Record | None:
    """How the file that has a job's name was made of its source, where it was."""
    for record in reversed(records.get(job.output, [])):
        try:
            with store_errors(job.target):
                same = _is_the_file(record, job)
            with store_errors(job.source):
                if same and (job.error or is_of(record, job.source)):
                    return record
        except OSError:
            continue
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue
            raise
    return None


def _change(record: Record, job: Job, options: str, weights: str) -> str:
    """Why a finished file must be done again; empty where nothing has changed."""
    with store_errors(job.source):
        return is_current(record, job.source, job.mask, options, weights)


def _is_the_file(record: Record, job: Job) -> bool:
    """Whether a file is the one that the journal speaks of, even if it was copied since."""
    if is_intact(record, job.target):
        return True
    same_size = job.target.stat().st_size == record.output_size
    return same_size and file_sha256(job.target) == record.output_sha256


def _renamed(job: Job, taken: set[str], records: Records, is_there: Callable[[Path], bool]) -> Job:
    """The job with the first number behind its name that is free, or that it had before."""
    path, folder = PurePosixPath(job.output), job.target
    for _ in path.parts:
        folder = folder.parent
    for number in itertools.count():
        output = str(path.with_name(f"{path.stem}-{number}{path.suffix}")) if number else job.output
        named = replace(job, output=output, target=folder / output)
        free = not (is_there(named.target) or (number and output in taken))
        if free or _made(named, records):
            taken.add(output)
            return named
    raise AssertionError
