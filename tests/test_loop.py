"""The loop: a stop changes nothing, a fault loses nothing, many processes are as one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.degradations.bicubic import bicubic_pair
from diffir_cli.errors import DeviceError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.models.diffir.checkpoint import load_stage1, load_state
from diffir_cli.models.diffir.model import DiffIRModel
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import load_photos
from diffir_cli.training.diffir.stage1 import stage1_losses
from diffir_cli.training.diffir.stage2 import stage2_losses
from diffir_cli.training.ema import EMA
from diffir_cli.training.kinds import LearningRate
from diffir_cli.training.loop import Progress, Trainer
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import LossRecipe, OptimizerRecipe
from diffir_cli.training.run_folder import run_folder
from diffir_cli.training.schedule import learning_rate
from diffir_cli.training.trainable import Noise
from diffir_cli.training.validate import Validation
from tests.conftest import TINY, run_cli, succeeded
from tests.processes import exit_code, start_command
from tests.runner_helpers import runner_of
from tests.training_helpers import (
    check_resuming,
    log_rows,
    make_recipe,
    random_batch,
    run_training,
    to_toml,
)


def test_training_makes_the_loss_small(photos: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = make_recipe(photos, iterations=60, log_every=10, optimizer={"lr": 5e-3, "warmup": 5})
    Trainer(recipe, tmp_path / "run", "cpu").fit(lambda progress: losses.append(progress.loss))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stopped_run_ends_with_the_same_bytes_as_one_never_stopped(
    stage: int, photos: Path, stage1: Path, tmp_path: Path
) -> None:
    changes = {"stage": 2, "init": str(stage1)} if stage == 2 else {}
    check_resuming(make_recipe(photos, **changes), tmp_path)
    rows = [
        [(row["iteration"], row["loss"], row["psnr"]) for row in log_rows(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("whole_reports")
def test_a_finished_run_leaves_its_log_its_curves_and_its_weights_and_is_not_trained_again(
    photos: Path, tmp_path: Path
) -> None:
    weights = run_training(make_recipe(photos), tmp_path / "run")
    assert [row["iteration"] for row in log_rows(tmp_path / "run")] == ["4", "6", "8", "12"]
    assert [bool(row["psnr"]) for row in log_rows(tmp_path / "run")] == [False, True, False, True]
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert picture.width > 300
    assert isinstance(load_stage1(weights), DiffIRS1)
    assert not list((tmp_path / "run").glob("*.part"))
    before, tensors = weights.read_bytes(), load_state(weights)
    assert run_training(make_recipe(photos), tmp_path / "run").read_bytes() == before
    # Weights that were lost are written again.
    weights.unlink()
    again = load_state(run_training(make_recipe(photos), tmp_path / "run"))
    assert all(torch.equal(value, again[key]) for key, value in tensors.items())


def test_rows_behind_the_saved_state_or_without_numbers_are_dropped_on_resuming(
    photos: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(photos, save_every=6)
    run_training(recipe, tmp_path / "run", stop_at=8)
    assert torch.load(tmp_path / "run" / "state.pt")["iteration"] > 6
    state_at_6 = tmp_path / "six"
    run_training(dataclasses.replace(recipe, iterations=6), state_at_6)
    (tmp_path / "run" / "state.pt").write_bytes((state_at_6 / "state.pt").read_bytes())
    with (tmp_path / "run" / "log.csv").open("ab") as file:
        file.write(b",,,,\n9,0.1,\xff,1e-3,\n9,0.1\n8,1,1,1,,1\n")
    run_training(recipe, tmp_path / "run")
    assert [row["iteration"] for row in log_rows(tmp_path / "run")] == ["4", "6", "8", "12"]


def test_a_run_may_go_on_with_another_learning_rate(photos: Path, tmp_path: Path) -> None:
    run_training(make_recipe(photos), tmp_path / "run", stop_at=4)
    run_training(make_recipe(photos, optimizer={"lr": 1e-5, "clip": 0.01}), tmp_path / "run")


def test_a_time_budget_ends_the_schedule(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by 50 ms whenever it is looked at."""
    ticks = itertools.count(step=0.05)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr("diffir_cli.training.loop.time", clock)
    shares: list[float] = []
    recipe = make_recipe(photos, iterations=10**6, max_minutes=0.04, validation={"every": 10**6})
    result = Trainer(recipe, tmp_path / "run", "cpu").fit(lambda p: shares.append(p.share))
    assert result.finished and result.iterations < 10**6
    assert shares == sorted(shares) and shares[-1] == 1.0
    rates = [float(row["lr"]) for row in log_rows(tmp_path / "run")]
    assert rates[-1] < 0.1 * max(rates)


def test_long_gradients_are_shortened(photos: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_recipe(photos, optimizer={"clip": 1e-3}), tmp_path / "run", "cpu")
    trainer._iterate(0.0)
    lengths = [float(p.grad.norm()) for p in trainer.parameters if p.grad is not None]
    assert math.hypot(*lengths) == pytest.approx(1e-3, rel=1e-3)


