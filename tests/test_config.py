"""Configurations: what they derive, what they refuse, and how they travel."""

from __future__ import annotations

import dataclasses

import pytest

from diffir_cli.models.diffir.config import ModelConfig, Norm, Tail
from diffir_cli.weights.registry import read_registry


def test_the_defaults_are_the_released_real_world_network() -> None:
    assert ModelConfig() == read_registry()["realsr-x4"].model


@pytest.mark.parametrize(
    ("name", "unshuffle", "cpen_unshuffle", "multiple"),
    [
        ("sr-x4", 1, 1, 8),
        ("sr-x2", 2, 2, 16),
        ("realsr-x1", 4, 4, 32),
        ("deblur-gopro", 1, 4, 8),
        ("inpaint-places-big", 1, 4, 8),
    ],
)
def test_foldings_follow_from_scale_and_tail(
    name: str, unshuffle: int, cpen_unshuffle: int, multiple: int
) -> None:
    config = read_registry()[name].model
    assert (config.unshuffle, config.lq_unshuffle, config.multiple) == (
        unshuffle,
        cpen_unshuffle,
        multiple,
    )


@pytest.mark.parametrize(
    ("expansion", "dim", "hidden"), [(2.2, 64, 140), (2.2, 512, 1126), (1.8, 52, 93), (2, 48, 96)]
)
def test_hidden_channels_are_truncated(expansion: float, dim: int, hidden: int) -> None:
    assert ModelConfig(ffn_expansion=expansion).ffn_hidden(dim) == hidden


@pytest.mark.parametrize("name", list(read_registry()))
def test_a_configuration_survives_the_way_through_a_table(name: str) -> None:
    config = read_registry()[name].model
    assert type(config).from_dict(config.to_dict()) == config


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"dimm.*heads.*norm") as caught:
        ModelConfig.from_dict({"dimm": 8, "heads": "one", "norm": "group"})
    assert "did you mean 'dim'?" in str(caught.value)
    assert ModelConfig.from_dict({"norm": "with-bias"}).norm is Norm.WITH_BIAS


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scale", 3, "scale 3"),
        ("dim", 0, "dim must be at least 1"),
        ("heads", (3, 2, 4, 8), "3 heads do not divide"),
        ("num_blocks", (1, 1), "num_blocks must be 4"),
        ("beta_end", 1.5, "beta_start"),
        ("in_channels", 5, "in_channels must be 3, 4 or 6"),
        ("tail", Tail.CONV, "not possible"),
    ],
)
def test_impossible_numbers_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ModelConfig(), **{field: value})  # type: ignore[arg-type]
