"""Weights for a command: found, or downloaded after saying so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffir_cli.cli.console import print_message
from diffir_cli.cli.options import is_given
from diffir_cli.cli.progress import downloading

if TYPE_CHECKING:
    from diffir_cli.options import Task
    from diffir_cli.weights.locate import WeightFile
    from diffir_cli.weights.registry import WeightSpec


def located(
    weights: str | None,
    task: Task,
    registry: Path | None,
    no_download: bool,
    silent: bool,
    scale: int | None = None,
    teachers: bool = False,
) -> WeightFile:
    """The weights that a user asks for.

    Raises:
        WeightsError: when they are unknown or cannot be had.
        ChecksumError: when a file is not what was promised.
    """
    from diffir_cli.weights.locate import locate_weights

    if weights and scale:
        raise typer.BadParameter(
            "--scale has no effect with --weights: the weights define the scale"
        )

    def obtain(spec: WeightSpec) -> None:
        fetched(spec, offline=no_download, silent=silent)

    return locate_weights(weights, task, registry, obtain, scale, teachers)


def task_for(
    context: typer.Context, task: Task, weights: str | None, registry: Path | None
) -> Task:
    """The task of a command: where none is given, that of the named weights."""
    from diffir_cli.weights.registry import read_registry

    if weights is None or is_given(context, "task"):
        return task
    spec = read_registry(registry).get(weights)
    return task if spec is None else spec.task


def fetched(
    spec: WeightSpec, *, offline: bool, silent: bool, folder: Path | None = None
) -> list[Path]:
    """The files of an entry on this machine, with one bar for all that come over a network.

    Raises:
        WeightsError: when one cannot be had.
        ChecksumError: when one is another file than was promised.
    """
    from diffir_cli.weights.download import DownloadPolicy, is_offline
    from diffir_cli.weights.entry import obtain_entry

    def rewrite(path: Path, part: WeightSpec, policy: DownloadPolicy) -> Path:
        from diffir_cli.weights.imports import import_weights

        return import_weights(path, part, policy)

    with _described(spec, silent) as notify:
        policy = DownloadPolicy(offline or is_offline(), folder, notify=notify, agree=agrees)
        return obtain_entry(spec, policy, rewrite)


@contextmanager
def _described(spec: WeightSpec, silent: bool) -> Iterator[Callable[[int, int], None]]:
    """Say that a download begins, as it does, and how far it is."""
    with downloading(spec.name, silent) as advance:
        begun = False

        def notify(here: int, whole: int) -> None:
            nonlocal begun
            if not begun and not silent:
                size = f"{whole / 2**20:.1f} MiB" if whole else "an unknown number of bytes"
                print_message(f"downloading {spec.name}, {size}, licence: {spec.license}")
            begun = True
            advance(here, whole)

        yield notify


def agrees(spec: WeightSpec) -> bool:
    """Ask a person at a terminal about a licence; nobody else agrees to anything."""
    if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    print_message(f"{spec.name} is under the licence {spec.license!r}: {spec.source}")
    return typer.confirm("do you agree to it?", err=True)
