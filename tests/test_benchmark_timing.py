"""Seconds, ratios, peak rates, and the machine that they were measured on."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from diffir_cli.benchmark import machine as machines
from diffir_cli.benchmark import run as running
from diffir_cli.benchmark.machine import (
    describe_machine,
    gpu_driver,
    parse_cpu_info,
)
from diffir_cli.benchmark.run import PeakRates
from diffir_cli.benchmark.timing import Ratio, Timing, by_turns
from diffir_cli.options import Precision
from diffir_cli.runtime import clock
from diffir_cli.runtime.clock import peak, seconds
from tests.benchmark_helpers import CPU


def test_percentiles_lie_between_the_calls_and_the_spread_is_a_share_of_the_median() -> None:
    timing = Timing((5.0, 1.0, 2.0, 4.0, 3.0))
    assert (timing.p50, timing.best) == (3.0, 1.0)
    assert timing.percentile(90) == pytest.approx(4.6)
    assert timing.percentile(99) == pytest.approx(4.96)
    assert timing.spread == pytest.approx((4.6 - 1.4) / 3)
    assert Timing((2.0,)).percentile(99) == 2.0 and Timing((2.0,)).spread == 0
    assert timing.p99 is None and Timing((2.0,) * 20).p99 == 2.0


def test_a_ratio_is_taken_turn_by_turn_so_that_a_noisy_machine_does_not_decide() -> None:
    noisy = (1.0, 9.0, 3.0, 30.0)
    ratio = Ratio.of([2 * each for each in noisy], noisy)
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_what_is_compared_is_called_by_turns() -> None:
    order: list[str] = []
    turns: list[int] = []
    calls = [lambda: order.append("A"), lambda: order.append("B")]
    timings = by_turns(calls, 3, CPU, turns.append)
    assert "".join(order) == "ABABAB" and turns == [0, 1, 2]
    assert [len(timing.seconds) for timing in timings if isinstance(timing, Timing)] == [3, 3]


def test_a_call_that_fails_in_a_turn_is_not_made_again_and_the_others_go_on() -> None:
    order: list[str] = []

    def fail() -> None:
        order.append("B")
        raise RuntimeError("no kernel")

    good, bad = by_turns([lambda: order.append("A"), fail], 3, CPU)
    assert "".join(order) == "ABAA"
    assert isinstance(good, Timing) and len(good.seconds) == 3 and isinstance(bad, RuntimeError)


def test_the_peak_is_the_work_of_the_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0.001, 8.0, 4.0, 2.0, 4.0, 8.0])
    monkeypatch.setattr(clock, "seconds", lambda _run, _device: next(taken))
    # The first does not count: it warms up.
    assert peak(CPU, side=64) == 2 * 64**3 / 2.0


def test_the_peak_of_a_run_is_the_best_of_all_its_measurements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = iter([3.0, 5.0, 4.0])
    monkeypatch.setattr(running, "peak", lambda *_how: next(found))
    peaks = PeakRates(CPU)
    seen = []
    for _ in range(3):
        peaks.measure(Precision.FP32)
        seen.append(peaks.found[Precision.FP32])
    assert seen == [3.0, 5.0, 5.0]


def test_processors_of_intel_and_of_arm_are_told_from_what_linux_says() -> None:
    intel = "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx2 avx512f amx_bf16\n"
    assert parse_cpu_info(intel) == ("Fast 9000", {"fpu", "avx2", "avx512f", "amx_bf16"})
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16\n\nModel\t\t: Raspberry Pi 5\n"
    assert parse_cpu_info(arm) == ("Raspberry Pi 5", {"fp", "asimd", "bf16"})
    assert parse_cpu_info("nonsense") == ("", set())


def test_the_machine_says_what_a_figure_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_cpu_info", lambda: ("Fast 9000", {"avx2", "amx_bf16"}))
    monkeypatch.setattr(machines, "cpu_limit", lambda: 3)
    monkeypatch.setattr("os.getloadavg", lambda: (0.5, 1.0, 1.0), raising=False)
    first, second = describe_machine(CPU).lines()
    assert first.startswith("Fast 9000, 3 cores usable, AVX2, AMX bf16, bf16 units; ")
    assert second.startswith(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    assert second.endswith("; load 0.50 before the first measurement")


def test_accelerators_of_all_makers_have_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_first_line", lambda _command: "570.1")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert gpu_driver(torch.device("cuda")) == "driver 570.1, CUDA 13.0"
    monkeypatch.setattr(torch.version, "hip", "7.1")
    assert gpu_driver(torch.device("cuda")) == "HIP 7.1"
    monkeypatch.setattr(
        torch.xpu, "get_device_properties", lambda _device: SimpleNamespace(driver_version="1.6")
    )
    assert gpu_driver(torch.device("xpu")) == "driver 1.6"
    assert gpu_driver(torch.device("mps")).startswith("macOS") and not gpu_driver(CPU)


def test_a_mac_is_asked_for_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(machines, "_first_line", lambda command: " ".join(command))
    assert machines._cpu_info() == ("sysctl -n machdep.cpu.brand_string", set())


def test_a_gpu_is_asked_for_its_own_clock_around_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append("record")

        def synchronize(self) -> None:
            order.append("wait")

        def elapsed_time(self, _last: Event) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("settle"))
    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    assert seconds(lambda: order.append("call"), torch.device("cuda:0")) == 0.25
    assert order == ["settle", "record", "call", "record", "wait"]
