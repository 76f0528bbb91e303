"""What a ResShift model looks like, as frozen values that need no torch.

Tasks differ by configuration, never by code: `ResShiftConfig` has exactly the fields in which the
released models differ, and those that a smaller model changes. Its defaults are the released ×4
real-world super-resolution model with four steps (version 3).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from enum import StrEnum

from diffir_cli.util.tables import Table


class MaskRule(StrEnum):
    """Which tokens of a shifted window do not attend to each other."""

    LEGACY = "legacy"
    """The rule of the released code, which is a defect of it but part of what its networks learned:
    in the last row of windows the two column halves are kept apart; everywhere else the opposite
    borders of the feature map attend to each other."""
    STANDARD = "standard"
    """The rule of the Swin Transformer: tokens from opposite borders are kept apart."""


class Prediction(StrEnum):
    """What the output of the denoiser stands for."""

    X0 = "x0"
    """The clean image or latent itself: what the released networks were trained for."""
    EPSILON = "epsilon"
    """The noise ε in x_t."""
    SCALED_EPSILON = "scaled-epsilon"
    """κ√η_t ε, the noise with the deviation it has in x_t."""
    RESIDUAL = "residual"
    """e₀ = y₀ − x₀."""


@dataclass(frozen=True)
class ResShiftConfig(Table):
    """The values that tell one ResShift model from another.

    Raises:
        ValueError: when a value is out of range, with every fault named.
    """

    scale: int = 4
    """Side of the output over side of the input: 1, 2 or 4."""
    takes_mask: bool = False
    """Whether the denoiser reads a mask as a fourth channel behind the RGB of `lq`."""
    latent: bool = True
    """Whether the diffusion runs on latents of the autoencoder. If not, it runs on pixels: there is
    no autoencoder, the input of the denoiser is divided by 3κ√η_t + 1, and its prediction of x₀ is
    clipped to [−1, 1]. Every released model is latent."""

    steps: int = 4
    """T, the steps of the schedule. They belong to the weights and are not free to choose."""
    min_noise_level: float = 0.2
    """m: √η of the first step is min(m / κ, m)."""
    kappa: float = 2.0
    """κ, the deviation of the noise at η = 1."""
    power: float = 0.3
    """p: how √η grows between its ends."""
    sqrt_eta_end: float = 0.99
    """√η of the last step."""
    timesteps: tuple[int, ...] = ()
    """The steps of the schedule that are evaluated, counted from 0 and rising; empty for all."""
    prediction: Prediction = Prediction.X0
    """What the output of the denoiser stands for."""
    stochasticity: float = 1.0
    """s in [0, 1]: 1 samples from the posterior; 0 is the deterministic sampler of the early code,
    which draws no noise but the first."""

    width: int = 160
    """Channels of the denoiser at its first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """Channels of each level over `width`."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks of each level of the encoder; the decoder has one more in each."""
    swin_dim: int = 192
    """Channels of every Swin layer."""
    swin_blocks: int = 2
    """Transformer blocks of a Swin layer; every second one shifts its windows."""
    heads: int = 6
    """Attention heads of a Swin layer."""
    window: int = 8
    """Side of an attention window, in elements of its level."""
    mlp_ratio: int = 4
    """Hidden channels of the MLP of a Swin block over `swin_dim`."""
    mask: MaskRule = MaskRule.LEGACY
    """Which tokens of a shifted window do not attend to each other."""
    resolution: int = 64
    """Side of the first level for which the network was designed. A level whose nominal side is not
    larger than a window never shifts, whatever its actual side."""
    unshuffle: int = 1
    """Pixel-unshuffle in front of the denoiser, and shuffle behind it: for diffusion on pixels. 1
    in every released network."""
    extractor_width: int = 16
    """Channels of the first convolution of the extractor that brings `lq` to the grid of x_t."""
    groups: int = 32
    """Groups of every group normalisation."""

    latent_channels: int = 3
    """Channels of a latent and of a codebook entry."""
    ae_width: int = 128
    """Channels of the autoencoder at full resolution."""
    ae_multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of each level over `ae_width`; every level but the first halves the sides."""
    ae_blocks: tuple[int, ...] = (2, 2, 2)
    """Residual blocks of each level of the encoder; the decoder has one more in each."""
    codes: int = 8192
    """Entries of the codebook."""

    def __post_init__(self) -> None:
        faults = self._range_faults() or self._fit_faults()
        if faults:
            raise ValueError("; ".join(faults))

    def _range_faults(self) -> list[str]:
        faults = []
        for name, largest in _COUNTS.items():
            if not 1 <= getattr(self, name) <= largest:
                faults.append(f"{name} must be 1 to {largest}, not {getattr(self, name)}")
        for name in ("multipliers", "blocks", "ae_multipliers", "ae_blocks"):
            values = getattr(self, name)
            if not 1 <= len(values) <= _MOST_LEVELS or not all(
                isinstance(value, int) and 1 <= value <= _LARGEST_FACTOR for value in values
            ):
                faults.append(
                    f"{name} must be up to {_MOST_LEVELS} numbers of 1 to {_LARGEST_FACTOR}, "
                    f"not {list(values)}"
                )
        for name, (low, high) in _POSITIVE.items():
            if not low < getattr(self, name) <= high:
                faults.append(f"{name} must be above {low} and at most {high}")
        if not 0 <= self.stochasticity <= 1:
            faults.append(f"stochasticity must be 0 to 1, not {self.stochasticity}")
        if self.scale not in (1, 2, 4):
            faults.append(f"scale must be 1, 2 or 4, not {self.scale}")
        return faults

    def _fit_faults(self) -> list[str]:
        faults = []
        if self.sqrt_eta_start >= self.sqrt_eta_end:
            faults.append(f"√η must grow, not from {self.sqrt_eta_start} to {self.sqrt_eta_end}")
        visited = self.timesteps
        if not all(isinstance(t, int) and 0 <= t < self.steps for t in visited) or any(
            later <= earlier for earlier, later in itertools.pairwise(visited)
        ):
            faults.append(f"timesteps must rise within 0 to {self.steps - 1}, not {list(visited)}")
        for one, other in (("multipliers", "blocks"), ("ae_multipliers", "ae_blocks")):
            if len(getattr(self, one)) != len(getattr(self, other)):
                faults.append(f"{one} and {other} must be of one length")
        if self.width % 2:
            faults.append(f"width must be even, not {self.width}")
        if self.swin_dim % self.heads:
            faults.append(f"{self.heads} heads do not divide swin_dim {self.swin_dim}")
        if self.window % 2:
            faults.append(f"window must be even, not {self.window}")
        normalised = {*self.channels, self.swin_dim, *(self.ae_channels if self.latent else ())}
        for channels in sorted(normalised):
            if channels % self.groups:
                faults.append(f"{self.groups} groups do not divide {channels} channels")
        if self.latent and self.unshuffle != 1:
            faults.append("unshuffle needs latent = false")
        stride, rest = divmod(self.reduction, self.scale)
        if rest or stride & (stride - 1):
            faults.append(
                f"scale {self.scale} does not fit a grid that is {self.reduction} times smaller "
                "than the output"
            )
        if self.resolution % 2 ** (len(self.multipliers) - 1):
            faults.append(
                f"resolution {self.resolution} cannot be halved {len(self.multipliers) - 1} times"
            )
        return faults

    @property
    def components(self) -> tuple[str, ...]:
        """The networks of a model, each in a file of its own."""
        return ("denoiser", "autoencoder") if self.latent else ("denoiser",)

    @property
    def sqrt_eta_start(self) -> float:
        """√η of the first step."""
        return min(self.min_noise_level / self.kappa, self.min_noise_level)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the denoiser at each level."""
        return tuple(self.width * factor for factor in self.multipliers)

    @property
    def ae_channels(self) -> tuple[int, ...]:
        """Channels of the autoencoder at each level, the first at full resolution."""
        return tuple(self.ae_width * factor for factor in self.ae_multipliers)

    @property
    def factor(self) -> int:
        """Side of an image over side of what the diffusion runs on: 4 with f4, 1 on pixels."""
        return 2 ** (len(self.ae_multipliers) - 1) if self.latent else 1

    @property
    def x_channels(self) -> int:
        """Channels of x_t: those of a latent, or RGB."""
        return self.latent_channels if self.latent else 3

    @property
    def lq_channels(self) -> int:
        """Channels of `lq` as the denoiser reads it."""
        return 4 if self.takes_mask else 3

    @property
    def reduction(self) -> int:
        """Side of the output over side of the first level of the denoiser."""
        return self.factor * self.unshuffle

    @property
    def lq_stride(self) -> int:
        """Side of `lq` over side of the first level of the denoiser, a power of 2."""
        return self.reduction // self.scale

    @property
    def extracted_channels(self) -> int:
        """Channels of `lq` behind its extractor."""
        return self.extractor_width * self.lq_stride if self.lq_stride > 1 else self.lq_channels

    @property
    def grid_multiple(self) -> int:
        """What the sides of the first level must be a multiple of: a window at the last level."""
        return self.window * 2 ** (len(self.multipliers) - 1)

    @property
    def multiple(self) -> int:
        """What the sides of `lq` must be a multiple of, in LQ pixels."""
        return self.grid_multiple * self.lq_stride

    @property
    def nominal_side(self) -> int:
        """Side of the `lq` for which the network was designed, in LQ pixels."""
        return self.resolution * self.lq_stride

    @property
    def evaluations(self) -> int:
        """How often the denoiser is evaluated for one result."""
        return len(self.timesteps) or self.steps

    def shifts(self, level: int) -> bool:
        """Whether Swin layers of a level, counted from 0, shift every second block."""
        return self.resolution >> level > self.window


