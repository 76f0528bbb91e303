"""`diffir ablate` trains every variant from one stage 1 and writes the paper's tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.checkpoint import load_model, load_stage1
from diffir_cli.models.diffir.model import initial_noise
from diffir_cli.training.diffir.ablation import STAGE1, TABLES, run_variant, variants
from diffir_cli.training.run_folder import run_folder
from diffir_cli.training.validate import Validation
from tests.conftest import run_cli
from tests.training_helpers import make_recipe, run_training

RECIPES = Path(__file__).parents[1] / "recipes" / "diffir" / "ablations"


def _ablate(photos: Path, out: Path, *more: str, recipes: Path = RECIPES) -> tuple[int, str]:
    settings = [
        f"data.train={json.dumps([str(photos)])}",
        f"validation.gt={photos}",
        "validation.count=1",
        "iterations=1",
        "data.batch=2",
        "data.patch=16",
        "model.dim=8",
        "model.cpen_dim=8",
        "model.cpen_blocks=1",
        *more,
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = run_cli("ablate", recipes, "-o", out, "-d", "cpu", *arguments)
    return result.exit_code, result.output


def test_all_variants_are_trained_and_stand_in_their_tables(photos: Path, tmp_path: Path) -> None:
    code, output = _ablate(photos, tmp_path / "out")
    assert code == 0, output
    text = (tmp_path / "out" / "ablations.md").read_text(encoding="utf-8")
    for title, rows in TABLES.items():
        assert f"## {title}" in text
        for row in rows:
            assert f"| {row.label} | " in text
    with Image.open(tmp_path / "out" / "ablations.png") as picture:
        assert picture.width > 300
    made = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert made == set(variants())
    before = text
    code, output = _ablate(photos, tmp_path / "out")
    assert code == 0, output
    again = (tmp_path / "out" / "ablations.md").read_text(encoding="utf-8")
    assert again == before
    code, output = _ablate(photos, tmp_path / "out", "optimizer.lr=0.05")
    assert code == 6 and "a run with other settings" in output
    assert (tmp_path / "out" / "ablations.md").read_text(encoding="utf-8") == before


def test_a_run_of_train_is_not_taken_for_a_variant(photos: Path, tmp_path: Path) -> None:
    """Nothing in it says with which learning rate it was trained."""
    run_training(make_recipe(photos, optimizer={"lr": 1e-3}), tmp_path / "v3")
    with pytest.raises(RecipeError, match="a run with other settings"):
        run_variant(make_recipe(photos), tmp_path / "v3", "cpu")
    assert not (tmp_path / "v3" / "recipe.json").exists()


def test_variant_4_is_measured_with_noise_in_each_step_and_the_ipr_against_that_of_stage_1(
    photos: Path, stage1: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(photos, stage=2, init=str(stage1), loss={"variance_noise": True})
    found = run_variant(recipe, tmp_path / "v4", "cpu")
    assert found is not None
    student = load_model(tmp_path / "v4" / "tiny.safetensors").eval()
    teacher = load_stage1(stage1)
    ((lq, gt),) = Validation.of(recipe).pairs  # type: ignore[union-attr]
    small, large = (torch.tensor(x).permute(2, 0, 1)[None].float() / 255 for x in (lq, gt))
    steps = student.config.steps
    with torch.inference_mode():
        x_T = initial_noise(student.config, 0)
        drawn = torch.randn(steps, *x_T.shape, generator=torch.Generator().manual_seed(0))
        z, condition = teacher.ipr(small, large), student.condition(small)
        noisy, calm = (student.sample(condition, x_T, noise) for noise in (drawn, None))
    assert found.ipr_error == pytest.approx(float((noisy - z).abs().mean()), rel=1e-4)
    assert found.ipr_error != pytest.approx(float((calm - z).abs().mean()), rel=1e-2)


def test_every_variant_has_a_recipe_and_every_recipe_a_variant() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(variants())
    assert variants()[0] == STAGE1


def test_variants_differ_from_diffir_in_one_thing_each() -> None:
    base = (RECIPES / "v3.toml").read_text(encoding="utf-8").splitlines()
    for name in variants()[1:]:
        lines = (RECIPES / f"{name}.toml").read_text(encoding="utf-8").splitlines()
        different = [
            line
            for line, other in zip(lines, base, strict=True)
            if line != other and not line.startswith(("#", "name"))
        ]
        assert len(different) == (name != "v3"), name


def test_ablations_need_photos_held_out(photos: Path, tmp_path: Path) -> None:
    code, output = _ablate(photos, tmp_path / "out", "validation.gt=")
    assert code == 6 and "held out" in output


def test_a_fault_of_the_last_recipe_is_found_before_the_first_is_trained(
    photos: Path, tmp_path: Path
) -> None:
    recipes = shutil.copytree(RECIPES, tmp_path / "recipes")
    (recipes / f"{variants()[-1]}.toml").write_text("name =", encoding="utf-8")
    code, output = _ablate(photos, tmp_path / "out", recipes=recipes)
    assert code == 6 and f"{variants()[-1]}.toml has 1 fault" in output
    assert not (tmp_path / "out").exists()


def test_ablations_keep_other_trainings_from_their_folders(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / STAGE1
    folder.parent.mkdir()
    with run_folder(folder):
        code, output = _ablate(photos, tmp_path / "out")
    assert code == 3 and f"another training runs in {folder}" in output
