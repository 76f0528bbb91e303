"""A run over many pictures: planned whole, checked, then done in one process or several."""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffir_cli.batch.cluster import run_on_ray
from diffir_cli.batch.find import find_sources, of_shard, probe_all
from diffir_cli.batch.journal import Journal, pull_journals, push_journal
from diffir_cli.batch.lock import check_around
from diffir_cli.batch.masks import find_masks
from diffir_cli.batch.plan import Job, plan_jobs
from diffir_cli.batch.request import Request
from diffir_cli.batch.resume import Remaining, remaining, remaining_in_place
from diffir_cli.batch.run import Pipeline
from diffir_cli.batch.stores import (
    home_of,
    is_remote,
    is_taken,
    objects_in,
    remove_abandoned,
    store_errors,
    without_detours,
)
from diffir_cli.batch.work import Outcome, Work
from diffir_cli.batch.workers import WorkerPool
from diffir_cli.errors import DeviceError, InputError
from diffir_cli.imaging.source import PictureOptions, result_size
from diffir_cli.models.progress import Progress
from diffir_cli.options import OnExist
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.util.files import file_errors, is_folder, may_write, this_process

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    remaining: Remaining
    """The jobs, sorted by what is there."""
    journal: Journal
    """What was done before."""

    @property
    def pixels(self) -> int:
        """LQ pixels to restore."""
        return sum(job.pixels for job in self.remaining.todo)

    def output_bytes(self, request: Request) -> int:
        """An estimate of the bytes of the results: about two for each pixel."""
        options, scale = request.work.picture_options, request.naming.scale
        good = [job.size for job in self.remaining.todo if all(job.size) and not job.error]
        return sum(2 * math.prod(result_size(size, options, scale)) for size in good)

    def free_bytes(self, place: Path) -> int | None:
        """Free where the results go; None for an object store."""
        if is_remote(place):
            return None
        return shutil.disk_usage(next(p for p in [place, *place.parents] if is_folder(p))).free


def make_plan(request: Request, restorer: ModelRunner | None = None, dry: bool = False) -> Plan:
    """Look at every picture and every result that is there.

    Args:
        request: What is wanted.
        restorer: The network, which knows what fits into memory; None where it is another's.
        dry: Whether nothing may be written, not even to repair a journal.

    Raises:
        InputError: when there is nothing to restore, or something stands in the way.
    """
    found = find_sources(request.inputs, request.recursive, request.folder)
    pull_journals(request.place, request.home)
    journal = Journal(request.home, request.shard_name, heal=not dry)
    if request.folder is not None:
        made = {str(without_detours(request.folder / output)) for output in journal.records}
        found = [
            item for item in found if item.named or str(without_detours(item.path)) not in made
        ]
    masks = None
    if request.masks:
        masks, found = find_masks(request.masks, found)
    found = [replace(item, index=index) for index, item in enumerate(found, 1)]
    number, count = request.shard
    everything = found
    if count > 1:
        found = of_shard(found, number, count)
    own = set(found)
    others = [item for item in everything if item not in own]
    picture_options = request.work.picture_options
    limits = picture_options.max_pixels, 4 * request.helpers, picture_options.allow_truncated
    holds_alpha = request.naming.holds_alpha if picture_options.keeps_alpha else None
    probed = list(probe_all(found, *limits, holds_alpha))
    if not probed and count == 1:
        hint = "" if request.recursive else "add -r to include subfolders"
        raise InputError(f"no pictures in {', '.join(request.inputs)}", hint)
    jobs = plan_jobs(probed, request.folder, request.naming, picture_options, masks, others)
    if request.folder is None:
        _read_beside(jobs, journal, request, dry)
        trusts = request.on_exist is not OnExist.OVERWRITE
        origin = (request.work.weights, picture_options.seed) if trusts else None
        left = remaining_in_place(jobs, journal.records, origin)
        return Plan(_within_memory(left, restorer, picture_options), journal)
    if dry:
        _check_writable(request)
    work = request.work
    is_there = _listed(request.folder)
    left = remaining(
        jobs, journal.records, work.digest(), work.weights.sha256, request.on_exist, is_there
    )
    return Plan(_within_memory(left, restorer, picture_options), journal)


def _within_memory(
    left: Remaining, restorer: ModelRunner | None, options: PictureOptions
) -> Remaining:
    """The same, with what goes beyond a limit of memory known to fail."""
    if restorer is None or not restorer.options.limits.max_memory:
        return left
    faults: dict[tuple[int, int, bool], DeviceError | None] = {}
    for job in left.todo:
        size = (*job.size, job.deep)
        if size not in faults and all(job.size):
            try:
                final = result_size(job.size, options, restorer.info.scale)
                restorer.plan(*size, options.strength, final)
                faults[size] = None
            except DeviceError as error:
                faults[size] = error
    todo = []
    for job in left.todo:
        fault = faults.get((*job.size, job.deep))
        todo.append(job.failing(fault) if fault and not job.error else job)
    return replace(left, todo=todo)


