"""The two networks of DiffIR (Fig. 2): stage 1 sees the truth, stage 2 imagines it.

stage 1   Z = CPEN_S1(LQ, GT);                          HQ = DIRformer(LQ, Z)
stage 2   D = CPEN_S2(LQ);  Ẑ = sample_ipr(x_T, D);     HQ = DIRformer(LQ, Ẑ)
"""

from __future__ import annotations

from torch import Tensor, nn

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.diffusion import NoiseSchedule, sample_ipr
from diffir_cli.models.diffir.networks.cpen import CPEN, stage1_input, stage2_input
from diffir_cli.models.diffir.networks.denoiser import Denoiser
from diffir_cli.models.diffir.networks.dirformer import DIRformer


class DiffIRS1(nn.Module):
    """Stage 1: the IPR comes from the ground truth (DiffIR, Sec. 4.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.cpen = CPEN.stage1(config)
        self.dirformer = DIRformer(config)

    def ipr(self, lq: Tensor, gt: Tensor) -> Tensor:
        """Z, (B, 4C').

        Args:
            lq: (B, in_channels, H, W) in [0, 1]; H and W multiples of `config.multiple`.
            gt: (B, 3, scale·H, scale·W) in [0, 1].
        """
        return self.cpen(stage1_input(lq, gt, self.config))

    def forward(self, lq: Tensor, gt: Tensor) -> Tensor:
        """Restore `lq` with the help of the truth: (B, 3, scale·H, scale·W), not clamped."""
        return self.dirformer(lq, self.ipr(lq, gt))


class DiffIRS2(nn.Module):
    """Stage 2: the IPR comes from noise and the degraded image (DiffIR, Sec. 4.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = NoiseSchedule.of(config)
        self.cpen = CPEN.stage2(config)
        self.denoiser = Denoiser(config.ipr_dim, config.denoiser_blocks, config.steps)
        self.dirformer = DIRformer(config)

    def condition(self, lq: Tensor) -> Tensor:
        """D, (B, 4C'), for a (B, in_channels, H, W) image in [0, 1] (Eq. 12)."""
        return self.cpen(stage2_input(lq, self.config))

    def sample(
        self, condition: Tensor, x_T: Tensor, variance_noise: Tensor | None = None
    ) -> Tensor:
        """Ẑ, (B, 4C'), from D and noise, both (B, 4C') (Alg. 2; see `sample_ipr`)."""
        return sample_ipr(
            self.denoiser,
            self.schedule,
            condition,
            x_T,
            prediction=self.config.prediction,
            variance_noise=variance_noise,
        )

    def ipr(self, lq: Tensor, x_T: Tensor) -> Tensor:
        """Ẑ, (B, 4C').

        Args:
            lq: (B, in_channels, H, W) in [0, 1]; H and W multiples of `config.multiple`.
            x_T: Standard normal noise, (B, 4C').
        """
        return self.sample(self.condition(lq), x_T)

    def forward(self, lq: Tensor, x_T: Tensor) -> Tensor:
        """Restore `lq`: (B, 3, scale·H, scale·W), near [0, 1] but not clamped."""
        return self.dirformer(lq, self.ipr(lq, x_T))
