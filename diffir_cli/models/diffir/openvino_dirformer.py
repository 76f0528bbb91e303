"""The DIRformer as a program of OpenVINO: the whole image at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.models.diffir.networks.dirformer import with_smooth_filling
from diffir_cli.util.openvino_programs import OpenVinoNetwork


class OpenVinoDIRformer:
    """A DIRformer that OpenVINO executes.

    Args:
        dirformer: The plain module, in eval mode on the CPU.
        device: What `openvino_device` gave.
    """

    def __init__(self, dirformer: DIRformer, device: torch.device) -> None:
        self.config, self.device = dirformer.config, device
        config = dirformer.config
        lq = torch.rand(1, config.read_channels, 2 * config.multiple, config.multiple)
        inputs = lq, torch.rand(1, config.ipr_dim)
        self._network = OpenVinoNetwork(_FilledInput(dirformer), inputs)

    def __call__(self, lq: Tensor, ipr: Tensor, dtype: torch.dtype) -> Tensor:
        """Restore an image as `DIRformer.forward` does.

        Args:
            lq: (1, in_channels, H, W) in [0, 1] on the CPU; H and W multiples of `config.multiple`.
            ipr: (1, 4C').
            dtype: Number format of the program.

        Returns:
            (1, 3, scale·H, scale·W), float32, near [0, 1] but not clamped.
        """
        read = with_smooth_filling(lq, self.config)
        return self._network.run((read, ipr), dtype, self.device)


class _FilledInput(nn.Module):
    """A DIRformer without the smooth filling of holes, whose steps depend on the size."""

    def __init__(self, dirformer: DIRformer) -> None:
        super().__init__()
        self.dirformer = dirformer

    def forward(self, read: Tensor, ipr: Tensor) -> Tensor:
        return self.dirformer.restored(read, ipr)
