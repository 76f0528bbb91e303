"""What runs in a process of Ray: one network, which restores one picture after the other."""

from __future__ import annotations

from diffir_cli.util.process import prepare_process

# A process of Ray begins here, and torch is loaded by the imports below.
prepare_process()

import pickle
from dataclasses import replace

from diffir_cli.batch.plan import Job
from diffir_cli.batch.work import Outcome, Work, compute, failed, load
from diffir_cli.batch.writing import Staged, stage
from diffir_cli.runtime.runner import ModelRunner

Returned = tuple[Outcome, Staged | None]
"""What became of a picture, and its result, which waits for its name."""


class Actor:
    """A network on one machine."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.runner: ModelRunner = work.runner()

    def is_ready(self) -> bool:
        """Answered once the network is made."""
        return True

    def restore(self, job: bytes) -> bytes:
        """A job to what became of it, both pickled."""
        return pickle.dumps(self._restored(pickle.loads(job)))

    def _restored(self, job: Job) -> Returned:
        try:
            loaded = load(job, self.work, self.runner)
            computed = compute(job, self.work, self.runner, loaded)
            staged = stage(job, self.work, computed)
        # Whatever a picture sets off that nobody thought of, the others are not to suffer for it.
        except Exception as error:
            return failed(job, self.work, error), None
        seconds = round(computed.outcome.seconds, 3)
        return replace(computed.outcome, seconds=seconds), staged
