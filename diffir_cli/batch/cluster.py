"""Many pictures on many machines: a pool of Ray's actors, one network each.

An actor writes a result under a name that nobody else uses; only here it is noted in the journal
and gets its own. So a picture whose actor died is simply done again, and none is written twice.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from diffir_cli.batch.actor import Actor, Returned
from diffir_cli.batch.plan import Job
from diffir_cli.batch.stores import is_remote, remove
from diffir_cli.batch.work import Outcome, Work, failed
from diffir_cli.batch.writing import Staged, settle, write_fault
from diffir_cli.errors import DeviceError, DiffIRError, InputError, MissingLibraryError
from diffir_cli.util.signals import handled

_RETRIES = 3
"""How often a picture is given to another actor when its own has died."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """Where actors run.

    Attributes:
        address: Of a Ray cluster; `auto` for the one that this machine belongs to, or else one of
            this machine alone.
        workers: How many actors; 0 for as many as there is room for.
        gpus: GPUs of each; 0 for CPU shares.
    """

    address: str
    workers: int = 0
    gpus: float = 0


def run_on_ray(
    jobs: Sequence[Job],
    work: Work,
    cluster: Cluster,
    stop: threading.Event,
    done: Callable[[Outcome], None],
) -> None:
    """Restore jobs on a cluster.

    Args:
        jobs: Which; their files must have the same paths on all machines.
        work: How; its journal is written here alone.
        cluster: Where.
        stop: Once it is set, pictures that actors are at are finished and no other begun.
        done: Called with what became of each.

    Raises:
        MissingLibraryError: when Ray is not installed.
        DeviceError: when the cluster cannot be reached.
    """
    ray = _connected(cluster.address)
    cpus = work.run_options.threads or 1
    share: dict[str, Any] = {"num_gpus": cluster.gpus} if cluster.gpus else {}
    share["num_cpus"] = cpus
    _check_room(ray, cluster.gpus, cpus)
    most = cluster.workers or _room(ray, cluster.gpus, cpus)
    pool = _Pool(ray, replace(work, journal=None), share, min(most, len(jobs)))
    waiting = deque((job, 0) for job in jobs)
    while waiting or pool.busy:
        if stop.is_set():
            # What actors are at is finished, and nothing else begun.
            waiting.clear()
        for job, cost, returned in pool.advance(waiting):
            if returned is not None:
                done(_adopted(*returned, work))
            elif cost < _RETRIES:
                _log.warning("the worker that restored %s crashed: starting it again", job.source)
                waiting.appendleft((job, cost + 1))
            else:
                fault = DiffIRError(f"{job.source} crashed {cost + 1} workers")
                done(failed(job, work, fault))


class _Pool:
    """Actors with a network each, which are replaced when they die."""

    def __init__(self, ray: Any, work: Work, share: dict[str, Any], size: int) -> None:
        self.ray = ray
        # The weights go to each machine once.
        self.work = ray.put(work)
        self.kind = ray.remote(Actor).options(max_restarts=0, **share)
        self.busy: dict[Any, tuple[Any, Job, int]] = {}
        self._coming: dict[Any, Any] = {}
        self._failed_starts = 0
        for _ in range(size):
            self._spawn()

    def _spawn(self) -> None:
        """Ask for an actor, which gets work only once it has said that it is there."""
        actor = self.kind.remote(self.work)
        self._coming[actor.is_ready.remote()] = actor

    def advance(
        self, waiting: deque[tuple[Job, int]]
    ) -> Iterator[tuple[Job, int, Returned | None]]:
        """Wait for something to happen; jobs that ended, with None for those whose actor died.

        Raises:
            DiffIRError: when actors cannot make their network.
        """
        refs = [*self._coming, *self.busy]
        for ref in self.ray.wait(refs, num_returns=1, timeout=1.0)[0]:
            coming = self._coming.pop(ref, None)
            actor, job, cost = (coming, None, 0) if coming else self.busy.pop(ref)
            try:
                returned = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                raise DiffIRError(f"a worker of the cluster failed: {error.cause}") from error
            except self.ray.exceptions.RayError as error:
                # One that dies before it is there would die again and again.
                self._failed_starts += coming is not None
                if self._failed_starts > _RETRIES:
                    raise DiffIRError(f"no worker of the cluster started: {error}") from error
                self._spawn()
                returned, actor = None, None
            else:
                self._failed_starts = 0
            if actor is not None and waiting:
                following, paid = waiting.popleft()
                self.busy[actor.restore.remote(pickle.dumps(following))] = actor, following, paid
            if job is not None:
                yield job, cost, None if returned is None else pickle.loads(returned)


def _connected(address: str) -> Any:
    """Ray, joined to its cluster."""
    # No usage statistics are sent.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise MissingLibraryError(
            "Ray is not installed", "pip install 'diffir-cli[ray]'"
        ) from error
    _check_reachable(address)
    settings = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    # Ray would let SIGTERM end the process in the middle of a picture.
    with handled():
        try:
            ray.init(address=address, **settings)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if address != "auto" or not isinstance(error, ConnectionError):
                raise DeviceError(
                    f"no Ray cluster at {address}: {error}", "ray start --head, or --ray auto"
                ) from error
            ray.init(**settings)
    return ray


def _check_room(ray: Any, gpus: float, cpus: int) -> None:
    """Refuse a share that no machine has, unless the cluster could grow.

    Raises:
        DeviceError: when no machine of a cluster that is this machine alone has it.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    requested = f"{cpus} CPUs and {gpus:g} GPUs" if gpus else f"{cpus} CPUs"
    if len(nodes) > 1:
        _log.warning("no machine of the cluster has %s now: waiting for one", requested)
        return
    raise DeviceError(
        f"the cluster has no machine with {requested}",
        "give fewer --threads, or leave --gpus-per-worker out",
    )


def _check_reachable(address: str) -> None:
    """Refuse an address at which nobody listens, for which Ray would wait a minute."""
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and len(port) < 6):
        return
    host = host.removeprefix("ray://").strip("[]")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    # Of a name that none can have, Python raises a ValueError, of a port an OverflowError.
    except (OSError, ValueError, OverflowError) as error:
        raise DeviceError(
            f"no Ray cluster at {address}: {getattr(error, 'strerror', None) or error}",
            "ray start --head, or --ray auto",
        ) from error


def _room(ray: Any, gpus: float, cpus: int) -> int:
    """How many actors the cluster has room for, one CPU left for the rest of the work."""
    found = ray.cluster_resources()
    if gpus:
        return max(1, int(found.get("GPU", 0) / gpus))
    return max(1, int((found.get("CPU", 1) - 1) / cpus))


def _adopted(outcome: Outcome, staged: Staged | None, work: Work) -> Outcome:
    """Note a result in the journal and give it its name."""
    job = outcome.job
    if staged is None:
        return failed(job, work, DiffIRError(outcome.error, outcome.hint))
    try:
        settle(job, work, staged)
    except FileExistsError:
        outcome = failed(
            job, work, InputError(f"{job.target} already exists", "add --on-exist overwrite")
        )
    except DiffIRError as error:
        outcome = failed(job, work, error)
    except OSError as error:
        outcome = failed(job, work, write_fault(job, error))
    if outcome.error or not is_remote(staged.file):
        # Of a finished file, what is left under the old name is a link.
        with suppress(OSError, DiffIRError):
            remove(staged.file)
    return outcome
