"""Scores equal those of an independent library and of arithmetic by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import metrics as independent
from skimage.color import rgb2ycbcr

from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.evaluation.metrics import luma, psnr, shave, ssim, ssim_padded, ssim_volume
from diffir_cli.evaluation.protocol import PROTOCOLS
from tests.conftest import noise_image

pytestmark = pytest.mark.numerics


def _pair() -> tuple[np.ndarray, np.ndarray]:
    first = noise_image(40, 50)
    noise = np.random.default_rng(1).normal(0, 20, first.shape)
    return first, np.clip(first + noise, 0, 255).astype(np.uint8)


def test_psnr_equals_the_independent_value() -> None:
    first, second = _pair()
    expected = independent.peak_signal_noise_ratio(first, second, data_range=255)
    assert psnr(first, second) == pytest.approx(expected, rel=1e-12)


def test_psnr_of_one_wrong_level_is_known() -> None:
    flat = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(flat, flat + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(flat, flat) == math.inf


@pytest.mark.parametrize("colour", [False, True])
def test_ssim_equals_the_independent_value(colour: bool) -> None:
    first, second = _pair()
    if not colour:
        first, second = first[..., 0], second[..., 0]
    # The independent one averages over the padded image too; ours only where the window fits.
    _, whole = independent.structural_similarity(
        first,
        second,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if colour else None,
        full=True,
    )
    assert ssim(first, second) == pytest.approx(whole[5:-5, 5:-5].mean(), rel=1e-9)


def _ssim_from_moments(first: np.ndarray, second: np.ndarray, **options: Any) -> float:
    """SSIM by an independent Gaussian filter."""

    def moment(image: np.ndarray) -> np.ndarray:
        # 3.5 · 1.5 pixels: five taps to each side.
        return gaussian_filter(image, 1.5, truncate=3.5, **options)

    a, b = first.astype(float), second.astype(float)
    c1, c2 = 2.55**2, 7.65**2
    ab = moment(a) * moment(b)
    squares = moment(a) ** 2 + moment(b) ** 2
    above = (2 * ab + c1) * (2 * (moment(a * b) - ab) + c2)
    return float((above / (squares + c1) / (moment(a * a + b * b) - squares + c2)).mean())


def test_ssim_over_a_volume_and_a_padded_one_equal_the_independent_values() -> None:
    first, second = _pair()
    expected = _ssim_from_moments(first, second, mode="nearest")
    assert ssim_volume(first, second) == pytest.approx(expected, rel=1e-9)
    expected = _ssim_from_moments(first, second, mode="constant", axes=(0, 1))
    assert ssim_padded(first, second) == pytest.approx(expected, rel=1e-9)


def test_ssim_with_itself_is_one_and_needs_a_window() -> None:
    assert ssim(_pair()[0], _pair()[0]) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(noise_image(10, 40), noise_image(10, 40))


def test_luma_has_the_studio_range_and_shaving_removes_the_border_on_every_side() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    assert luma(ends).ravel() == pytest.approx([16, 235])
    image = noise_image(20, 30)
    np.testing.assert_array_equal(shave(image, 4), image[4:16, 4:26])
    assert shave(image, 0).shape == image.shape


def test_each_protocol_counts_what_its_benchmark_counts() -> None:
    first, second = _pair()
    framed = second.copy()
    framed[:4] = 0
    sr = PROTOCOLS[ProtocolName.SR]
    assert sr.measure(first, framed) == sr.measure(first, second)
    expected = independent.peak_signal_noise_ratio(
        rgb2ycbcr(first)[4:-4, 4:-4, 0], rgb2ycbcr(second)[4:-4, 4:-4, 0], data_range=255
    )
    assert sr.measure(first, second)["psnr"] == pytest.approx(expected, rel=1e-6)
    deblur = PROTOCOLS[ProtocolName.DEBLUR]
    assert deblur.measure(first, second)["psnr"] == psnr(first, second)
    holes = np.zeros(first.shape[:2], bool)
    holes[5:9, 3:30] = True
    inpaint = PROTOCOLS[ProtocolName.INPAINT]
    assert inpaint.measure(first, second, holes)["psnr"] == psnr(first[holes], second[holes])
    assert inpaint.measure(first, second, holes)["ssim"] == ssim_padded(first, second)
