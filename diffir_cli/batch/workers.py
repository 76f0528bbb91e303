"""Many pictures through several processes: one network each, one queue for all.

Each process has a thread here that feeds it and listens to it. If it dies, what it had is given to
another, and only a picture that kills its process again and again is given up.
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from diffir_cli.batch.plan import Job
from diffir_cli.batch.run import Pipeline
from diffir_cli.batch.work import Outcome, Work, failed
from diffir_cli.errors import DiffIRError

_ATTEMPTS = 3
"""How many processes a picture may cost."""

_MORE, _STOP = "more", "stop"
"""What a process asks for, and what it is told in place of a job."""

_log = logging.getLogger(__name__)


class Crew:
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

    def run(
        self, jobs: Iterator[Job], begin: Callable[[Job], None], done: Callable[[Outcome], None]
    ) -> None:
        """Restore jobs as they come; both functions are called from this thread.

        Raises:
            DiffIRError: when no process could begin its work.
        """
        self._jobs = jobs
        threads = [
            threading.Thread(target=self._tend, args=(work,), daemon=True) for work in self.works
        ]
        for thread in threads:
            thread.start()
        left, fault = len(threads), None
        try:
            while left:
                # With a limit, since a wait without one hears no signal on some systems.
                try:
                    event = self._events.get(timeout=0.5)
                except queue.Empty:
                    continue
                if event is None:
                    left -= 1
                elif isinstance(event, DiffIRError):
                    fault = event
                elif isinstance(event, Outcome):
                    done(event)
                else:
                    begin(event)
        except BaseException:
            self._end()
            raise
        if fault:
            raise fault

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

    def _tend(self, work: Work) -> None:
        """Keep a process at work, and begin another where it dies."""
        context = multiprocessing.get_context("spawn")
        try:
            while (first := self._next()) is not None:
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(theirs, work, self.helpers), daemon=True
                )
                with self._lock:
                    if self.stop.is_set():
                        return
                    process.start()
                    self._processes.add(process)
                theirs.close()
                held = {first[0].output: first}
                try:
                    self._talk(ours, held, first)
                except (EOFError, OSError):
                    process.join()
                    self._return(held, work)
                finally:
                    ours.close()
                    process.join()
                    with self._lock:
                        self._processes.discard(process)
        finally:
            self._events.put(None)

    def _talk(self, ours: Connection, held: dict[str, tuple[Job, int]], first: Any) -> None:
        """Send jobs, one more than are asked for, and pass on what comes back."""
        ours.send(first[0])
        while True:
            event = ours.recv()
            if event is None:
                return
            if isinstance(event, DiffIRError):
                self._events.put(event)
                with self._lock:
                    self._again += held.values()
                return
            if event == _MORE:
                following = self._next()
                if following:
                    held[following[0].output] = following
                nothing = _STOP if self.stop.is_set() else None
                ours.send(following[0] if following else nothing)
                continue
            if isinstance(event, Outcome):
                held.pop(event.job.output, None)
            self._events.put(event)

    def _return(self, held: dict[str, tuple[Job, int]], work: Work) -> None:
        """Give back what a dead process had, or give it up."""
        if self.stop.is_set():
            return
        for job, cost in held.values():
            if cost + 1 < _ATTEMPTS:
                _log.warning("the process that restored %s died: it is begun again", job.source)
                with self._lock:
                    # The plan found its name free, or may replace what has it: a file there
                    # now was finished, but nobody could say so any more.
                    self._again.append((replace(job, overwrite=True), cost + 1))
            else:
                fault = DiffIRError(f"{job.source} has killed {_ATTEMPTS} processes")
                self._events.put(failed(job, work, fault))


def _work(pipe: Connection, work: Work, helpers: int) -> None:
    """What a process does: jobs in, events out, until there are no more."""
    # The one that talks to the user decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lock = threading.Lock()

    def tell(event: object) -> None:
        with lock:
            pipe.send(event)

    try:
        restorer = work.restorer()
    except DiffIRError as error:
        tell(error)
        return
    stop = threading.Event()
    Pipeline(work, restorer, helpers, stop, tell, tell).run(_jobs(pipe, stop, tell))
    tell(None)


def _jobs(pipe: Connection, stop: threading.Event, tell: Callable[[object], None]) -> Iterator[Job]:
    while True:
        job = pipe.recv()
        if job is None:
            return
        if job == _STOP:
            stop.set()
            return
        yield job
        tell(_MORE)
