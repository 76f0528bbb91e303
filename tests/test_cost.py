"""Parameters and Mult-Adds of the released networks, counted without running them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from diffir_cli.benchmark.paper import paper_rows
from diffir_cli.benchmark.sizes import LARGEST
from diffir_cli.models.cost import Count
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.cost import count_cost
from diffir_cli.models.diffir.module_parts import Kind, Network
from diffir_cli.weights.registry import find_weights
from tests.golden_fill import description

# What was counted once is not counted again in the same process.
pytestmark = pytest.mark.xdist_group("cost")

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


# name: G of Mult-Adds at 256×256 of the DIRformer without products, these products, and CPEN of S2
# and S1.
SPLIT = {
    "sr-x4": (581.40, 63.69, 77.42, 79.23),
    "sr-x2": (145.44, 15.92, 19.44, 19.89),
    "realsr-x1": (36.45, 3.98, 4.95, 5.06),
    "deblur-gopro": (105.25, 12.00, 3.74, 3.85),
    "inpaint-celeba": (44.08, 2.70, 3.78, 3.89),
    "inpaint-places-big": (62.67, 3.19, 4.68, 4.79),
}


def _giga(*counts: int) -> tuple[float, ...]:
    return tuple(round(count / 1e9, 2) for count in counts)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize(("golden", "name"), [("sr_x4", "sr-x4"), ("deblur", "deblur-gopro")])
def test_mult_adds_equal_the_official_ones_to_the_last_digit(
    golden: str, name: str, side: int
) -> None:
    expected = description(golden)["mult_adds"][str(side)]
    cost = count_cost(find_weights(name).model, side, side)
    assert cost.exact == expected["total"]
    products = cost.network(Network.DIRFORMER).attention
    assert cost.exact - products == expected["total_without_attention_matmul"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name: str) -> None:
    for stage, expected in zip((1, 2), PUBLISHED[name][:2], strict=True):
        cost = count_cost(find_weights(name).model, 256, 256, stage)
        assert cost.total_parameters == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_mult_adds_equal_the_published_count(name: str) -> None:
    for stage, expected in zip((2, 1), PUBLISHED[name][2:], strict=True):
        cost = count_cost(find_weights(name).model, 256, 256, stage)
        products = cost.network(Network.DIRFORMER).attention
        assert _giga(cost.exact, cost.exact - products) == expected


@pytest.mark.parametrize("name", SPLIT)
def test_the_split_into_networks_equals_the_published_one(name: str) -> None:
    cost, first = (count_cost(find_weights(name).model, 256, 256, stage) for stage in (2, 1))
    dirformer, cpen = cost.network(Network.DIRFORMER), cost.network(Network.CPEN)
    found = _giga(
        dirformer.mult_adds - dirformer.attention,
        dirformer.attention,
        cpen.mult_adds,
        first.network(Network.CPEN).mult_adds,
    )
    assert found == SPLIT[name]
    assert round(cost.network(Network.DENOISER).mult_adds / 1e9, 4) == 0.0008
    assert first.network(Network.DENOISER).mult_adds == 0
    assert first.network(Network.DIRFORMER) == dirformer


def test_the_three_figures_of_the_paper_are_met_by_its_convention() -> None:
    inpaint, sr = find_weights("inpaint-celeba").model, find_weights("realsr-x4").model
    assert round(count_cost(inpaint, 256, 256, stage=1).paper / 1e9, 2) == 47.97
    assert round(count_cost(inpaint, 256, 256).paper / 1e9, 2) == 51.63
    assert round(count_cost(sr, 256, 256).paper / 1e12, 2) == 0.74


def test_what_the_paper_prints_of_its_networks_is_met_to_its_digits() -> None:
    rows = paper_rows()
    own = [row for row in rows if row.unit != "%" and row.ours is not None]
    assert len(own) == 7 and all(row.agrees for row in own)
    assert {row.source for row in rows} == {"Table 1", "Table 4", "Table 6", "Figure 1"}


def test_the_shares_that_the_paper_says_in_words_are_met_within_two_points() -> None:
    rows = [row for row in paper_rows() if row.unit == "%" and row.ours is not None]
    assert [row.published for row in rows] == [63, 2, 78]
    assert all(row.ours and abs(row.ours - row.published) < 2 for row in rows)


def test_what_the_text_says_of_figure_1_is_told_even_where_it_has_no_divisor() -> None:
    rows = {row.what: row for row in paper_rows() if row.source == "Figure 1"}
    alone = [row for row in rows.values() if row.ours is None]
    assert [row.published for row in alone] == [0.1, 4.3, 1000, 63, 2]
    assert all(row.exact is None and row.agrees is None for row in alone)
    assert rows["deblurring, DiffIR S2 over Restormer (140.99 G)"].agrees is False


def test_networks_add_up_to_the_whole_and_products_stand_in_the_dmta(tiny: ModelConfig) -> None:
    cost = count_cost(tiny, 32, 32)
    assert len({place.level for place in cost.parts}) == 11
    networks = [cost.network(network) for network in Network]
    assert sum(networks, Count(0)).mult_adds == cost.exact
    for place, count in cost.parts.items():
        assert (count.attention > 0) == (place.kind is Kind.DMTA)
        assert place.kind is not Kind.NORM or count == Count(0)


def test_a_level_without_blocks_costs_no_blocks(tiny: ModelConfig) -> None:
    cost = count_cost(replace(tiny, num_blocks=(1, 1, 1, 0)), 32, 32)
    assert not any(
        count.mult_adds for place, count in cost.parts.items() if place.level == "level 4"
    )


def test_a_size_is_counted_as_the_engine_pads_it(tiny: ModelConfig) -> None:
    cost = count_cost(tiny, 33, 20)
    assert (cost.width, cost.height) == (40, 24)
    assert cost == count_cost(tiny, 40, 24)
    assert cost.exact > count_cost(tiny, 32, 24).exact


def test_sixteen_thousand_pixels_a_side_are_counted_at_once_and_without_memory() -> None:
    config = find_weights("inpaint-lite").model
    started = time.process_time()
    cost = count_cost(config, LARGEST, LARGEST)
    # To run the network would take hours.
    assert time.process_time() - started < 120
    # Linear in the pixels but for vectors: the denoiser, CPEN's head, the modulations.
    small = count_cost(config, LARGEST // 64, LARGEST // 64)
    assert cost.exact == pytest.approx(64**2 * small.exact, rel=1e-3)