def _check_writable(request: Request) -> None:
    """Refuse, in a dry run too, a folder that a run could not make or write into.

    Raises:
        InputError: when it is one.
    """
    home = request.home
    nearest = next(folder for folder in (home, *home.parents) if is_taken(folder))
    if not (nearest.is_dir() and may_write(nearest)):
        raise InputError(f"cannot write into {home}", "name another folder")


def _read_beside(jobs: Sequence[Job], journal: Journal, request: Request, dry: bool) -> None:
    """Add what the journals beside pictures say, whichever run wrote them.

    Raises:
        InputError: when they cannot be read, or another run replaces pictures there.
    """
    places = {job.target.parent for job in jobs}
    if not dry:
        own = [home_of(place) for place in request.locked_places]
        check_around([home_of(place) for place in places], own)
    for place in places:
        home = home_of(place)
        pull_journals(place, home)
        if home != request.home:
            with file_errors(f"cannot read a journal in {home}"):
                journal.read(home)


def _listed(folder: Path) -> Callable[[Path], bool]:
    """Tells whether a name is taken, with one listing where each question is a request."""
    if not is_remote(folder):
        return is_taken
    names = {str(path) for path in objects_in(folder, True)}
    return lambda path: str(path) in names


def run_plan(
    plan: Plan,
    request: Request,
    restorer: ModelRunner,
    stop: threading.Event,
    begin: Callable[[Job], None],
    done: Callable[[Outcome], None],
    progress: Progress | None = None,
) -> None:
    """Restore what is left to do.

    Args:
        plan: What that is.
        request: How.
        restorer: The network in this process.
        stop: Set from outside to end the run after the pictures that are in a network.
        begin: Called with each job as it enters a network.
        done: Called with what became of each.
        progress: Called with the share of the current picture that is done, where this process
            restores it.

    Raises:
        DiffIRError: when no process could begin.
        MissingLibraryError: when a cluster is asked for, and Ray is not installed.
        DeviceError: when the cluster has no node with the asked resources.
    """
    todo = plan.remaining.todo
    work = replace(
        request.work,
        journal=plan.journal.path,
        in_place=request.folder is None,
        owner=this_process() if request.cluster else "",
    )
    _clean(todo, request)

    def finished(outcome: Outcome) -> None:
        if outcome.error and request.fail_fast:
            stop.set()
        done(outcome)

    try:
        if request.cluster:
            run_on_ray(todo, work, request.cluster, stop, finished)
        elif request.devices:
            works = [work.on(device) for device in request.devices]
            WorkerPool(works, request.helpers, stop).run(iter(todo), begin, finished)
        else:
            pipeline = Pipeline(work, restorer, request.helpers, stop, begin, finished, progress)
            pipeline.run(iter(todo))
    finally:
        _clean(todo, request)
        _push(todo, work, request)


def _push(jobs: Sequence[Job], work: Work, request: Request) -> None:
    """Put journals beside results in a store."""
    places = {job.target.parent if work.in_place else request.place for job in jobs}
    assert work.journal is not None
    for place in places:
        journal = home_of(place) / work.journal.name
        try:
            push_journal(place, journal)
        except InputError as error:
            # All that counts lies here.
            _log.warning("the journal stays on this machine, %s: %s", journal, error.message)


def _clean(jobs: Sequence[Job], request: Request) -> None:
    """Remove what killed processes left half written."""
    if is_remote(request.place) and not request.cluster:
        # Nothing is half written there, and to look would take a listing.
        return
    for folder in {path.parent for job in jobs for path in (job.target, *job.links)}:
        with suppress(InputError), store_errors(folder):
            remove_abandoned(folder)


def seconds_per_pixel(restorer: ModelRunner) -> float:
    """How long a network takes for an LQ pixel here, measured on a small picture that fits."""
    for side in (192, 64, 16):
        with suppress(DeviceError):
            # Noise, since in a flat picture there is no shake to look for.
            lq = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
            mask = np.zeros((side, side), bool) if restorer.info.takes_mask else None
            if mask is not None:
                mask[:8, :8] = True
            part = slice(0, min(side, 64))
            restorer.restore(lq[part, part], mask=None if mask is None else mask[part, part])
            started = time.monotonic()
            restorer.restore(lq, mask=mask)
            return (time.monotonic() - started) / side**2
    return 0.0
