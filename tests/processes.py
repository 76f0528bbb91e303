"""Processes of their own that need not load torch: a server that has loaded it forks each of them.

But for its imports such a process is as fresh as a new one, so that memory can be measured in it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_METHODS = multiprocessing.get_all_start_methods()
FORKSERVER: Any = multiprocessing.get_context("forkserver" if "forkserver" in _METHODS else "spawn")
"""New processes instead where a system cannot fork."""
FORKSERVER.set_forkserver_preload(["tests.conftest", "diffir_cli.api", "diffir_cli.batch.workers"])


class ForkedWorkers:
    """FORKSERVER whose processes have the environment of the moment at which they are started."""

    def __getattr__(self, name: str) -> Any:
        return getattr(FORKSERVER, name)

    def Process(self, *, target: Callable[..., None], args: Any, **options: Any) -> Any:  # noqa: N802
        return FORKSERVER.Process(target=_with, args=(dict(os.environ), target, *args), **options)


def _with(environment: Mapping[str, str], target: Callable[..., None], *args: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*args)


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module returns or raises in a new process."""
    with ProcessPoolExecutor(1, FORKSERVER, max_tasks_per_child=1) as pool:
        return pool.submit(function, *args, **kwargs).result()


def growth_of(call: Callable[[], object]) -> int:
    """By how much a call raises the memory of its process, in bytes; on Linux."""

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def start_command(
    *arguments: object, stdout: Path, stderr: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Start a command of `diffir` whose output goes into files, with more in its environment."""
    words = [str(argument) for argument in arguments]
    variables = {**os.environ, **(environment or {})}
    for path in (stdout, stderr):
        if path.is_file() or not path.exists():
            path.write_bytes(b"")
    process: BaseProcess = FORKSERVER.Process(
        target=_with, args=(variables, _command, words, stdout, stderr)
    )
    process.start()
    return process


def exit_code(process: BaseProcess) -> int | None:
    """How a process ends, within a time that is long on any machine."""
    process.join(300)
    return process.exitcode


def _command(words: list[str], stdout: Path, stderr: Path) -> None:
    from diffir_cli.cli import main

    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)), number)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    sys.argv = ["diffir", *words]
    try:
        main()
    finally:
        # What Python does at its end, loudly.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