def test_the_average_follows_the_weights_with_its_decay(s1: DiffIRS1) -> None:
    ema = EMA(s1, 0.9)
    before = [value.clone() for value in s1.parameters()]
    with torch.no_grad():
        for value in s1.parameters():
            value.add_(1)
    ema.update(s1, iteration=0)
    for old, average in zip(before, ema.average.parameters(), strict=True):
        torch.testing.assert_close(average, old + 0.9, atol=1e-6, rtol=0)
    ema.update(s1, iteration=1000)
    for old, average in zip(before, ema.average.parameters(), strict=True):
        torch.testing.assert_close(average, old + 0.91, atol=1e-6, rtol=0)


def test_validation_scores_what_a_user_would_get(photos: Path, s2: DiffIRS2) -> None:
    recipe = make_recipe(photos, validation={"count": 2})
    validation = Validation.of(recipe)
    assert validation is not None
    scores = []
    for photo in load_photos([str(photos)], 2):
        lq, gt = bicubic_pair(photo, 4)
        hq = runner_of(s2, "cpu").restore(lq, seed=0)
        scores.append(psnr(luma(shave(hq, 4)), luma(shave(gt, 4))))
    assert validation.psnr(DiffIRModel(s2), torch.device("cpu")) == pytest.approx(sum(scores) / 2)


