"""Many pictures through several processes: one network each, one queue for all.

Each process has a thread here that feeds it and listens to it. If it dies, what it had is given to
another, and only a picture that kills its process again and again is given up.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

from diffir_cli.batch.plan import Job
from diffir_cli.batch.run import Pipeline
from diffir_cli.batch.work import Outcome, Work, failed
from diffir_cli.errors import DiffIRError
from diffir_cli.util.signals import ENDING

_ATTEMPTS = 3
"""How many processes a picture may cost."""

_READY, _MORE = "ready", "more"
"""What a process says once it has its network, and what it asks for."""

_log = logging.getLogger(__name__)


class WorkerPool:
    """Processes that restore jobs from one queue.

    Args:
        works: What each process is given: the same but for the device.
        helpers: Threads of a process for reading, and as many for writing.
        stop: Once it is set, processes finish the picture in their network and no other.
    """

    def __init__(self, works: Sequence[Work], helpers: int, stop: threading.Event) -> None:
        self.works, self.helpers, self.stop = works, helpers, stop
        self._jobs: Iterator[Job] = iter(())
        self._again: list[tuple[Job, int]] = []
        self._lock = threading.Lock()
        self._events: queue.Queue[Any] = queue.Queue()
        self._processes: set[BaseProcess] = set()
        self._context = multiprocessing.get_context("spawn")
        self._stop_workers = self._context.Event()

    def run(
        self, jobs: Iterator[Job], begin: Callable[[Job], None], done: Callable[[Outcome], None]
    ) -> None:
        """Restore jobs as they come; both functions are called from this thread.

        Raises:
            DiffIRError: when no process could begin its work.
        """
        self._jobs = jobs
        works = list(self.works)
        while works:
            self._faults: dict[int, DiffIRError] = {}
            self._ready: set[int] = set()
            self._round(works, begin, done)
            able = [work for place, work in enumerate(works) if place not in self._faults]
            if self.stop.is_set() or not self._again:
                return
            if not able:
                raise next(iter(self._faults.values()))
            # What was given back when the others had no more to do.
            works = able

    def _round(
        self, works: Sequence[Work], begin: Callable[[Job], None], done: Callable[[Outcome], None]
    ) -> None:
        """Until there are no more jobs, or no process is able to work."""
        threads = [
            threading.Thread(target=self._supervise, args=(place, work), daemon=True)
            for place, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        try:
            while left:
                if self.stop.is_set():
                    self._stop_workers.set()
                # With a limit, since a wait without one hears no signal on some systems.
                try:
                    event = self._events.get(timeout=0.5)
                except queue.Empty:
                    continue
                if event is None:
                    left -= 1
                elif isinstance(event, Outcome):
                    done(event)
                else:
                    begin(event)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """Stop at once, leaving nothing half written."""
        self.stop.set()
        with self._lock:
            for process in self._processes:
                process.kill()
                process.join()

    def _next(self) -> tuple[Job, int] | None:
        """A job, and how many processes it has cost."""
        with self._lock:
            if self.stop.is_set():
                return None
            if self._again:
                return self._again.pop()
            job = next(self._jobs, None)
            return None if job is None else (job, 0)

    def _supervise(self, place: int, work: Work) -> None:
        """Keep a process at work, and begin another where it dies."""
        failed_starts = 0
        try:
            while place not in self._faults and (first := self._next()) is not None:
                assigned = {first[0].output: first}
                self._ready.discard(place)
                try:
                    with self._process(work) as pipe:
                        self._converse(pipe, assigned, first, place)
                except (EOFError, OSError) as error:
                    if place in self._ready:
                        failed_starts = 0
                        self._return(assigned, work)
                        continue
                    # No picture is to blame, so it costs none.
                    failed_starts += 1
                    if failed_starts == _ATTEMPTS:
                        self._faults[place] = _start_fault(error)
                    self._give_back(assigned)
        finally:
            self._events.put(None)

    @contextmanager
    def _process(self, work: Work) -> Iterator[Connection]:
        """A process that runs until the block ends, and the pipe to it.

        Raises:
            OSError: when the system starts none.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, work, self.helpers, self._stop_workers), daemon=True
        )
        try:
            with self._lock:
                if not self.stop.is_set():
                    process.start()
                    self._processes.add(process)
            theirs.close()
            yield ours
        finally:
            ours.close()
            theirs.close()
            if process.pid is not None:
                process.join()
            with self._lock:
                self._processes.discard(process)

    def _converse(
        self, ours: Connection, assigned: dict[str, tuple[Job, int]], first: Any, place: int
    ) -> None:
        """Send jobs, one more than are asked for, and pass on what comes back."""
        ours.send(first[0])
        while True:
            event = ours.recv()
            if event is None:
                return
            if isinstance(event, DiffIRError):
                self._faults[place] = event
                self._give_back(assigned)
                return
            if event == _READY:
                self._ready.add(place)
                continue
            if event == _MORE:
                following = self._next()
                if following:
                    assigned[following[0].output] = following
                ours.send(following[0] if following else None)
                continue
            if isinstance(event, Outcome):
                assigned.pop(event.job.output, None)
            self._events.put(event)

    def _give_back(self, assigned: dict[str, tuple[Job, int]]) -> None:
        """Leave what a process never began to another."""
        with self._lock:
            self._again += assigned.values()

    def _return(self, assigned: dict[str, tuple[Job, int]], work: Work) -> None:
        """Give back what a dead process had, or give it up."""
        if self.stop.is_set():
            return
        for job, cost in assigned.values():
            if cost + 1 < _ATTEMPTS:
                _log.warning("the process that restored %s crashed: starting it again", job.source)
                with self._lock:
                    # The plan found its name free, or may replace what has it: a file there
                    # now was finished, but nobody could say so any more.
                    self._again.append((replace(job, overwrite=True), cost + 1))
            else:
                fault = DiffIRError(f"{job.source} crashed {_ATTEMPTS} processes")
                self._events.put(failed(job, work, fault))


def _work(pipe: Connection, work: Work, helpers: int, stop_event: Event) -> None:
    """What a process does: jobs in, events out, until there are no more."""
    # The one that talks to the user decides when to stop.
    for kind in ENDING:
        signal.signal(kind, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def post(event: object) -> None:
        with lock:
            pipe.send(event)

    try:
        restorer = work.runner()
    except Exception as error:
        fault = DiffIRError(f"cannot load {work.weights.name}: {type(error).__name__}: {error}")
        post(error if isinstance(error, DiffIRError) else fault)
        return
    post(_READY)
    Pipeline(work, restorer, helpers, stop_event, post, post).run(_jobs(pipe, post))
    post(None)


def _start_fault(error: EOFError | OSError) -> DiffIRError:
    """Why processes that had not begun were given up."""
    ended = isinstance(error, EOFError | ConnectionError)
    why = "it ended while it loaded the network" if ended else str(error)
    return DiffIRError(f"no worker process could begin: {why}", "use fewer --workers")


def _end_with_parent() -> None:
    """An orphan must not go on writing: nobody would know of it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _jobs(pipe: Connection, post: Callable[[object], None]) -> Iterator[Job]:
    while True:
        job = pipe.recv()
        if job is None:
            return
        yield job
        post(_MORE)
