"""Losses are the formulas that their docstrings say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffir_cli.evaluation.metrics import psnr
from diffir_cli.training.diffir.losses import ipr_loss
from diffir_cli.training.kinds import IPRLoss, PixelLoss
from diffir_cli.training.losses import (
    frequency_loss,
    image_losses,
    masked_loss,
    reconstruction_loss,
)
from diffir_cli.training.recipe import LossRecipe
from diffir_cli.training.trainable import Batch


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


def test_the_masked_loss_weighs_known_pixels_and_holes() -> None:
    gt, hq = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    holes = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert float(masked_loss(hq, gt, holes, 1, 1)) == pytest.approx(0.5)
    assert float(masked_loss(hq, gt, holes, 10, 0)) == pytest.approx(0.5 * 10 * 3 / 4)
    assert float(masked_loss(hq, gt, holes, 0, 1)) == pytest.approx(0.5 / 4)
    assert float(masked_loss(hq, gt, holes, 0, 1, PixelLoss.L2)) == pytest.approx(0.25 / 4)


def test_the_squared_loss_is_what_psnr_is_made_of() -> None:
    hq, gt = torch.rand(1, 3, 8, 8).double(), torch.rand(1, 3, 8, 8).double()
    loss = float(reconstruction_loss(hq, gt, PixelLoss.L2))
    expected = psnr((hq * 255).numpy(), (gt * 255).numpy())
    assert -10 * math.log10(loss) == pytest.approx(expected)


def test_the_psnr_loss_is_the_mean_of_each_crops_psnr() -> None:
    hq, gt = torch.rand(3, 3, 8, 8).double(), torch.rand(3, 3, 8, 8).double()
    hq[1] = gt[1] + 0.01
    loss = float(reconstruction_loss(hq, gt, PixelLoss.PSNR))
    scores = [psnr((a * 255).numpy(), (b * 255).numpy()) for a, b in zip(hq, gt, strict=True)]
    assert loss == pytest.approx((50 - np.mean(scores)) / 100, abs=2e-3)
    assert float(reconstruction_loss(gt, gt, PixelLoss.PSNR)) == pytest.approx(0, abs=1e-9)
    holes = torch.zeros(3, 1, 8, 8).double()
    holes[..., :4] = 1
    inside = float(masked_loss(hq, gt, holes, 0, 1, PixelLoss.PSNR))
    cut = float(reconstruction_loss(hq[..., :4], gt[..., :4], PixelLoss.PSNR))
    assert inside == pytest.approx(cut)


def test_the_relative_loss_is_the_share_of_the_blur_that_is_left() -> None:
    gt, weak, strong = torch.zeros(2, 3, 8, 8).double(), 0.05, 0.5
    lq = torch.stack([torch.full((3, 8, 8), weak), torch.full((3, 8, 8), strong)]).double()
    recipe = LossRecipe(pixel=PixelLoss.RELATIVE)

    def rec(hq: torch.Tensor, soft: torch.Tensor | None = None) -> float:
        with_prior = torch.cat([lq, torch.rand_like(lq)], dim=1)
        return float(image_losses(hq, Batch(with_prior, gt, soft=soft), recipe)["rec"])

    assert rec(gt) == 0
    assert rec(lq) == pytest.approx(1, abs=0.03), "nothing was restored"
    half_of_one = torch.stack([lq[0] * 0.5**0.5, lq[1]])
    half_of_other = torch.stack([lq[0], lq[1] * 0.5**0.5])
    assert rec(half_of_one) == pytest.approx(rec(half_of_other), abs=0.02), "all blurs count alike"
    assert rec(lq * 2) > 3, "worse than before"
    expected = recipe.soft_weight * rec(lq)
    assert rec(gt, soft=lq) == pytest.approx(expected), "the blur is that of the photo"


def test_the_frequency_loss_sees_what_it_should() -> None:
    """A wave of amplitude a has one pair of frequencies; equal images have none."""
    gt = torch.rand(1, 1, 16, 16)
    assert float(frequency_loss(gt, gt)) == 0
    terms = image_losses(gt + 0.1, Batch(gt, gt), LossRecipe(frequency_weight=2.0))
    assert set(terms) == {"rec", "frequency"}
    assert float(terms["frequency"]) == pytest.approx(2 * float(frequency_loss(gt + 0.1, gt)))
    wave = 0.1 * torch.cos(2 * math.pi * 3 * torch.arange(16.0) / 16)
    found = float(frequency_loss(gt + wave, gt))
    # a/2 · √(16·16) at one place of 16 × 9 complex numbers, each of which counts twice.
    assert found == pytest.approx(0.1 / 2 * 16 / (16 * 9 * 2), rel=1e-3)