@pytest.mark.parametrize("stage", [1, 2])
def test_bf16_is_for_the_dirformer_alone(stage: int, s1: DiffIRS1, s2: DiffIRS2) -> None:
    seen: dict[str, torch.dtype] = {}
    model = s1 if stage == 1 else s2
    model.cpen.mlp.register_forward_hook(lambda _m, _i, out: seen.update(cpen=out.dtype))
    model.dirformer.patch_embed.register_forward_hook(
        lambda _m, _i, out: seen.update(dirformer=out.dtype)
    )
    if stage == 1:
        losses = stage1_losses(s1, random_batch(), LossRecipe(), bf16=True)
    else:
        s2.denoiser.register_forward_hook(lambda _m, _i, out: seen.update(denoiser=out.dtype))
        losses = stage2_losses(s2, s1, random_batch(), LossRecipe(), Noise(0, 2), bf16=True)
        assert seen.pop("denoiser") == torch.float32
    assert seen == {"cpen": torch.float32, "dirformer": torch.bfloat16}
    assert all(loss.dtype == torch.float32 for loss in losses.values())


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bf16"},
        {"loss": {"ipr_only": 6, "variance_noise": True, "ipr": "kl"}},
        {"loss": {"optimization": "traditional", "ipr": "l2"}},
        {"seed": 2**62, "optimizer": {"schedule": "step", "milestones": [5], "warmup": 3}},
    ],
)
def test_a_stop_changes_nothing_under_other_options_either(
    change: dict[str, Any], photos: Path, stage1: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(photos, stage=2, init=str(stage1), iterations=8, **change)
    check_resuming(recipe, tmp_path)


def test_learning_rates_follow_their_schedule() -> None:
    cosine = OptimizerRecipe(lr=1.0, warmup=10, final=0.1)
    assert learning_rate(cosine, 4, 0.0, 100) == pytest.approx(0.5)
    assert learning_rate(cosine, 50, 0.5, 100) == pytest.approx(0.55)
    assert learning_rate(cosine, 99, 1.0, 100) == pytest.approx(0.1)
    step = OptimizerRecipe(lr=1.0, schedule=LearningRate.STEP, milestones=(50, 70), gamma=0.5)
    rates = [learning_rate(step, i, i / 100, 100) for i in (0, 49, 50, 69, 70, 99)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]
    stone = OptimizerRecipe(lr=1.0, schedule=LearningRate.STEP, milestones=(58,), gamma=0.5)
    assert learning_rate(stone, 58, 58 / 100, 100) == 0.5


def test_a_learning_rate_follows_given_factors_or_cosines_in_a_row() -> None:
    step = OptimizerRecipe(
        lr=2.0, schedule=LearningRate.STEP, milestones=(60, 100, 700), factors=(0.1, 1.0, 0.5)
    )
    rates = [learning_rate(step, i, i / 1000, 1000) for i in (0, 59, 60, 99, 100, 699, 700)]
    assert rates == pytest.approx([2, 2, 0.2, 0.2, 2, 2, 1])
    cycles = OptimizerRecipe(
        lr=2.0, schedule=LearningRate.CYCLES, cycles=(92, 208), ends=(2.85, 0.01)
    )
    rates = [learning_rate(cycles, i, i / 300, 300) for i in (0, 46, 92, 196, 300)]
    assert rates == pytest.approx([2, 2.425, 2, 1.005, 0.01])


def test_two_processes_train_what_one_trains(photos: Path, stage1: Path, tmp_path: Path) -> None:
    """Launched as `accelerate launch` and `torchrun` do, on this machine alone."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"name = 'tiny'\nstage = 2\niterations = 4\ninit = '{stage1}'\n"
        f"[model]\n{to_toml(TINY.to_dict())}\n"
        f"[data]\ntrain = ['{photos}']\npatch = 8\nbatch = 4\n[optimizer]\nlr = 1e-3\n"
    )
    _run_parallel(recipe, tmp_path / "two", 2)
    succeeded(run_cli("train", recipe, "-d", "cpu", "--threads", 1, "-o", tmp_path / "one"))
    one, two = (load_state(tmp_path / name / "tiny.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("text", ["", "two", "0", "-1"])
def test_a_number_of_processes_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(DeviceError, match=f"WORLD_SIZE .* not '{text}'"):
        World.join(torch.device("cpu"))


def _run_parallel(recipe: Path, out: Path, size: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    errors = [out.with_name(f"{out.name}-{rank}") for rank in range(size)]
    processes = [
        start_command(
            *("train", recipe, "-d", "cpu", "--threads", 1, "--out", out),
            stdout=Path(os.devnull),
            stderr=errors[rank],
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    for process, file in zip(processes, errors, strict=True):
        assert exit_code(process) == 0, file.read_text(encoding="utf-8")


def test_the_train_command_reports_and_resumes(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"name = 'tiny'\niterations = 4\nlog_every = 2\n[model]\n{to_toml(TINY.to_dict())}\n"
        f"[data]\ntrain = ['{photos}']\npatch = 8\nbatch = 2\n"
    )
    result = succeeded(run_cli("train", recipe, "--out", tmp_path / "run", "-d", "cpu"))
    assert "iteration 2, loss" in result.stderr and "done: 4 iterations" in result.stderr
    ended = run_cli("train", recipe, "-o", tmp_path / "run", "--json")
    assert ended.stderr == "" and json.loads(ended.stdout)["iterations"] == 4
    again = succeeded(run_cli("train", recipe, "--out", tmp_path / "run", "--set", "iterations=6"))
    assert "at iteration 4" in again.stderr and "done: 6 iterations" in again.stderr
    limit = ("--set", "iterations=99999", "--set", f"max_minutes={1e-9}")
    over = run_cli("train", recipe, "-o", tmp_path / "run", *limit)
    assert "already finished; raise iterations or max_minutes" in over.stderr
    broken = run_cli("train", recipe, "--set", "data.patch=7")
    assert broken.exit_code == 6
    assert "data.patch must be a multiple of 8, not 7" in broken.stderr


def test_two_trainings_cannot_share_a_folder(photos: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(
        f"name = 'tiny'\niterations = 1\n[model]\n{to_toml(TINY.to_dict())}\n"
        f"[data]\ntrain = ['{photos}']\npatch = 8\nbatch = 2\n"
    )
    with run_folder(out):
        refused = run_cli("train", recipe, "-o", out, "-d", "cpu")
    assert refused.exit_code == 3 and f"another training runs in {out}" in refused.stderr
    assert list(out.iterdir()) == []
    assert run_cli("train", recipe, "-o", out, "-d", "cpu").exit_code == 0


@pytest.mark.usefixtures("whole_reports")
def test_a_report_has_the_lq_pixels_of_crops_and_three_times_the_flops_of_a_forward_pass(
    photos: Path, tmp_path: Path
) -> None:
    reports: list[Progress] = []
    trainer = Trainer(make_recipe(photos), tmp_path / "run", "cpu")
    with FlopCounterMode(display=False) as counter:
        trainer.trainable.losses(trainer.crops.batch(0, 8, 4), Noise(0, 4), 0)
    forward = counter.get_total_flops() / (4 * 8 * 8)
    trainer.fit(reports.append)
    assert reports
    for report in reports:
        assert report.pixels_per_second / report.per_second == pytest.approx(4 * 8 * 8)
        each = report.flops_per_second / report.pixels_per_second
        assert each == pytest.approx(3 * forward)


def test_a_step_that_is_counted_learns_what_others_learn(photos: Path, tmp_path: Path) -> None:
    weights = []
    for name, counted in (("one", None), ("other", 1.0)):
        trainer = Trainer(make_recipe(photos), tmp_path / name, "cpu")
        trainer.pace.flops_per_pixel = counted
        trainer.fit()
        weights.append(torch.cat([one.flatten() for one in trainer.parameters]))
    assert torch.equal(*weights)


@pytest.mark.usefixtures("whole_reports")
def test_a_run_that_fails_ends_its_thread_and_draws_its_curves(
    photos: Path, tmp_path: Path
) -> None:
    trainer = Trainer(make_recipe(photos), tmp_path / "run", "cpu")
    before = threading.active_count()

    def fail(progress: Progress) -> None:
        if progress.iteration == 8:
            assert threading.active_count() == before + 1
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.fit(fail)
    assert threading.active_count() == before
    curves = tmp_path / "run" / "curves.png"
    assert curves.stat().st_mtime_ns >= (tmp_path / "run" / "log.csv").stat().st_mtime_ns
