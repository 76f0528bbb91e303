"""Cases to results: warmed up, timed by turns, with memory and cold start from fresh processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.cost import Cost, count_cost
from diffir_cli.benchmark.fresh import Fresh, measure_fresh
from diffir_cli.benchmark.parts import time_parts
from diffir_cli.benchmark.places import Place
from diffir_cli.benchmark.subject import Subject
from diffir_cli.benchmark.timing import Call, Ratio, Timing, by_turns, roof
from diffir_cli.config import Engine, Precision
from diffir_cli.engine.restorer import ModelRestorer
from diffir_cli.errors import DeviceError, DiffIRError
from diffir_cli.networks import DiffIRS2

Size = tuple[int, int]
"""Width and height in LQ pixels."""

Report = Callable[[str], None]
"""Told what is being worked on."""


@dataclass(frozen=True)
class Settings:
    """How it is measured."""

    device: str = "cpu"
    """As a user names it; never `auto`."""
    variants: tuple[Variant, ...] = (Variant(Engine.STREAMING, Precision.FP32),)
    """What is compared; ratios are over the first."""
    repeats: int = 5
    """Turns behind the warm-up."""
    fresh: bool = True
    """Whether cold start and memory are measured."""
    parts: bool = False
    """Whether each part of a network is timed, in the plain modules."""


@dataclass(frozen=True)
class Result:
    """What came out for a case."""

    case: Case
    cost: Cost
    timing: Timing | None = None
    """None where it was not run, or failed."""
    ratio: Ratio | None = None
    """Over the first variant of the same size; None for that one itself."""
    roof: float = 0.0
    """FLOP/s of a product of matrices in the same run and format; 0 where it was not run."""
    fresh: Fresh | None = None
    """None where it was not asked for, or failed."""
    parts: tuple[dict[Place, float], float] | None = None
    """Seconds of each part and of the whole, in the plain modules; None where not asked for."""
    tile: int = 0
    """Side of the tiles in LQ pixels; 0 where the picture was done whole."""
    notes: tuple[str, ...] = ()
    """What a reader must know to judge the figures."""
    error: str = ""
    """Why there are none."""

    @property
    def flops(self) -> float:
        """FLOP/s that were reached, by the convention `exact`; 0 where it was not run."""
        return 2 * self.cost.exact / self.timing.p50 if self.timing else 0.0

    @property
    def share(self) -> float:
        """Of the roof."""
        return self.flops / self.roof if self.roof else 0.0

    @property
    def pixel_rate(self) -> float:
        """LQ pixels a second; 0 where it was not run."""
        return self.case.width * self.case.height / self.timing.p50 if self.timing else 0.0


class Roofs:
    """The roof of each format, measured in this run: the best of what was seen so far."""

    def __init__(self, device: torch.device, side: int | None = None) -> None:
        self.device, self.side = device, side
        self.found: dict[Precision, float] = {}

    def measure(self, precision: Precision) -> float:
        """Measure again, since the machine may have been busy before."""
        again = roof(self.device, precision, self.side)
        self.found[precision] = max(again, self.found.get(precision, 0.0))
        return self.found[precision]


def cases_of(subjects: Sequence[Subject], sizes: Sequence[Size], settings: Settings) -> list[Case]:
    """Everything that is to be measured, in this order."""
    return [
        Case(subject, *size, variant, settings.device)
        for subject in subjects
        for size in sizes
        for variant in settings.variants
    ]


def count_only(subject: Subject, sizes: Sequence[Size], settings: Settings) -> list[Result]:
    """What a network costs at each size, without running it."""
    return [
        Result(Case(subject, *size, settings.variants[0], settings.device), _cost(subject, size))
        for size in sizes
    ]


def measure(
    subject: Subject,
    sizes: Sequence[Size],
    settings: Settings,
    roofs: Roofs,
    report: Report = lambda _text: None,
) -> list[Result]:
    """Measure a network at each size, in each variant by turns.

    A case that the machine cannot run does not stop the others.

    Args:
        subject: The network.
        sizes: Of the pictures.
        settings: How.
        roofs: Of the device.
        report: Told what is being worked on.
    """
    model = subject.build()
    results = []
    for size in sizes:
        cases = cases_of([subject], [size], settings)
        ready = {case: case.restorer(model) for case in cases}
        found = _by_turns(ready, settings.repeats, roofs, report)
        if settings.parts:
            found[0] = _with_parts(found[0], model, settings.repeats)
        if settings.fresh:
            report(f"{_said(cases[0])}, in fresh processes")
            found = [_with_fresh(result) for result in found]
        results += found
    return results


def sweep(
    subject: Subject,
    sizes: Sequence[Size],
    settings: Settings,
    roofs: Roofs,
    budget: float,
    report: Report = lambda _text: None,
) -> tuple[list[Result], list[Size]]:
    """Measure growing sizes until a size would not end within the budget.

    What a size will take is told from the one before, in proportion to the pixels.

    Args:
        subject: The network.
        sizes: From the smallest.
        settings: How.
        roofs: Of the device.
        budget: Seconds for all sizes; the first is always measured.
        report: Told what is being worked on.

    Returns:
        The results, and the sizes that are left out.
    """
    began = time.perf_counter()
    results: list[Result] = []
    for place, size in enumerate(sizes):
        started = time.perf_counter()
        found = measure(subject, [size], settings, roofs, report)
        results += found
        now = time.perf_counter()
        if all(result.error for result in found) or place + 1 == len(sizes):
            return results, list(sizes[place + 1 :])
        # Roofs and the like take as long at every size.
        calls = sum(result.timing.p50 for result in found if result.timing)
        calls *= settings.repeats + 1
        growth = math.prod(sizes[place + 1]) / math.prod(size)
        if now - began + (now - started) + (growth - 1) * calls > budget:
            return results, list(sizes[place + 1 :])
    return results, []


def _by_turns(
    ready: dict[Case, ModelRestorer], repeats: int, roofs: Roofs, report: Report
) -> list[Result]:
    """Time the cases of one size by turns; those that fail in the warm-up are left out."""
    calls: dict[Case, Call] = {}
    results: dict[Case, Result] = {}
    for case, restorer in ready.items():
        report(f"{_said(case)}, {case.variant}")
        call = partial(restorer.restore, **case.subject.picture(case.width, case.height))
        results[case] = Result(case, _cost(case.subject, (case.width, case.height)))
        try:
            for _ in range(_WARM_UPS.get(roofs.device.type, 3)):
                call()
        except DeviceError as error:
            results[case] = replace(results[case], error=error.message)
            continue
        calls[case] = call
        results[case] = replace(results[case], tile=restorer.tiles, notes=_notes(restorer))
    roof_of = {case: roofs.measure(case.variant.precision) for case in calls}
    turn = partial(_say_turn, report, repeats)
    timings = by_turns(list(calls.values()), repeats, roofs.device, turn)
    for case, timing in zip(calls, timings, strict=True):
        first = timings[0]
        ratio = None if timing is first else Ratio.of(timing.seconds, first.seconds)
        limit = max(roof_of[case], roofs.measure(case.variant.precision))
        results[case] = replace(results[case], timing=timing, ratio=ratio, roof=limit)
    return list(results.values())


_WARM_UPS = {"cpu": 1}
"""Calls that do not count, by the kind of device; a GPU chooses kernels and raises its clock."""


def _notes(restorer: ModelRestorer) -> tuple[str, ...]:
    notes = []
    if restorer.tiles:
        notes.append(f"in tiles of {restorer.tiles} pixels, which compute more than is counted")
    if restorer.redone:
        notes.append(f"{restorer.precision.value} overflowed: computed again in fp32")
    return tuple(notes)


def _with_fresh(result: Result) -> Result:
    if result.error:
        return result
    try:
        return replace(result, fresh=measure_fresh(result.case))
    except DiffIRError as error:
        return replace(result, notes=(*result.notes, error.message))


def _with_parts(result: Result, model: DiffIRS2, repeats: int) -> Result:
    """Time the parts of the network of a result, in the plain modules."""
    variant = replace(result.case.variant, engine=Engine.REFERENCE)
    case = replace(result.case, variant=variant)
    restorer = case.restorer(model)
    call = partial(restorer.restore, **case.subject.picture(case.width, case.height))
    try:
        return replace(result, parts=time_parts(restorer, call, repeats))
    except DeviceError as error:
        return replace(result, notes=(*result.notes, f"no times of parts: {error.message}"))


def _cost(subject: Subject, size: Size) -> Cost:
    return count_cost(subject.config, *size)


def _said(case: Case) -> str:
    return f"{case.subject.name} {case.width}×{case.height}"


def _say_turn(report: Report, repeats: int, turn: int) -> None:
    report(f"turn {turn + 1} of {repeats}")
