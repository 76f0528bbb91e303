"""The denoising network: a small MLP on vectors (DiffIR, Sec. 4.2).

    Ẑ = Denoiser(Concat(D, t / 10T, x_t))

The paper does not describe its layers. In the released code its "residual" layers have no skip
connection, every layer ends in a LeakyReLU, and t counts from 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffir_cli.models.diffir.networks.blocks import NEGATIVE_SLOPE


class Denoiser(nn.Module):
    """(x_t, t, condition) → an estimate of the IPR.

    Args:
        ipr_dim: 4C'.
        blocks: Linear layers behind the first.
        steps: T, which sets the period by which t is scaled.
    """

    def __init__(self, ipr_dim: int, blocks: int, steps: int) -> None:
        super().__init__()
        self.max_period = 10 * max(steps, 1)
        layers: list[nn.Module] = [nn.Linear(2 * ipr_dim + 1, ipr_dim)]
        for _ in range(blocks):
            layers += [nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(ipr_dim, ipr_dim)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(NEGATIVE_SLOPE))

    def forward(self, x_t: Tensor, t: int | Tensor, condition: Tensor) -> Tensor:
        """Estimate Z.

        Args:
            x_t: The diffused IPR, (B, 4C').
            t: The step, counted from 0; one number, or one for each sample, (B,).
            condition: D, (B, 4C').

        Returns:
            (B, 4C').
        """
        time = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device) / self.max_period
        column = time.expand(x_t.shape[0])[:, None]
        return self.layers(torch.cat([condition, column, x_t], dim=1))
