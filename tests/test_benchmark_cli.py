"""`diffir benchmark` as a user meets it: tables, reports, pictures, comparisons, refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result as Outcome

from diffir_cli.benchmark import run as running
from diffir_cli.benchmark import timing as clock
from diffir_cli.benchmark.case import Case, Variant
from diffir_cli.benchmark.compare import Change, compare
from diffir_cli.benchmark.cost import count_cost
from diffir_cli.benchmark.fresh import Fresh
from diffir_cli.benchmark.machine import Machine
from diffir_cli.benchmark.memory import Memory
from diffir_cli.benchmark.plot import panels_of
from diffir_cli.benchmark.quality import check_alike, read_quality
from diffir_cli.benchmark.report import remarks
from diffir_cli.benchmark.run import Result
from diffir_cli.benchmark.subject import Subject, subjects_of
from diffir_cli.benchmark.tables import latency_table
from diffir_cli.benchmark.timing import Timing
from diffir_cli.config import Engine, Precision
from diffir_cli.errors import DeviceError, InputError
from tests.conftest import run_cli

STREAMING = Variant(Engine.STREAMING, Precision.FP32)
REFERENCE = Variant(Engine.REFERENCE, Precision.FP32)
MACHINE = Machine("Linux", "Fast 9000", 2, ("AVX2",), False, "3.11", "2.13", 2, "", "", 0.1)


@pytest.fixture(autouse=True)
def small_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_CPU_SIDE", 64)


@pytest.fixture
def bench(s2_file: Path) -> Callable[..., Outcome]:
    """Runs `diffir benchmark` with the tiny network at a tiny size."""

    def run(*arguments: object) -> Outcome:
        sized = [] if "--sweep" in arguments else ["--size", "16x24"]
        fixed = ["benchmark", "-w", s2_file, "-d", "cpu", "--repeats", 2, *sized]
        fresh = [] if "--sweep" in arguments else ["--no-fresh"]
        return run_cli(*fixed, *fresh, *arguments)

    return run


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which something is measured."""

    def fail(*_args: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(running, "measure", fail)


def _result(name: str, side: int, seconds: float, variant: Variant = STREAMING) -> Result:
    (subject,) = subjects_of([name])
    cost = count_cost(subject.config, side, side)
    return Result(Case(subject, side, side, variant, "cpu"), cost, Timing((seconds,) * 3), roof=1e9)


def test_one_object_of_json_tells_everything(bench: Callable[..., Outcome], s2_file: Path) -> None:
    outcome = bench("--engine", "streaming,reference", "--json", "--modules")
    assert outcome.exit_code == 0, outcome.output
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
    assert found["machine"]["threads"] == 1 and found["settings"]["repeats"] == 2


def test_tables_for_people_stand_on_stdout_and_doubts_on_stderr(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 1.0, 1.0))
    outcome = bench("--modules")
    assert outcome.exit_code == 0, outcome.output
    for word in ("torch ", "Mult-Adds", "Latency", "p50 (ms)", "of roof", "level 3 up", "DGFN"):
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
    assert refused.exit_code == 3 and "exists already" in refused.stderr
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
    outcome = run_cli(
        *("benchmark", "--cost-only", "-w", "inpaint-celeba", "--size", "256x256,16384x9000"),
        *("--json", "--modules"),
    )
    assert outcome.exit_code == 0, outcome.output
    small, large = json.loads(outcome.stdout)["results"]
    assert round(small["mult_adds"]["paper"] / 1e9, 2) == 51.63
    assert large["padded"] == [16384, 9000] and large["seconds"] is None
    assert "random" not in outcome.stderr


def test_all_means_every_network_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffir_cli.registry import read_registry

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
    outcome = run_cli("benchmark", "-w", "sr-x4-lite,deblur-lite", "-w", odd, "--cost-only")
    assert outcome.exit_code == 0, outcome.output
    assert all(name in outcome.stdout for name in ("sr-x4-lite", "deblur-lite", odd.name))


def test_a_count_needs_no_device_and_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFIR_DEVICE", "cuda:7")
    outcome = run_cli("benchmark", "--cost-only", "--json")
    assert outcome.exit_code == 0, outcome.output
    (result,) = json.loads(outcome.stdout)["results"]
    assert [result[name] for name in ("engine", "precision", "device")] == [None] * 3


