"""What a recipe may say, and what it is told when it says something else."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path

import pytest

from diffir_cli.errors import RecipeError
from diffir_cli.models.diffir.checkpoint import load_model
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.training.recipe import Recipe, digest
from diffir_cli.training.recipe_file import load_recipe, parse_recipe
from diffir_cli.weights.registry import find_weights
from tests.training_helpers import make_recipe

RECIPES = Path(__file__).parents[1] / "recipes" / "diffir"


def test_every_fault_of_a_recipe_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        "stage = 4\niterationz = 5\n[model]\ndim = 'wide'\n[optimizer]\nlr = -1\nbetas = 0.9\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["data.patch=many", "nonsense"])
    assert caught.value.exit_code == 6
    found = "; ".join(caught.value.faults)
    parts = "stage must|optimizer.lr must|iterationz|iterations|model.dim|optimizer.betas"
    for part in f"{parts}|data.patch|nonsense".split("|"):
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
    parts = "name must|init must|/no/where|multiple of 8|ema must|seed must|precision must"
    for part in f"{parts}|optimizer.warmup must|optimizer.lr must|max_minutes must".split("|"):
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


STARTS = {
    path.stem: match.group(1)
    for path in sorted(RECIPES.glob("*.toml"))
    if (match := re.search(r'^start = "([\w-]+)"', path.read_text(encoding="utf-8"), re.MULTILINE))
}


@pytest.mark.parametrize("name", STARTS)
def test_weights_of_the_package_fit_the_recipes_that_start_from_them(
    name: str, photos: Path
) -> None:
    settings = [f"data.train={json.dumps([str(photos)])}"]
    settings += [f"data.pairs_{half}={json.dumps([str(photos)])}" for half in ("lq", "gt")]
    recipe = load_recipe(RECIPES / f"{name}.toml", settings)
    assert load_model(recipe.start, recipe.model).config == recipe.model


_GAN = {
    "iterations": 400_000,
    "loss.ipr": "l1",
    "loss.ipr_weight": 1.0,
    "adversarial.discriminator": "unet",
    "adversarial.weight": 1.0,
    "adversarial.lr": 1e-4,
}
_SR: dict[str, dict[str, object]] = {
    "s1": {"iterations": 1_000_000, "optimizer.milestones": [500_000, 700_000]},
    "s2": {"iterations": 1_000_000, "optimizer.milestones": [500_000, 700_000]},
    "s3": {**_GAN, "optimizer.milestones": [200_000]},
}
_REALSR: dict[str, dict[str, object]] = {
    "s1": _SR["s1"],
    "s2": {
        "iterations": 1_000_000,
        "loss.ipr_only": 100_000,
        "optimizer.milestones": [60_000, 100_000, 700_000],
        "optimizer.factors": [0.1, 1.0, 0.5],
    },
    "s3": {
        **_GAN,
        "optimizer.lr": 1e-4,
        "optimizer.milestones": [300_000],
        "adversarial.follow_lr_schedule": False,
    },
}
_DEBLUR: dict[str, dict[str, object]] = {
    "s1": {
        "iterations": 300_000,
        "optimizer.betas": [0.9, 0.999],
        "optimizer.cycles": [92_000, 208_000],
        "optimizer.ends": [2.85e-4, 1e-6],
        "data.progressive_at": [
            pytest.approx(done / 300, abs=1e-6) for done in (92, 172, 210, 243, 276)
        ],
    },
    "s2": {
        "iterations": 400_000,
        "loss.ipr_only": 100_000,
        "optimizer.milestones": [60_000, 100_000, 180_000, 260_000, 340_000],
        "optimizer.factors": [0.1, 1.0, 0.5, 0.25, 0.125],
        "data.progressive_at": [pytest.approx(done / 400) for done in (150, 210, 260, 320, 360)],
    },
}
_INPAINT: dict[str, dict[str, object]] = {
    # Two stages of the same length and, but for a discriminator that came later, the same losses.
    "s1": {"loss.known_weight": 10.0},
    "s2": {"loss.known_weight": 10.0, "loss.ipr_weight": 1.0},
    "s3": {
        "loss.known_weight": 10.0,
        "loss.hole_weight": 0.0,
        "adversarial.discriminator": "patch",
        "adversarial.weight": 10.0,
        "adversarial.feature_matching": 100.0,
        "adversarial.r1": 0.001,
        "adversarial.lr": 1e-4,
        "adversarial.follow_lr_schedule": False,
    },
}


def _official() -> dict[str, tuple[str, dict[str, object]]]:
    """By recipe the weights that it would make, and its numbers."""
    found: dict[str, tuple[str, dict[str, object]]] = {}
    common: dict[str, object]
    for scale in (4, 2):
        for stage, numbers in _SR.items():
            common = {"optimizer.lr": 2e-4, "data.patch": 256 // scale, "data.batch": 64}
            found[f"sr-x{scale}-{stage}"] = (f"sr-x{scale}", {**common, **numbers})
    for scale in (4, 2, 1):
        for stage, numbers in _REALSR.items():
            common = {"data.patch": 256 // scale, "data.batch": 72, "data.augment": "flip"}
            if stage == "s1" and scale < 4:
                common["ema"] = 0.0
            numbers = {"optimizer.lr": 2e-4, **common, **numbers}
            found[f"realsr-x{scale}-{stage}"] = (f"realsr-x{scale}", numbers)
    growing = {
        "optimizer.lr": 2e-4,
        "data.pairs_share": 1.0,
        "data.patch": 192,
        "data.batch": 64,
        "data.progressive_patch": [256, 320, 384, 464, 512],
        "data.progressive_batch": [32, 16, 16, 8, 8],
    }
    for stage, numbers in _DEBLUR.items():
        found[f"deblur-{stage}"] = ("deblur-gopro", {**growing, **numbers})
    common = {
        "iterations": 1_000_000,
        "ema": 0.0,
        "optimizer.lr": 2e-4,
        "optimizer.betas": [0.9, 0.999],
        "optimizer.clip": 1.0,
        "data.patch": 256,
        "data.batch": 32,
        "data.augment": "none",
    }
    for stage, numbers in _INPAINT.items():
        found[f"inpaint-{stage}"] = ("inpaint-celeba", {**common, **numbers})
    return found


@pytest.mark.parametrize("name", _official())
def test_recipes_of_the_official_sizes_have_the_official_numbers(name: str) -> None:
    table = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    weights, numbers = _official()[name]
    assert ModelConfig.from_dict(table["model"]) == find_weights(weights).model
    for path, wanted in numbers.items():
        found: object = table
        for part in path.split("."):
            assert isinstance(found, dict)
            found = found[part]
        assert found == wanted, path


def test_every_recipe_that_is_not_lite_is_held_against_the_official_numbers() -> None:
    large = {path.stem for path in RECIPES.glob("*.toml") if "lite" not in path.stem}
    assert large == set(_official())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"optimizer": {"milestones": [5]}}, "optimizer.milestones has an effect with"),
        ({"optimizer": {"gamma": 0.1}}, "optimizer.gamma has an effect with"),
        ({"optimizer": {"cycles": [5], "ends": [0.1]}}, "optimizer.cycles has an effect with"),
        (
            {"optimizer": {"schedule": "step", "milestones": [0, 9], "factors": [1.0, 0.1]}},
            "optimizer.milestones must be 1 or more where",
        ),
        (
            {"optimizer": {"schedule": "cycles", "cycles": [5], "ends": [math.nan]}},
            "optimizer.ends must lie between",
        ),
        ({"loss": {"hole_weight": 2.0}}, "loss.hole_weight has an effect on holes only"),
        ({"spike": 1.0}, "loss_spike_ratio must be 0, or more than 1"),
        ({"loss_spike_ratio": 0.5}, "loss_spike_ratio must be 0, or more than 1"),
    ],
)
def test_fields_that_would_do_nothing_or_harm_are_faults(
    photos: Path, changes: dict[str, object], fault: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(photos, **changes)
    assert any(text.startswith(fault) for text in caught.value.faults), caught.value.faults


def test_a_schedule_and_a_discriminator_can_be_changed_on_the_command_line(stage1: Path) -> None:
    """What the others of them would read may stand in the recipe."""
    path, given = RECIPES / "realsr-x4-s3.toml", str(stage1)
    settings = [f"data.train={json.dumps([str(stage1.parent)])}", f"validation.gt={stage1.parent}"]
    settings += [f"init={given}", f"start={given}", f"perceptual.weights={given}"]
    changes = ["optimizer.schedule=cosine", "adversarial.discriminator=none"]
    recipe = load_recipe(path, [*settings, *changes])
    assert recipe.optimizer.schedule == "cosine" and recipe.adversarial.discriminator == "none"


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


def test_states_of_earlier_versions_held_something_in_empty_lists() -> None:
    data = json.loads(digest(Recipe())["data"])
    assert data["pairs_lq"] == [""] and data["progressive_at"] == [1.0]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"optimizer": {"milestones": "5"}}, 'optimizer.milestones must be a list such as ["5"]'),
        ({"data": {"progressive_patch": 8}}, "data.progressive_patch must be a list such as [8]"),
        ({"data": {"progressive_at": ["a"]}}, "data.progressive_at must be a number, not 'a'"),
        ({"data": {"degradation": "holes!"}}, "data.degradation must be one of"),
        ({"data": {"pairs_share": 2.0}}, "data.pairs_share"),
        ({"data": {"frames_share": 2.0}}, "data.frames_share"),
        ({"loss": {"pixel": "relative"}}, "loss.pixel relative needs data.degradation shake or"),
        ({"data": {"tran": []}}, "data.tran is no field, did you mean 'train'?"),
        ({"data": {"batch": 0}}, "data.batch must lie between"),
        ({"optimizer": {"schedule": "step", "milestones": [9, 0], "factors": [1.0]}}, "optimizer."),
        ({"data": {"train": ["/no", "/where"]}}, "data.train names missing folders: /no, /where"),
        ({"init": "sr-x4"}, "init cannot be used"),
        ({"model": {"dim": "wide"}}, "model.dim must be a whole number, not 'wide'"),
        ({"model": 5}, "model must be a table, not 5"),
        ({"data": 5}, "data must be a table, not 5"),
        ({"optimizer": 5}, "optimizer must be a table, not 5"),
    ],
)
def test_a_field_has_one_fault(
    photos: Path,
    changes: dict[str, object],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DIFFIR_HOME", str(tmp_path))
    with pytest.raises(RecipeError) as caught:
        make_recipe(photos, **changes)
    faults = caught.value.faults
    fields = [text.split(" ")[0].rstrip(",") for text in faults]
    assert len(fields) == len(set(fields)), faults
    assert any(text.startswith(fault) for text in faults), faults
