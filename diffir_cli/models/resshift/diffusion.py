"""The noise schedule of ResShift and its reverse chain: pure functions of what they are given.

With x₀ the clean image or latent, y₀ the degraded one, e₀ = y₀ − x₀, ε standard normal noise, and
η_t rising from about 0 to about 1 (ResShift, Sec. 3.1; steps counted from 0 here, η₋₁ = 0):

    marginal    x_t = x₀ + η_t e₀ + κ√η_t ε
    prior       x_T = y₀ + κ√η_T ε
    posterior   x_{t−1} ~ N( (η_{t−1}/η_t) x_t + (α_t/η_t) x₀ ,  κ² (η_{t−1}/η_t) α_t I ),
                α_t = η_t − η_{t−1}
    schedule    √η_t = √η_0 · (√η_T / √η_0)^((t / (T − 1))^p),  √η_0 = min(m / κ, m)

y₀ does not occur in the posterior: it enters through the prior and as a condition of the network.

Deviations of the released code, which are followed here: the end point of the schedule is given for
√η (0.99), where the paper gives it for η; the prior has the deviation κ√η_T = 1.98, where the paper
has κ; the network does not see x_t but x_t divided by √(κ²η_t + 1), its deviation if the latents
have a variance of 1 (by 3κ√η_t + 1 on pixels).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffir_cli.models.resshift.config import Prediction, ResShiftConfig

if TYPE_CHECKING:
    from torch import Tensor

    Predictor = Callable[[Tensor, int], Tensor]
    """(scaled x_t, t) → what the prediction stands for, all (B, C, H, W). The degraded image that
    the network reads too is bound by the caller."""


@dataclass(frozen=True)
class ShiftSchedule:
    """√η_t of the steps that are evaluated, and what follows from it, in double precision.

    Methods take the position of a step in the chain, counted from 0, as `step`.
    """

    sqrt_eta: tuple[float, ...]
    """√η_t, rising within (0, 1]."""
    kappa: float
    """κ, the deviation of the noise at η = 1."""
    timesteps: tuple[int, ...]
    """The t that the network gets at each step."""
    latent: bool = True
    """Whether x_t is a latent; by which its scale is computed."""

    def __post_init__(self) -> None:
        ends = (0.0, *self.sqrt_eta)
        if (
            not self.sqrt_eta
            or self.sqrt_eta[-1] > 1
            or any(later <= earlier for earlier, later in itertools.pairwise(ends))
        ):
            raise ValueError(f"√η must rise within (0, 1], not {self.sqrt_eta}")
        if len(self.timesteps) != len(self.sqrt_eta):
            raise ValueError(f"{len(self.sqrt_eta)} steps need as many t, not {self.timesteps}")

    @classmethod
    def of(cls, config: ResShiftConfig) -> ShiftSchedule:
        """The schedule of a model, reduced to the steps that it evaluates."""
        start, end, last = config.sqrt_eta_start, config.sqrt_eta_end, config.steps - 1
        if last == 0:
            values = (end,)
        else:
            values = tuple(
                start * (end / start) ** ((t / last) ** config.power) for t in range(config.steps)
            )
        whole = cls(values, config.kappa, tuple(range(config.steps)), config.latent)
        return whole.subsampled(config.timesteps) if config.timesteps else whole

    def subsampled(self, positions: Sequence[int]) -> ShiftSchedule:
        """The schedule of some of these steps; the network still gets their original t.

        Args:
            positions: Which steps, counted from 0 and rising.
        """
        return ShiftSchedule(
            tuple(self.sqrt_eta[step] for step in positions),
            self.kappa,
            tuple(self.timesteps[step] for step in positions),
            self.latent,
        )

    @property
    def steps(self) -> int:
        """How many steps the chain has."""
        return len(self.sqrt_eta)

    def eta(self, step: int) -> float:
        """η_t; 0 before the first step (step = −1)."""
        return self.sqrt_eta[step] ** 2 if step >= 0 else 0.0

    def alpha(self, step: int) -> float:
        """α_t = η_t − η_{t−1}."""
        return self.eta(step) - self.eta(step - 1)

    def noise_std(self, step: int) -> float:
        """κ√η_t, the deviation of the noise in x_t; that of the prior at the last step."""
        return self.kappa * self.sqrt_eta[step]

    def input_divisor(self, step: int) -> float:
        """What x_t is divided by before the network reads it."""
        if self.latent:
            return math.sqrt(self.noise_std(step) ** 2 + 1)
        return 3 * self.noise_std(step) + 1

    def posterior_coefficients(self, step: int) -> tuple[float, float]:
        """The weights of x_t and x₀ in the mean of x_{t−1}; 0 and 1 at the first step."""
        return self.eta(step - 1) / self.eta(step), self.alpha(step) / self.eta(step)

    def posterior_variance(self, step: int) -> float:
        """κ² (η_{t−1}/η_t) α_t; 0 at the first step."""
        return self.kappa**2 * self.eta(step - 1) / self.eta(step) * self.alpha(step)

    def posterior_mean(self, x_t: Tensor, x0: Tensor, step: int) -> Tensor:
        """Mean of x_{t−1} given x_t and x₀, all (B, C, H, W)."""
        of_x, of_x0 = self.posterior_coefficients(step)
        return of_x * x_t + of_x0 * x0

    def q_sample(self, x0: Tensor, y0: Tensor, noise: Tensor, step: int) -> Tensor:
        """x_t for a clean and a degraded image and standard normal noise, all (B, C, H, W)."""
        return x0 + self.eta(step) * (y0 - x0) + self.noise_std(step) * noise

    def prior(self, y0: Tensor, noise: Tensor) -> Tensor:
        """x_T for a degraded image and standard normal noise, both (B, C, H, W)."""
        return y0 + self.noise_std(self.steps - 1) * noise

    def scale_input(self, x_t: Tensor, step: int) -> Tensor:
        """x_t as the network reads it, (B, C, H, W)."""
        return x_t / self.input_divisor(step)

    def x0_from(
        self, predicted: Tensor, x_t: Tensor, y0: Tensor, step: int, prediction: Prediction
    ) -> Tensor:
        """The estimate of x₀ that an output of the network implies, all (B, C, H, W).

        From the marginal, x₀ = (x_t − η_t y₀ − κ√η_t ε) / (1 − η_t).
        """
        if prediction is Prediction.X0:
            return predicted
        if prediction is Prediction.RESIDUAL:
            return y0 - predicted
        std = self.noise_std(step) if prediction is Prediction.EPSILON else 1.0
        eta = self.eta(step)
        return (x_t - eta * y0 - std * predicted) / (1 - eta)

    def previous(
        self, x_t: Tensor, x0: Tensor, y0: Tensor, noise: Tensor, step: int, stochasticity: float
    ) -> Tensor:
        """x_{t−1} from x_t and an estimate of x₀, all (B, C, H, W).

        With s = 1 it is a sample of the posterior. The sampler of the early code goes along the
        marginals instead, with only a part of the noise new:

            x_{t−1} = x₀ + η_{t−1} e₀ + √(κ²η_{t−1} − σ²) ε_t + σ ε,  σ = s κ √(η_{t−1} α_t / η_t),

        where ε_t is the noise in x_t; s = 1 gives the posterior again.
        """
        if step == 0:
            return x0
        std = stochasticity * math.sqrt(self.posterior_variance(step))
        if stochasticity == 1:
            return self.posterior_mean(x_t, x0, step) + std * noise
        before = self.eta(step - 1)
        noise_t = (x_t - x0 - self.eta(step) * (y0 - x0)) / self.noise_std(step)
        kept = math.sqrt(self.kappa**2 * before - std**2)
        moved = x0 + before * (y0 - x0) + kept * noise_t
        return moved + std * noise if std else moved


def spaced_timesteps(steps: int, count: int) -> tuple[int, ...]:
    """`count` of `steps` steps as the released code chooses them: int(T/K · k).

    The last step is not among them, so the prior has less noise than in training.

    Raises:
        ValueError: when there are not so many steps.
    """
    if not 1 <= count <= steps:
        raise ValueError(f"of {steps} steps, 1 to {steps} can be evaluated, not {count}")
    return tuple(int(steps / count * k) for k in range(count))


@dataclass(frozen=True)
class ChainStep:
    """What the reverse chain has reached after a step."""

    done: int
    """Steps done so far."""
    steps: int
    """Steps in all."""
    x0: Tensor
    """The estimate of x₀ of this step, (B, C, H, W)."""
    x: Tensor
    """x_{t−1}, (B, C, H, W)."""


def sample(
    predict: Predictor,
    schedule: ShiftSchedule,
    y0: Tensor,
    noise: Tensor | Sequence[Tensor],
    *,
    prediction: Prediction = Prediction.X0,
    stochasticity: float = 1.0,
    on_step: Callable[[ChainStep], None] | None = None,
) -> Tensor:
    """Walk from the degraded image to an estimate of the clean one (ResShift, Sec. 3.1).

    Everything random comes in as `noise`, so equal arguments give equal results. A schedule of one
    step at the end of the chain is SinSR: the network is asked once and its x₀ is the result.

    Args:
        predict: The network with its condition bound, (scaled x_t, t) → (B, C, H, W).
        schedule: The steps to take.
        y0: The degraded latent, or the degraded image in [−1, 1], (B, C, H, W).
        noise: Standard normal noise, steps + 1 fields of (B, C, H, W): the first for the prior, the
            others for one step each. The last is not used, as the last step adds no noise.
        prediction: What `predict` estimates.
        stochasticity: s in [0, 1]; with 0 no noise but that of the prior counts.
        on_step: Called after each step.

    Returns:
        (B, C, H, W): x₀ of the last step.

    Raises:
        ValueError: when there is not as much noise as said, or s is out of range.
    """
    if len(noise) != schedule.steps + 1:
        raise ValueError(
            f"{schedule.steps} steps need {schedule.steps + 1} fields of noise, not {len(noise)}"
        )
    if not 0 <= stochasticity <= 1:
        raise ValueError(f"stochasticity must be 0 to 1, not {stochasticity}")
    x = schedule.prior(y0, noise[0])
    for done, step in enumerate(reversed(range(schedule.steps)), start=1):
        predicted = predict(schedule.scale_input(x, step), schedule.timesteps[step])
        x0 = schedule.x0_from(predicted, x, y0, step, prediction)
        if not schedule.latent:
            x0 = x0.clamp(-1, 1)
        x = schedule.previous(x, x0, y0, noise[done], step, stochasticity)
        if on_step is not None:
            on_step(ChainStep(done, schedule.steps, x0, x))
    return x