def test_one_device_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from diffir_cli.cli.benchmark import _settings

    for wish, name in (("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("mps", "mps")):
        monkeypatch.setattr("diffir_cli.engine.device.choose_device", torch.device)
        settings = _settings(wish, [Engine.STREAMING], [Precision.FP32], 1, False, False)
        assert settings.device == name


def test_random_weights_are_said() -> None:
    arguments = ("-w", "inpaint-celeba", "--size", "8x8", "--repeats", 1, "--no-fresh")
    outcome = run_cli("benchmark", *arguments)
    assert outcome.exit_code == 0, outcome.output
    assert "inpaint-celeba (random)" in outcome.stdout
    assert "note: random weights for inpaint-celeba" in outcome.stderr


def test_a_sweep_tells_its_growth_and_what_it_left_out(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_turns(calls: list[Any], *_how: object) -> list[Timing]:
        return [Timing((1e-6 * call.keywords["lq"].size ** 1.5,)) for call in calls]

    monkeypatch.setattr(running, "by_turns", by_turns)
    outcome = bench("--sweep", "8..32", "--json")
    assert outcome.exit_code == 0, outcome.output
    (growth,) = json.loads(outcome.stdout)["growth"]
    assert growth["sizes"] == [[8, 8], [16, 16], [32, 32]] and growth["left_out"] == []
    assert growth["exponent"] == pytest.approx(1.5)
    outcome = bench("--sweep", "8..32", "--budget", 0)
    assert "16×16, 32×32" in outcome.stdout


def test_the_paper_stands_beside_ours(tmp_path: Path) -> None:
    outcome = run_cli("benchmark", "--paper", "--markdown", tmp_path / "paper.md")
    assert outcome.exit_code == 0
    assert "140.99 G" in outcome.stdout and "note: " in outcome.stderr
    for word in ("Table 4", "47.97", "51.63", "Table 6", "0.74", "37.25", "Figure 1", "Restormer"):
        assert word in outcome.stdout, word
    assert "| Table 6 | ×4 real-world SR, DiffIR S2 | T | 0.74 | 0.74 | 0.72 |" in (
        tmp_path / "paper.md"
    ).read_text(encoding="utf-8")
    found = json.loads(run_cli("benchmark", "--paper", "--json").stdout)["paper"]
    assert {"source", "what", "published", "ours", "exact", "agrees"} <= set(found[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "256"], "--size must be such as 640x480, not '256'"),
        (["--size", "0x8"], "sides of 1 to 16384 pixels, not 0"),
        (["--size", "16385x8"], "sides of 1 to 16384 pixels, not 16385"),
        (["--sweep", "128-256"], "--sweep must be such as 128..2048"),
        (["--sweep", "256..128"], "--sweep must grow"),
        (["--sweep", "8..16", "--size", "8x8"], "give --size or --sweep, not both"),
        (["--sweep", "8..16", "--no-fresh"], "--no-fresh has no use with --sweep"),
        (["--engine", "streaming,fast"], "must be of streaming, reference, not 'fast'"),
        (["--precision", "fp8"], "--precision must be of auto, fp32"),
        (["--task", "sr", "--all"], "give --task or --all, not both"),
        (["--budget", "5"], "--budget needs --sweep"),
        (["--tolerance", "5"], "--tolerance needs --compare"),
        (["--quality", "x.json"], "--quality needs --plot"),
        (["--paper", "--size", "8x8"], "--size has no use with --paper"),
        (["--cost-only", "--repeats", "3"], "--repeats has no use with --cost-only"),
        (["--cost-only", "-d", "cuda"], "--device has no use with --cost-only"),
        (["--size", f"{'9' * 5000}x8"], "sides of 1 to 16384 pixels, not 99999999999999999999"),
        (["--threads", "100000"], "less than or equal to 1024"),
        (["--plot", "x.jpg"], "name a file that ends in .png, not x.jpg"),
        (["--plot", "-"], "name a file that ends in .png, not -"),
        (["--overwrite"], "--overwrite needs --csv, --markdown or --plot"),
        (["--paper", "--budget", "3"], "--budget has no use with --paper"),
        (["--paper", "-q"], "--quiet with --paper needs --markdown or --json"),
        (["--cost-only", "--plot", "x.png"], "--cost-only needs --quality"),
        (["--csv", "x.csv", "--markdown", "x.csv"], "must name different files"),
    ],
)
@pytest.mark.usefixtures("never_run")
def test_options_that_cannot_be_meant_are_refused_before_anything_is_measured(
    arguments: list[str], message: str
) -> None:
    outcome = run_cli("benchmark", *arguments)
    assert outcome.exit_code == 2
    # Typer breaks lines in a frame.
    said = " ".join(outcome.stderr.replace("│", " ").split())
    assert message in said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-w", "sr-x4-light"], 4, "did you mean 'sr-x4-lite'?"),
        (["-w", "absent.pth"], 4, "no such weights file"),
        (["-d", "abacus"], 5, "no device named 'abacus'"),
        (["--precision", "fp16", "-d", "cpu"], 5, "fp16 is slow on a CPU"),
        (["--csv", "no/such/x.csv"], 3, "no such folder"),
        (["--compare", "absent.json"], 3, "cannot read absent.json"),
        (["--plot", "x.png", "--quality", "absent.json"], 3, "cannot read absent.json"),
    ],
)
@pytest.mark.usefixtures("never_run")
def test_what_is_missing_is_told_before_anything_is_measured(
    arguments: list[str], code: int, message: str
) -> None:
    outcome = run_cli("benchmark", *arguments)
    assert outcome.exit_code == code and message in outcome.stderr


