"""Many pictures through one network: reading runs ahead of it, writing behind it, in short queues.

However many pictures there are, only a few of them are in memory.
"""

from __future__ import annotations

import logging
import multiprocessing.synchronize
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import is_remote
from diffir_cli.batch.work import Computed, Loaded, Outcome, Work, compute, failed, load
from diffir_cli.batch.writing import save, write_fault
from diffir_cli.errors import InputError
from diffir_cli.models.progress import Progress
from diffir_cli.runtime.runner import ModelRunner

_log = logging.getLogger(__name__)

_PIXELS_AHEAD = 2**26
"""LQ pixels that may wait in memory, beside one picture of any size."""
_SPARE = 2**20
"""Bytes that must be free besides what the last result on a full disk took."""


class Pipeline:
    """Restores jobs one after the other.

    Args:
        work: What is the same for all.
        runner: The network.
        helpers: Threads for reading, and as many for writing.
        stop: Once it is set, the picture in the network is finished and no other begun.
        begin: Called with each job as it enters the network.
        done: Called with what became of each, from the thread that runs.
        progress: Called with the share of the current picture that is done, 0 to 1; optional.
    """

    def __init__(
        self,
        work: Work,
        runner: ModelRunner,
        helpers: int,
        stop: threading.Event | multiprocessing.synchronize.Event,
        begin: Callable[[Job], None],
        done: Callable[[Outcome], None],
        progress: Progress | None = None,
    ) -> None:
        self.work, self.runner, self.helpers = work, runner, helpers
        self.stop, self.begin, self.done, self.progress = stop, begin, done, progress
        self._ahead: deque[tuple[Job, Future[Loaded]]] = deque()
        self._behind: deque[Future[Outcome]] = deque()
        self._needed = 0

    def run(self, jobs: Iterator[Job]) -> None:
        """Restore jobs as they come, until there are no more or it is stopped."""
        reading = ThreadPoolExecutor(self.helpers, "read")
        writing = ThreadPoolExecutor(self.helpers, "write")
        try:
            while not self.stop.is_set():
                self._read_ahead(jobs, reading)
                if not self._ahead:
                    break
                self._restore(*self._ahead.popleft(), writing)
                self._collect(self.helpers)
            self._collect(0)
        finally:
            reading.shutdown(wait=True, cancel_futures=True)
            writing.shutdown(wait=True)

    def _read_ahead(self, jobs: Iterator[Job], reading: ThreadPoolExecutor) -> None:
        while len(self._ahead) <= self.helpers:
            if self._ahead and sum(job.pixels for job, _ in self._ahead) > _PIXELS_AHEAD:
                return
            job = next(jobs, None)
            if job is None:
                return
            self._ahead.append((job, reading.submit(load, job, self.work, self.runner)))

    def _restore(self, job: Job, reading: Future[Loaded], writing: ThreadPoolExecutor) -> None:
        self.begin(job)
        try:
            if not job.error:
                self._check_disk(job)
            computed = compute(job, self.work, self.runner, reading.result(), self.progress)
        # Whatever a picture sets off that nobody thought of, the others are not to suffer for it.
        except Exception as error:
            _log.debug("%s", job.source, exc_info=True)
            self._finish(failed(job, self.work, error))
            return
        self._behind.append(writing.submit(self._write, job, computed))

    def _write(self, job: Job, computed: Computed) -> Outcome:
        try:
            return save(job, self.work, computed)
        except OSError as error:
            return failed(job, self.work, write_fault(job, error))
        except Exception as error:
            _log.debug("%s", job.target, exc_info=True)
            return failed(job, self.work, error)

    def _collect(self, most: int) -> None:
        """Report what has been written, and wait until at most so many are not."""
        while self._behind and (len(self._behind) > most or self._behind[0].done()):
            self._finish(self._behind.popleft().result())

    def _finish(self, outcome: Outcome) -> None:
        if outcome.disk_full:
            # Of the same order as what could not be written.
            self._needed = max(outcome.job.bytes, _SPARE)
        self.done(outcome)

    def _check_disk(self, job: Job) -> None:
        """Refuse to compute what there is no space for, once the disk was full.

        Raises:
            InputError: when it still is.
        """
        if not self._needed:
            return
        # Of an object store only the journal can be in want of space.
        file = self.work.journal if is_remote(job.target) else job.target
        if file is None:
            return
        folder = next(parent for parent in file.parents if parent.exists())
        if shutil.disk_usage(folder).free < self._needed + _SPARE:
            raise InputError(f"no space left for {job.target}", "free some space")
        self._needed = 0
