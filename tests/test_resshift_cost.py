"""Parameters and Mult-Adds of ResShift, counted without running it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from diffir_cli.models.resshift.config import (
    BICUBIC_X4,
    DEBLUR,
    FACE,
    INPAINT,
    REALSR_V1,
    REALSR_V3,
    REALSR_X2,
    SINSR,
    ResShiftConfig,
)
from diffir_cli.models.resshift.cost import (
    CODEBOOK,
    DECODER,
    DENOISER,
    ENCODER,
    count_cost,
    count_parameters,
)
from diffir_cli.models.resshift.networks import VQAutoencoder
from tests.resshift_helpers import PIXELS
from tests.resshift_released import RELEASED


@pytest.mark.parametrize(
    ("config", "denoiser", "autoencoder"),
    [
        (REALSR_V3, 118_593_583, 55_322_782),
        (DEBLUR, 118_714_255, 55_322_782),
        (INPAINT, 118_714_399, 55_322_782),
        (FACE, 118_931_604, 77_009_115),
    ],
    ids=["sr", "deblur", "inpaint", "face"],
)
def test_parameters_are_counted_as_officially(
    config: ResShiftConfig, denoiser: int, autoencoder: int
) -> None:
    assert count_parameters(config) == {"denoiser": denoiser, "autoencoder": autoencoder}


def test_parameters_of_the_parts_of_the_autoencoder_are_counted_as_officially() -> None:
    for config, expected in (
        (REALSR_V3, (22_337_411, 32_960_771, 24_576, 12, 12)),
        (FACE, (33_028_680, 43_947_523, 32_768, 72, 72)),
    ):
        with torch.device("meta"):
            parts = VQAutoencoder(config).children()
        counted = tuple(sum(value.numel() for value in part.parameters()) for part in parts)
        assert counted == expected


def _giga(count: int) -> float:
    return round(count / 1e9, 2)


@pytest.mark.parametrize(
    ("config", "side", "step", "encode", "decode", "quantise"),
    [
        (REALSR_V3, 64, 50.66, 172.62, 335.29, 0.10),
        (DEBLUR, 256, 51.35, 172.62, 335.29, 0.10),
        (INPAINT, 256, 51.36, 172.62, 335.29, 0.10),
        (FACE, 512, 53.69, 248.37, 482.71, 0.13),
    ],
    ids=["sr", "deblur", "inpaint", "face"],
)
def test_mult_adds_of_each_network_are_those_of_the_reference(
    config: ResShiftConfig, side: int, step: float, encode: float, decode: float, quantise: float
) -> None:
    parts = count_cost(config, side, side).parts
    assert _giga(parts[DENOISER].mult_adds // config.evaluations) == step
    assert _giga(parts[ENCODER].mult_adds) == encode
    assert _giga(parts[DECODER].mult_adds) == decode
    assert _giga(parts[CODEBOOK].mult_adds) == quantise
    assert _giga(parts[ENCODER].attention) == 17.18


def test_mult_adds_of_attention_are_counted_apart() -> None:
    steps = count_cost(REALSR_V3, 64, 64).parts[DENOISER]
    assert _giga(steps.attention // REALSR_V3.evaluations) == 0.54


def test_mult_adds_of_a_result_grow_with_the_steps_and_faster_than_its_pixels() -> None:
    assert round(count_cost(REALSR_V3, 64, 64).exact / 1e9) == 711
    assert round(count_cost(REALSR_V1, 64, 64).exact / 1e9) == 1268
    assert round(count_cost(SINSR, 64, 64).exact / 1e9) == 559
    tera = [round(count_cost(REALSR_V3, side, side).exact / 1e12, 2) for side in (128, 256)]
    assert tera == [3.25, 19.62]
    assert count_cost(REALSR_V3, 65, 1) == count_cost(REALSR_V3, 128, 64)


def test_every_released_configuration_has_a_network() -> None:
    for config in RELEASED.values():
        assert set(count_parameters(config)) == {"denoiser", "autoencoder"}
    assert BICUBIC_X4 == REALSR_V3
    assert count_parameters(REALSR_X2)["denoiser"] > count_parameters(REALSR_V3)["denoiser"]
    assert set(count_parameters(PIXELS)) == {"denoiser"}


def test_a_configuration_needs_no_torch() -> None:
    program = (
        "import sys, diffir_cli.models.resshift.config, diffir_cli.models.resshift.diffusion;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
