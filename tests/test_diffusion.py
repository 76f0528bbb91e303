"""The schedule and the sampler, against the released values and against the algebra."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from diffir_cli.models.diffir.config import ModelConfig, Prediction, Schedule
from diffir_cli.models.diffir.diffusion import NoiseSchedule, sample_ipr

OFFICIAL = NoiseSchedule.of(ModelConfig())


def test_the_default_schedule_has_the_released_values() -> None:
    expected = (0.1, 0.294285625, 0.590952277, 0.99)
    assert OFFICIAL.beta == pytest.approx(expected, rel=1e-7)
    bars = [OFFICIAL.alpha_bar(t) for t in range(4)]
    assert bars == pytest.approx((0.9, 0.635142922, 0.259803772, 0.00259803771), rel=1e-7)
    weights = [OFFICIAL.posterior_coefficients(t) for t in range(4)]
    assert [first for first, _ in weights] == pytest.approx(
        (1, 0.765186906, 0.636269748, 0.505926788), rel=1e-7
    )
    assert [second for _, second in weights] == pytest.approx(
        (0, 0.230245799, 0.315255642, 0.0742124319), rel=1e-7
    )
    variances = [OFFICIAL.posterior_variance(t) for t in range(4)]
    assert variances == pytest.approx((0, 0.0806577876, 0.291291833, 0.734703064), rel=1e-7)


def test_the_schedule_of_the_paper_is_linear_in_beta() -> None:
    beta = NoiseSchedule.spaced(4, kind=Schedule.LINEAR).beta
    assert beta == pytest.approx((0.1, 0.1 + 0.89 / 3, 0.1 + 2 * 0.89 / 3, 0.99))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 32])
@pytest.mark.parametrize("kind", Schedule)
def test_any_number_of_steps_ends_in_almost_pure_noise(steps: int, kind: Schedule) -> None:
    schedule = NoiseSchedule.spaced(steps, kind=kind)
    assert schedule.steps == steps
    assert schedule.alpha_bar(steps - 1) <= 0.01 + 1e-12


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_perfect_predictor_recovers_the_ipr_from_any_noise(steps: int) -> None:
    schedule = NoiseSchedule.spaced(steps)
    z = torch.randn(2, 32)
    for _ in range(3):
        found = sample_ipr(lambda _x, _t, condition: condition, schedule, z, torch.randn(2, 32))
        torch.testing.assert_close(found, z)


def test_a_perfect_predictor_of_the_noise_recovers_the_ipr_too() -> None:
    z, x_T = torch.randn(2, 32).double(), torch.randn(2, 32).double()

    def epsilon(x_t: Tensor, t: int, condition: Tensor) -> Tensor:
        bar = OFFICIAL.alpha_bar(t)
        return (x_t - math.sqrt(bar) * condition) / math.sqrt(1 - bar)

    found = sample_ipr(epsilon, OFFICIAL, z, x_T, prediction=Prediction.EPSILON)
    torch.testing.assert_close(found, z)


@pytest.mark.parametrize("t", range(4))
def test_both_forms_of_the_posterior_mean_agree(t: int) -> None:
    z, noise = torch.randn(3, 8).double(), torch.randn(3, 8).double()
    x_t = OFFICIAL.add_noise(z, noise, t)
    torch.testing.assert_close(
        OFFICIAL.mean_from_epsilon(noise, x_t, t), OFFICIAL.posterior_mean(z, x_t, t)
    )


def test_without_steps_the_condition_is_the_ipr() -> None:
    condition = torch.randn(2, 8)
    found = sample_ipr(_never, NoiseSchedule.spaced(0), condition, torch.randn(2, 8))
    assert torch.equal(found, condition)


def _never(*_arguments: object) -> torch.Tensor:
    raise AssertionError("there is nothing to predict")


def test_the_sampler_visits_the_steps_from_the_last_to_the_first() -> None:
    seen: list[int] = []

    def predict(x_t: Tensor, t: int, _condition: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    sample_ipr(predict, OFFICIAL, torch.zeros(1, 4), torch.zeros(1, 4))
    assert seen == [3, 2, 1, 0]


def test_variance_noise_is_added_with_the_posterior_deviation() -> None:
    schedule = OFFICIAL
    noise = torch.randn(4, 1, 8)
    plain = torch.zeros(1, 8)
    found = sample_ipr(
        lambda x_t, _t, _c: x_t, schedule, plain, torch.zeros(1, 8), variance_noise=noise
    )
    expected = torch.zeros(1, 8)
    for t in (3, 2, 1, 0):
        first, second = schedule.posterior_coefficients(t)
        expected = (first + second) * expected
        expected = expected + math.sqrt(schedule.posterior_variance(t)) * noise[t]
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0.1


def test_the_noise_of_the_step_zero_does_not_count() -> None:
    noise = torch.zeros(4, 1, 8)
    noise[0] = 1000.0
    found = sample_ipr(lambda x_t, _t, _c: x_t, OFFICIAL, noise[1], noise[1], variance_noise=noise)
    assert not found.any()


def test_diffused_vectors_have_the_promised_mean_and_deviation() -> None:
    z = torch.full((20_000, 1), 2.0)
    x_t = OFFICIAL.add_noise(z, torch.randn_like(z), 1)
    bar = OFFICIAL.alpha_bar(1)
    assert x_t.mean().item() == pytest.approx(2 * math.sqrt(bar), abs=0.02)
    assert x_t.std().item() == pytest.approx(math.sqrt(1 - bar), abs=0.02)


def test_a_schedule_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="beta"):
        NoiseSchedule((0.5, 1.0))
    with pytest.raises(ValueError, match="beta_start"):
        dataclasses.replace(ModelConfig(), beta_start=0.0)
