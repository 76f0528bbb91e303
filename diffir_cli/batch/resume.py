"""What is left to do of a plan, where results are there already."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from diffir_cli.batch.journal import Record, is_current, is_intact, is_of
from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import is_taken, store_errors
from diffir_cli.errors import InputError
from diffir_cli.options import OnExist
from diffir_cli.runtime.pictures import is_provenance
from diffir_cli.util.files import file_sha256
from diffir_cli.weights.locate import WeightFile

_log = logging.getLogger(__name__)

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
    is_there: Callable[[Path], bool] = is_taken,
) -> Remaining:
    """Sort a plan with a folder of results by what is there.

    Args:
        jobs: The plan.
        records: What the journal says, by output.
        options: Digest of this run's options.
        weights: The sha256 of its weights.
        on_exist: What becomes of files that the journal does not know.
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
            why = _change(record, job, options, weights)
            if why:
                found.todo.append(replace(job, overwrite=True, redone=why))
            else:
                found.finished.append(job)
        elif on_exist is OnExist.OVERWRITE:
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


def remaining_in_place(
    jobs: Sequence[Job], records: Records, origin: tuple[WeightFile, int] | None
) -> Remaining:
    """Sort a plan that replaces its sources by which of them are results themselves.

    A file is known by its content, wherever it lies by now and whatever it is called.

    Args:
        jobs: The plan.
        records: What the journals beside the files say.
        origin: Weights and seed of this run: a file that says it was made with them, by any run, is
            finished; None where such notes count for nothing.
    """
    found = Remaining([], [], [])
    by_size: dict[int, list[Record]] = {}
    for record in itertools.chain.from_iterable(records.values()):
        by_size.setdefault(record.output_size, []).append(record)
    for job in jobs:
        if _is_result(job, by_size):
            found.finished.append(job)
        elif origin and not job.mask and is_provenance(job.software, *origin):
            _log.info("%s says that these weights made it: it stays as it is", job.source)
            found.finished.append(job)
        else:
            found.todo.append(job)
    return found


def _is_result(job: Job, by_size: Mapping[int, Sequence[Record]]) -> bool:
    """Whether a file is one that a journal speaks of, filled by the same mask."""
    try:
        with store_errors(job.target):
            known = by_size.get(job.target.stat().st_size, [])
            if job.mask:
                mask = file_sha256(job.mask)
                known = [record for record in known if record.mask_sha256 == mask]
            named = (one for one in known if PurePosixPath(one.output).name == job.target.name)
            if any(is_intact(record, job.target) for record in named):
                return True
            return bool(known) and file_sha256(job.target) in {one.output_sha256 for one in known}
    except OSError:
        return False


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
