"""`diffir benchmark` as a user meets it: tables, reports, refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result as Outcome

from diffir_cli.benchmark import run as running
from diffir_cli.benchmark.memory import Memory
from diffir_cli.benchmark.report import remarks
from diffir_cli.benchmark.run import Result
from diffir_cli.benchmark.subject import Subject, subjects_of
from diffir_cli.benchmark.subprocess_run import SubprocessResult
from diffir_cli.benchmark.tables import latency_table
from diffir_cli.benchmark.timing import Timing
from diffir_cli.errors import InputError
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.options import Engine, Precision
from tests.benchmark_helpers import MACHINE, result_of
from tests.conftest import run_cli, succeeded


def test_one_object_of_json_tells_everything(bench: Callable[..., Outcome], s2_file: Path) -> None:
    outcome = succeeded(bench("--engine", "streaming,reference", "--json", "--modules"))
    found = json.loads(outcome.stdout)
    first, second = found["results"]
    assert first["weights"] == s2_file.name and not first["random_weights"]
    assert (first["width"], first["height"], first["padded"]) == (16, 24, [16, 24])
    assert (first["engine"], second["engine"]) == ("streaming", "reference")
    (subject,) = subjects_of([str(s2_file)])
    cost = count_cost(subject.config, 16, 24)
    assert first["mult_adds"]["exact"] == cost.exact == sum(p["mult_adds"] for p in first["parts"])
    assert first["mult_adds"]["paper"] == cost.paper
    assert first["parameters"]["total"] == cost.total_parameters
    assert all(part["seconds"] > 0 for part in first["parts"])
    assert all(part["seconds"] is None for part in second["parts"])
    assert first["seconds"]["min"] <= first["seconds"]["p50"] <= first["seconds"]["p90"]
    assert len(first["seconds"]["all"]) == 2
    rate = first["lq_pixels_per_second"]
    assert rate == pytest.approx(16 * 24 / first["seconds"]["p50"])
    assert first["hq_pixels_per_second"] == pytest.approx(16 * rate)
    assert first["ratio"] is None and second["ratio"]["median"] > 0
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["settings"]["repeats"] == 2


def test_tables_for_people_stand_on_stdout_and_doubts_on_stderr(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 1.0, 1.0))
    outcome = succeeded(bench("--modules"))
    for word in ("torch ", "Mult-Adds", "Latency", "p50 (ms)", "of peak", "level 3 up", "DGFN"):
        assert word in outcome.stdout, word
    assert "warning: the machine was busy, with a load of 64.00" in outcome.stderr
    assert "warning" not in outcome.stdout


@pytest.mark.usefixtures("never_run")
def test_a_report_that_exists_is_refused_before_anything_is_measured(
    bench: Callable[..., Outcome], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine")
    refused = bench("--markdown", page)
    assert refused.exit_code == 3 and "already exists" in refused.stderr
    assert page.read_text() == "mine"


def test_reports_hold_every_case_and_replace_files_on_demand(
    bench: Callable[..., Outcome], tmp_path: Path
) -> None:
    page, table = tmp_path / "page.md", tmp_path / "table.csv"
    page.write_text("mine")
    outcome = bench("--csv", table, "--markdown", page, "--overwrite", "-q")
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert "| weights | input | engine | precision |" in page.read_text(encoding="utf-8")
    with table.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert float(row["seconds.p50"]) > 0 and int(row["mult_adds.exact"]) > 0
    assert (row["width"], row["height"]) == ("16", "24") and "parts" not in row


@pytest.mark.usefixtures("never_run")
def test_cost_alone_runs_nothing_and_takes_any_size() -> None:
    sizes = ("--input-size", "256x256,16384x9000", "--json", "--modules")
    outcome = succeeded(run_cli("benchmark", "--cost-only", "-w", "inpaint-celeba", *sizes))
    small, large = json.loads(outcome.stdout)["results"]
    assert round(small["mult_adds"]["paper"] / 1e9, 2) == 51.63
    assert large["padded"] == [16384, 9000] and large["seconds"] is None
    assert "random" not in outcome.stderr


def test_all_means_every_network_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffir_cli.weights.registry import read_registry

    seen: list[Subject] = []

    def count_only(subject: Subject, *_how: object) -> list[Result]:
        seen.append(subject)
        return []

    monkeypatch.setattr(running, "count_only", count_only)
    assert run_cli("benchmark", "--all", "--cost-only", "--json").exit_code == 0
    assert [subject.name for subject in seen] == list(read_registry())
    at_hand = {subject.name for subject in seen if subject.path}
    assert at_hand >= {spec.name for spec in read_registry().values() if spec.embedded}


def test_a_task_means_its_embedded_weights() -> None:
    outcome = run_cli("benchmark", "--task", "deblur", "--cost-only", "--json")
    (result,) = json.loads(outcome.stdout)["results"]
    assert (result["weights"], result["width"], result["height"]) == ("deblur-lite", 256, 256)


def test_names_may_stand_together_with_commas_between_but_a_file_may_have_one(
    s2_file: Path, tmp_path: Path
) -> None:
    odd = s2_file.rename(tmp_path / "a,b.safetensors")
    outcome = succeeded(
        run_cli("benchmark", "-w", "sr-x4-lite,deblur-lite", "-w", odd, "--cost-only")
    )
    assert all(name in outcome.stdout for name in ("sr-x4-lite", "deblur-lite", odd.name))


def test_a_count_needs_no_device_and_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFIR_DEVICE", "cuda:7")
    outcome = succeeded(run_cli("benchmark", "--cost-only", "--json"))
    (result,) = json.loads(outcome.stdout)["results"]
    assert [result[name] for name in ("engine", "precision", "device")] == [None] * 3


def test_one_device_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from diffir_cli.cli.benchmark import _settings

    for requested, name in (("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("mps", "mps")):
        monkeypatch.setattr("diffir_cli.runtime.device.choose_device", torch.device)
        settings = _settings(requested, [Engine.STREAMING], [Precision.FP32], 1, False, False)
        assert settings.device == name


def test_random_weights_are_said() -> None:
    arguments = ("-w", "inpaint-celeba", "--input-size", "8x8", "--repeats", 1, "--no-subprocess")
    outcome = succeeded(run_cli("benchmark", *arguments))
    assert "inpaint-celeba (random)" in outcome.stdout
    assert "note: random weights for inpaint-celeba" in outcome.stderr


def test_a_sweep_tells_its_growth_and_what_it_left_out(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_turns(calls: list[Any], *_how: object) -> list[Timing]:
        return [Timing((1e-6 * call.keywords["lq"].size ** 1.5,)) for call in calls]

    monkeypatch.setattr(running, "by_turns", by_turns)
    outcome = succeeded(bench("--sweep", "8..32", "--json"))
    (growth,) = json.loads(outcome.stdout)["growth"]
    assert growth["sizes"] == [[8, 8], [16, 16], [32, 32]] and growth["left_out"] == []
    assert growth["exponent"] == pytest.approx(1.5)
    outcome = bench("--sweep", "8..32", "--budget", 0)
    assert "16×16, 32×32" in outcome.stdout


def test_the_paper_stands_beside_ours(tmp_path: Path) -> None:
    outcome = succeeded(run_cli("benchmark", "--paper", "--markdown", tmp_path / "paper.md"))
    assert "140.99 G" in outcome.stdout and "note: " in outcome.stderr
    for word in ("Table 4", "47.97", "51.63", "Table 6", "0.74", "37.25", "Figure 1", "Restormer"):
        assert word in outcome.stdout, word
    assert "| Table 6 | ×4 real-world SR, DiffIR S2 | T | 0.74 | 0.74 | 0.72 |" in (
        tmp_path / "paper.md"
    ).read_text(encoding="utf-8")
    found = json.loads(run_cli("benchmark", "--paper", "--json").stdout)["paper"]
    assert {"source", "what", "published", "ours", "exact", "agrees"} <= set(found[0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-w", "sr-x4-light"], 4, "did you mean 'sr-x4-lite'?"),
        (["--precision", "fp16", "-d", "cpu"], 5, "fp16 is slow on a CPU"),
    ],
)
@pytest.mark.usefixtures("never_run")
def test_what_is_missing_is_told_before_anything_is_measured(
    arguments: list[str], code: int, message: str
) -> None:
    outcome = run_cli("benchmark", *arguments)
    assert outcome.exit_code == code and message in outcome.stderr


@pytest.mark.usefixtures("no_room")
def test_a_case_that_fails_is_an_error_behind_the_others(
    bench: Callable[..., Outcome], tmp_path: Path
) -> None:
    picture = tmp_path / "plot.png"
    assert bench("--engine", "reference", "--plot", picture).exit_code == 5
    assert not picture.exists()
    outcome = bench("--engine", "streaming,reference", "--json")
    assert outcome.exit_code == 5 and "reference fp32: no room" in outcome.stderr
    first, second = json.loads(outcome.stdout)["results"]
    assert first["seconds"] and second["seconds"] is None and second["error"] == "no room"


def test_a_network_that_cannot_be_built_is_an_error_behind_the_others(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path))
    path = tmp_path / "cache" / "weights" / "sr-x4" / "SISR-DiffIRS2-GAN.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0123456789")
    outcome = bench("-w", "sr-x4", "--csv", tmp_path / "z.csv", "--json")
    assert outcome.exit_code == 5 and "error: sr-x4 16×24 streaming fp32: " in outcome.stderr
    first, second = json.loads(outcome.stdout)["results"]
    assert first["seconds"] and second["error"] and (tmp_path / "z.csv").is_file()


def test_what_was_measured_before_an_interruption_is_told_and_written(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Subject.picture

    def picture(self: Subject, width: int, height: int) -> Any:
        if height == 8:
            raise KeyboardInterrupt
        return real(self, width, height)

    monkeypatch.setattr(Subject, "picture", picture)
    page = tmp_path / "page.md"
    outcome = bench("--input-size", "8x8", "--json", "--markdown", page)
    assert outcome.exit_code == 130 and "interrupted" in outcome.stderr
    (result,) = json.loads(outcome.stdout)["results"]
    assert result["seconds"] and "16×24" in page.read_text(encoding="utf-8")


def test_figures_are_told_even_where_a_report_cannot_be_written(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_how: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr("diffir_cli.util.files.write_text", full)
    outcome = bench("--csv", tmp_path / "x.csv", "--json")
    assert outcome.exit_code == 3 and json.loads(outcome.stdout)["results"][0]["seconds"]


def test_reports_are_written_even_where_stdout_takes_nothing(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_value: object) -> None:
        raise InputError("stdout is full")

    monkeypatch.setattr("diffir_cli.cli.benchmark_console.print_json", full)
    outcome = bench("--csv", tmp_path / "x.csv", "--json")
    assert outcome.exit_code == 3 and "stdout is full" in outcome.stderr
    assert "16" in (tmp_path / "x.csv").read_text(encoding="utf-8")


def test_each_case_is_a_line_where_no_spinner_turns(bench: Callable[..., Outcome]) -> None:
    line = "tiny.safetensors 16×24 streaming fp32: "
    assert line in bench().stderr and line not in bench("--json").stderr.replace("spread", "")


def test_a_wide_spread_is_a_warning_and_a_narrow_one_is_none() -> None:
    calm = result_of("sr-x4-lite", 64, 1.0)
    assert remarks(MACHINE, [calm]) == []
    noisy = dataclasses.replace(calm, timing=Timing((1.0, 1.0, 1.5)))
    (line,) = remarks(MACHINE, [noisy])
    assert line.startswith("warning: sr-x4-lite 64×64 streaming fp32 spread by 40 %")
    (line,) = remarks(dataclasses.replace(MACHINE, load=0.6), [calm])
    assert "the machine was busy, with a load of 0.60 on 2 cores" in line


def test_memory_of_a_gpu_has_columns_only_where_there_is_one() -> None:
    result = result_of("sr-x4-lite", 64, 1.0)
    on_cpu = dataclasses.replace(result, in_subprocess=SubprocessResult(2.5, Memory(2**20 * 7)))
    table = latency_table([on_cpu])
    assert table.header[-2:] == ["cold start (s)", "RSS (MiB)"]
    assert table.rows[0][-2:] == ["2.50", "7"]
    on_gpu = dataclasses.replace(
        result, in_subprocess=SubprocessResult(2.5, Memory(1, 2**20 * 8, 2**20 * 9))
    )
    table = latency_table([on_gpu])
    assert table.header[-2:] == ["allocated", "reserved"] and table.rows[0][-2:] == ["8", "9"]
