"""The noise schedule and the sampler that turns noise into an IPR: pure algebra on vectors.

With αₜ = 1 − βₜ and ᾱₜ = α₀ ⋯ αₜ (steps counted from 0):

    diffusion    x_t = √ᾱₜ Z + √(1 − ᾱₜ) ε                                       (Eqs. 2, 10)
    posterior    x_{t−1} = c₁ Ẑ + c₂ x_t,  c₁ = βₜ√ᾱₜ₋₁ / (1 − ᾱₜ),
                 c₂ = (1 − ᾱₜ₋₁)√αₜ / (1 − ᾱₜ)                                  (mean of Eq. 3)
    ε-form       x_{t−1} = (x_t − ε (1 − αₜ) / √(1 − ᾱₜ)) / √αₜ                       (Eq. 11)

Deviations of the released code, which are the defaults here: the network predicts Z itself instead
of ε, and βₜ grows linearly in √β instead of in β.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffir_cli.models.diffir.config import ModelConfig, Prediction, Schedule

if TYPE_CHECKING:
    from torch import Tensor

    Predictor = Callable[[Tensor, int, Tensor], Tensor]
    """(x_t, t, condition) → an estimate of Z or of ε; all vectors are (B, 4C')."""


@dataclass(frozen=True)
class NoiseSchedule:
    """βₜ for t = 0 … T − 1 and what follows from it, in double precision."""

    beta: tuple[float, ...]
    """βₜ, each in (0, 1); none where there is no diffusion."""

    def __post_init__(self) -> None:
        if not all(0 < value < 1 for value in self.beta):
            raise ValueError(f"every beta must lie in (0, 1), not {self.beta}")

    @classmethod
    def of(cls, config: ModelConfig) -> NoiseSchedule:
        """The schedule of a network."""
        return cls.spaced(config.steps, config.beta_start, config.beta_end, config.schedule)

    @classmethod
    def spaced(
        cls,
        steps: int,
        start: float = 0.1,
        end: float = 0.99,
        kind: Schedule = Schedule.SQRT_LINEAR,
    ) -> NoiseSchedule:
        """`steps` values from `start` to `end`, evenly spaced in √β or in β.

        The last value is always `end`, so that ᾱ_T ≤ 1 − end and x_T is almost pure noise for any
        number of steps (Fig. 6); a single step is `end` alone.
        """
        if steps == 0:
            return cls(())
        power = 2 if kind is Schedule.SQRT_LINEAR else 1
        low, high = start ** (1 / power), end ** (1 / power)
        if steps == 1:
            return cls((high**power,))
        return cls(
            tuple((low + (high - low) * step / (steps - 1)) ** power for step in range(steps))
        )

    @property
    def steps(self) -> int:
        """T."""
        return len(self.beta)

    def alpha_bar(self, t: int) -> float:
        """ᾱₜ; 1 before the first step (t = −1)."""
        return math.prod(1 - value for value in self.beta[: t + 1])

    def posterior_variance(self, t: int) -> float:
        """σₜ² of Eq. 3; 0 at t = 0."""
        return self.beta[t] * (1 - self.alpha_bar(t - 1)) / (1 - self.alpha_bar(t))

    def posterior_coefficients(self, t: int) -> tuple[float, float]:
        """(c₁, c₂), the weights of Ẑ and x_t in the mean of x_{t−1}."""
        previous, rest = self.alpha_bar(t - 1), 1 - self.alpha_bar(t)
        return (
            self.beta[t] * math.sqrt(previous) / rest,
            (1 - previous) * math.sqrt(1 - self.beta[t]) / rest,
        )

    def posterior_mean(self, z_hat: Tensor, x_t: Tensor, t: int) -> Tensor:
        """Mean of x_{t−1} given x_t and an estimate of Z, all (B, 4C')."""
        of_z, of_x = self.posterior_coefficients(t)
        return of_z * z_hat + of_x * x_t

    def mean_from_epsilon(self, epsilon: Tensor, x_t: Tensor, t: int) -> Tensor:
        """Mean of x_{t−1} given x_t and an estimate of its noise (Eq. 11), all (B, 4C')."""
        share = self.beta[t] / math.sqrt(1 - self.alpha_bar(t))
        return (x_t - share * epsilon) / math.sqrt(1 - self.beta[t])

    def add_noise(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_t for an IPR and standard normal noise (Eq. 2; Eq. 10 at t = T − 1), all (B, 4C')."""
        alpha_bar = self.alpha_bar(t)
        return math.sqrt(alpha_bar) * z + math.sqrt(1 - alpha_bar) * noise


def sample_ipr(
    predict: Predictor,
    schedule: NoiseSchedule,
    condition: Tensor,
    x_T: Tensor,
    *,
    prediction: Prediction = Prediction.X0,
    variance_noise: Tensor | None = None,
) -> Tensor:
    """Walk from noise to an IPR in T steps, deterministic unless noise is given (Alg. 2).

    Without any step D itself is the IPR (Table 4, V1).

    Args:
        predict: (x_t, t, condition) → an estimate of Z or of ε, all (B, 4C').
        schedule: The noise schedule; its number of steps is T.
        condition: D, (B, 4C').
        x_T: Standard normal noise, (B, 4C').
        prediction: Which of the two `predict` estimates.
        variance_noise: Standard normal noise for steps t = 0 … T − 1, (T, B, 4C'), that Eq. 3 adds
            with deviation σₜ and DiffIR leaves out (Table 4, V4). The one for t = 0 has σ = 0.

    Returns:
        Ẑ, (B, 4C').
    """
    x_t = x_T if schedule.steps else condition
    for t in reversed(range(schedule.steps)):
        estimate = predict(x_t, t, condition)
        if prediction is Prediction.EPSILON:
            x_t = schedule.mean_from_epsilon(estimate, x_t, t)
        else:
            x_t = schedule.posterior_mean(estimate, x_t, t)
        if variance_noise is not None:
            x_t = x_t + math.sqrt(schedule.posterior_variance(t)) * variance_noise[t]
    return x_t