def test_a_case_that_fails_is_an_error_behind_the_others(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from diffir_cli.engine.restorer import ModelRestorer

    real = ModelRestorer.restore

    def restore(self: ModelRestorer, *args: Any, **others: Any) -> Any:
        if self.engine is Engine.REFERENCE:
            raise DeviceError("no room")
        return real(self, *args, **others)

    monkeypatch.setattr(ModelRestorer, "restore", restore)
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
    outcome = bench("--size", "8x8", "--json", "--markdown", page)
    assert outcome.exit_code == 130 and "interrupted" in outcome.stderr
    (result,) = json.loads(outcome.stdout)["results"]
    assert result["seconds"] and "16×24" in page.read_text(encoding="utf-8")


def test_figures_are_told_even_where_a_report_cannot_be_written(
    bench: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_how: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr("diffir_cli.files.write_text", full)
    outcome = bench("--csv", tmp_path / "x.csv", "--json")
    assert outcome.exit_code == 3 and json.loads(outcome.stdout)["results"][0]["seconds"]


def test_each_case_is_a_line_where_no_spinner_turns(bench: Callable[..., Outcome]) -> None:
    line = "tiny.safetensors 16×24 streaming fp32: "
    assert line in bench().stderr and line not in bench("--json").stderr.replace("spread", "")


def test_a_wide_spread_is_a_warning_and_a_narrow_one_is_none() -> None:
    calm = _result("sr-x4-lite", 64, 1.0)
    assert remarks(MACHINE, [calm]) == []
    noisy = dataclasses.replace(calm, timing=Timing((1.0, 1.0, 1.5)))
    (line,) = remarks(MACHINE, [noisy])
    assert line.startswith("warning: sr-x4-lite 64×64 streaming fp32 spread by 40 %")
    (line,) = remarks(dataclasses.replace(MACHINE, load=0.6), [calm])
    assert "the machine was busy, with a load of 0.60 on 2 cores" in line


def test_memory_of_a_gpu_has_columns_only_where_there_is_one() -> None:
    result = _result("sr-x4-lite", 64, 1.0)
    on_cpu = dataclasses.replace(result, fresh=Fresh(2.5, Memory(2**20 * 7)))
    table = latency_table([on_cpu])
    assert table.header[-2:] == ["cold (s)", "RSS (MiB)"] and table.rows[0][-2:] == ["2.50", "7"]
    on_gpu = dataclasses.replace(result, fresh=Fresh(2.5, Memory(1, 2**20 * 8, 2**20 * 9)))
    table = latency_table([on_gpu])
    assert table.header[-2:] == ["allocated", "reserved"] and table.rows[0][-2:] == ["8", "9"]


@pytest.fixture
def old(bench: Callable[..., Outcome], tmp_path: Path) -> Path:
    """What a run on this machine found."""
    path = tmp_path / "old.json"
    path.write_text(bench("--json").stdout)
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
    assert bench("--compare", old, "--tolerance", 1e9).exit_code == 0


def test_a_count_is_compared_with_a_timed_run_and_its_threads_do_not_matter(
    old: Path, s2_file: Path
) -> None:
    _changed(old, lambda found: found["machine"].update(threads=7))
    sized = ("--size", "16x24", "--cost-only", "--json")
    outcome = run_cli("benchmark", "-w", s2_file, *sized, "--compare", old)
    assert outcome.exit_code == 0 and "not alike" not in outcome.stderr
    (change,) = json.loads(outcome.stdout)["comparison"]["changes"]
    assert (change["figure"], change["unit"], change["ratio"]) == ("Mult-Adds", "Mult-Adds", 1)


def test_what_only_one_run_has_is_told(bench: Callable[..., Outcome], old: Path) -> None:
    memory = {"resident": 0, "allocated": None, "reserved": None}
    _changed(old, lambda found: found["results"][0].update(memory=memory))
    outcome = bench("--compare", old, "--engine", "streaming,reference", "--tolerance", 1e6)
    assert outcome.exit_code == 0, outcome.output
    case = "tiny.safetensors 16×24"
    assert f"not compared: RSS growth of {case} streaming fp32 cpu, which only the run then" in (
        outcome.stderr
    )
    assert f"warning: not measured then: {case} reference fp32 cpu" in outcome.stderr


def test_memory_that_was_nothing_is_worse_when_it_is_much(bench: Callable[..., Outcome]) -> None:
    was = {"resident": 0, "allocated": 0, "reserved": 0}
    now = {"resident": 2**20, "allocated": 0, "reserved": 2**25}
    found = json.loads(bench("--json").stdout)
    (result,) = found["results"]
    old, new = ({**found, "results": [{**result, "memory": each}]} for each in (was, now))
    told = compare(old, new, 0.2).to_dict()
    worse = {each["figure"]: each["worse"] for each in told["changes"]}
    assert not worse["RSS growth"] and not worse["GPU allocated"] and worse["GPU reserved"]
    assert told["tolerance"] == 0.2 and told["changes"][-2]["ratio"] is None


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
    outcome = bench("--compare", old)
    assert outcome.exit_code == 0
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


def _evaluated(path: Path, name: str, psnr: float | None, protocol: str = "sr") -> Path:
    methods = {
        name: {"images": [], "mean": {"psnr": psnr, "ssim": 0.9}},
        "bicubic": {"images": [], "mean": {"psnr": 28.43, "ssim": 0.8}},
    }
    about = {"task": "sr", "protocol": protocol, "weights": {"name": name, "sha256": "0"}}
    path.write_text(json.dumps({**about, "methods": methods}))
    return path


def test_quality_is_read_from_what_evaluate_prints(photos: Path, tmp_path: Path) -> None:
    outcome = run_cli("evaluate", "--gt", photos, "--json", "-d", "cpu")
    path = tmp_path / "scores.json"
    path.write_text(outcome.stdout)
    quality = read_quality(path)
    printed = json.loads(outcome.stdout)["methods"]["sr-x4-lite"]["mean"]["psnr"]
    assert (quality.weights, quality.protocol, quality.psnr) == ("sr-x4-lite", "sr", printed)
    assert set(quality.others) == {"bicubic"} and quality.pictures == ("0.png", "1.png", "2.png")
    assert round(quality.mult_adds / 1e9, 1) == 31.8


def test_quality_without_a_cost_or_a_figure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose cost is not known"):
        read_quality(_evaluated(tmp_path / "a.json", "mine.safetensors", 30))
    (known,) = subjects_of(["sr-x4-lite"])
    mine = Subject("mine.safetensors", known.config)
    assert read_quality(tmp_path / "a.json", [mine]).psnr == 30
    other = dataclasses.replace(mine, sha256="1")
    with pytest.raises(InputError, match="whose cost is not known"):
        read_quality(tmp_path / "a.json", [other])
    (large,) = subjects_of(["deblur-gopro"])
    same = dataclasses.replace(other, name="other.safetensors", sha256="0", config=large.config)
    assert read_quality(tmp_path / "a.json", [other, same]).scale == 1
    with pytest.raises(InputError, match="no finite mean PSNR"):
        read_quality(_evaluated(tmp_path / "b.json", "sr-x4-lite", None))
    (tmp_path / "c.json").write_text('{"protocol": "sr", "methods": {"results": {}}}')
    with pytest.raises(InputError, match="finished results"):
        read_quality(tmp_path / "c.json")
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(InputError, match="no result of diffir evaluate"):
        read_quality(tmp_path / "d.json")


def test_qualities_of_different_pictures_are_not_drawn_together(tmp_path: Path) -> None:
    first = read_quality(_evaluated(tmp_path / "a.json", "sr-x4-lite", 30.9))
    other = dataclasses.replace(first, weights="sr-x4", pictures=("baby.png",))
    check_alike([first, dataclasses.replace(other, protocol="realsr")])
    check_alike([first, dataclasses.replace(other, scale=2)])
    changed = dataclasses.replace(first, conventions="RGB")
    with pytest.raises(InputError, match="follow different conventions: '' and 'RGB'"):
        check_alike([first, changed])
    better = dataclasses.replace(first, others={"bicubic": 28.5})
    with pytest.raises(InputError, match=r"do not agree on bicubic: 28\.43 and 28\.50 dB"):
        check_alike([first, better])
    with pytest.raises(InputError, match="sr-x4-lite and sr-x4 are of different pictures"):
        check_alike([first, other])


def test_a_plot_has_a_line_for_each_variant_and_a_panel_for_each_protocol(tmp_path: Path) -> None:
    results = [
        _result("sr-x4-lite", side, seconds * side, variant)
        for side in (32, 64)
        for variant, seconds in ((STREAMING, 0.01), (REFERENCE, 0.02))
    ]
    qualities = [
        read_quality(_evaluated(tmp_path / "a.json", "sr-x4-lite", 30.9)),
        read_quality(_evaluated(tmp_path / "b.json", "sr-x4", 32.2)),
        read_quality(_evaluated(tmp_path / "c.json", "deblur-lite", 25.2, "deblur")),
    ]
    latency, sr, deblur = panels_of(results, qualities).axes
    assert latency.get_xscale() == latency.get_yscale() == "log"
    labels = [text.get_text() for text in latency.get_legend().get_texts()]
    assert labels == ["sr-x4-lite, streaming fp32", "sr-x4-lite, reference fp32"]
    lines = [container.lines[0] for container in latency.containers]
    assert list(lines[1].get_xdata()) == [32, 64]
    assert list(lines[1].get_ydata()) == pytest.approx([0.64, 1.28])
    assert "protocol sr" in sr.get_title() and "protocol deblur" in deblur.get_title()
    points = [(*line.get_xdata(), *line.get_ydata()) for line in sr.lines[:2]]
    assert points == [
        (pytest.approx(31.80, abs=0.01), 30.9),
        (pytest.approx(722.51, abs=0.01), 32.2),
    ]


def test_names_of_networks_of_one_cost_stand_in_different_corners(tmp_path: Path) -> None:
    first = read_quality(_evaluated(tmp_path / "a.json", "sr-x4", 30.9))
    (panel,) = panels_of([], [first, dataclasses.replace(first, weights="mine")]).axes
    corners = [text.get_ha() for text in panel.texts if text.get_text() in ("sr-x4", "mine")]
    assert corners == ["left", "right"]


def test_networks_of_one_name_have_lines_of_their_own() -> None:
    result = _result("sr-x4-lite", 32, 0.1)
    twin = dataclasses.replace(result.case.subject, sha256="1")
    other = dataclasses.replace(result, case=dataclasses.replace(result.case, subject=twin))
    (panel,) = panels_of([result, other]).axes
    assert len(panel.containers) == 2


def test_a_plot_is_a_png(bench: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    scores = _evaluated(tmp_path / "scores.json", "sr-x4-lite", 30.9)
    outcome = bench("--plot", path, "--quality", scores)
    assert outcome.exit_code == 0, outcome.output
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (1200, 450)


@pytest.mark.usefixtures("never_run")
def test_without_matplotlib_a_plot_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = run_cli("benchmark", "--plot", tmp_path / "plot.png")
    assert outcome.exit_code == 1 and "pip install 'diffir[plot]'" in outcome.stderr
