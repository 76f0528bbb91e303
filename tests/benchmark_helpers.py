"""Networks, machines and results for tests of `diffir benchmark`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result as Outcome

from diffir_cli.benchmark import run as running
from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.machine import Machine
from diffir_cli.benchmark.run import PeakRates, Result, Settings
from diffir_cli.benchmark.subject import Subject, subjects_of
from diffir_cli.benchmark.timing import Timing
from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.options import Engine, Precision
from diffir_cli.runtime.runner import ModelRunner
from tests.conftest import run_cli

CPU = torch.device("cpu")
STREAMING = Variant(Engine.STREAMING, Precision.FP32)
REFERENCE = Variant(Engine.REFERENCE, Precision.FP32)
MACHINE = Machine("Linux", "Fast 9000", 2, ("AVX2",), False, "3.11", "2.13", 2, "", "", 0.1)


@pytest.fixture
def subject(s2_file: Path) -> Subject:
    return subjects_of([str(s2_file)])[0]


@pytest.fixture
def peaks() -> PeakRates:
    return PeakRates(CPU, side=64)


def settings_of(*variants: Variant, **others: Any) -> Settings:
    return Settings(
        "cpu", variants or (STREAMING,), **{"repeats": 2, "in_subprocess": False, **others}
    )


@pytest.fixture
def bench(s2_file: Path) -> Callable[..., Outcome]:
    """Runs `diffir benchmark` with the tiny network at a tiny size."""

    def run(*arguments: object) -> Outcome:
        sized = [] if "--sweep" in arguments else ["--input-size", "16x24"]
        fixed = ["benchmark", "-w", s2_file, "-d", "cpu", "--repeats", 2, *sized]
        in_subprocess = [] if "--sweep" in arguments else ["--no-subprocess"]
        return run_cli(*fixed, *in_subprocess, *arguments)

    return run


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which something is measured."""

    def fail(*_args: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(running, "measure", fail)


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails whatever the engine `reference` runs, as where memory does not suffice."""
    real = ModelRunner.run

    def run(self: ModelRunner, *args: Any, **others: Any) -> Any:
        if self.options.engine is Engine.REFERENCE:
            raise DeviceError("no room")
        return real(self, *args, **others)

    monkeypatch.setattr(ModelRunner, "run", run)


def result_of(name: str, side: int, seconds: float, variant: Variant = STREAMING) -> Result:
    (subject,) = subjects_of([name])
    cost = count_cost(subject.config, side, side)
    return Result(Case(subject, side, side, variant, "cpu"), cost, Timing((seconds,) * 3), peak=1e9)
