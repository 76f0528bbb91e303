"""Training: what a recipe may say, what each stage changes, and that a stop changes nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from diffir_cli.checkpoint import load_checkpoint, load_model, load_stage1, load_state
from diffir_cli.config import Prediction
from diffir_cli.engine import Restorer
from diffir_cli.errors import DiffIRError, InputError, RecipeError
from diffir_cli.evaluation.metrics import luma, psnr, shave
from diffir_cli.imaging.bicubic import reduce_bicubic
from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.training.data import (
    Batch,
    Crops,
    FreshPairs,
    Prefetched,
    StoredPairs,
    load_pairs,
    load_photos,
)
from diffir_cli.training.degradation.bicubic import bicubic_pair
from diffir_cli.training.degradation.kinds import Degradation
from diffir_cli.training.ema import EMA
from diffir_cli.training.loop import Progress, Trainer
from diffir_cli.training.losses import ipr_loss, masked_loss, reconstruction_loss
from diffir_cli.training.recipe import (
    IPRLoss,
    LearningRate,
    LossRecipe,
    Optimization,
    OptimizerRecipe,
    Recipe,
    load_recipe,
    parse_recipe,
)
from diffir_cli.training.schedule import learning_rate
from diffir_cli.training.stage1 import stage1_losses
from diffir_cli.training.stage2 import Noise, stage2_losses
from diffir_cli.training.validate import Validation
from tests.conftest import TINY, run_cli

RECIPES = Path(__file__).parents[1] / "recipes"


def _recipe(photos: Path, **changes: Any) -> Recipe:
    table: dict[str, Any] = {
        "name": "tiny",
        "iterations": 12,
        "log_every": 4,
        "save_every": 1000,
        "model": TINY.to_dict(),
        "data": {"train": [str(photos)], "patch": 8, "batch": 4},
        "optimizer": {"lr": 2e-3},
        "validation": {"gt": str(photos), "every": 6, "count": 1},
    }
    for name, value in changes.items():
        table[name] = {**table.get(name, {}), **value} if isinstance(value, dict) else value
    return parse_recipe(table, "a test")


def _train(recipe: Recipe, out: Path, stop_at: int | None = None) -> Path:
    def interrupt(progress: Progress) -> None:
        if progress.iteration == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    result = Trainer(recipe, out, "cpu").fit(interrupt)
    assert result.finished is (stop_at is None)
    return result.weights


@pytest.fixture
def stage1(photos: Path, tmp_path: Path) -> Path:
    return _train(_recipe(photos), tmp_path / "stage1")


# ── recipes ─────────────────────────────────────────────────────────────────


def test_every_fault_of_a_recipe_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        "stage = 3\niterationz = 5\n[model]\ndim = 'wide'\n[optimizer]\nlr = -1\nbetas = 0.9\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["data.patch=many", "nonsense"])
    assert caught.value.exit_code == 6
    found = "; ".join(caught.value.faults)
    for part in (
        "stage must",
        "optimizer.lr must",
        "iterationz",
        "iterations",
        "model.dim",
        "optimizer.betas",
        "data.patch",
        "nonsense",
    ):
        assert part in found
    assert f"has {len(caught.value.faults)} faults" in caught.value.message


def test_impossible_values_of_a_recipe_are_reported_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(
            {
                "stage": 2,
                "data": {"train": ["/no/where"], "patch": 9},
                "ema": 1.0,
                "seed": -1,
                "precision": "auto",
                "optimizer": {"warmup": -5, "lr": float("inf")},
                "max_minutes": float("nan"),
            },
            "a test",
        )
    found = "; ".join(caught.value.faults)
    for part in (
        "name must",
        "init must",
        "/no/where",
        "multiple of 8",
        "ema must",
        "seed must",
        "precision must",
        "optimizer.warmup must",
        "optimizer.lr must",
        "max_minutes must",
    ):
        assert part in found


def test_settings_change_a_recipe(photos: Path) -> None:
    recipe = load_recipe(
        RECIPES / "sr-x4-lite-s1.toml",
        ["optimizer.lr=0.5", f"data.train={json.dumps([str(photos)])}", f"validation.gt={photos}"],
    )
    assert recipe.optimizer.lr == 0.5
    assert recipe.data.train == (str(photos),)
    assert recipe.validation.gt == str(photos)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_valid(path: Path, photos: Path) -> None:
    given = photos / "0.png"  # any file in place of the stage-1 weights
    recipe = load_recipe(path, [f"data.train={json.dumps([str(photos)])}", f"init={given}"])
    assert recipe.name == path.stem


# ── data and losses ─────────────────────────────────────────────────────────


def _bicubic_crops(photos: Path, patch: int, seed: int = 0) -> Crops:
    pairs = [bicubic_pair(photo, 4) for photo in load_photos([str(photos)])]
    return Crops([(StoredPairs(pairs, 4, patch, True), 1.0)], seed)


def test_a_batch_depends_on_seed_and_iteration_alone(photos: Path) -> None:
    crops = _bicubic_crops(photos, 8, 3)
    first = crops.batch(7, 4)
    crops.batch(8, 4)
    assert torch.equal(crops.batch(7, 4).lq, first.lq)
    assert not torch.equal(crops.batch(8, 4).lq, first.lq)
    assert not torch.equal(_bicubic_crops(photos, 8, 4).batch(7, 4).lq, first.lq)


def test_processes_share_a_batch_without_gap_or_overlap(photos: Path) -> None:
    crops = _bicubic_crops(photos, 8)
    whole = crops.batch(5, 6)
    shares = [crops.batch(5, 6, rank, 3) for rank in range(3)]
    for index in range(6):
        assert torch.equal(shares[index % 3].gt[index // 3], whole.gt[index])


def test_the_two_halves_of_a_pair_show_the_same_place(photos: Path) -> None:
    """In every one of the eight orientations: inside, LQ is the bicubic reduction of GT."""
    crops = _bicubic_crops(photos, 16)
    batch = crops.batch(0, 24)
    for lq, gt in zip(batch.lq, batch.gt, strict=True):
        truth = (gt * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        reduced = reduce_bicubic(truth, 4)[3:-3, 3:-3]
        found = (lq * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()[3:-3, 3:-3]
        np.testing.assert_array_equal(found, reduced)


def test_photos_smaller_than_a_crop_are_refused(photos: Path) -> None:
    with pytest.raises(InputError, match="none of 3 photos"):
        _bicubic_crops(photos, 64)


def test_the_ipr_losses_are_those_of_the_paper() -> None:
    z_hat, z = torch.randn(3, 8).double(), torch.randn(3, 8).double()
    assert ipr_loss(z_hat, z, IPRLoss.L1) == pytest.approx(float((z_hat - z).abs().mean()))
    assert ipr_loss(z_hat, z, IPRLoss.L2) == pytest.approx(float(((z_hat - z) ** 2).mean()))
    p, q = z.softmax(1), z_hat.softmax(1)
    expected = float((p * (p / q).log()).sum(1).mean())
    assert ipr_loss(z_hat, z, IPRLoss.KL) == pytest.approx(expected)
    for kind in IPRLoss:
        assert float(ipr_loss(z, z, kind)) == pytest.approx(0, abs=1e-12)


def test_the_reconstruction_loss_is_the_mean_difference() -> None:
    assert (
        float(reconstruction_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.25))) == 0.25
    )


def test_a_batch_made_ahead_is_the_batch_itself(photos: Path) -> None:
    crops = _bicubic_crops(photos, 8)
    ahead = Prefetched(lambda iteration: crops.batch(iteration, 3))
    for iteration in (0, 1, 2, 7, 8, 3):
        assert torch.equal(ahead.batch(iteration).gt, crops.batch(iteration, 3).gt)
    ahead.close()


@pytest.mark.parametrize("kind", [Degradation.REALWORLD, Degradation.SHAKE, Degradation.HOLES])
def test_fresh_pairs_are_degraded_anew_by_the_seed_alone(kind: Degradation, photos: Path) -> None:
    scale = 4 if kind is Degradation.REALWORLD else 1
    source = FreshPairs(load_photos([str(photos)]), kind, scale, 16, augment=True)
    crops = Crops([(source, 1.0)], 0)
    batch = crops.batch(3, 2)
    assert batch.lq.shape == (2, 4 if kind is Degradation.HOLES else 3, 16, 16)
    assert batch.gt.shape == (2, 3, 16 * scale, 16 * scale)
    again = crops.batch(3, 2)
    assert torch.equal(batch.lq, again.lq) and torch.equal(batch.gt, again.gt)
    if kind is Degradation.HOLES:
        colours, mask = batch.lq[:, :3], batch.lq[:, 3:]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(colours, batch.gt * (1 - mask))


def test_real_pairs_take_their_share(photos: Path, tmp_path: Path) -> None:
    black = tmp_path / "black"
    black.mkdir()
    for path in photos.iterdir():
        Image.new("RGB", Image.open(path).size).save(black / path.name)
    real = StoredPairs(load_pairs([str(black)], [str(photos)], 1), 1, 16, augment=True)
    fresh = FreshPairs(load_photos([str(photos)]), Degradation.SHAKE, 1, 16, augment=True)
    batch = Crops([(fresh, 0.7), (real, 0.3)], 0).batch(0, 200)
    share = float((batch.lq.flatten(1).amax(dim=1) == 0).float().mean())
    assert share == pytest.approx(0.3, abs=0.1)


def test_pairs_that_do_not_match_are_named(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (192, 160)).save(other / "9.png")
    with pytest.raises(InputError, match="no twin named '9'"):
        load_pairs([str(other)], [str(photos)], 1)
    (other / "9.png").rename(other / "0.png")
    with pytest.raises(InputError, match="no pair of scale 4"):
        load_pairs([str(other)], [str(photos)], 4)


def test_the_masked_loss_weighs_known_pixels_and_holes() -> None:
    gt, hq = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    holes = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert float(masked_loss(hq, gt, holes, 1, 1)) == pytest.approx(0.5)
    assert float(masked_loss(hq, gt, holes, 10, 0)) == pytest.approx(0.5 * 10 * 3 / 4)
    assert float(masked_loss(hq, gt, holes, 0, 1)) == pytest.approx(0.5 / 4)


_TASKS: dict[str, dict[str, Any]] = {
    "realworld": {"data": {"degradation": "realworld", "sharpen_gt": True}},
    "shake": {"data": {"degradation": "shake", "patch": 16}, "model": {"scale": 1, "tail": "conv"}},
    "shake, unshuffled": {
        "data": {"degradation": "shake", "patch": 32},
        "model": {"scale": 1},
    },
    "holes": {
        "data": {"degradation": "holes", "patch": 32},
        "model": {"scale": 1, "tail": "conv", "in_channels": 4, "residual": False},
        "loss": {"known_weight": 1.0, "hole_weight": 2.0},
    },
}


@pytest.mark.parametrize("task", _TASKS)
def test_every_task_is_trained_and_validated_in_both_stages(
    task: str, photos: Path, tmp_path: Path
) -> None:
    first = _train(_recipe(photos, iterations=6, **_TASKS[task]), tmp_path / "s1")
    recipe = _recipe(photos, stage=2, init=str(first), iterations=6, **_TASKS[task])
    assert isinstance(load_model(_train(recipe, tmp_path / "s2")), DiffIRS2)
    for folder in ("s1", "s2"):
        assert 3 < float(_log(tmp_path / folder)[-1]["psnr"]) < 60


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"data": {"degradation": "holes"}}, "does not go with model.in_channels 3"),
        ({"data": {"degradation": "shake"}}, "needs model.scale 1"),
        ({"model": {"scale": 1}, "data": {"patch": 32}}, "bicubic needs a model.scale above 1"),
        ({"data": {"sharpen_gt": True}}, "data.sharpen_gt has an effect"),
        ({"data": {"pairs_share": 0.5}}, "must be given together"),
        ({"validation": {"gt": "", "lq": "."}}, "validation.lq needs validation.gt"),
        ({"loss": {"ipr": "l2"}}, "loss has an effect in stage 2 only"),
    ],
)
def test_what_does_not_go_together_is_refused(
    change: dict[str, Any], fault: str, photos: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        _recipe(photos, **change)


# ── stage 2 ─────────────────────────────────────────────────────────────────


def _batch() -> Batch:
    return Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32))


def _gradients(model: DiffIRS2) -> dict[str, bool]:
    """Which parts of the network got a gradient."""
    return {
        name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        for name, part in model.named_children()
    }


def _loss(model: DiffIRS2, teacher: DiffIRS1, recipe: LossRecipe, image: bool = True) -> Tensor:
    terms = stage2_losses(model, teacher, _batch(), recipe, Noise(0, 2), image)
    return torch.stack(list(terms.values())).sum()


def test_joint_optimisation_reaches_every_part_and_no_teacher(s1: DiffIRS1, s2: DiffIRS2) -> None:
    _loss(s2, s1, LossRecipe()).backward()
    assert _gradients(s2) == {"cpen": True, "denoiser": True, "dirformer": True}
    assert all(parameter.grad is None for parameter in s1.parameters())


@pytest.mark.parametrize("prediction", Prediction)
def test_traditional_optimisation_leaves_the_dirformer_alone(
    prediction: Prediction, s1: DiffIRS1
) -> None:
    model = DiffIRS2(dataclasses.replace(TINY, prediction=prediction))
    _loss(model, s1, LossRecipe(optimization=Optimization.TRADITIONAL)).backward()
    assert _gradients(model) == {"cpen": True, "denoiser": True, "dirformer": False}


def test_the_warm_up_of_the_ipr_leaves_the_dirformer_alone(s1: DiffIRS1, s2: DiffIRS2) -> None:
    _loss(s2, s1, LossRecipe(), image=False).backward()
    assert _gradients(s2) == {"cpen": True, "denoiser": True, "dirformer": False}


def test_gradients_flow_through_all_steps(s1: DiffIRS1, s2: DiffIRS2) -> None:
    """Each of the T calls of the denoiser gets a gradient, not the last alone."""
    lengths: list[float] = []

    def note(_module: object, _inputs: object, gradients: Any) -> None:
        lengths.append(float(gradients[0].norm()))

    s2.denoiser.layers[0].register_full_backward_hook(note)
    _loss(s2, s1, LossRecipe(), image=False).backward()
    assert len(lengths) == s2.config.steps == 4
    assert all(length > 0 for length in lengths)


def test_the_loss_starts_from_the_diffused_target(s1: DiffIRS1, s2: DiffIRS2) -> None:
    """With a denoiser that returns its noisy input, Ẑ is a known mixture of Z and the noise."""
    batch, noise = _batch(), Noise(5, 2)
    z = s1.ipr(batch.lq, batch.gt).detach()
    epsilon = Noise(5, 2).normal(z)
    s2.denoiser.forward = lambda x_t, *_rest: x_t  # type: ignore[method-assign]
    term = stage2_losses(s2, s1, batch, LossRecipe(), noise, with_image=False)["diff"]
    x_t = s2.schedule.add_noise(z, epsilon, 3)
    for t in (3, 2, 1, 0):
        x_t = sum(s2.schedule.posterior_coefficients(t)) * x_t
    assert float(term) == pytest.approx(float((x_t - z).abs().mean()), rel=1e-5)


def test_noise_does_not_depend_on_the_number_of_processes() -> None:
    whole = Noise(3, 6).normal(torch.zeros(6, 5))
    for rank in range(2):
        share = Noise(3, 6, rank, 2).normal(torch.zeros(3, 5))
        assert torch.equal(share, whole[rank::2])


# ── the loop ────────────────────────────────────────────────────────────────


def test_training_makes_the_loss_small(photos: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = _recipe(photos, iterations=60, log_every=10, optimizer={"lr": 5e-3, "warmup": 5})
    Trainer(recipe, tmp_path / "run", "cpu").fit(lambda progress: losses.append(progress.loss))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stopped_run_ends_with_the_same_bytes_as_one_never_stopped(
    stage: int, photos: Path, stage1: Path, tmp_path: Path
) -> None:
    changes = {"stage": 2, "init": str(stage1)} if stage == 2 else {}
    recipe = _recipe(photos, **changes)
    whole = load_checkpoint(_train(recipe, tmp_path / "whole"))
    _train(recipe, tmp_path / "parts", stop_at=4)
    parts = load_checkpoint(_train(recipe, tmp_path / "parts"))
    assert whole.tensors.keys() == parts.tensors.keys()
    for key, value in whole.tensors.items():
        assert torch.equal(value, parts.tensors[key]), key
    rows = [
        [(row["iteration"], row["loss"], row["psnr"]) for row in _log(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]


def _log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_leaves_its_log_its_curves_and_its_weights(
    photos: Path, tmp_path: Path
) -> None:
    weights = _train(_recipe(photos), tmp_path / "run")
    assert [row["iteration"] for row in _log(tmp_path / "run")] == ["4", "6", "8", "12"]
    assert [bool(row["psnr"]) for row in _log(tmp_path / "run")] == [False, True, False, True]
    with Image.open(tmp_path / "run" / "curves.png") as curves:
        assert curves.width > 300
    assert isinstance(load_stage1(weights), DiffIRS1)
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_finished_run_is_not_trained_again(photos: Path, tmp_path: Path) -> None:
    weights = _train(_recipe(photos), tmp_path / "run")
    before = weights.read_bytes()
    assert _train(_recipe(photos), tmp_path / "run").read_bytes() == before


def test_rows_behind_the_saved_state_are_dropped_on_resuming(photos: Path, tmp_path: Path) -> None:
    recipe = _recipe(photos, save_every=6)
    _train(recipe, tmp_path / "run", stop_at=8)
    assert torch.load(tmp_path / "run" / "state.pt")["iteration"] > 6
    state_at_6 = tmp_path / "six"
    _train(dataclasses.replace(recipe, iterations=6), state_at_6)
    (tmp_path / "run" / "state.pt").write_bytes((state_at_6 / "state.pt").read_bytes())
    _train(recipe, tmp_path / "run")
    assert [row["iteration"] for row in _log(tmp_path / "run")] == ["4", "6", "8", "12"]


def test_a_folder_of_another_recipe_is_not_continued(photos: Path, tmp_path: Path) -> None:
    _train(_recipe(photos), tmp_path / "run")
    for change in ({"data": {"batch": 2}}, {"ema": 0.5}, {"seed": 1}):
        with pytest.raises(RecipeError, match=r"was made with another (data|ema|seed)$"):
            Trainer(_recipe(photos, **change), tmp_path / "run", "cpu")


def test_a_run_may_go_on_with_another_learning_rate(photos: Path, tmp_path: Path) -> None:
    _train(_recipe(photos), tmp_path / "run", stop_at=4)
    _train(_recipe(photos, optimizer={"lr": 1e-5, "clip": 0.01}), tmp_path / "run")


def test_another_teacher_is_not_taken_over_silently(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    _train(_recipe(photos, stage=2, init=str(stage1)), tmp_path / "run", stop_at=4)
    other = _train(_recipe(photos, seed=9), tmp_path / "other")
    with pytest.raises(RecipeError, match="was made with another init"):
        Trainer(_recipe(photos, stage=2, init=str(other)), tmp_path / "run", "cpu")


@pytest.mark.parametrize("fault", ["damaged", "empty", "file in the way"])
def test_a_run_folder_that_cannot_be_used_is_named(
    fault: str, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    if fault == "file in the way":
        run.touch()
    else:
        run.mkdir()
        (run / "state.pt").write_bytes(b"garbage" if fault == "damaged" else b"")
    with pytest.raises(DiffIRError, match="run") as caught:
        Trainer(_recipe(photos), run, "cpu")
    assert caught.value.hint


def test_lost_weights_of_a_finished_run_are_written_again(photos: Path, tmp_path: Path) -> None:
    weights = _train(_recipe(photos), tmp_path / "run")
    before = load_state(weights)
    weights.unlink()
    after = load_state(_train(_recipe(photos), tmp_path / "run"))
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_stage_2_starts_from_the_dirformer_of_stage_1(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    recipe = _recipe(photos, stage=2, init=str(stage1))
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    for key, value in load_state(stage1).items():
        if key.startswith("dirformer."):
            assert torch.equal(trainer.model.state_dict()[key], value)
    assert isinstance(trainer.model, DiffIRS2)
    assert isinstance(load_model(_train(recipe, tmp_path / "run")), DiffIRS2)
    assert trainer.teacher is not None
    for key, value in load_state(stage1).items():
        assert torch.equal(trainer.teacher.state_dict()[key], value)


def test_a_time_budget_ends_the_schedule(photos: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    recipe = _recipe(photos, iterations=10**6, max_minutes=0.02, validation={"every": 10**6})
    result = Trainer(recipe, tmp_path / "run", "cpu").fit(lambda p: shares.append(p.share))
    assert result.finished and result.iterations < 10**6
    assert shares == sorted(shares) and shares[-1] == 1.0
    rates = [float(row["lr"]) for row in _log(tmp_path / "run")]
    assert rates[-1] < 0.02 * max(rates)


@pytest.mark.parametrize("place", ["weights", "gradient"])
def test_a_run_that_went_wrong_stops_and_keeps_its_last_good_state(
    place: str, photos: Path, tmp_path: Path
) -> None:
    """Whether the fault shows in the loss or in the gradient alone, and between two reports."""
    recipe = _recipe(photos, save_every=3, log_every=5)
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    iterate = trainer._iterate

    def poisoned(share: float) -> float:
        if trainer.iteration == 4:
            first = trainer.parameters[0]
            if place == "weights":
                first.data.fill_(math.nan)
            else:
                first.register_hook(lambda gradient: gradient * math.inf)
        return iterate(share)

    trainer._iterate = poisoned  # type: ignore[method-assign]
    with pytest.raises(DiffIRError, match="no longer a number at iteration 4") as caught:
        trainer.fit()
    assert "optimizer.lr" in caught.value.hint
    state = torch.load(tmp_path / "run" / "state.pt")
    assert state["iteration"] == 3
    assert all(bool(value.isfinite().all()) for value in state["model"].values())
    load_stage1(tmp_path / "run" / "tiny.safetensors")
    _train(_recipe(photos, optimizer={"lr": 1e-4}, save_every=3), tmp_path / "run")


def test_long_gradients_are_shortened(photos: Path, tmp_path: Path) -> None:
    trainer = Trainer(_recipe(photos, optimizer={"clip": 1e-3}), tmp_path / "run", "cpu")
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
    recipe = _recipe(photos, validation={"count": 2})
    validation = Validation.of(recipe)
    assert validation is not None
    scores = []
    for photo in load_photos([str(photos)], 2):
        lq, gt = bicubic_pair(photo, 4)
        hq = Restorer(s2, "cpu").restore(lq, seed=0)
        scores.append(psnr(luma(shave(hq, 4)), luma(shave(gt, 4))))
    assert validation.psnr(s2, torch.device("cpu")) == pytest.approx(sum(scores) / 2)


@pytest.mark.parametrize("stage", [1, 2])
def test_bf16_is_for_the_dirformer_alone(stage: int, s1: DiffIRS1, s2: DiffIRS2) -> None:
    seen: dict[str, torch.dtype] = {}
    model = s1 if stage == 1 else s2
    model.cpen.mlp.register_forward_hook(lambda _m, _i, out: seen.update(cpen=out.dtype))
    model.dirformer.patch_embed.register_forward_hook(
        lambda _m, _i, out: seen.update(dirformer=out.dtype)
    )
    if stage == 1:
        losses = stage1_losses(s1, _batch(), LossRecipe(), bf16=True)
    else:
        s2.denoiser.register_forward_hook(lambda _m, _i, out: seen.update(denoiser=out.dtype))
        losses = stage2_losses(s2, s1, _batch(), LossRecipe(), Noise(0, 2), bf16=True)
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
    recipe = _recipe(photos, stage=2, init=str(stage1), **change)
    whole = load_state(_train(recipe, tmp_path / "whole"))
    _train(recipe, tmp_path / "parts", stop_at=4)
    for key, value in load_state(_train(recipe, tmp_path / "parts")).items():
        assert torch.equal(value, whole[key]), key


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


def test_two_processes_train_what_one_trains(photos: Path, stage1: Path, tmp_path: Path) -> None:
    """Launched as `accelerate launch` and `torchrun` do, on this machine alone."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"name = 'tiny'\nstage = 2\niterations = 4\ninit = '{stage1}'\n"
        f"[model]\n{_toml(TINY.to_dict())}\n"
        f"[data]\ntrain = ['{photos}']\npatch = 8\nbatch = 4\n[optimizer]\nlr = 1e-3\n"
    )
    command = [sys.executable, "-m", "diffir_cli", "train", recipe, "-d", "cpu", "--threads", "1"]
    _run_parallel([*map(str, command), "--out", str(tmp_path / "two")], 2)
    _run_parallel([*map(str, command), "--out", str(tmp_path / "one")], 1)
    one, two = (load_state(tmp_path / name / "tiny.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-5, rtol=1e-3)


def _toml(table: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in table.items())


def _run_parallel(command: list[str], size: int) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_the_train_command_reports_and_resumes(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"name = 'tiny'\niterations = 4\nlog_every = 2\n[model]\n{_toml(TINY.to_dict())}\n"
        f"[data]\ntrain = ['{photos}']\npatch = 8\nbatch = 2\n"
    )
    result = run_cli("train", recipe, "--out", tmp_path / "run", "-d", "cpu")
    assert result.exit_code == 0, result.output
    assert "iteration 2, loss" in result.stderr and "done: 4 iterations" in result.stderr
    again = run_cli("train", recipe, "--out", tmp_path / "run", "--set", "iterations=6")
    assert again.exit_code == 0
    assert "continuing at iteration 4" in again.stderr and "done: 6 iterations" in again.stderr
    broken = run_cli("train", recipe, "--set", "data.patch=7")
    assert broken.exit_code == 6
    assert "data.patch must be a multiple of 8, not 7" in broken.stderr


def test_stage_1_can_begin_with_what_fits_of_other_weights(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    smaller = dataclasses.replace(TINY, num_blocks=(1, 1, 1, 0), refinement_blocks=2)
    recipe = _recipe(photos, init=str(stage1), model=smaller.to_dict())
    model = Trainer(recipe, tmp_path / "run", "cpu").model
    old = load_state(stage1)
    own = model.state_dict()
    assert torch.equal(
        own["dirformer.refinement.0.dgfn.dwconv.weight"],
        old["dirformer.refinement.0.dgfn.dwconv.weight"],
    )
    assert "dirformer.refinement.1.dgfn.dwconv.weight" not in old
    assert sum(torch.equal(value, old[key]) for key, value in own.items() if key in old) == len(
        [key for key in own if key in old]
    )
