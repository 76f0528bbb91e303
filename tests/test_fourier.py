"""Spectra stand for the operators that they are said to stand for."""

from __future__ import annotations

import pytest
import torch

from diffir_cli.models.diffir.priors.fourier import (
    adjoint_differences,
    centred,
    divided,
    fast_length,
    forward_differences,
    gradient_power,
    periodic_extension,
    transfer_function,
)

_SHAPE = 12, 18


def test_adjoint_differences_are_the_adjoint_of_forward_differences() -> None:
    plane, slopes = torch.rand(_SHAPE).double(), torch.rand(2, *_SHAPE).double()
    there = (forward_differences(plane) * slopes).sum()
    assert float((plane * adjoint_differences(*slopes)).sum()) == pytest.approx(float(there))


def test_gradient_power_is_the_spectrum_of_differences_there_and_back() -> None:
    plane = torch.rand(_SHAPE)
    wanted = torch.fft.rfft2(adjoint_differences(*forward_differences(plane)))
    spectrum = gradient_power(_SHAPE) * torch.fft.rfft2(plane)
    torch.testing.assert_close(spectrum, wanted, rtol=1e-4, atol=1e-4)


def test_a_transfer_function_blurs_as_its_kernel_does() -> None:
    kernel, plane = torch.rand(5, 5), torch.rand(_SHAPE)
    blurred = torch.fft.irfft2(transfer_function(kernel, _SHAPE) * torch.fft.rfft2(plane), _SHAPE)
    wanted = torch.zeros(_SHAPE)
    for row in range(5):
        for column in range(5):
            moved = torch.roll(plane, (row - 2, column - 2), (0, 1))
            wanted += kernel[row, column] * moved
    torch.testing.assert_close(blurred, wanted)


@pytest.mark.parametrize(("row", "column"), [(2, 2), (0, 3), (4, 1)])
def test_a_centred_kernel_of_one_pixel_moves_nothing(row: int, column: int) -> None:
    kernel, plane = torch.zeros(5, 5), torch.rand(_SHAPE)
    kernel[row, column] = 1
    transfer = centred(transfer_function(kernel, _SHAPE), kernel, _SHAPE)
    there = torch.fft.irfft2(transfer * torch.fft.rfft2(plane), _SHAPE)
    torch.testing.assert_close(there, plane)


def test_a_kernel_is_centred_to_a_fraction_of_a_pixel() -> None:
    kernel = torch.zeros(5, 5)
    kernel[2, 2], kernel[2, 3] = 0.75, 0.25
    transfer = centred(transfer_function(kernel, (32, 32)), kernel, (32, 32))
    # At low frequencies, the phase is that of the centre of mass.
    assert abs(float(transfer[0, 1].angle())) < 1e-3
    assert abs(float(transfer_function(kernel, (32, 32))[0, 1].angle())) > 0.04


def test_what_is_divided_by_a_transfer_function_is_as_before() -> None:
    plane = torch.rand(_SHAPE)
    share = gradient_power(_SHAPE) + 1
    torch.testing.assert_close(divided(torch.fft.rfft2(plane) * share, share, _SHAPE), plane)


def test_an_extension_holds_the_image_and_has_borders_that_meet() -> None:
    image = torch.rand(3, 20, 26)
    larger = periodic_extension(image, 9, (40, 48))
    torch.testing.assert_close(larger[:, 9:29, 9:35], image)
    mean = image.mean(dim=(-2, -1))
    for border in (larger[:, 0], larger[:, -1], larger[:, :, 0], larger[:, :, -1]):
        assert float((border - mean[:, None]).abs().max()) < 0.05


def test_fast_lengths_are_even_products_of_2_3_and_5_and_not_far_away() -> None:
    assert [fast_length(n) for n in (1, 2, 7, 11, 14, 97, 513)] == [2, 2, 8, 12, 16, 100, 540]
