"""The smooth guess for holes keeps what is known and invents no edges."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffir_cli.models.diffir.config import ModelConfig, Tail
from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.util.diffusion_fill import smooth_fill
from tests.conftest import TINY


def _holes(height: int, width: int, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(1, 1, height, width, generator=generator) < share).float()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.95), st.integers(0, 99))
def test_what_is_known_stays_and_what_is_filled_lies_between_known_values(
    height: int, width: int, share: float, seed: int
) -> None:
    image, holes = torch.rand(1, 3, height, width), _holes(height, width, share, seed)
    filled = smooth_fill(image, holes)
    known = (holes == 0).expand_as(image)
    assert torch.equal(filled[known], image[known])
    if known.any():
        assert filled.min() >= image[known].min() - 1e-6
        assert filled.max() <= image[known].max() + 1e-6


def test_the_content_of_a_hole_has_no_influence() -> None:
    image, holes = torch.rand(1, 3, 21, 34), _holes(21, 34, 0.5, 1)
    other = torch.where(holes > 0, torch.rand_like(image) * 9, image)
    torch.testing.assert_close(smooth_fill(image, holes), smooth_fill(other, holes))


def test_a_hole_in_a_flat_picture_vanishes_whatever_its_size() -> None:
    holes = torch.zeros(1, 1, 64, 96)
    holes[..., 8:60, 4:90] = 1
    filled = smooth_fill(torch.full((1, 3, 64, 96), 0.4), holes)
    torch.testing.assert_close(filled, torch.full((1, 3, 64, 96), 0.4))


def test_a_ramp_goes_on_through_a_hole() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    holes = torch.zeros(1, 1, 64, 64)
    holes[..., 20:44, 20:44] = 1
    error = (smooth_fill(ramp, holes) - ramp).abs()
    assert float(error.max()) < 0.06 and float(error.mean()) < 0.005


def test_where_nothing_is_known_the_guess_is_black_and_finite() -> None:
    filled = smooth_fill(torch.rand(1, 3, 17, 9), torch.ones(1, 1, 17, 9))
    assert torch.equal(filled, torch.zeros_like(filled))


def test_a_network_with_the_guess_adds_to_it() -> None:
    config = dataclasses.replace(TINY, scale=1, tail=Tail.CONV, in_channels=4, prefill=True)
    network = DIRformer(config).eval()
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter.zero_()
        image, holes = torch.rand(1, 3, 16, 24), _holes(16, 24, 0.4, 3)
        lq = torch.cat([image * (1 - holes), holes], dim=1)
        found = network(lq, torch.randn(1, config.ipr_dim))
    torch.testing.assert_close(found, smooth_fill(image, holes))


def test_the_guess_needs_a_mask() -> None:
    with pytest.raises(ValueError, match="prefill needs in_channels 4"):
        ModelConfig(prefill=True)
    assert not ModelConfig().prefill
