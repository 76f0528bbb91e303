"""A kernel that is found is one, of the right size, in the middle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffir_cli.degradations.motion_blur import shake
from diffir_cli.models.diffir.config import SMALLEST_WINDOW
from diffir_cli.models.diffir.priors.fourier import margin_and_shape
from diffir_cli.models.diffir.priors.kernel_estimation import (
    _cleaned,
    _sizes,
    enlarged_kernel,
    kernel_size_of,
    shake_kernel,
)
from tests.prior_helpers import CALM, PHOTO, tensor

_KERNEL_SIZE = kernel_size_of(*PHOTO.shape[:2])


def test_a_kernel_is_never_negative_sums_to_one_and_lies_around_its_middle() -> None:
    lq = shake(PHOTO, np.random.default_rng(1), CALM)
    kernel = shake_kernel(tensor(lq).mean(dim=0))
    assert kernel is not None and kernel.shape == (_KERNEL_SIZE, _KERNEL_SIZE)
    assert float(kernel.min()) >= 0 and float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    places = torch.arange(_KERNEL_SIZE) - _KERNEL_SIZE // 2
    for axis in (0, 1):
        assert abs(float(kernel.sum(axis) @ places.float())) <= 0.51


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
            margin, (longer, _) = margin_and_shape(length, length, kernel)
            assert longer - length - margin < length, (side, level)


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
