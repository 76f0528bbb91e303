"""The deconvolution prior undoes what a shake did, and leaves alone what it cannot judge."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffir_cli.degradations.motion_blur import shake
from diffir_cli.evaluation.metrics import psnr
from diffir_cli.models.diffir.config import SMALLEST_WINDOW
from diffir_cli.models.diffir.priors.deconvolution import deconvolve_tv
from diffir_cli.models.diffir.priors.fourier import fast_length
from diffir_cli.models.diffir.priors.kernel_estimation import (
    _cleaned,
    _sizes,
    enlarged_kernel,
    kernel_size_of,
    shake_kernel,
)
from diffir_cli.models.diffir.priors.windows import deconvolved
from tests.prior_helpers import CALM, PHOTO, levels, tensor

_KERNEL_SIZE = kernel_size_of(*PHOTO.shape[:2])


def test_most_shaken_photos_come_closer_to_the_truth() -> None:
    """Not each: which kernel is found depends a little on the kind of CPU."""
    gains = []
    for seed in range(4):
        lq = shake(PHOTO, np.random.default_rng(seed), CALM)
        gains.append(psnr(levels(deconvolved(tensor(lq))), PHOTO) - psnr(lq, PHOTO))
    assert sorted(gains)[1] > 0.5


def test_a_kernel_is_never_negative_sums_to_one_and_lies_around_its_middle() -> None:
    lq = shake(PHOTO, np.random.default_rng(1), CALM)
    kernel = shake_kernel(tensor(lq).mean(dim=0))
    assert kernel is not None and kernel.shape == (_KERNEL_SIZE, _KERNEL_SIZE)
    assert float(kernel.min()) >= 0 and float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    places = torch.arange(_KERNEL_SIZE) - _KERNEL_SIZE // 2
    for axis in (0, 1):
        assert abs(float(kernel.sum(axis) @ places.float())) <= 0.51


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


def test_large_images_get_larger_kernels() -> None:
    assert kernel_size_of(1023, 700) < kernel_size_of(700, 1024) == kernel_size_of(1536, 2048)
    assert kernel_size_of(4000, 127) == kernel_size_of(1023, 700)
    lq = tensor(shake(PHOTO, np.random.default_rng(0), CALM)).mean(dim=0)
    kernel = shake_kernel(lq, kernel_size_of(1536, 2048))
    assert kernel is not None and len(kernel) == kernel_size_of(1536, 2048)


def test_no_margin_is_wider_than_the_picture_that_it_mirrors() -> None:
    for side in range(SMALLEST_WINDOW, 400):
        kernel_size = kernel_size_of(side, 2048)
        for level in range(_sizes(kernel_size)):
            length = max(16, round(0.5 ** (level / 2) * side)) if level else side
            kernel = max(3, math.ceil(kernel_size * 0.5 ** (level / 2))) // 2 * 2 + 1
            margin = min(kernel, length - 1)
            assert fast_length(length + 2 * margin) - length - margin < length, (side, level)


def test_a_kernel_grows_with_its_picture_and_by_no_more() -> None:
    kernel = torch.rand(_KERNEL_SIZE, _KERNEL_SIZE, generator=torch.Generator().manual_seed(1))
    kernel = kernel / kernel.sum()
    for factor in (1.0005, 1.46, 2.0, 5.3):
        larger = enlarged_kernel(kernel, factor)
        assert len(larger) % 2 == 1 and float(larger.sum()) == pytest.approx(1)
        assert _deviation(larger) == pytest.approx(factor * _deviation(kernel), rel=0.01)


def _deviation(kernel: Tensor) -> float:
    places = torch.arange(len(kernel), dtype=kernel.dtype)
    shares = kernel.sum(1)
    mean = shares @ places
    return float((shares @ (places - mean).square()).sqrt())


def test_what_leaves_a_kernel_when_it_is_centred_does_not_come_back() -> None:
    kernel = torch.zeros(_KERNEL_SIZE, _KERNEL_SIZE)
    kernel[17, 2:5] = 1
    kernel[17, 5:] = 0.1
    found = _cleaned(kernel)
    assert float(found.sum()) == pytest.approx(1)
    columns = found[17].nonzero().flatten()
    assert torch.equal(columns, torch.arange(int(columns[0]), _KERNEL_SIZE))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e20])
def test_impossible_levels_do_not_stop_the_prior(wrong: float) -> None:
    image = tensor(PHOTO[:128, :128])
    image[:, 40:44, 50:90] = wrong
    prior = deconvolved(image)
    assert prior.shape == image.shape and torch.isfinite(prior).all()
