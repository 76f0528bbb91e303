"""Cases to results: warmed up, timed by turns, with memory and cold start from new processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

import torch

from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.parts import time_parts
from diffir_cli.benchmark.sizes import Size
from diffir_cli.benchmark.subject import Subject
from diffir_cli.benchmark.subprocess_run import SubprocessResult, measure_in_subprocess
from diffir_cli.benchmark.timing import FAULTS, Ratio, Timing, by_turns
from diffir_cli.errors import DiffIRError
from diffir_cli.models.base import ModelInfo, RestorationModel
from diffir_cli.models.cost import Cost, ModulePart
from diffir_cli.options import Engine, Precision
from diffir_cli.runtime.clock import Call, peak
from diffir_cli.runtime.runner import Restored

Report = Callable[[str], None]
"""Called with a description of what is being measured."""


@dataclass(frozen=True)
class Settings:
    """How it is measured."""

    device: str = "cpu"
    """As a user names it; never `auto`."""
    variants: tuple[Variant, ...] = (Variant(Engine.STREAMING, Precision.FP32),)
    """What is compared; ratios are over the first."""
    repeats: int = 5
    """Turns behind the warm-up."""
    in_subprocess: bool = True
    """Whether cold start and memory are measured."""
    parts: bool = False
    """Whether each part of a network is timed, in the plain modules, once in each format."""


@dataclass(frozen=True)
class Result:
    """What came out for a case."""

    case: Case
    cost: Cost
    timing: Timing | None = None
    """None where it was not run, or failed."""
    ratio: Ratio | None = None
    """Over the first variant of the same size; None for that one itself, or where it failed."""
    peak: float = 0.0
    """FLOP/s of a product of matrices in the same run and format; 0 where it was not run."""
    in_subprocess: SubprocessResult | None = None
    """None where it was not asked for, or failed."""
    parts: tuple[dict[ModulePart, float], float] | None = None
    """Seconds of each part and of the whole, in the plain modules and the format of the case; None
    where not asked for, or where another case of this format has them."""
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
        """Of the peak."""
        return self.flops / self.peak if self.peak else 0.0

    @property
    def pixel_rate(self) -> float:
        """LQ pixels a second; 0 where it was not run."""
        return self.case.width * self.case.height / self.timing.p50 if self.timing else 0.0


class PeakRates:
    """The peak rate of each format, measured in this run: the best of what was seen so far."""

    def __init__(self, device: torch.device, side: int | None = None) -> None:
        self.device, self.side = device, side
        self.found: dict[Precision, float] = {}

    def measure(self, precision: Precision) -> None:
        """Measure again, since the machine may have been busy before; 0 where it cannot be."""
        try:
            again = peak(self.device, precision, self.side)
        except FAULTS:
            again = 0.0
        self.found[precision] = max(again, self.found.get(precision, 0.0))

    def hold(self, results: Sequence[Result]) -> list[Result]:
        """Results that all have the best peak of their formats, early ones as well as late ones."""
        return [
            replace(result, peak=self.found.get(result.case.variant.precision, 0.0))
            if result.timing
            else result
            for result in results
        ]


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
    return [_counted(Case(subject, *size, settings.variants[0], settings.device)) for size in sizes]


def measure(
    subject: Subject,
    sizes: Sequence[Size],
    settings: Settings,
    peaks: PeakRates,
    report: Report = lambda _text: None,
) -> Iterator[Result]:
    """Measure a network at each size, in each variant by turns.

    What cannot be run does not stop the others: its result says why. When a user interrupts, the
    sizes that were timed are given first.

    Args:
        subject: The network.
        sizes: Of the pictures.
        settings: How.
        peaks: Of the device.
        report: Called with a description of what is being measured.
    """
    try:
        model = subject.build()
    except FAULTS as error:
        for case in cases_of([subject], sizes, settings):
            yield _failed(case, error)
        return
    for size in sizes:
        cases = cases_of([subject], [size], settings)
        found = _by_turns(cases, model, settings.repeats, peaks, report)
        try:
            if settings.parts:
                _add_parts(found, model, settings.repeats)
            if settings.in_subprocess:
                report(f"{_described(cases[0])}, in new processes")
                found[:] = [_with_subprocess(result) for result in found]
        except KeyboardInterrupt:
            yield from found
            raise
        yield from found


def sweep(
    subject: Subject,
    sizes: Sequence[Size],
    settings: Settings,
    peaks: PeakRates,
    budget: float,
    report: Report = lambda _text: None,
) -> Iterator[Result]:
    """Measure growing sizes until a size would not end within the budget.

    What a size will take is estimated from the one before, in proportion to the pixels.

    Args:
        subject: The network.
        sizes: From the smallest.
        settings: How.
        peaks: Of the device.
        budget: Seconds for all sizes; the first is always measured.
        report: Called with a description of what is being measured.
    """
    began = time.perf_counter()
    for size, following in zip_longest(sizes, sizes[1:]):
        started = time.perf_counter()
        found = []
        for result in measure(subject, [size], settings, peaks, report):
            found.append(result)
            yield result
        if following is None or all(result.error for result in found):
            return
        now = time.perf_counter()
        growth = math.prod(following) / math.prod(size) - 1
        if now - began + (now - started) + growth * _growing(found, settings) > budget:
            return


def _growing(found: Sequence[Result], settings: Settings) -> float:
    """Seconds of a size that grow with its pixels, as peak rates and the like do not."""
    calls = settings.repeats + _warm_ups(settings.device)
    passes = sum(calls * result.timing.p50 for result in found if result.timing)
    # The plain modules with their parts watched, and once before that does not count.
    return passes + sum((settings.repeats + 1) * each.parts[1] for each in found if each.parts)


def _by_turns(
    cases: Sequence[Case], model: RestorationModel, repeats: int, peaks: PeakRates, report: Report
) -> list[Result]:
    """Time the cases of one size by turns, without those that fail."""
    calls: dict[Case, Call] = {}
    results: dict[Case, Result] = {}
    for case in cases:
        report(f"{_described(case)}, {case.variant}")
        try:
            restorer = case.restorer(model)
            call = partial(restorer.run, **case.subject.picture(case.width, case.height))
            for _ in range(_warm_ups(case.device)):
                restored = call()
        except FAULTS as error:
            results[case] = _failed(case, error)
            continue
        calls[case] = call
        results[case] = replace(
            _counted(case), tile=restored.tile, notes=_notes(restorer.info, restored)
        )
    formats = dict.fromkeys(case.variant.precision for case in calls)
    for precision in formats:
        peaks.measure(precision)
    timings = by_turns(
        list(calls.values()),
        repeats,
        peaks.device,
        lambda turn: report(f"turn {turn + 1} of {repeats}"),
    )
    found = dict(zip(calls, timings, strict=True))
    for precision in formats:
        peaks.measure(precision)
    first = found.get(cases[0])
    for case, timing in found.items():
        if isinstance(timing, Exception):
            results[case] = _failed(case, timing)
            continue
        result = replace(
            results[case], timing=timing, peak=peaks.found.get(case.variant.precision, 0.0)
        )
        results[case] = result if case == cases[0] else _with_ratio(result, timing, first, cases[0])
    return list(results.values())


def _with_ratio(
    result: Result, timing: Timing, first: Timing | Exception | None, first_case: Case
) -> Result:
    """A result over the first variant, which is never another one than a user named first."""
    if isinstance(first, Timing):
        return replace(result, ratio=Ratio.of(timing.seconds, first.seconds))
    return replace(result, notes=(*result.notes, f"no ratio, since {first_case.variant} failed"))


def _failed(case: Case, error: Exception) -> Result:
    return replace(_counted(case), error=_why(error))


def _why(error: Exception) -> str:
    """What a fault says in one line."""
    if isinstance(error, DiffIRError):
        return error.message
    if isinstance(error, MemoryError):
        return "the machine ran out of memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _counted(case: Case) -> Result:
    return Result(case, case.subject.cost(case.width, case.height))


def _warm_ups(device: str) -> int:
    """Calls that do not count; a GPU chooses kernels and raises its clock."""
    return 1 if device == "cpu" else 3


def _notes(info: ModelInfo, restored: Restored) -> tuple[str, ...]:
    notes = []
    if info.uncounted:
        notes.append(f"the time includes {info.uncounted}, which is not counted in Mult-Adds")
    if restored.tile:
        notes.append(f"in tiles of {restored.tile} pixels, which compute more than is counted")
    if restored.redone:
        notes.append(f"{restored.precision.value} overflowed: computed again in fp32")
    return tuple(notes)


def _with_subprocess(result: Result) -> Result:
    if result.error:
        return result
    try:
        return replace(result, in_subprocess=measure_in_subprocess(result.case))
    except DiffIRError as error:
        return replace(result, notes=(*result.notes, error.message))


def _add_parts(found: list[Result], model: RestorationModel, repeats: int) -> None:
    """Time the parts of a network in the plain modules, once for each format that works."""
    seen: set[Precision] = set()
    for place, result in enumerate(found):
        precision = result.case.variant.precision
        if not result.error and precision not in seen:
            seen.add(precision)
            found[place] = _with_parts(result, model, repeats)


def _with_parts(result: Result, model: RestorationModel, repeats: int) -> Result:
    variant = replace(result.case.variant, engine=Engine.REFERENCE)
    case = replace(result.case, variant=variant)
    try:
        restorer = case.restorer(model)
        call = partial(restorer.restore, **case.subject.picture(case.width, case.height))
        return replace(result, parts=time_parts(restorer, call, repeats))
    except FAULTS as error:
        return replace(result, notes=(*result.notes, f"no times of parts: {_why(error)}"))


def _described(case: Case) -> str:
    return f"{case.subject.name} {case.width}×{case.height}"
