"""The schedule and the reverse chain of ResShift."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffir_cli.models.resshift.config import (
    DEBLUR,
    LEGACY_BICUBIC_OPENCV,
    REALSR_V1,
    REALSR_V3,
    SINSR,
    Prediction,
    ResShiftConfig,
)
from diffir_cli.models.resshift.diffusion import ChainStep, ShiftSchedule, sample, spaced_timesteps
from tests.resshift_golden import OWN, arrays
from tests.resshift_released import RELEASED

SCHEDULES = {"s15_k2": REALSR_V1, "s4_k2": REALSR_V3}
PIXELS = ResShiftConfig(latent=False, scale=1, unshuffle=4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_has_the_official_constants(name: str) -> None:
    official = json.loads((OWN / "schedules.json").read_text())[name]
    names = {
        "T": "steps",
        "min_noise_level": "min_noise_level",
        "kappa": "kappa",
        "etas_end": "sqrt_eta_end",
        "power": "power",
    }
    known = {
        "realsr v1": "realsr-v1",
        "realsr v2": "realsr-v2",
        "realsr v3": "realsr-v3",
        "bicsr x4": "bicubic-x4",
        "inpaint_imagenet": "inpaint-imagenet",
        "inpaint_face": "inpaint-face",
        "faceir": "face-512",
        "realsr x2 config (no weights released)": "realsr-x2",
    }
    for used_by in official["used_by"]:
        config = RELEASED[known[used_by]]
        assert {key: getattr(config, field) for key, field in names.items()} == {
            key: official[key] for key in names
        }


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_equals_the_official_one_in_double_precision(name: str) -> None:
    schedule = ShiftSchedule.of(SCHEDULES[name])
    golden = {
        key.removeprefix(f"{name}/"): value.tolist()
        for key, value in arrays("schedules").items()
        if key.startswith(f"{name}/")
    }
    steps = range(schedule.steps)
    found = {
        "sqrt_etas": schedule.sqrt_eta,
        "etas": [schedule.eta(step) for step in steps],
        "etas_prev": [schedule.eta(step - 1) for step in steps],
        "alpha": [schedule.alpha(step) for step in steps],
        "posterior_mean_coef_xt": [schedule.posterior_coefficients(step)[0] for step in steps],
        "posterior_mean_coef_x0": [schedule.posterior_coefficients(step)[1] for step in steps],
        "posterior_variance": [schedule.posterior_variance(step) for step in steps],
        # The first one is 0, and never used.
        "posterior_log_variance_clipped": [
            math.log(schedule.posterior_variance(max(step, 1))) for step in steps
        ],
        "marginal_std": [schedule.noise_std(step) for step in steps],
        "input_scale_std": [schedule.input_divisor(step) for step in steps],
        "prior_std": [schedule.noise_std(schedule.steps - 1)],
    }
    assert found.keys() == golden.keys()
    for key, values in found.items():
        assert list(values) == pytest.approx(
            golden[key], rel=0, abs=1e-14 if "log" in key else 4e-15
        ), key


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_chain_equals_the_official_one(name: str) -> None:
    golden = {
        key.removeprefix(f"{name}/"): value
        for key, value in arrays("toy_chain").items()
        if key.startswith(f"{name}/")
    }
    steps: list[ChainStep] = []
    y0 = golden["y"]
    x0 = sample(
        lambda x, t: torch.tanh(0.7 * x + 0.3 * y0 + 0.05 * t),
        ShiftSchedule.of(SCHEDULES[name]),
        y0,
        golden["noise"],
        on_step=steps.append,
    )
    for step, expected, x0_hat in zip(steps, golden["samples"], golden["pred_x0"], strict=True):
        torch.testing.assert_close(step.x, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(step.x0, x0_hat, atol=1e-6, rtol=0)
    assert torch.equal(x0, steps[-1].x0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_diffused_images_and_the_scaled_input_equal_the_official_ones(name: str) -> None:
    golden, schedule = arrays("toy_chain"), ShiftSchedule.of(SCHEDULES[name])
    for step in range(schedule.steps):
        x0, y0, noise, expected, scaled = (
            golden[f"{name}/{key}"][step]
            for key in ("q_x0", "q_y", "q_noise", "q_xt", "scaled_input")
        )
        x_t = schedule.q_sample(x0, y0, noise, step)
        torch.testing.assert_close(x_t, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(schedule.scale_input(x_t, step), scaled, atol=1e-6, rtol=0)


def _perfect(
    x0: Tensor, y0: Tensor, schedule: ShiftSchedule, prediction: Prediction
) -> Callable[[Tensor, int], Tensor]:
    """A predictor that knows x₀."""

    def predict(scaled: Tensor, t: int) -> Tensor:
        step = schedule.timesteps.index(t)
        x_t = scaled * schedule.input_divisor(step)
        noise = x_t - x0 - schedule.eta(step) * (y0 - x0)
        return {
            Prediction.X0: x0,
            Prediction.RESIDUAL: y0 - x0,
            Prediction.SCALED_EPSILON: noise,
            Prediction.EPSILON: noise / schedule.noise_std(step),
        }[prediction]

    return predict


def _fields(schedule: ShiftSchedule) -> tuple[Tensor, Tensor, Tensor]:
    """A clean image, a degraded one, and noise for the chain."""
    shape = (2, 3, 4, 4)
    noise = torch.randn(schedule.steps + 1, *shape, dtype=torch.float64)
    return torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64), noise


@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize("stochasticity", [0.0, 0.4, 1.0])
def test_a_perfect_predictor_recovers_the_image_from_any_noise(
    prediction: Prediction, stochasticity: float
) -> None:
    schedule = ShiftSchedule.of(REALSR_V1)
    x0, y0, noise = _fields(schedule)
    predict = _perfect(x0, y0, schedule, prediction)
    found = sample(predict, schedule, y0, noise, prediction=prediction, stochasticity=stochasticity)
    torch.testing.assert_close(found, x0)


@pytest.mark.parametrize("stochasticity", [0.0, 0.4, 1.0])
def test_every_sampler_keeps_the_marginal_of_a_perfect_predictor(stochasticity: float) -> None:
    schedule = ShiftSchedule.of(REALSR_V3)
    x0, y0 = torch.tensor(0.5), torch.tensor(-0.5)
    noise = torch.randn(2, 100_000)
    for step in range(1, schedule.steps):
        x_t = schedule.q_sample(x0, y0, noise[0], step)
        before = schedule.previous(x_t, x0, y0, noise[1], step, stochasticity)
        mean = float(x0 + schedule.eta(step - 1) * (y0 - x0))
        assert float(before.mean()) == pytest.approx(mean, abs=0.02)
        assert float(before.std()) == pytest.approx(schedule.noise_std(step - 1), rel=0.02)


def test_the_early_sampler_with_all_noise_new_is_the_posterior() -> None:
    schedule = ShiftSchedule.of(REALSR_V1)
    x0, y0, noise = _fields(schedule)
    x_t = y0 + noise[0]
    for step in range(schedule.steps):
        almost = schedule.previous(x_t, x0, y0, noise[1], step, 1 - 1e-12)
        exact = schedule.previous(x_t, x0, y0, noise[1], step, 1.0)
        torch.testing.assert_close(almost, exact, atol=1e-6, rtol=0)


def test_without_stochasticity_only_the_noise_of_the_prior_counts() -> None:
    schedule = ShiftSchedule.of(REALSR_V3)
    _, y0, noise = _fields(schedule)
    other = torch.cat([noise[:1], torch.randn_like(noise[1:])])

    def run(fields: Tensor, stochasticity: float) -> Tensor:
        return sample(_toy, schedule, y0, fields, stochasticity=stochasticity)

    assert torch.equal(run(noise, 0.0), run(other, 0.0))
    assert not torch.equal(run(noise, 1.0), run(other, 1.0))
    assert not torch.equal(run(noise, 0.0), run(noise.flip(0), 0.0))


def _toy(x: Tensor, t: int) -> Tensor:
    return torch.tanh(0.7 * x + 0.05 * t)


def test_equal_noise_gives_equal_results_and_none_is_drawn_inside() -> None:
    schedule = ShiftSchedule.of(REALSR_V3)
    _, y0, noise = _fields(schedule)
    given = noise.clone()
    before = torch.get_rng_state()
    first = sample(_toy, schedule, y0, noise)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, sample(_toy, schedule, y0, list(noise)))
    assert torch.equal(noise, given)


def test_the_noise_of_the_last_step_does_not_count() -> None:
    schedule = ShiftSchedule.of(REALSR_V3)
    _, y0, noise = _fields(schedule)
    other = noise.clone()
    other[-1] = 1000.0
    assert torch.equal(sample(_toy, schedule, y0, noise), sample(_toy, schedule, y0, other))


def test_the_network_is_told_the_steps_from_the_last_to_the_first() -> None:
    seen: list[int] = []

    def predict(x: Tensor, t: int) -> Tensor:
        seen.append(t)
        return x

    schedule = ShiftSchedule.of(REALSR_V3)
    sample(predict, schedule, *_fields(schedule)[1:])
    assert seen == [3, 2, 1, 0]


def test_a_subsampled_chain_tells_the_network_the_original_steps() -> None:
    whole = ShiftSchedule.of(REALSR_V1)
    chosen = spaced_timesteps(15, 4)
    assert chosen == (0, 3, 7, 11)
    schedule = ShiftSchedule.of(replace(REALSR_V1, timesteps=chosen))
    assert schedule.timesteps == chosen
    assert schedule.sqrt_eta == tuple(whole.sqrt_eta[t] for t in chosen)
    x0, y0, noise = _fields(schedule)
    predict = _perfect(x0, y0, schedule, Prediction.EPSILON)
    found = sample(predict, schedule, y0, noise, prediction=Prediction.EPSILON)
    torch.testing.assert_close(found, x0)


def test_the_student_is_asked_once_about_the_prior_at_the_last_step() -> None:
    asked: list[tuple[Tensor, int]] = []

    def predict(x: Tensor, t: int) -> Tensor:
        asked.append((x, t))
        return 2 * x

    schedule = ShiftSchedule.of(SINSR)
    _, y0, noise = _fields(schedule)
    found = sample(predict, schedule, y0, noise)
    [(scaled, t)] = asked
    assert t == 14
    torch.testing.assert_close(scaled, (y0 + 1.98 * noise[0]) / (1.98**2 + 1) ** 0.5)
    assert torch.equal(found, 2 * scaled)


def test_pixels_are_divided_by_another_number_and_their_prediction_is_clipped() -> None:
    schedule = ShiftSchedule.of(PIXELS)
    assert schedule.input_divisor(3) == pytest.approx(3 * 1.98 + 1)
    _, y0, noise = _fields(schedule)
    estimates: list[Tensor] = []
    found = sample(
        lambda x, _t: 10 * x, schedule, y0, noise, on_step=lambda step: estimates.append(step.x0)
    )
    assert all(estimate.abs().max() <= 1 for estimate in estimates)
    assert found.abs().max() == 1


def test_early_code_limited_the_first_step_of_the_legacy_model() -> None:
    schedule = ShiftSchedule.of(LEGACY_BICUBIC_OPENCV)
    assert schedule.eta(0) == pytest.approx(0.001)
    assert schedule.noise_std(14) == pytest.approx(0.99)


def test_a_schedule_of_one_step_is_its_end() -> None:
    assert ShiftSchedule.of(replace(REALSR_V3, steps=1)).sqrt_eta == (0.99,)


@pytest.mark.parametrize("values", [(), (0.5, 0.4), (0.0, 0.5), (0.5, 1.1)])
def test_a_schedule_that_does_not_rise_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        ShiftSchedule(values, 2.0, tuple(range(len(values))))


def test_wrong_counts_and_ranges_are_refused() -> None:
    schedule = ShiftSchedule.of(REALSR_V3)
    _, y0, noise = _fields(schedule)
    with pytest.raises(ValueError, match="4 steps need 5 fields of noise, not 4"):
        sample(_toy, schedule, y0, noise[1:])
    with pytest.raises(ValueError, match="stochasticity"):
        sample(_toy, schedule, y0, noise, stochasticity=1.5)
    with pytest.raises(ValueError, match="as many t"):
        ShiftSchedule((0.1, 0.9), 2.0, (0,))
    with pytest.raises(ValueError, match="1 to 4"):
        spaced_timesteps(4, 5)


@pytest.mark.parametrize("name", RELEASED)
def test_a_configuration_survives_a_table(name: str) -> None:
    config = RELEASED[name]
    table = json.loads(json.dumps(config.to_dict()))
    assert ResShiftConfig.from_dict(table) == config


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"scale": 3}, "scale must be 1, 2 or 4"),
        ({"kappa": 0.0}, "kappa must be above 0"),
        ({"stochasticity": 2.0}, "stochasticity must be 0 to 1"),
        ({"min_noise_level": 1.0, "kappa": 1.0}, "√η must grow"),
        ({"timesteps": [3, 2]}, "timesteps must rise within 0 to 3"),
        ({"timesteps": [4]}, "timesteps must rise within 0 to 3"),
        ({"blocks": [2, 2]}, "multipliers and blocks must be of one length"),
        ({"blocks": []}, "blocks must be up to 6 numbers"),
        ({"width": 100}, "32 groups do not divide 100 channels"),
        ({"heads": 5}, "5 heads do not divide swin_dim 192"),
        ({"window": 7}, "window must be even"),
        ({"unshuffle": 2}, "unshuffle needs latent = false"),
        ({"resolution": 20}, "resolution 20 cannot be halved 3 times"),
        ({"latent": False}, "scale 4 does not fit"),
        ({"mask": "swin"}, "mask must be one of legacy, standard"),
        ({"depth": 2}, "depth is no field, did you mean 'width'"),
        ({"kappa": "2"}, "kappa must be a number, not '2'"),
    ],
)
def test_a_configuration_out_of_range_is_refused(change: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ResShiftConfig.from_dict(change)


def test_sides_follow_from_the_configuration() -> None:
    names = ("realsr-v3", "realsr-x2", "deblur-gopro", "face-512")
    sides = [(RELEASED[name].lq_stride, RELEASED[name].multiple) for name in names]
    assert sides == [(1, 64), (2, 128), (4, 256), (8, 512)]
    assert DEBLUR.extracted_channels == 64
    assert RELEASED["face-512"].extracted_channels == 128
    assert RELEASED["realsr-x2"].extracted_channels == 32
    assert (SINSR.evaluations, REALSR_V1.evaluations) == (1, 15)
    assert [REALSR_V3.shifts(level) for level in range(4)] == [True, True, True, False]
