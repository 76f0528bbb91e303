"""ResShift learns: its loss, its recipes, its runs, and files that restore pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from diffir_cli.errors import RecipeError
from diffir_cli.models.resshift.checkpoint import Component, save_component
from diffir_cli.models.resshift.config import Prediction, ResShiftConfig
from diffir_cli.models.resshift.diffusion import ShiftSchedule
from diffir_cli.models.resshift.networks import VQAutoencoder
from diffir_cli.training.families import build_trainable
from diffir_cli.training.optimizer import hidden_matrices
from diffir_cli.training.parallel import World
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.recipe_file import load_recipe
from diffir_cli.training.resshift.trainable import TrainableResShift
from diffir_cli.training.trainable import Batch, Noise
from tests.conftest import run_cli
from tests.resshift_helpers import NARROW
from tests.resshift_released import RELEASED
from tests.training_helpers import check_resuming, log_rows, make_recipe, run_training

RECIPES = Path(__file__).parents[1] / "recipes" / "resshift"
PIXELS = replace(
    NARROW,
    scale=2,
    latent=False,
    unshuffle=2,
    kappa=0.4,
    prediction=Prediction.RESIDUAL,
    width=8,
    swin_dim=8,
    window=4,
    mlp_ratio=1,
    resolution=8,
)
LATENT = replace(
    PIXELS, latent=True, unshuffle=1, ae_width=4, ae_multipliers=(1, 2), ae_blocks=(1, 1), codes=16
)


def resshift_recipe(photos: Path, config: ResShiftConfig = PIXELS, **changes: Any) -> Recipe:
    table = {
        "family": "resshift",
        "model": config.to_dict(),
        "data": {"patch": config.multiple, "batch": 2},
        "iterations": 6,
        "log_every": 2,
        "optimizer": {"lr": 1e-3},
    }
    return make_recipe(photos, **{**table, **changes})


def trainable_of(recipe: Recipe) -> TrainableResShift:
    torch.manual_seed(0)
    trainable = build_trainable(recipe, World(0, 1, torch.device("cpu")))
    assert isinstance(trainable, TrainableResShift)
    return trainable


def batch_of(config: ResShiftConfig) -> Batch:
    side = config.multiple
    rng = torch.Generator().manual_seed(0)
    lq = torch.rand(2, 3, side, side, generator=rng)
    return Batch(lq, torch.rand(2, 3, config.scale * side, config.scale * side, generator=rng))


@pytest.fixture
def autoencoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "autoencoder.safetensors"
    save_component(Component.AUTOENCODER, path, VQAutoencoder(LATENT), LATENT, {})
    return path


def test_an_untrained_model_of_the_residual_estimates_the_enlarged_input(photos: Path) -> None:
    """Its first loss is the distance of bicubic enlargement from GT, whatever step is drawn."""
    trainable, batch = trainable_of(resshift_recipe(photos, loss={"pixel": "l2"})), batch_of(PIXELS)
    enlarged = trainable.model.encode(2 * batch.lq - 1) / 2 + 0.5
    wanted = (enlarged - batch.gt).square().mean()
    for seed in range(3):
        terms = trainable.losses(batch, Noise(seed, 2), 0)
        torch.testing.assert_close(terms, {"rec": wanted})


@pytest.mark.parametrize("prediction", Prediction)
def test_a_network_that_knows_the_truth_has_no_loss(photos: Path, prediction: Prediction) -> None:
    config = replace(PIXELS, prediction=prediction)
    trainable, batch = trainable_of(resshift_recipe(photos, config)), batch_of(config)
    schedule = ShiftSchedule.of(config)
    x0 = 2 * batch.gt - 1
    y0 = trainable.model.encode(2 * batch.lq - 1)

    def omniscient(scaled: torch.Tensor, times: torch.Tensor, _lq: torch.Tensor) -> torch.Tensor:
        rows = []
        for i, t in enumerate(times.tolist()):
            std, x_t = schedule.noise_std(t), scaled[i] * schedule.input_divisor(t)
            noise = (x_t - x0[i] - schedule.eta(t) * (y0[i] - x0[i])) / std
            answers = {
                Prediction.X0: x0[i],
                Prediction.EPSILON: noise,
                Prediction.SCALED_EPSILON: std * noise,
                Prediction.RESIDUAL: y0[i] - x0[i],
            }
            rows.append(answers[prediction])
        return torch.stack(rows)

    trainable.network.forward = omniscient  # type: ignore[assignment, method-assign]
    for seed in range(4):
        (loss,) = trainable.losses(batch, Noise(seed, 2), 0).values()
        assert float(loss) < 1e-4


def test_a_latent_model_learns_in_latents_and_leaves_its_autoencoder_alone(
    photos: Path, autoencoder: Path
) -> None:
    recipe = resshift_recipe(photos, LATENT, autoencoder=str(autoencoder), loss={"pixel": "l2"})
    trainable, batch = trainable_of(recipe), batch_of(LATENT)
    network = trainable.model.autoencoder
    assert network is not None
    x0 = network.encode(2 * batch.gt - 1)
    y0 = trainable.model.encode(2 * batch.lq - 1)
    terms = trainable.losses(batch, Noise(0, 2), 0)
    torch.testing.assert_close(terms["rec"], (y0 - x0).square().mean())
    terms["rec"].backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert trainable.network.out[-1].weight.grad is not None


def test_muon_takes_the_layers_inside_and_leaves_first_and_last_ones(photos: Path) -> None:
    trainable = trainable_of(resshift_recipe(photos))
    chosen = {id(matrix) for matrix in hidden_matrices(trainable.parts)}
    names = {name for name, each in trainable.network.named_parameters() if id(each) in chosen}
    assert "input_blocks.1.0.in_layers.2.weight" in names
    assert "input_blocks.1.1.blocks.0.attn.qkv.weight" in names
    assert not names & {"input_blocks.0.0.weight", "out.2.weight", "time_embed.0.weight"}


def test_a_run_that_is_continued_ends_as_one_that_was_not_interrupted(
    photos: Path, tmp_path: Path
) -> None:
    recipe = resshift_recipe(photos, optimizer={"lr": 1e-3, "kind": "muon"})
    check_resuming(recipe, tmp_path)
    assert log_rows(tmp_path / "parts")[-1]["iteration"] == "6"


def test_what_was_trained_restores_pictures_and_goes_on(photos: Path, tmp_path: Path) -> None:
    recipe = resshift_recipe(photos)
    weights = run_training(recipe, tmp_path / "run")
    with safe_open(weights, framework="pt") as file:
        assert file.metadata()["family"] == "resshift"
    out = tmp_path / "out.png"
    photo = photos / "0.png"
    done = run_cli("restore", photo, "-w", weights, "--task", "sr", "-o", out)
    assert done.exit_code == 0 and out.exists(), done.output
    again = trainable_of(resshift_recipe(photos, start=str(weights)))
    with safe_open(weights, framework="pt") as file:
        for name, value in again.network.state_dict().items():
            assert torch.equal(value, file.get_tensor(name)), name


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"stage": 2}, "stage has an effect with family diffir only"),
        ({"loss": {"ipr_weight": 2.0}}, "loss.ipr_weight has an effect with family diffir only"),
        ({"distill": {"weights": "sr-x4-lite"}}, "distill.weights has an effect with family"),
        ({"autoencoder": "x.pth"}, "autoencoder names neither a file nor known weights: x.pth"),
        ({"model": {"latent": True, "unshuffle": 1}}, "autoencoder must name the weights that"),
        ({"model": {"takes_mask": True}}, "data.degradation bicubic does not go with a model"),
        ({"model": {"kapa": 1.0}}, "model.kapa is no field, did you mean 'kappa'?"),
        ({"data": {"patch": 12}}, "data.patch must be a multiple of 8"),
        (
            {"data": {"degradation": "shake"}, "loss": {"pixel": "relative"}},
            "loss.pixel relative goes with family diffir only",
        ),
        ({"family": "gan"}, "family must be one of diffir, resshift, not 'gan'"),
    ],
)
def test_what_a_resshift_recipe_cannot_mean_is_a_fault(
    photos: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        base = {"model": PIXELS.to_dict(), "data": {"patch": 8, "batch": 2}}
        for name, value in changes.items():
            same = isinstance(value, dict) and name in base
            base[name] = {**base[name], **value} if same else value
        make_recipe(photos, **{"family": "resshift", **base})
    assert any(text.startswith(fault) for text in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("recipe", "released"),
    [
        ("realsr-x4-v1", "realsr-v1"),
        ("realsr-x4", "realsr-v3"),
        ("realsr-x2", "realsr-x2"),
        ("sr-x4", "bicubic-x4"),
        ("inpaint", "inpaint-imagenet"),
        ("face", "face-512"),
        ("deblur-gopro", "deblur-gopro"),
    ],
)
def test_recipes_of_the_released_sizes_train_the_released_models(
    recipe: str, released: str, photos: Path, autoencoder: Path
) -> None:
    settings = [f"data.train=['{photos}']", f"validation.gt={photos}", f"autoencoder={autoencoder}"]
    if recipe == "deblur-gopro":
        settings += [f"data.pairs_lq=['{photos}']", f"data.pairs_gt=['{photos}']"]
    found = load_recipe(RECIPES / f"{recipe}.toml", settings)
    assert found.model == RELEASED[released]
    assert found.optimizer.lr == 5e-5 and found.ema == 0.999


def test_every_recipe_of_the_released_sizes_is_held_against_them() -> None:
    assert len(list(RECIPES.glob("*.toml"))) == 8, "seven released sizes, and resshift-lite"
