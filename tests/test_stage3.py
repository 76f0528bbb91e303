"""Stage 3: discriminators, feature matching, the perceptual loss, and a run of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.errors import CheckpointError, RecipeError
from diffir_cli.models.diffir.checkpoint import load_checkpoint, load_model
from diffir_cli.training.diffir.adversary import (
    Adversary,
    discriminator_loss,
    feature_matching_loss,
)
from diffir_cli.training.diffir.discriminator import PatchDiscriminator, UNetDiscriminator
from diffir_cli.training.diffir.stage3 import AdversarialLosses
from diffir_cli.training.kinds import Discriminator
from diffir_cli.training.parallel import World
from diffir_cli.training.perceptual import VGG19, PerceptualLoss
from diffir_cli.training.recipe import AdversarialRecipe
from diffir_cli.training.trainable import Batch
from tests.conftest import TINY, quick_training
from tests.training_helpers import check_resuming, make_recipe, progressive, run_training

_CPU = World(0, 1, torch.device("cpu"))


def test_the_unet_judges_every_pixel_and_the_patches_many() -> None:
    image = torch.rand(2, 3, 32, 48)
    logits, _ = UNetDiscriminator(8)(image)
    assert logits.shape == (2, 1, 32, 48)
    logits, features = PatchDiscriminator(8)(image)
    assert len(features) == 5 and logits.shape[2] < 8


def test_the_discriminators_have_the_sizes_of_the_released_ones() -> None:
    """Real-ESRGAN's U-Net has 4.377 M parameters; pix2pixHD's with four layers 6.96 M."""
    count = {
        kind: sum(parameter.numel() for parameter in kind().parameters())
        for kind in (UNetDiscriminator, PatchDiscriminator)
    }
    assert count[UNetDiscriminator] == 4_376_897
    convolutions = 3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512 + 512
    biases_and_norms = 64 + 3 * (128 + 256 + 512 + 512) + 1
    assert count[PatchDiscriminator] == 16 * convolutions + biases_and_norms


def test_no_layer_of_the_unet_stretches_by_more_than_one() -> None:
    network = UNetDiscriminator(8)
    for _ in range(20):
        network(torch.rand(1, 3, 16, 16))
    network.eval()
    for layer in (*network.down, *network.up, *network.last):
        assert isinstance(layer, nn.Conv2d)
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) <= 1.1


class _Brightness(nn.Module):
    """A discriminator whose logit is the brightness times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits = self.weight * image.mean(dim=1, keepdim=True)
        return logits, [logits]


def test_the_discriminators_loss_is_binary_cross_entropy() -> None:
    real, fake = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    network = _Brightness()
    (a, _), (b, _) = network(real), network(fake)
    expected = F.binary_cross_entropy_with_logits(a, torch.ones_like(a))
    expected = expected + F.binary_cross_entropy_with_logits(b, torch.zeros_like(b))
    torch.testing.assert_close(discriminator_loss(network, real, fake, 0, None), expected)


def test_the_gradient_penalty_is_the_squared_slope_at_real_images() -> None:
    real, fake = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    network = _Brightness()
    without = discriminator_loss(network, real, fake, 0, None)
    penalty = discriminator_loss(network, real, fake, 0.5, None) - without
    # Each of 60 values of an image has the slope 2/3.
    assert float(penalty.detach()) == pytest.approx(0.5 * 60 * (2 / 3) ** 2, rel=1e-5)


def test_known_pixels_of_a_fake_count_as_real() -> None:
    real, fake = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    network = _Brightness()
    everywhere = discriminator_loss(network, real, fake, 0, torch.ones(1, 1, 4, 4))
    torch.testing.assert_close(everywhere, discriminator_loss(network, real, fake, 0, None))
    nowhere = discriminator_loss(network, real, real, 0, torch.zeros(1, 1, 4, 4))
    logits, _ = network(real)
    torch.testing.assert_close(nowhere, 2 * F.softplus(-logits).mean())


