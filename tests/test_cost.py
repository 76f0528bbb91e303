"""Parameters and Mult-Adds of the released networks, counted without running them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffir_cli.networks import DiffIRS1, DiffIRS2
from diffir_cli.registry import find_weights
from tests.golden_fill import description

# name: parameters of S1 and S2, then G of Mult-Adds at 256×256 of S2 and S1, each in total and
# without the products of attention.
PUBLISHED: dict[str, tuple[int, int, tuple[float, float], tuple[float, float]]] = {
    "sr-x4": (24_801_478, 24_971_206, (722.51, 658.82), (724.32, 660.63)),
    "realsr-x4": (24_801_478, 24_971_206, (722.51, 658.82), (724.32, 660.63)),
    "sr-x2": (24_811_846, 24_981_574, (180.80, 164.88), (181.25, 165.33)),
    "realsr-x2": (24_811_846, 24_981_574, (180.80, 164.88), (181.25, 165.33)),
    "realsr-x1": (24_853_318, 25_023_046, (45.38, 41.39), (45.49, 41.51)),
    "deblur-gopro": (26_742_206, 26_911_934, (120.99, 108.99), (121.10, 109.10)),
    "inpaint-celeba": (26_232_746, 26_402_474, (50.56, 47.86), (50.67, 47.97)),
    "inpaint-places": (26_232_746, 26_402_474, (50.56, 47.86), (50.67, 47.97)),
    "inpaint-places-big": (49_313_194, 49_482_922, (70.55, 67.36), (70.66, 67.47)),
}


def _build(kind: type[Any], name: str) -> Any:
    with torch.device("meta"):
        return kind(find_weights(name).model).eval()


def _mult_adds(model: DiffIRS1 | DiffIRS2, side: int) -> tuple[float, float]:
    """G of Mult-Adds in total and without the products of attention."""
    config = model.config
    lq = torch.empty(1, config.in_channels, side, side, device="meta")
    if isinstance(model, DiffIRS1):
        second = torch.empty(1, 3, side * config.scale, side * config.scale, device="meta")
    else:
        second = torch.empty(1, config.ipr_dim, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(lq, second)
    counts = counter.get_flop_counts()["Global"]
    products = sum(count for operator, count in counts.items() if "bmm" in str(operator))
    return counter.get_total_flops() / 2e9, (counter.get_total_flops() - products) / 2e9


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize(("golden", "name"), [("sr_x4", "sr-x4"), ("deblur", "deblur-gopro")])
def test_mult_adds_equal_the_official_ones_to_the_last_digit(
    golden: str, name: str, side: int
) -> None:
    expected = description(golden)["mult_adds"][str(side)]
    total, without_products = _mult_adds(_build(DiffIRS2, name), side)
    assert round(total * 1e9) == expected["total"]
    assert round(without_products * 1e9) == expected["total_without_attention_matmul"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name: str) -> None:
    for kind, expected in zip((DiffIRS1, DiffIRS2), PUBLISHED[name][:2], strict=True):
        counted = sum(parameter.numel() for parameter in _build(kind, name).parameters())
        assert counted == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_mult_adds_equal_the_published_count(name: str) -> None:
    for kind, expected in zip((DiffIRS2, DiffIRS1), PUBLISHED[name][2:], strict=True):
        total, without_products = _mult_adds(_build(kind, name), 256)
        assert (round(total, 2), round(without_products, 2)) == expected
