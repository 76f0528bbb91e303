"""The DIRformer as a program of OpenVINO: the whole image at once."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from diffir_cli.models.diffir.networks import DIRformer
from diffir_cli.util.diffusion_fill import smooth_fill
from diffir_cli.util.openvino_programs import OpenVinoNetwork


class OpenVinoDIRformer:
    """A DIRformer that OpenVINO executes.

    Args:
        dirformer: The plain module, in eval mode on the CPU.
        device: What `openvino_device` gave.
    """

    def __init__(self, dirformer: DIRformer, device: torch.device) -> None:
        self.prefill, self.device = dirformer.config.prefill, device
        # The steps in which holes are filled depend on the size.
        plain = copy.copy(dirformer)
        plain.config = config = replace(dirformer.config, prefill=False)
        lq = torch.rand(1, config.in_channels, 2 * config.multiple, config.multiple)
        self._network = OpenVinoNetwork(plain, (lq, torch.rand(1, config.ipr_dim)))

    def __call__(self, lq: Tensor, ipr: Tensor, dtype: torch.dtype) -> Tensor:
        """Restore an image as `DIRformer.forward` does.

        Args:
            lq: (1, in_channels, H, W) in [0, 1] on the CPU; H and W multiples of `config.multiple`.
            ipr: (1, 4C').
            dtype: Number format of the program.

        Returns:
            (1, 3, scale·H, scale·W), float32, near [0, 1] but not clamped.
        """
        if self.prefill:
            lq = torch.cat([smooth_fill(lq[:, :3], lq[:, 3:]), lq[:, 3:]], dim=1)
        return self._network.run((lq, ipr), dtype, self.device)