def test_feature_matching_is_zero_for_equal_features_alone() -> None:
    features = [torch.rand(1, 2, 3, 3), torch.rand(1, 4, 2, 2)]
    assert float(feature_matching_loss(features, features)) == 0
    moved = [feature + 0.5 for feature in features]
    assert float(feature_matching_loss(moved, features)) == pytest.approx(0.25)


def test_the_adversary_learns_to_tell_real_from_fake_without_touching_the_image() -> None:
    recipe = AdversarialRecipe(discriminator=Discriminator.UNET, dim=4, lr=2e-3)
    adversary = Adversary(recipe, _CPU)
    batch = Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16))
    hq = torch.full((2, 3, 16, 16), 0.5, requires_grad=True)
    losses = []
    for _ in range(30):
        adversary.terms(hq, batch)
        losses.append(adversary.learn(batch, 1.0))
    assert losses[-1] < 0.9 * losses[0]
    before = [parameter.grad for parameter in adversary.parameters]
    adversary.terms(hq, batch)["gan"].backward()
    assert hq.grad is not None and float(hq.grad.abs().max()) > 0
    assert all(a is b.grad for a, b in zip(before, adversary.parameters, strict=True))


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    state = VGG19().state_dict()
    state["classifier.0.weight"] = torch.zeros(2, 2)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_the_perceptual_loss_reads_the_usual_names_and_is_zero_for_equal_images(
    vgg_file: Path,
) -> None:
    loss = PerceptualLoss(vgg_file)
    names = set(loss.network.state_dict())
    assert {"features.0.weight", "features.34.bias"} <= names and len(names) == 32
    image = torch.rand(1, 3, 32, 32)
    assert float(loss(image, image)) == 0
    hq = torch.rand(1, 3, 32, 32, requires_grad=True)
    loss(hq, image).backward()
    assert hq.grad is not None and float(hq.grad.abs().max()) > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_the_perceptual_features_lie_in_front_of_their_relu(vgg_file: Path) -> None:
    features = PerceptualLoss(vgg_file).network(torch.rand(1, 3, 32, 32))
    assert [weight for weight, _ in features] == [0.1, 0.1, 1.0, 1.0, 1.0]
    assert [feature.shape[1] for _, feature in features] == [64, 128, 256, 512, 512]
    assert [feature.shape[2] for _, feature in features] == [32, 16, 8, 4, 2]
    assert all(float(feature.detach().min()) < 0 for _, feature in features)


