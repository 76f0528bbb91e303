"""What a recipe may say, and what it is told when it says something else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from diffir_cli.errors import RecipeError
from diffir_cli.registry import find_weights
from diffir_cli.training.recipe_file import load_recipe, parse_recipe
from tests.training_helpers import make_recipe

RECIPES = Path(__file__).parents[1] / "recipes"


def test_every_fault_of_a_recipe_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        "stage = 4\niterationz = 5\n[model]\ndim = 'wide'\n[optimizer]\nlr = -1\nbetas = 0.9\n"
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
    settings = [f"data.train={json.dumps([str(photos)])}"]
    text = path.read_text(encoding="utf-8")
    if re.search(r"^init = ", text, re.MULTILINE):
        settings.append(f"init={given}")
    if "pairs_share" in text:
        settings += [f"data.pairs_{half}={json.dumps([str(photos)])}" for half in ("lq", "gt")]
    if re.search(r"^start = ", text, re.MULTILINE):
        settings.append(f"start={given}")
    recipe = load_recipe(path, settings)
    assert recipe.name == path.stem


_OFFICIAL: dict[str, dict[str, object]] = {
    "sr-x4-s1": {
        "iterations": 1_000_000,
        "optimizer.lr": 2e-4,
        "optimizer.betas": [0.9, 0.99],
        "optimizer.milestones": [500_000, 700_000],
        "data.patch": 64,
        "data.batch": 64,
    },
    "sr-x4-s3": {"iterations": 400_000, "optimizer.milestones": [200_000], "adversarial.lr": 1e-4},
    "realsr-x4-s2": {
        "iterations": 1_000_000,
        "loss.ipr_only": 100_000,
        "optimizer.milestones": [60_000, 100_000, 700_000],
        "data.batch": 72,
        "data.augment": "flip",
    },
    "deblur-s1": {
        "iterations": 300_000,
        "optimizer.betas": [0.9, 0.999],
        "optimizer.cycles": [92_000, 208_000],
        "optimizer.ends": [2.85e-4, 1e-6],
        "data.patch": 192,
        "data.progressive_patch": [256, 320, 384, 464, 512],
        "data.progressive_batch": [32, 16, 16, 8, 8],
    },
    "deblur-s2": {
        "iterations": 400_000,
        "loss.ipr_only": 100_000,
        "optimizer.milestones": [60_000, 100_000, 180_000, 260_000, 340_000],
    },
    "inpaint-s1": {"iterations": 1_000_000, "optimizer.lr": 2e-4, "optimizer.clip": 1.0},
    "inpaint-s3": {
        "iterations": 1_000_000,
        "data.patch": 256,
        "data.batch": 32,
        "data.augment": "none",
        "adversarial.weight": 10.0,
        "adversarial.feature_matching": 100.0,
        "adversarial.r1": 0.001,
        "adversarial.lr": 1e-4,
    },
}


@pytest.mark.parametrize("name", _OFFICIAL)
def test_recipes_of_the_official_sizes_have_the_official_numbers(name: str) -> None:
    table = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    for path, wanted in _OFFICIAL[name].items():
        found: object = table
        for part in path.split("."):
            assert isinstance(found, dict)
            found = found[part]
        assert found == wanted, path


def test_start_and_init_take_names_of_the_registry(photos: Path) -> None:
    table = {"stage": 2, "start": "sr-x4-lite", "model": {"scale": 4}}
    recipe = make_recipe(photos, **table, data={"patch": 32})
    spec = find_weights("sr-x4-lite")
    assert recipe.start == str(spec.path) and recipe.init == ""
    assert make_recipe(photos, init="sr-x4-lite").init == str(spec.path)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sr-x4", "start cannot be used: the weights 'sr-x4' are not on this machine; "),
        ("sr-x5", "start names neither a file nor known weights: sr-x5"),
    ],
)
def test_names_of_weights_that_are_not_at_hand_are_faults_of_a_recipe(
    photos: Path, name: str, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path))
    with pytest.raises(RecipeError) as caught:
        make_recipe(photos, stage=2, start=name)
    assert any(text.startswith(fault) for text in caught.value.faults)
