"""The deconvolution prior undoes what a shake did, and leaves alone what it cannot judge."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffir_cli.degradations.motion_blur import shake
from diffir_cli.evaluation.metrics import psnr
from diffir_cli.models.diffir.priors.deconvolution import deconvolve_tv
from diffir_cli.models.diffir.priors.windows import deconvolved
from tests.prior_helpers import CALM, PHOTO, levels, tensor


def test_most_shaken_photos_come_closer_to_the_truth() -> None:
    """Not each: which kernel is found depends a little on the kind of CPU."""
    gains = []
    for seed in range(4):
        lq = shake(PHOTO, np.random.default_rng(seed), CALM)
        gains.append(psnr(levels(deconvolved(tensor(lq))), PHOTO) - psnr(lq, PHOTO))
    assert sorted(gains)[1] > 0.5


def test_a_kernel_that_is_known_is_undone() -> None:
    kernel = torch.zeros(9, 9)
    kernel[4, 1:8] = 1 / 7
    sharp = tensor(PHOTO)
    blurred = torch.nn.functional.conv2d(
        torch.nn.functional.pad(sharp, (4, 4, 4, 4), mode="reflect")[:, None], kernel[None, None]
    )[:, 0]
    before, after = (
        float((image - sharp).square().mean())
        for image in (blurred, deconvolve_tv(blurred, kernel))
    )
    # Little variation costs the finest detail, which a wrong kernel would distort.
    assert after < 0.6 * before


@pytest.mark.parametrize(
    "image",
    [torch.full((3, 128, 128), 0.4), torch.rand(3, 63, 400), torch.rand(3, 1, 1)],
    ids=["flat", "narrow", "one pixel"],
)
def test_an_image_that_is_too_small_or_flat_is_its_own_prior(image: Tensor) -> None:
    assert torch.equal(deconvolved(image), image)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.floats(1, 3), st.integers(0, 99))
def test_a_prior_of_any_size_is_finite_and_in_range(
    height: int, width: int, reduced: float, seed: int
) -> None:
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    prior = deconvolved(image, reduced)
    assert prior.shape == image.shape and torch.isfinite(prior).all()
    assert prior.min() >= 0 and prior.max() <= 1


def test_the_kernel_of_a_large_picture_is_found_in_a_smaller_one() -> None:
    large = np.kron(PHOTO, np.ones((2, 2, 1), np.uint8))
    lq = shake(large, np.random.default_rng(0), dataclasses.replace(CALM, length=(14.0, 14.0)))
    prior = levels(deconvolved(tensor(lq), reduced=2))
    assert psnr(prior, large) > psnr(lq, large) + 0.5


def test_the_prior_lies_where_the_picture_does_wherever_its_kernel_lies() -> None:
    kernel = torch.zeros(15, 15)
    kernel[7, 4:11] = 1 / 7
    image = tensor(PHOTO)
    here = deconvolve_tv(image, kernel)
    between = (kernel + kernel.roll(1, 1)) / 2
    there = deconvolve_tv(image, between.roll((3, 1), (0, 1)))
    torch.testing.assert_close(there, deconvolve_tv(image, between), atol=1e-3, rtol=0)
    inside = slice(24, -24)
    moved = torch.stack([here.roll(step, 2)[:, inside, inside] for step in (-1, 0, 1)])
    errors = (moved - deconvolve_tv(image, between)[:, inside, inside]).square().mean(dim=(1, 2, 3))
    assert errors[1] < errors[0] and errors[1] < errors[2]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e20])
def test_impossible_levels_do_not_stop_the_prior(wrong: float) -> None:
    image = tensor(PHOTO[:128, :128])
    image[:, 40:44, 50:90] = wrong
    prior = deconvolved(image)
    assert prior.shape == image.shape and torch.isfinite(prior).all()
