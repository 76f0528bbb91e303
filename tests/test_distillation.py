"""Learning from what another network makes of the same pictures, beside the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffir_cli.errors import DiffIRError, InputError, RecipeError
from diffir_cli.models.diffir.checkpoint import load_model
from diffir_cli.training.data import Crops
from diffir_cli.training.diffir.distillation import load_distiller
from diffir_cli.training.loop import Trainer
from diffir_cli.training.losses import image_losses
from diffir_cli.training.recipe import LossRecipe
from diffir_cli.training.trainable import Batch
from tests.training_helpers import check_resuming, make_recipe, run_training


@pytest.fixture
def soft(photos: Path, tmp_path: Path) -> Path:
    """A picture for each photo, 10 levels darker than the photo."""
    folder = tmp_path / "soft"
    folder.mkdir()
    for path in photos.iterdir():
        darker = np.asarray(Image.open(path)).clip(10) - 10
        Image.fromarray(darker).save(folder / path.name)
    return folder


def test_soft_targets_are_cut_at_the_place_of_the_truth(photos: Path, soft: Path) -> None:
    recipe = make_recipe(photos, data={"soft_targets": [str(soft)]})
    batch = Crops.of(recipe).batch(3, 8, 4)
    assert batch.soft is not None
    wanted = ((batch.gt * 255).round().clamp_min(10) - 10) / 255
    torch.testing.assert_close(batch.soft, wanted, atol=1e-6, rtol=0)


def test_soft_targets_change_neither_crops_nor_degradation(photos: Path, soft: Path) -> None:
    with_soft = Crops.of(make_recipe(photos, data={"soft_targets": [str(soft)]})).batch(3, 8, 4)
    without = Crops.of(make_recipe(photos)).batch(3, 8, 4)
    assert torch.equal(with_soft.lq, without.lq)
    assert torch.equal(with_soft.gt, without.gt)
    assert without.soft is None


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_loss_is_shared_between_truth_and_soft_target(weight: float) -> None:
    lq, gt, soft, hq = (torch.rand(2, 3, 8, 8) for _ in range(4))
    batch = Batch(lq, gt, soft=soft)
    found = image_losses(hq, batch, LossRecipe(soft_weight=weight))["rec"]
    wanted = (1 - weight) * (hq - gt).abs().mean() + weight * (hq - soft).abs().mean()
    torch.testing.assert_close(found, wanted)


def test_a_photo_without_its_soft_target_is_named(photos: Path, soft: Path) -> None:
    (soft / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        Crops.of(make_recipe(photos, data={"soft_targets": [str(soft)]}))


def test_a_soft_target_of_another_size_is_named(photos: Path, soft: Path) -> None:
    Image.open(soft / "1.png").crop((0, 0, 80, 80)).save(soft / "1.png")
    with pytest.raises(InputError, match="80×80"):
        Crops.of(make_recipe(photos, data={"soft_targets": [str(soft)]}))


def test_a_larger_network_makes_the_results_that_it_restores(photos: Path, s2_file: Path) -> None:
    recipe = make_recipe(photos, distill={"weights": str(s2_file)})
    distiller = load_distiller(recipe, torch.device("cpu"))
    assert distiller is not None
    model = load_model(s2_file)
    lq = torch.rand(2, 3, 16, 16)
    x_T = torch.randn(1, model.config.ipr_dim, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        distiller(lq, False), model(lq, x_T.expand(2, -1)).clamp(0, 1), atol=1e-5, rtol=1e-5
    )


def test_a_run_with_a_larger_network_learns_from_it_and_resumes_to_the_bit(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(photos, distill={"weights": str(s2_file)}, loss={"soft_weight": 1.0})
    check_resuming(recipe, tmp_path)


def test_another_network_to_learn_from_is_not_taken_over_silently(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    distilled = make_recipe(photos, distill={"weights": str(s2_file)})
    for first, then in ((make_recipe(photos), distilled), (distilled, make_recipe(photos))):
        out = tmp_path / ("run" if first is distilled else "other")
        run_training(first, out, stop_at=4)
        with pytest.raises(RecipeError, match="distill"):
            Trainer(then, out, "cpu")


def test_a_network_that_was_moved_is_still_the_same(
    photos: Path, s2_file: Path, tmp_path: Path
) -> None:
    run_training(make_recipe(photos, distill={"weights": str(s2_file)}), tmp_path / "run", 4)
    moved = s2_file.rename(tmp_path / "moved.safetensors")
    run_training(make_recipe(photos, distill={"weights": str(moved)}), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": {"soft_weight": 0.7}}, "loss.soft_weight has an effect with"),
        (
            {"loss": {"soft_weight": 1.5}, "data": {"soft_targets": ["."]}},
            "loss.soft_weight must lie between",
        ),
        ({"data": {"soft_targets": ["/no/where"]}}, "data.soft_targets names a missing folder"),
        ({"distill": {"weights": "/no/where.pth"}}, "distill.weights names neither"),
        (
            {"data": {"soft_targets": ["."], "degradation": "realworld"}},
            "goes with data.degradation bicubic only",
        ),
        (
            {"data": {"soft_targets": ["."]}, "distill": {"weights": "pyproject.toml"}},
            "exclude each other",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(photos: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(photos, **changes)
    assert any(words in fault for fault in caught.value.faults), caught.value.faults


def test_a_network_of_another_scale_or_stage_is_refused(
    photos: Path, s1_file: Path, inpaint_file: Path, tmp_path: Path
) -> None:
    for file, words in ((s1_file, "stage"), (inpaint_file, "scale")):
        with pytest.raises(DiffIRError, match=words):
            Trainer(make_recipe(photos, distill={"weights": str(file)}), tmp_path / "run", "cpu")


def test_a_network_that_expects_other_holes_is_refused(photos: Path, inpaint_file: Path) -> None:
    model = load_model(inpaint_file).config
    ours = dataclasses.replace(model, prefill=True, coherence_fill=True)
    recipe = make_recipe(
        photos,
        stage=2,
        model=ours.to_dict(),
        data={"degradation": "holes"},
        loss={"ipr_weight": 0.0},
        distill={"weights": str(inpaint_file)},
    )
    with pytest.raises(RecipeError, match="coherence_fill False, the recipe's model True"):
        load_distiller(recipe, torch.device("cpu"))
