"""A run begins with what its files hold, and goes on only where its recipe is the same."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffir_cli.errors import CheckpointError, DeviceError, InputError, RecipeError
from diffir_cli.models.diffir.checkpoint import load_model, load_state
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.networks.dirformer import DynamicBlock
from diffir_cli.training.diffir.trainable import TrainableDiffIR
from diffir_cli.training.loop import Trainer
from tests.conftest import TINY, noise_image
from tests.training_helpers import check_resuming, make_recipe, run_training


def _without_new_fields(known: dict[str, str]) -> dict[str, str]:
    """What a version that knew fewer fields of two tables, and no precision, wrote into a state."""
    tables = {name: json.loads(text) for name, text in known.items() if text.startswith("{")}
    del tables["data"]["windows"], tables["data"]["pairs_below"], tables["model"]["gated"]
    older = {**known, **{name: json.dumps(table) for name, table in tables.items()}}
    del older["precision"]
    return older


def test_a_state_is_continued_by_its_own_recipe_alone_even_one_of_an_earlier_version(
    photos: Path, tmp_path: Path
) -> None:
    recipe, run = make_recipe(photos), tmp_path / "run"
    run_training(recipe, run, stop_at=6)
    state = torch.load(run / "state.pt")
    older = {**state, "digest": _without_new_fields(state["digest"])}
    for found in (state, older):
        torch.save(found, run / "state.pt")
        assert Trainer(recipe, run, "cpu").iteration == state["iteration"] > 0
        changes: list[dict[str, Any]] = [{"precision": "bf16"}, {"data": {"batch": 2}}]
        for change in (*changes, {"ema": 0.5}, {"seed": 1}):
            (field,) = change
            with pytest.raises(RecipeError, match=f"was made with a different {field}$"):
                Trainer(make_recipe(photos, **change), run, "cpu")
    for other in ({"guard": [0.1]}, {"returned": 2}):
        torch.save({**state, **other}, run / "state.pt")
        with pytest.raises(CheckpointError, match="damaged or from another version"):
            Trainer(recipe, run, "cpu")


def test_a_batch_that_does_not_fit_is_told_and_a_smaller_one_begins_in_the_same_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("diffir_cli.training.diffir.trainable.stage1_losses", full)
        with pytest.raises(DeviceError, match="a batch of 4 crops of 8×8 pixels") as caught:
            Trainer(make_recipe(photos), tmp_path / "run", "cpu").fit()
    assert "data.batch" in caught.value.hint and (tmp_path / "run" / "state.pt").exists()
    run_training(make_recipe(photos, data={"batch": 2}), tmp_path / "run")
    with pytest.raises(RecipeError, match="was made with a different data"):
        Trainer(make_recipe(photos), tmp_path / "run", "cpu")


def test_a_collapse_of_a_run_in_a_folder_begun_by_another_leads_back_to_its_own_beginning(
    photos: Path, tmp_path: Path
) -> None:
    Trainer(make_recipe(photos, seed=1), tmp_path / "run", "cpu").save()
    trainer = Trainer(make_recipe(photos), tmp_path / "run", "cpu")
    first = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    iterate = trainer._iterate
    ruined: list[int] = []

    def ruin_once(share: float) -> dict[str, float]:
        if trainer.iteration == 5 and not ruined:
            ruined.append(5)
            return {"rec": math.nan}
        if ruined and trainer.iteration == 0:
            ruined.append(0)
            now = trainer.model.state_dict()
            assert all(torch.equal(now[name], first[name]) for name in first)
        return iterate(share)

    trainer._iterate = ruin_once  # type: ignore[method-assign]
    assert trainer.fit().finished and ruined == [5, 0]


def test_another_teacher_is_not_taken_over_silently(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    run_training(make_recipe(photos, stage=2, init=str(stage1)), tmp_path / "run", stop_at=4)
    other = run_training(make_recipe(photos, seed=9), tmp_path / "other")
    with pytest.raises(RecipeError, match="was made with a different init"):
        Trainer(make_recipe(photos, stage=2, init=str(other)), tmp_path / "run", "cpu")


def test_stage_2_starts_from_the_dirformer_of_stage_1(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(photos, stage=2, init=str(stage1))
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    for key, value in load_state(stage1).items():
        if key.startswith("dirformer."):
            assert torch.equal(trainer.model.state_dict()[key], value)
    assert isinstance(trainer.model, DiffIRS2)
    assert isinstance(load_model(run_training(recipe, tmp_path / "run")), DiffIRS2)
    teacher = _teacher(trainer)
    assert teacher is not None
    for key, value in load_state(stage1).items():
        assert torch.equal(teacher.state_dict()[key], value)


def _teacher(trainer: Trainer) -> DiffIRS1 | None:
    assert isinstance(trainer.trainable, TrainableDiffIR)
    return trainer.trainable.teacher


def test_a_deeper_network_begins_as_the_one_it_goes_on_from(
    photos: Path, stage1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shallow = load_model(
        run_training(make_recipe(photos, stage=2, init=str(stage1)), tmp_path / "shallow")
    )
    depth = {"num_blocks": [2, 1, 1, 2], "refinement_blocks": 3}
    start = str(tmp_path / "shallow" / "tiny.safetensors")
    recipe = make_recipe(photos, stage=2, init=str(stage1), start=start, model=depth)
    trainer = Trainer(recipe, tmp_path / "deeper", "cpu")
    assert f"{start} has [1, 1, 1, 1, 1] blocks of [2, 1, 1, 2, 3]" in caplog.text
    assert isinstance(trainer.model, DiffIRS2)
    teacher = _teacher(trainer)
    assert teacher is not None
    lq, ipr = torch.rand(1, 3, 32, 32), torch.rand(1, TINY.ipr_dim)
    with torch.inference_mode():
        torch.testing.assert_close(trainer.model.ipr(lq, ipr), shallow.ipr(lq, ipr))
        restored, wanted = trainer.model.dirformer(lq, ipr), shallow.dirformer(lq, ipr)
        torch.testing.assert_close(restored, wanted)
    before = load_state(stage1)
    assert all(torch.equal(teacher.state_dict()[key], before[key]) for key in before)
    latest = trainer.model.dirformer.latent[-1]
    assert isinstance(latest, DynamicBlock) and not latest.dgfn.project_out.weight.any()
    trainer._iterate(0.0)
    assert latest.dgfn.project_out.weight.any()


def test_stage_2_weights_go_on_without_the_stage_1_weights_that_taught_them(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    begun = run_training(make_recipe(photos, stage=2, init=str(stage1)), tmp_path / "begun")
    recipe = make_recipe(photos, stage=2, start=str(begun))
    trainer = Trainer(recipe, tmp_path / "on", "cpu")
    assert _teacher(trainer) is None
    before = load_state(begun)
    assert all(torch.equal(trainer.model.state_dict()[key], before[key]) for key in before)
    after = load_state(check_resuming(recipe, tmp_path))
    assert any(not torch.equal(after[key], before[key]) for key in before)


def test_weights_are_not_continued_as_a_network_that_computes_something_else(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    begun = run_training(make_recipe(photos, stage=2, init=str(stage1)), tmp_path / "begun")
    recipe = make_recipe(photos, stage=2, start=str(begun), model={"prediction": "epsilon"})
    with pytest.raises(RecipeError, match=r"model\.prediction is epsilon, but x0 in"):
        Trainer(recipe, tmp_path / "run", "cpu")


def test_a_validation_photo_of_which_nothing_would_count_is_refused_at_once(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "val").mkdir()
    Image.fromarray(noise_image(6, 70)).save(tmp_path / "val/small.png")
    recipe = make_recipe(photos, validation={"gt": str(tmp_path / "val")})
    with pytest.raises(InputError, match="too small: 70×6 pixels"):
        Trainer(recipe, tmp_path / "run", "cpu")


def test_stage_2_trains_a_new_network_without_stage_1_weights_where_nothing_is_learned_from_them(
    photos: Path, tmp_path: Path
) -> None:
    losses: list[float] = []
    recipe = make_recipe(photos, stage=2, iterations=60, loss={"ipr_weight": 0.0})
    trainer = Trainer(recipe, tmp_path / "run", "cpu")
    assert _teacher(trainer) is None
    assert isinstance(trainer.model, DiffIRS2)
    trainer.fit(lambda progress: losses.append(progress.loss))
    assert losses[-1] < losses[0]
    check_resuming(recipe, tmp_path)


def test_a_new_network_of_stage_2_needs_stage_1_weights_if_it_is_to_learn_from_them(
    photos: Path,
) -> None:
    with pytest.raises(RecipeError, match=r"init must name stage-1 weights.*ipr_weight 0"):
        make_recipe(photos, stage=2)
    assert not make_recipe(
        photos, stage=2, start=str(photos / "0.png"), loss={"ipr_weight": 0.0}
    ).loss.ipr_weight
    for loss in ({"ipr": "kl"}, {"ipr_only": 5}, {"optimization": "traditional"}):
        with pytest.raises(RecipeError, match="has no effect without stage-1 weights"):
            make_recipe(photos, stage=2, loss={"ipr_weight": 0.0, **loss})


@pytest.mark.parametrize(
    "loss", [{"ipr": "kl"}, {"ipr_weight": 2.0}, {"ipr_only": 5}, {"optimization": "traditional"}]
)
def test_what_only_stage_1_weights_can_teach_is_refused_without_them(
    loss: dict[str, Any], photos: Path, stage1: Path
) -> None:
    with pytest.raises(RecipeError, match=f"loss.{next(iter(loss))} has no effect without"):
        make_recipe(photos, stage=2, start=str(stage1), loss=loss)


def test_a_network_with_more_blocks_than_the_recipe_has_is_refused(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    fewer = {"refinement_blocks": 0}
    with pytest.raises(CheckpointError, match="does not fit the network"):
        Trainer(make_recipe(photos, stage=2, init=str(stage1), model=fewer), tmp_path / "x", "cpu")


def test_stage_1_can_begin_with_what_fits_of_other_weights(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    smaller = dataclasses.replace(TINY, num_blocks=(1, 1, 1, 0), refinement_blocks=2)
    recipe = make_recipe(photos, init=str(stage1), model=smaller.to_dict())
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


def test_a_finished_run_is_not_taken_for_one_with_another_learning_rate(
    photos: Path, tmp_path: Path
) -> None:
    run_training(make_recipe(photos), tmp_path / "run")
    other = make_recipe(photos, optimizer={"lr": 1e-3})
    with pytest.raises(RecipeError, match=r"state\.pt was made with a different optimizer$"):
        Trainer(other, tmp_path / "run", "cpu")
    longer = make_recipe(photos, optimizer={"lr": 1e-3}, iterations=13)
    assert Trainer(longer, tmp_path / "run", "cpu").iteration == 12
    state = torch.load(tmp_path / "run/state.pt")
    del state["digest"]["optimizer"]
    torch.save(state, tmp_path / "run/state.pt")
    assert Trainer(other, tmp_path / "run", "cpu").iteration == 12
