"""A run beside an older one: like with like, and nothing left out in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result as Outcome

from diffir_cli.benchmark import run as running
from diffir_cli.benchmark.compare import Change, compare
from diffir_cli.util.files import file_sha256
from tests.conftest import run_cli, succeeded

_OLD: list[str] = []


@pytest.fixture
def old(bench: Callable[..., Outcome], s2_file: Path, tmp_path: Path) -> Path:
    """What a run on this machine found, measured once for all tests."""
    if not _OLD:
        _OLD.append(bench("--json").stdout)
    found = json.loads(_OLD[0])
    # The header of a weights file has its entries in any order.
    found["results"][0]["sha256"] = file_sha256(s2_file)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(found))
    return path


def _changed(path: Path, change: Callable[[Any], None]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_a_run_that_is_slower_beyond_the_tolerance_fails(
    bench: Callable[..., Outcome], old: Path
) -> None:
    _changed(old, lambda found: found["results"][0]["seconds"].update(p50=1e-6))
    outcome = bench("--compare", old, "--json")
    assert outcome.exit_code == 1
    assert "1 figure is worse than before by more than 20 %" in outcome.stderr
    changes = json.loads(outcome.stdout)["comparison"]["changes"]
    assert [(each["figure"], each["worse"]) for each in changes] == [
        ("p50", True),
        ("Mult-Adds", False),
    ]
    assert changes[0]["ratio"] == pytest.approx(changes[0]["new"] / 1e-6)
    shown = succeeded(bench("--compare", old, "--tolerance", 1e9))
    (row,) = (line for line in shown.stdout.splitlines() if "│ p50 " in line)
    assert row.count("│") == 7 and " ms │" in row


def test_a_count_is_compared_with_a_timed_run_and_its_threads_do_not_matter(
    old: Path, s2_file: Path
) -> None:
    _changed(old, lambda found: found["machine"].update(threads=7))
    sized = ("--input-size", "16x24", "--cost-only", "--json")
    outcome = run_cli("benchmark", "-w", s2_file, *sized, "--compare", old)
    assert outcome.exit_code == 0 and "not alike" not in outcome.stderr
    (change,) = json.loads(outcome.stdout)["comparison"]["changes"]
    assert (change["figure"], change["unit"], change["ratio"]) == ("Mult-Adds", "Mult-Adds", 1)


def test_what_only_one_run_has_is_told(bench: Callable[..., Outcome], old: Path) -> None:
    memory = {"resident": 0, "allocated": None, "reserved": None}
    _changed(old, lambda found: found["results"][0].update(memory=memory))
    outcome = succeeded(
        bench("--compare", old, "--engine", "streaming,reference", "--tolerance", 1e6)
    )
    case = "tiny.safetensors 16×24"
    assert f"not compared: RSS growth of {case} streaming fp32 cpu, which only the run then" in (
        outcome.stderr
    )
    assert f"warning: not measured then: {case} reference fp32 cpu" in outcome.stderr


def test_memory_that_was_nothing_is_worse_when_it_is_much(old: Path) -> None:
    was = {"resident": 0, "allocated": 0, "reserved": 0}
    now = {"resident": 2**20, "allocated": 0, "reserved": 2**25}
    found = json.loads(old.read_text())
    (result,) = found["results"]
    then, new = ({**found, "results": [{**result, "memory": each}]} for each in (was, now))
    reporter = compare(then, new, 0.2).to_dict()
    worse = {each["figure"]: each["worse"] for each in reporter["changes"]}
    assert not worse["RSS growth"] and not worse["GPU allocated"] and worse["GPU reserved"]
    assert reporter["tolerance"] == 0.2 and reporter["changes"][-2]["ratio"] is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "true", "1" + "0" * 400, '"1"'])
@pytest.mark.usefixtures("never_run")
def test_an_older_run_with_a_figure_that_is_none_is_refused(value: str, tmp_path: Path) -> None:
    result = dict.fromkeys(("sha256", "engine", "precision", "device"))
    result |= {"weights": "sr-x4-lite", "config": "", "width": 256, "height": 256}
    text = json.dumps({"machine": {}, "results": [{**result, "seconds": {"p50": "HERE"}}]})
    path = tmp_path / "old.json"
    path.write_text(text.replace('"HERE"', value))
    outcome = run_cli("benchmark", "--compare", path)
    assert outcome.exit_code == 3 and "has a p50 of sr-x4-lite 256×256" in outcome.stderr


def test_memory_is_worse_only_where_it_matters() -> None:
    def change(new: int) -> Change:
        return Change("case", "RSS growth", "bytes", 2**20, new * 2**20, 0.2)

    assert [change(new).worse for new in (1, 3, 16, 18)] == [False, False, False, True]


def test_a_run_that_is_faster_passes_and_stands_beside_the_old_one(
    bench: Callable[..., Outcome], old: Path
) -> None:
    _changed(old, lambda found: found["results"][0]["seconds"].update(p50=1000))
    outcome = bench("--compare", old)
    assert outcome.exit_code == 0 and "not alike" not in outcome.stderr
    assert "Compared" in outcome.stdout and "1000000.0 ms" in outcome.stdout


def test_another_machine_and_missing_cases_are_told(
    bench: Callable[..., Outcome], old: Path
) -> None:
    def change(found: Any) -> None:
        found["machine"]["cpu"] = "Slow 1"
        found["results"].append({**found["results"][0], "engine": "reference"})
        found["results"][0]["seconds"]["p50"] = 1000

    _changed(old, change)
    outcome = succeeded(bench("--compare", old))
    assert "warning: not alike: cpu: Slow 1 then" in outcome.stderr
    assert "not measured now: tiny.safetensors 16×24 reference fp32 cpu" in outcome.stderr


def test_runs_without_a_case_in_common_are_refused_before_anything_is_measured(
    bench: Callable[..., Outcome], old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _changed(old, lambda found: found["results"][0].update(width=17))

    def fail(*_args: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(running, "measure", fail)
    outcome = bench("--compare", old)
    assert outcome.exit_code == 3 and "no case in common" in outcome.stderr
    assert "the old one measured tiny.safetensors 17×24 streaming fp32 cpu" in outcome.stderr


def test_a_comparison_of_nothing_is_no_success(bench: Callable[..., Outcome], old: Path) -> None:
    def change(found: Any) -> None:
        found["results"][0]["seconds"] = found["results"][0]["mult_adds"] = None

    _changed(old, change)
    outcome = bench("--compare", old)
    assert outcome.exit_code == 1 and "can be compared" in outcome.stderr


@pytest.mark.parametrize(
    "text", ["nothing", "[1]", "{}", '{"machine": {}, "results": [{"weights": "x"}]}']
)
@pytest.mark.usefixtures("never_run")
def test_what_is_no_result_of_a_benchmark_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    assert run_cli("benchmark", "--compare", path).exit_code == 3
