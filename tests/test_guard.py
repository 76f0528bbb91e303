"""A loss that collapses sends a run back to its last good state, more careful than before."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from diffir_cli.errors import DiffIRError
from diffir_cli.models.diffir.checkpoint import load_stage1
from diffir_cli.training.guard import Guard, Rollbacks, sizes
from diffir_cli.training.kinds import PixelLoss
from diffir_cli.training.loop import Progress, Trainer
from tests.training_helpers import log_rows, make_recipe, progressive, run_training


def _has_collapsed(guard: Guard, loss: float) -> bool:
    return guard.has_collapsed({"rec": loss})


def _usual(guard: Guard, count: int = 100) -> None:
    for number in range(count):
        assert not _has_collapsed(guard, 0.05 + 0.02 * math.sin(number))


def test_one_hard_batch_is_no_collapse_but_a_lasting_rise_is() -> None:
    guard = Guard(4.0)
    _usual(guard)
    assert not _has_collapsed(guard, 0.4)
    _usual(guard, 20)
    found = [_has_collapsed(guard, 0.4) for _ in range(8)]
    assert not found[0] and found[-1]


@pytest.mark.parametrize(
    "losses",
    [
        # As of two crops with large holes, which have 13 dB less than others.
        [sizes({"rec": 0.21 if n % 4 else 0.34}, PixelLoss.PSNR) for n in range(200)],
        [{"rec": loss} for loss in (0.01, 5.0, 0.3, 9.0, 0.02)],
        [{"diff": 0.002}] * 100 + [{"diff": 0.002, "rec": 0.08}] * 100,
    ],
    ids=["hard batches among usual ones", "the first of a run", "a term that joins late"],
)
def test_losses_that_may_be_are_no_collapse(losses: list[dict[str, float]]) -> None:
    guard = Guard(4.0)
    assert not any(guard.has_collapsed(loss) for loss in losses)


def test_a_state_on_the_way_up_is_not_kept() -> None:
    guard = Guard(4.0)
    _usual(guard)
    assert guard.is_calm
    while not _has_collapsed(guard, 0.25):
        last_calm = guard.is_calm
    assert not last_calm


def test_what_is_no_number_is_a_collapse_and_is_forgotten() -> None:
    for factor in (4.0, 0.0):
        guard = Guard(factor)
        _usual(guard)
        before = guard.state()
        assert _has_collapsed(guard, math.nan) and _has_collapsed(guard, math.inf)
        assert guard.state() == before


def test_a_run_whose_loss_rises_goes_back_and_on_with_half_the_rate(
    photos: Path, tmp_path: Path
) -> None:
    every: dict[str, Any] = {"save_every": 10, "log_every": 5, "validation": {"every": 60}}
    recipe = make_recipe(photos, iterations=60, **every)
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    iterate = trainer._iterate
    ruined: list[bool] = []

    def ruin_once(share: float) -> dict[str, float]:
        if trainer.iteration == 33 and not ruined:
            ruined.append(True)
            with torch.no_grad():
                trainer.model.get_parameter("dirformer.tail.0.weight").mul_(300)
        return iterate(share)

    trainer._iterate = ruin_once  # type: ignore[method-assign]
    result = trainer.fit()
    assert result.finished and ruined
    (event,) = (tmp_path / "run" / "events.txt").read_text().splitlines()
    assert "back to iteration 30, learning rate × 0.5 for now" in event
    rows = log_rows(tmp_path / "run")
    assert [int(row["iteration"]) for row in rows] == sorted({int(r["iteration"]) for r in rows})
    rates = {int(row["iteration"]): float(row["lr"]) for row in rows}
    assert rates[35] < 0.6 * rates[30]
    assert float(rows[-1]["loss"]) < 2 * float(rows[0]["loss"])
    assert torch.load(tmp_path / "run" / "state.pt")["returned"] == [1, 34]


def test_a_run_that_never_collapses_is_not_slowed_down(photos: Path, tmp_path: Path) -> None:
    """Over more iterations than the guard needs before it judges."""
    changes = {"iterations": 60, "log_every": 60, "validation": {"every": 60}}
    run_training(make_recipe(photos, **changes), tmp_path / "guarded")
    run_training(make_recipe(photos, loss_spike_ratio=0, **changes), tmp_path / "unguarded")
    assert (
        log_rows(tmp_path / "guarded")[-1]["loss"] == log_rows(tmp_path / "unguarded")[-1]["loss"]
    )
    assert not (tmp_path / "guarded" / "events.txt").exists()


def test_the_image_loss_of_a_run_that_warmed_up_its_ipr_is_no_collapse(
    photos: Path, tmp_path: Path
) -> None:
    first = run_training(make_recipe(photos), tmp_path / "s1")
    recipe = make_recipe(
        photos,
        stage=2,
        init=str(first),
        iterations=60,
        loss={"ipr_only": 40, "ipr_weight": 1e-3},
        validation={"every": 60},
        log_every=60,
    )
    run_training(recipe, tmp_path / "s2")
    assert not (tmp_path / "s2" / "events.txt").exists()


def test_a_large_term_does_not_hide_the_rise_of_a_small_one() -> None:
    guard = Guard(4.0)
    for _ in range(100):
        assert not guard.has_collapsed({"features": 8.0, "rec": 0.05})
    found = [guard.has_collapsed({"features": 8.0, "rec": 0.4}) for _ in range(8)]
    assert found[-1]


def test_a_discriminator_that_learns_is_no_collapse() -> None:
    assert sizes({"rec": 0.1, "gan": 0.7, "features": 3.0}, PixelLoss.L1) == {"rec": 0.1}


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "finished"])
def test_a_run_that_ends_while_its_loss_rises_keeps_the_last_good_state_or_says_so(
    stopped: bool, photos: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"save_every": 10, "log_every": 12, "validation": {"every": 100}}
    recipe = make_recipe(photos, iterations=60 if stopped else 37, **changes)
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    iterate = trainer._iterate

    def rise(share: float) -> dict[str, float]:
        terms = iterate(share)
        return {"rec": terms["rec"] * (9 if trainer.iteration > 35 else 1)}

    def stop(progress: Progress) -> None:
        if stopped and progress.iteration == 36:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._iterate = rise  # type: ignore[method-assign]
    result = trainer.fit(stop)
    kept = 30 if stopped else 37
    assert result.finished is not stopped and result.iterations == kept
    assert torch.load(tmp_path / "run" / "state.pt")["iteration"] == kept
    (event,) = (tmp_path / "run" / "events.txt").read_text().splitlines()
    assert event.startswith("iteration 37: the loss was rising when the run ended")
    assert event.endswith("iteration 30 is kept" if stopped else "these weights may be poor")


def test_a_collapse_shows_in_a_loss_of_decibels_and_is_no_crash_beyond_all_bounds() -> None:
    """20 dB worse is 0.2 more in such a loss, and ten times the error."""
    usual, bad, absurd = (sizes({"rec": loss}, PixelLoss.PSNR) for loss in (0.2, 0.4, 1e4))
    assert bad["rec"] / usual["rec"] == pytest.approx(10)
    guard = Guard(4.0)
    for _ in range(100):
        assert not guard.has_collapsed(usual)
    assert guard.has_collapsed(absurd)


def test_a_return_is_forgiven_when_the_run_goes_well_for_long(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffir_cli.training.guard._DECAY_AFTER", 5)
    trainer = Trainer(make_recipe(photos), tmp_path, "cpu")
    trainer.rollbacks = Rollbacks(2, 0)
    trainer.fit()
    assert trainer.rollbacks == Rollbacks(0, 10)


@pytest.mark.parametrize("place", ["weights", "gradient"])
def test_a_run_that_goes_wrong_again_and_again_stops_and_keeps_its_last_good_state(
    place: str, photos: Path, tmp_path: Path
) -> None:
    """Whether the fault shows in the loss or in the gradient alone, and between two reports."""
    recipe = make_recipe(photos, save_every=3, log_every=5, max_rollbacks=2)
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    iterate = trainer._iterate

    def poisoned(share: float) -> dict[str, float]:
        if trainer.iteration == 4:
            first = trainer.parameters[0]
            if place == "weights":
                first.data.fill_(math.nan)
            else:
                first.register_hook(lambda gradient: gradient * math.inf)
        return iterate(share)

    trainer._iterate = poisoned  # type: ignore[method-assign]
    with pytest.raises(
        DiffIRError, match=r"collapsed again \(rollback 3\) at iteration [34]"
    ) as caught:
        trainer.fit()
    assert "optimizer.lr" in caught.value.hint
    state = torch.load(tmp_path / "run" / "state.pt")
    assert state["iteration"] == 3
    assert all(bool(value.isfinite().all()) for value in state["model"].values())
    load_stage1(tmp_path / "run" / "tiny.safetensors")
    run_training(make_recipe(photos, optimizer={"lr": 1e-4}, save_every=3), tmp_path / "run")


def test_crops_of_another_size_may_have_other_errors(photos: Path, tmp_path: Path) -> None:
    growing = progressive([0.5], [16], [2])
    recipe = make_recipe(photos, iterations=100, data=growing, validation={"every": 1000})
    trainer = Trainer(recipe, tmp_path / "run", "cpu")

    def ten_times_the_error_in_large_crops(share: float) -> dict[str, float]:
        trainer.iteration += 1
        return {"rec": 0.05 if share < 0.5 else 0.5}

    trainer._iterate = ten_times_the_error_in_large_crops  # type: ignore[method-assign]
    assert trainer.fit().finished
    assert trainer.rollbacks.count == 0 and not (tmp_path / "run" / "events.txt").exists()