_COUNTS = {
    "steps": 1000,
    "width": 1024,
    "swin_dim": 1024,
    "swin_blocks": 16,
    "heads": 64,
    "window": 32,
    "mlp_ratio": 16,
    "resolution": 1024,
    "unshuffle": 16,
    "extractor_width": 256,
    "groups": 256,
    "latent_channels": 64,
    "ae_width": 512,
    "codes": 65536,
}
"""Whole numbers of at least 1 and the largest value of each, so that a hostile file cannot ask for
an endless network."""
_POSITIVE = {
    "min_noise_level": (0.0, 1.0),
    "kappa": (0.0, 100.0),
    "power": (0.0, 100.0),
    "sqrt_eta_end": (0.0, 1.0),
}
_MOST_LEVELS = 6
_LARGEST_FACTOR = 32

REALSR_V3 = ResShiftConfig()
"""×4 super-resolution of real images in 4 steps, version 3."""
REALSR_V1 = ResShiftConfig(steps=15, min_noise_level=0.04)
"""×4 super-resolution of real images in 15 steps, versions 1 and 2, which differ in training."""
BICUBIC_X4 = ResShiftConfig()
"""×4 super-resolution of images reduced by MATLAB's bicubic filter."""
INPAINT = ResShiftConfig(scale=1, takes_mask=True)
"""Inpainting; the weights for ImageNet and those for faces differ in the autoencoder's too."""
FACE = ResShiftConfig(
    scale=1,
    latent_channels=8,
    ae_width=64,
    ae_multipliers=(1, 2, 4, 8),
    ae_blocks=(1, 2, 3, 4),
    codes=4096,
)
"""Restoration of aligned faces of 512×512 pixels with the f8 autoencoder."""
DEBLUR = ResShiftConfig(scale=1)
"""Motion deblurring (GoPro)."""
REALSR_X2 = ResShiftConfig(scale=2)
"""×2 super-resolution of real images, for which no weights were released."""
LEGACY_BICUBIC_OPENCV = ResShiftConfig(steps=15, min_noise_level=math.sqrt(0.001), kappa=1.0)
"""×4 super-resolution of images reduced by OpenCV's bicubic filter, in 15 steps: an early model.
Its configuration says m = 0.04, but the code of its time limited √η of the first step to √0.001."""
LEGACY_BICUBIC_MATLAB = REALSR_V1
"""×4 super-resolution of images reduced by MATLAB's bicubic filter, in 15 steps: an early model."""
SINSR = dataclasses.replace(REALSR_V1, timesteps=(14,))
"""SinSR, the one-step student of `REALSR_V1`: one evaluation, at the last step."""
