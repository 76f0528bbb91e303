"""Measuring: what is timed by turns, in new processes, by parts, and until a budget ends."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffir_cli.benchmark import run as running
from diffir_cli.benchmark import subprocess_run
from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.growth import fit_growth
from diffir_cli.benchmark.machine import describe_machine
from diffir_cli.benchmark.memory import Memory, peak_of
from diffir_cli.benchmark.parts import time_parts
from diffir_cli.benchmark.run import PeakRates, Result, Settings
from diffir_cli.benchmark.sizes import sweep_sizes
from diffir_cli.benchmark.subject import Subject, subjects_of
from diffir_cli.benchmark.subprocess_run import measure_in_subprocess
from diffir_cli.benchmark.timing import Timing
from diffir_cli.errors import DiffIRError, WeightsError
from diffir_cli.models.cost import ModulePart
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.models.diffir.memory import needed_bytes
from diffir_cli.models.families import find_family
from diffir_cli.options import Engine, Precision
from diffir_cli.runtime.clock import seconds
from diffir_cli.runtime.runner import ModelRunner, Restored
from diffir_cli.weights.registry import find_weights
from tests.benchmark_helpers import CPU, REFERENCE, STREAMING, settings_of
from tests.processes import in_own_process


def test_each_case_has_a_time_a_peak_rate_and_a_cost(subject: Subject, peaks: PeakRates) -> None:
    settings = settings_of(STREAMING, REFERENCE)
    found = list(running.measure(subject, [(24, 16), (32, 32)], settings, peaks))
    assert [(each.case.width, each.case.height, each.case.variant) for each in found] == [
        (24, 16, STREAMING),
        (24, 16, REFERENCE),
        (32, 32, STREAMING),
        (32, 32, REFERENCE),
    ]
    for result in found:
        assert result.timing and len(result.timing.seconds) == 2 and result.peak > 0
        assert result.flops == pytest.approx(2 * result.cost.exact / result.timing.p50)
        assert result.share == pytest.approx(result.flops / result.peak)
        assert (result.ratio is None) == (result.case.variant == STREAMING)
        assert not result.in_subprocess and not result.parts and not result.notes


@pytest.mark.usefixtures("no_room")
def test_a_case_that_the_machine_cannot_run_does_not_stop_the_others(
    subject: Subject, peaks: PeakRates
) -> None:
    settings = settings_of(REFERENCE, STREAMING)
    failed, ran = running.measure(subject, [(16, 16)], settings, peaks)
    assert failed.error == "no room" and failed.timing is None and failed.flops == 0
    assert ran.timing and not ran.error
    # No other variant becomes the one that ratios are over.
    assert ran.ratio is None and ran.notes == ("no ratio, since reference fp32 failed",)


def test_a_network_that_cannot_be_built_is_an_error_of_each_of_its_cases(
    subject: Subject, peaks: PeakRates, s2_file: Path
) -> None:
    s2_file.write_bytes(b"nothing")
    found = list(running.measure(subject, [(16, 16), (8, 8)], settings_of(), peaks))
    assert [result.case.width for result in found] == [16, 8]
    assert all("tiny.safetensors" in result.error for result in found)


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), MemoryError()])
def test_a_fault_in_a_turn_or_in_the_parts_costs_no_more_than_that(
    error: Exception, subject: Subject, peaks: PeakRates, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ModelRunner.run
    calls: list[Engine] = []

    def run(self: ModelRunner, *args: Any, **others: Any) -> Any:
        calls.append(self.options.engine)
        # Behind the warm-up.
        if self.options.engine is Engine.REFERENCE and calls.count(Engine.REFERENCE) > 1:
            raise error
        return real(self, *args, **others)

    monkeypatch.setattr(ModelRunner, "run", run)
    settings = settings_of(STREAMING, REFERENCE, parts=True)
    ran, failed = running.measure(subject, [(16, 16)], settings, peaks)
    why = "RuntimeError: no kernel" if str(error) else "the machine ran out of memory"
    assert failed.error == why and ran.timing and ran.notes == (f"no times of parts: {why}",)


def test_an_interrupted_run_gives_what_was_timed(
    subject: Subject, peaks: PeakRates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_case: Case) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "measure_in_subprocess", interrupt)
    found: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        for result in running.measure(subject, [(8, 8)], settings_of(in_subprocess=True), peaks):
            found.append(result)
    assert [bool(result.timing) for result in found] == [True]


def test_all_results_of_a_format_are_held_against_its_best_peak(subject: Subject) -> None:
    def result(precision: Precision, timing: Timing | None) -> Result:
        case = Case(subject, 8, 8, Variant(Engine.STREAMING, precision), "cpu")
        return Result(case, count_cost(subject.config, 8, 8), timing, peak=1.0 if timing else 0.0)

    peaks = PeakRates(CPU)
    peaks.found = {Precision.FP32: 5.0, Precision.BF16: 3.0}
    timing = Timing((1.0,))
    cases = [(Precision.FP32, timing), (Precision.BF16, timing), (Precision.FP32, None)]
    locked = peaks.hold([result(*each) for each in cases])
    assert [each.peak for each in locked] == [5.0, 3.0, 0.0]


def test_tiles_and_overflow_are_told(subject: Subject) -> None:
    info, pixels = find_family("diffir").info(subject.config), np.zeros((1, 1, 3), np.uint8)
    assert running._notes(info, Restored(pixels, Precision.BF16)) == ()
    tiles, overflow = running._notes(info, Restored(pixels, Precision.BF16, 64, 1))
    assert "tiles of 64" in tiles and "bf16 overflowed" in overflow


def test_random_weights_are_the_same_each_time_and_leave_other_random_numbers_alone() -> None:
    (subject,) = subjects_of(["inpaint-celeba"])
    assert subject.path is None
    state = torch.random.get_rng_state()
    first, second = (nn.ModuleDict(subject.build().parts()).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_each_network_is_measured_once_and_unknown_ones_are_refused(s2_file: Path) -> None:
    names = ["sr-x4-lite", str(s2_file), "sr-x4-lite"]
    found = subjects_of(names)
    assert [subject.name for subject in found] == ["sr-x4-lite", s2_file.name]
    assert all(subject.path for subject in found)
    with pytest.raises(WeightsError, match="no weights named"):
        subjects_of(["sr-x5"])


def test_files_of_one_name_are_told_apart_by_their_paths(s2_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / s2_file.name
    other.parent.mkdir()
    other.write_bytes(s2_file.read_bytes())
    found = subjects_of([str(s2_file), str(other), f"{other.parent}/./{other.name}"])
    assert [subject.name for subject in found] == [str(s2_file), str(other)]


def test_weights_at_hand_that_cannot_be_read_are_not_taken_for_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path))
    (subject,) = subjects_of(["sr-x4"])
    assert subject.path is None
    spec = find_weights("sr-x4")
    path = tmp_path / "cache" / "weights" / spec.name / spec.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    monkeypatch.setattr("diffir_cli.weights.locate.check_installed", _unreadable)
    with pytest.raises(WeightsError, match="cannot read"):
        subjects_of(["sr-x4"])


def _unreadable(_spec: object, found: Any) -> str:
    raise WeightsError(f"cannot read {found.path}")


def test_a_registry_of_the_users_own_names_networks(tiny: ModelConfig, tmp_path: Path) -> None:
    registry = tmp_path / "mine.toml"
    registry.write_text(
        '[my-net]\ntask = "sr"\nscale = 4\nsummary = ""\nlicense = ""\nsource = ""\n'
        'file = "x.pth"\n[my-net.model]\nscale = 4\ntail = "shuffle-once"\ndim = 8\n'
    )
    (subject,) = subjects_of(["my-net"], registry)
    assert (subject.config.dim, subject.path) == (tiny.dim, None)


def test_a_case_survives_the_way_to_another_process(subject: Subject) -> None:
    case = Case(subject, 24, 16, REFERENCE, "cpu")
    assert pickle.loads(pickle.dumps(case)) == case


def test_parts_add_up_to_no_more_than_the_whole_and_leave_no_trace(subject: Subject) -> None:
    restorer = Case(subject, 32, 32, REFERENCE, "cpu").restorer()
    picture = subject.picture(32, 32)
    before = restorer.restore(**picture)
    parts, whole = time_parts(restorer, lambda: restorer.restore(**picture), 2)
    assert set(parts) == set(count_cost(subject.config, 32, 32).parts)
    assert all(taken > 0 for taken in parts.values())
    # Medians of two turns: means, so the sum of parts is below the mean of wholes.
    assert sum(parts.values()) < whole
    assert (restorer.restore(**picture) == before).all()
    assert not any(
        module._forward_hooks for module in nn.ModuleDict(restorer.model.parts()).modules()
    )


def test_parts_are_timed_where_cpen_passes_in_strips_too(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffir_cli.models.diffir import model
    from diffir_cli.models.diffir.streaming.condition import condition

    def in_strips(cpen: Any, pixels: Any, *_others: Any) -> Any:
        return condition(cpen, pixels, 1)

    monkeypatch.setattr(model, "condition", in_strips)
    restorer = Case(subject, 32, 32, REFERENCE, "cpu").restorer()
    calls: list[ModulePart] = []
    for _, module, place in _places(restorer):
        module.register_forward_hook(lambda *_args, place=place: calls.append(place))
    restorer.restore(**subject.picture(32, 32))
    assert sum(place.level == "CPEN" for place in calls) > 2


def _places(restorer: ModelRunner) -> Any:
    from diffir_cli.models.diffir.module_parts import module_parts

    return module_parts(nn.ModuleDict(restorer.model.parts()))


def test_the_parts_are_timed_once_in_each_format(subject: Subject, peaks: PeakRates) -> None:
    half = Variant(Engine.STREAMING, Precision.BF16)
    settings = settings_of(STREAMING, REFERENCE, half, repeats=1, parts=True)
    found = running.measure(subject, [(16, 16)], settings, peaks)
    assert [bool(result.parts) for result in found] == [True, False, True]


def test_a_sweep_counts_warm_ups_and_parts_as_growing_with_the_pixels(subject: Subject) -> None:
    case = Case(subject, 8, 8, STREAMING, "cuda:0")
    result = Result(case, count_cost(subject.config, 8, 8), Timing((2.0,)), parts=({}, 5.0))
    settings = Settings("cuda:0", repeats=4)
    # Three warm-ups and four turns, and four passes of the parts behind one that does not count.
    assert running._growing([result], settings) == 7 * 2 + 5 * 5


def _peak_of_an_array() -> Memory:
    torch.ones(4 * 2**26, dtype=torch.uint8)
    kept: list[torch.Tensor] = []
    return peak_of(lambda: kept.append(torch.ones(2**26, dtype=torch.uint8)), CPU)


@pytest.mark.xdist_group("measurements")
def test_a_call_that_takes_memory_raises_the_peak_whatever_was_before() -> None:
    # In a process of its own: what other tests have let go of may be there to be taken again.
    memory, size = in_own_process(_peak_of_an_array), 2**26
    assert memory.resident is not None and memory.resident > 0.9 * size
    if os.access("/proc/self/clear_refs", os.W_OK):
        assert memory.resident < 1.2 * size
    assert memory.allocated is None and memory.reserved is None


def test_new_processes_measure_cold_start_and_the_memory_that_was_predicted(
    subject: Subject, tiny: ModelConfig
) -> None:
    case = Case(subject, 256, 256, REFERENCE, "cpu")
    in_subprocess = measure_in_subprocess(case)
    assert 0.2 < in_subprocess.cold_start < 120
    predicted = needed_bytes(tiny, 256, 256, Engine.REFERENCE)
    assert in_subprocess.memory.resident is not None
    assert 0.3 * predicted < in_subprocess.memory.resident < 2 * predicted


def test_lines_that_libraries_print_are_not_taken_for_an_answer() -> None:
    assert subprocess_run._parsed(b"Intel MKL WARNING\n") is None
    assert subprocess_run._parsed(b"[1]") is None and subprocess_run._parsed(b'{"a": 1}') == {
        "a": 1
    }


def test_a_new_process_that_fails_says_why(subject: Subject, s2_file: Path) -> None:
    case = Case(subject, 16, 16, STREAMING, "cpu")
    s2_file.write_bytes(b"nothing")
    with pytest.raises(DiffIRError, match=r"a new process failed: .*tiny\.safetensors"):
        measure_in_subprocess(case)


def test_sweeps_double_and_end_with_the_last_size() -> None:
    assert sweep_sizes(128, 1024) == [(128, 128), (256, 256), (512, 512), (1024, 1024)]
    assert sweep_sizes(100, 500)[-2:] == [(400, 400), (500, 500)]


def test_a_sweep_ends_with_its_budget_but_never_before_its_first_size(
    subject: Subject, peaks: PeakRates
) -> None:
    sizes = sweep_sizes(8, 32)
    settings = settings_of(STREAMING, REFERENCE)
    found = running.sweep(subject, sizes, settings, peaks, budget=0)
    assert [result.case.width for result in found] == [8, 8]
    found = running.sweep(subject, sizes, settings, peaks, budget=1000)
    assert [result.case.width for result in found] == [8, 8, 16, 16, 32, 32]


def test_the_growth_exponent_of_a_power_law_is_found(subject: Subject) -> None:
    def result(side: int, variant: Variant, law: Callable[[int], float]) -> Result:
        case = Case(subject, side, side, variant, "cpu")
        return Result(case, count_cost(subject.config, 8, 8), Timing((law(side * side),)))

    sizes = sweep_sizes(64, 512)
    found = [
        result(side, variant, law)
        for side, _ in sizes
        for variant, law in (
            (STREAMING, lambda pixels: 3e-6 * pixels),
            (REFERENCE, lambda pixels: 2e-6 * pixels**1.25),
        )
    ]
    streaming, reference = fit_growth(found, [*sizes, (1024, 1024)])
    assert streaming.exponent == pytest.approx(1) and streaming.variant == STREAMING
    assert reference.exponent == pytest.approx(1.25) and reference.left_out == ((1024, 1024),)
    assert fit_growth(found[:1], [])[0].exponent is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_is_timed_by_its_events_and_its_memory_is_told(subject: Subject) -> None:
    device = torch.device("cuda:0")
    one = torch.rand(2048, 2048, device=device)
    assert 0 < seconds(lambda: one @ one, device) < 10
    memory = peak_of(lambda: torch.empty(64 * 2**20, dtype=torch.uint8, device=device), device)
    assert memory.allocated == 64 * 2**20 and (memory.reserved or 0) >= memory.allocated
    machine = describe_machine(device)
    assert machine.gpu and machine.driver
    settings = Settings(
        "cuda:0", (Variant(Engine.STREAMING, Precision.BF16),), 2, in_subprocess=False
    )
    (result,) = running.measure(subject, [(64, 64)], settings, PeakRates(device))
    assert result.timing and math.isfinite(result.share)
