"""A whole ResShift model: encode the degraded image, walk the chain, decode.

    y₀ = encode(↑LQ);  x̂₀ = chain(y₀, LQ, noise);  HQ = decode(x̂₀)

where ↑ is bicubic interpolation. On pixels, encode and decode are the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.diffusion import ChainStep, ShiftSchedule, sample
from diffir_cli.models.resshift.networks.swin_unet import SwinUNet
from diffir_cli.models.resshift.networks.vq_autoencoder import VQAutoencoder


class ResShift(nn.Module):
    """Denoiser, schedule, and the autoencoder of a latent model.

    Args:
        denoiser: With the configuration of the model.
        autoencoder: None for a model that runs on pixels.
    """

    def __init__(self, denoiser: SwinUNet, autoencoder: VQAutoencoder | None) -> None:
        super().__init__()
        self.config = denoiser.config
        self.schedule = ShiftSchedule.of(denoiser.config)
        self.denoiser = denoiser
        self.autoencoder = autoencoder

    @classmethod
    def of(cls, config: ResShiftConfig) -> ResShift:
        """An untrained model."""
        return cls(SwinUNet(config), VQAutoencoder(config) if config.latent else None)

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Fields, channels, height and width of the noise for an LQ of this size in pixels.

        The last two are also the sides of y₀, `scale / factor` times those of LQ.
        """
        side = self.config.scale / self.config.factor
        return (
            self.schedule.steps + 1,
            self.config.x_channels,
            int(height * side),
            int(width * side),
        )

    def encode(self, lq: Tensor) -> Tensor:
        """y₀, what the chain starts from.

        Args:
            lq: (B, lq_channels, H, W) in [−1, 1]; channels behind RGB are not looked at.

        Returns:
            (B, C, scale·H / factor, scale·W / factor).
        """
        enlarged = lq[:, :3]
        if self.config.scale > 1:
            enlarged = F.interpolate(
                enlarged, scale_factor=float(self.config.scale), mode="bicubic"
            )
        return self.encode_image(enlarged)

    def encode_image(self, image: Tensor) -> Tensor:
        """What stands for an image in the chain: its latent, or on pixels the image itself.

        Args:
            image: (B, 3, scale·H, scale·W) in [−1, 1].
        """
        return self.autoencoder.encode(image) if self.autoencoder is not None else image

    def sample(
        self,
        y0: Tensor,
        lq: Tensor,
        noise: Tensor | Sequence[Tensor],
        on_step: Callable[[ChainStep], None] | None = None,
    ) -> Tensor:
        """x̂₀, of the shape of `y0`, by the chain of `diffusion.sample`.

        Args:
            y0: From `encode`.
            lq: (B, lq_channels, H, W) in [−1, 1].
            noise: Standard normal noise, steps + 1 fields of the shape of `y0`.
            on_step: Called after each step.
        """
        return sample(
            lambda x, t: self.denoiser(x, t, lq),
            self.schedule,
            y0,
            noise,
            prediction=self.config.prediction,
            stochasticity=self.config.stochasticity,
            on_step=on_step,
        )

    def decode(self, x0: Tensor, quantise: bool = True) -> Tensor:
        """The image of what `sample` returns: (B, 3, scale·H, scale·W), not clamped.

        Args:
            x0: (B, C, h, w).
            quantise: Whether a latent is rounded to the codebook first.
        """
        return x0 if self.autoencoder is None else self.autoencoder.decode(x0, quantise)

    def forward(
        self,
        lq: Tensor,
        noise: Tensor | Sequence[Tensor],
        on_step: Callable[[ChainStep], None] | None = None,
    ) -> Tensor:
        """Restore an image.

        Args:
            lq: (B, 3, H, W) in [−1, 1], or as `with_mask` makes it; H and W are multiples of
                `config.multiple`.
            noise: Standard normal noise, steps + 1 fields of (B, C, h, w); see `noise_shape`.
            on_step: Called after each step.

        Returns:
            (B, 3, scale·H, scale·W), near [−1, 1] but not clamped.
        """
        return self.decode(self.sample(self.encode(lq), lq, noise, on_step))


def with_mask(lq: Tensor, mask: Tensor) -> Tensor:
    """What an inpainting model reads: the image with black holes, and the mask behind it.

    The released code takes the holes of a file as they are; here they are blanked.

    Args:
        lq: (B, 3, H, W) in [−1, 1].
        mask: (B, 1, H, W), 1 where the image is unknown, else 0.

    Returns:
        (B, 4, H, W); the mask in it is 1 where the image is unknown, else −1.
    """
    return torch.cat([lq.masked_fill(mask > 0.5, -1.0), 2 * mask - 1], dim=1)
