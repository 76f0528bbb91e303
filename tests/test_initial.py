"""Fresh networks begin near their residual, with an IPR that differs between images."""

from __future__ import annotations

import dataclasses

import torch

from diffir_cli.models.diffir.config import Prediction, Tail
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.networks.blocks import IPRModulation
from diffir_cli.training.diffir.initial import initialise
from tests.conftest import TINY

_CONFIG = dataclasses.replace(TINY, scale=1, tail=Tail.CONV, cpen_dim=16, cpen_blocks=2)


def test_the_first_result_is_nearly_the_degraded_image() -> None:
    model = DiffIRS1(_CONFIG)
    initialise(model)
    lq, gt = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        change = model(lq, gt) - lq
    assert 1e-4 < float(change.abs().mean()) < 0.1


def test_the_first_ipr_lies_around_one_and_differs_between_images() -> None:
    model = DiffIRS1(_CONFIG)
    initialise(model)
    lq = torch.rand(8, 3, 32, 32) * torch.rand(8, 3, 1, 1)
    with torch.no_grad():
        ipr = model.ipr(lq, lq.flip(0))
    assert 0.3 < float(ipr.mean()) < 3
    assert float(ipr.std(dim=0).mean()) > 0.03


def test_the_ipr_that_a_fresh_diffusion_model_estimates_lies_around_one() -> None:
    model = DiffIRS2(_CONFIG)
    initialise(model)
    with torch.no_grad():
        ipr = model.ipr(torch.rand(8, 3, 32, 32), torch.randn(8, _CONFIG.ipr_dim))
    assert 0.3 < float(ipr.mean()) < 3


def test_the_noise_that_a_fresh_diffusion_model_estimates_lies_around_zero() -> None:
    model = DiffIRS2(dataclasses.replace(_CONFIG, prediction=Prediction.EPSILON))
    initialise(model)
    with torch.no_grad():
        noise = model.denoiser(torch.randn(8, _CONFIG.ipr_dim), 0, torch.ones(8, _CONFIG.ipr_dim))
    assert abs(float(noise.mean())) < 0.3


def test_every_modulation_begins_near_the_identity() -> None:
    model = DiffIRS2(_CONFIG)
    initialise(model)
    feature = torch.randn(1, 8, 4, 4)
    for module in model.dirformer.modules():
        if isinstance(module, IPRModulation) and module.to_scale_shift.out_features == 16:
            changed = module(feature, torch.ones(1, _CONFIG.ipr_dim))
            assert float((changed - feature).detach().abs().max()) < 1