def test_a_file_that_is_no_vgg_is_refused(s1_file: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no VGG19: 32 of 32"):
        PerceptualLoss(s1_file)


def _stage3(photos: Path, stage1: Path, stage2: Path, **changes: Any) -> Any:
    table = {
        "stage": 3,
        "init": str(stage1),
        "start": str(stage2),
        "iterations": 6,
        "adversarial": {"discriminator": "unet", "dim": 4, "lr": 1e-3},
    }
    return make_recipe(photos, **{**table, **changes})


@pytest.fixture(scope="module")
def stage2(trained_stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny stage 2, which no test may change."""
    photos, init = trained_stage1.with_name("photos"), trained_stage1 / "tiny.safetensors"
    recipe = make_recipe(photos, stage=2, init=str(init), iterations=4)
    with quick_training():
        return run_training(recipe, tmp_path_factory.mktemp("stage2"))


@pytest.mark.parametrize("kind", ["unet", "patch", "perceptual alone", "no teacher"])
def test_the_third_stage_goes_on_from_the_second_and_resumes_to_the_bit(
    kind: str, photos: Path, stage1: Path, stage2: Path, vgg_file: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"adversarial": {"discriminator": kind, "dim": 4}}
    if kind == "patch":
        changes["adversarial"] |= {"r1": 0.001, "feature_matching": 1.0}
    if kind == "no teacher":
        changes = {"init": ""}
    if kind == "perceptual alone":
        changes = {"adversarial": {}, "perceptual": {"weights": str(vgg_file), "weight": 0.1}}
    recipe = _stage3(photos, stage1, stage2, iterations=4, log_every=2, **changes)
    whole = load_checkpoint(check_resuming(recipe, tmp_path, stop_at=2))
    before = load_model(stage2).state_dict()
    moved = [name for name in before if not torch.equal(before[name], whole.tensors[name])]
    assert len(moved) > 0.9 * len(list(load_model(stage2).parameters()))
    for name, value in whole.tensors.items():
        assert float((value - before[name]).abs().max()) < 0.1, name


@pytest.mark.parametrize(
    ("follow_lr_schedule", "rate"), [(True, 1e-3 * 0.3 * 0.5), (False, 1e-3 * 0.5)]
)
def test_a_return_makes_the_discriminator_careful_even_where_no_schedule_does(
    follow_lr_schedule: bool, rate: float, photos: Path, stage1: Path, stage2: Path
) -> None:
    adversarial = {"discriminator": "unet", "dim": 4, "lr": 1e-3}
    adversarial["follow_lr_schedule"] = follow_lr_schedule
    adversarial_losses = AdversarialLosses(
        _stage3(photos, stage1, stage2, adversarial=adversarial), _CPU
    )
    batch = Batch(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32))
    adversarial_losses.terms(torch.rand(1, 3, 32, 32), batch)
    adversarial_losses.learn(batch, 0.3, 0.5)
    assert adversarial_losses.adversary is not None
    (group,) = adversarial_losses.adversary.optimizer.param_groups
    assert group["lr"] == pytest.approx(rate)


def test_no_perceptual_weights_are_said_to_be_none(
    photos: Path, stage1: Path, stage2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AdversarialLosses(_stage3(photos, stage1, stage2), _CPU)
    assert "perceptual.weights is empty" in caplog.text


def test_the_discriminator_sees_the_truth_before_it_was_sharpened() -> None:
    natural, sharpened = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    batch = Batch(torch.rand(1, 3, 8, 8), sharpened, natural)
    assert batch.real is natural
    assert Batch(batch.lq, sharpened).real is sharpened


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"start": ""}, "start must name the stage-2 weights"),
        (
            {"data": progressive([0.5], [17], [2])},
            "data.progressive_patch must give HQ crops of a multiple of 8",
        ),
        ({"stage": 2}, "adversarial has an effect in stage 3 only"),
        ({"adversarial": {"discriminator": "none"}}, "must be given in stage 3"),
        ({"perceptual": {"weights": "missing.pth"}}, "perceptual.weights names a missing file"),
        ({"loss": {"optimization": "traditional"}}, "must be joint in stage 3"),
        ({"start": "missing.safetensors"}, "start names neither a file nor known weights"),
        ({"adversarial": {"lr": 0.0}}, "adversarial.lr must lie between"),
    ],
)
def test_a_third_stage_that_makes_no_sense_is_refused(
    changes: dict[str, Any], fault: str, photos: Path, s1_file: Path, s2_file: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        _stage3(photos, s1_file, s2_file, **changes)


def test_inpainting_is_trained_against_patches_with_its_holes(photos: Path, tmp_path: Path) -> None:
    task = {
        "data": {"degradation": "holes", "patch": 32, "batch": 2},
        "model": {**TINY.to_dict(), "scale": 1, "tail": "conv", "in_channels": 4},
        "loss": {"known_weight": 10.0, "hole_weight": 0.0},
        "iterations": 2,
    }
    first = run_training(make_recipe(photos, **task), tmp_path / "s1")
    second = run_training(make_recipe(photos, stage=2, init=str(first), **task), tmp_path / "s2")
    adversarial = {"discriminator": "patch", "dim": 4, "r1": 0.001, "feature_matching": 100.0}
    third = _stage3(photos, first, second, **{**task, "adversarial": adversarial})
    assert load_model(run_training(third, tmp_path / "s3")).config.in_channels == 4
