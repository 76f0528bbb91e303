"""What only a new process can measure: time from its start to the first pixel, peak of its memory.

A process that has worked already has its libraries loaded and memory that it does not give back.
So each figure comes from a process of its own: this module, run as a program, which gets a case,
pickled, restores one picture and answers with one line of JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from diffir_cli.benchmark.case import Case
from diffir_cli.benchmark.memory import Memory, peak_of
from diffir_cli.errors import DiffIRError


class Question(StrEnum):
    """What a new process is asked."""

    COLD_START = "cold"
    """How long it takes from its start to the first restored picture."""
    MEMORY = "memory"
    """By how much a picture raises its memory."""


@dataclass(frozen=True)
class SubprocessResult:
    """What new processes measured."""

    cold_start: float
    """Seconds from the start of a process to its first restored picture: interpreter, libraries,
    weights and the network, without reading or writing a picture."""
    memory: Memory
    """By how much restoring raised what a process held with its network ready."""


def measure_in_subprocess(case: Case) -> SubprocessResult:
    """Restore one picture in each of two new processes, with as many threads as this one.

    Raises:
        DiffIRError: when one of them fails.
    """
    cold_start, _ = _ask(case, Question.COLD_START)
    _, answer = _ask(case, Question.MEMORY)
    return SubprocessResult(cold_start, Memory(**answer))


def _ask(case: Case, question: Question) -> tuple[float, dict[str, Any]]:
    """Seconds until a new process answers, and what."""
    asked = b64encode(pickle.dumps((case, question.value, torch.get_num_threads()))).decode()
    # -P, so that no module of the current folder is taken for one of the library's.
    command = [sys.executable, "-P", "-m", "diffir_cli.benchmark.subprocess_run", asked]
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, env=_environment()
        ) as process,
    ):
        assert process.stdout is not None
        taken, answer = 0.0, None
        for line in process.stdout:
            # Libraries may print lines of their own.
            found = _parsed(line)
            if found is not None:
                taken, answer = time.perf_counter() - started, found
        process.wait()
        complaints.seek(0)
        if answer is None:
            answer = {"error": _last(complaints.read())}
    if "error" in answer:
        raise DiffIRError(f"a new process failed: {answer['error']}", "add --no-subprocess")
    return taken, answer


def _environment() -> dict[str, str]:
    """This process's own, in which this very package is found, installed or not."""
    here = str(Path(__file__).parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The answer in a line of a new process; None where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _last(complaints: bytes) -> str:
    lines = complaints.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"


def _answer(case: Case, question: Question) -> dict[str, Any]:
    """Restore, and say what was asked."""
    restorer = case.restorer()
    picture = case.subject.picture(case.width, case.height)
    if question is Question.COLD_START:
        restorer.restore(**picture)
        return {}
    # What libraries take once, whatever the size, is not the picture's.
    restorer.restore(**case.subject.picture(_SMALL, _SMALL))
    return asdict(peak_of(lambda: restorer.restore(**picture), restorer.device))


_SMALL = 16
"""Pixels a side."""


def _main(asked: str) -> None:
    case, question, threads = pickle.loads(b64decode(asked))
    torch.set_num_threads(threads)
    try:
        answer = _answer(case, Question(question))
    except DiffIRError as error:
        answer = {"error": error.message}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1])
