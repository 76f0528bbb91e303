"""A ResShift model as the rest of the package runs it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffir_cli.models.base import ModelInfo, Tiling, Window
from diffir_cli.models.progress import Progress
from diffir_cli.models.resshift.config import ResShiftConfig
from diffir_cli.models.resshift.networks import ResShift
from diffir_cli.models.resshift.networks.resshift import with_mask
from diffir_cli.models.resshift.progress import reporting
from diffir_cli.models.resshift.winograd import WinogradConv, use_winograd, winograd_bytes
from diffir_cli.options import Engine, Task
from diffir_cli.util.device_copy import to_device

NAME = "resshift"
"""Of the family."""

_FACE = 512
"""Side of the aligned crops of faces that the f8 model was made for, in LQ pixels."""
_TILE = 1024
"""Side of a tile in pixels of the output. The attention in the middle of the autoencoder sees a
whole tile, so its cost grows with the fourth power of this side."""


@dataclass(frozen=True)
class ResShiftContext:
    """What ResShift knows of a whole image."""

    lq: Tensor
    """(1, C, H, W) in [−1, 1], padded; with the mask behind it where the network takes one."""
    noise: Tensor
    """(steps + 1, 1, C, h, w), standard normal: of a place of the image, whatever the tiles."""


class ResShiftModel:
    """A ResShift model.

    Args:
        network: Denoiser and autoencoder, in eval mode.
        dtype: Number format of the convolutions and attention; the chain, norms and the search of
            the codebook always compute in fp32.
    """

    def __init__(self, network: ResShift, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.dtype = network, dtype
        self.config: ResShiftConfig = network.config
        self.info = info_of(network.config)

    def to(self, device: torch.device, dtype: torch.dtype, engine: Engine) -> ResShiftModel:
        """The same weights on a device, in a number format.

        Streaming computes in channels-last layout, and in fp32 on a CPU convolves by `winograd`;
        the reference computes as the modules stand there.
        """
        network = self.network
        if engine is Engine.STREAMING and dtype == torch.float32 and device.type == "cpu":
            # Other modules of the same parameters.
            kept = {id(parameter): parameter for parameter in network.parameters()}
            network = copy.deepcopy(network, kept)
            use_winograd(network)
        if dtype != self.dtype:
            # The fp32 weights stay, for what overflows.
            network = copy.deepcopy(network)
            network.denoiser.to(dtype)
            if network.autoencoder is not None:
                network.autoencoder.compute_in(dtype)
        layout = torch.channels_last if engine is Engine.STREAMING else torch.contiguous_format
        network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        return ResShiftModel(network, dtype)

    def context(
        self,
        lq: Tensor,
        seed: int,
        truth: Tensor | None = None,
        budget: int | None = None,
        progress: Progress | None = None,
    ) -> ResShiftContext:
        """The padded image, and all noise for it.

        Args:
            lq: (1, 3, H, W) in [0, 1] on the CPU; with a mask (1, 4, H, W).
            seed: Where the noise comes from.
            truth: Not looked at.
            budget: Not looked at.
            progress: Not called, since this takes no time.
        """
        del truth, budget, progress
        image = 2 * lq[:, :3] - 1
        if self.config.takes_mask:
            image = with_mask(image, lq[:, 3:])
        padded = _padded(image, self.config.multiple)
        shape = self.network.noise_shape(*padded.shape[2:])
        made = torch.Generator().manual_seed(seed)
        # Drawn on the CPU so that a seed means the same image on every device.
        noise = torch.randn(shape[0], 1, *shape[1:], generator=made)
        device = next(self.network.parameters()).device
        return ResShiftContext(to_device(padded, device), to_device(noise, device))

    def restore(
        self, lq: Tensor, window: Window, context: ResShiftContext, progress: Progress | None = None
    ) -> Tensor:
        """Encode a window, walk the chain, decode: (1, 3, scale·h, scale·w), near [0, 1]."""
        scale, factor = self.config.scale, self.config.factor
        left, top, width, height = (
            side * scale // factor
            for side in (window.left, window.top, window.width, window.height)
        )
        noise = context.noise[..., top : top + height, left : left + width]
        if progress is None:
            hq = self.network(lq, noise)
        else:
            with reporting(self.network, window.width, window.height, progress) as on_step:
                hq = self.network(lq, noise, on_step)
        return hq.float().add_(1).mul_(0.5)

    def memory(self, width: int, height: int) -> int:
        """Bytes that a window of so many LQ pixels takes, beside weights and pictures."""
        config = self.config
        multiple, scale = config.multiple, config.scale
        wide, high = (-(-side // multiple) * multiple * scale for side in (width, height))
        if config.latent:
            features = _MAPS * wide * high * config.ae_width * self.dtype.itemsize
            return round(features) + self._transforms(max(config.ae_channels))
        maps = _PIXEL_MAPS * config.width * self.dtype.itemsize / config.unshuffle**2
        images = round(wide * high * (maps + _PIXEL_IMAGES * 3 * 4))
        return images + self._transforms(max(config.channels))

    def _transforms(self, channels: int) -> int:
        modules = self.network.modules()
        # In half precision these modules convolve directly.
        used = self.dtype == torch.float32 and any(isinstance(one, WinogradConv) for one in modules)
        return _TRANSFORMS * winograd_bytes(channels) if used else 0

    def context_memory(self, width: int, height: int, budget: int | None) -> int:
        """Bytes that the padded image and its noise take."""
        del budget
        multiple = self.config.multiple
        wide, high = (-(-side // multiple) * multiple for side in (width, height))
        fields, channels, rows, columns = self.network.noise_shape(high, wide)
        return 4 * (fields * channels * rows * columns + 2 * self.config.lq_channels * wide * high)

    def parts(self) -> Mapping[str, nn.Module]:
        """Denoiser, and the autoencoder of a latent model."""
        return dict(self.network.named_children())


_MAPS = 5.6
"""Feature maps of the autoencoder's width at the size of the output that are alive at the worst
moment, in its decoder, as measured."""
_TRANSFORMS = 2
"""How often what the widest convolution takes by `winograd` is needed, as measured: the allocator
cannot give all of its room to feature maps."""
_PIXEL_MAPS, _PIXEL_IMAGES = 25, 27
"""Feature maps of the denoiser's first level and fp32 images at the size of the output that are
alive at the worst moment of a model on pixels, as measured."""


def info_of(config: ResShiftConfig) -> ModelInfo:
    """What may be asked of a model of a configuration."""
    if config.takes_mask:
        tasks = {Task.INPAINT}
    elif config.scale > 1:
        tasks = {Task.SR, Task.REALSR}
    elif config.nominal_side >= _FACE:
        tasks = {Task.FACE}
    else:
        tasks = {Task.DEBLUR, Task.REALSR}
    tile = max(_TILE // config.scale // config.multiple, 1) * config.multiple
    return ModelInfo(
        family=NAME,
        tasks=frozenset(tasks),
        scale=config.scale,
        multiple=config.multiple,
        takes_mask=config.takes_mask,
        channels=config.lq_channels,
        # Tiles begin at whole places of the noise and of the denoiser's first level.
        tiling=Tiling(
            tile if config.latent else 0,
            step=config.reduction // math.gcd(config.reduction, config.scale),
        ),
        latent=config.latent,
        aligned=_FACE if tasks == {Task.FACE} else 0,
    )


def _padded(image: Tensor, multiple: int) -> Tensor:
    """Mirrored at the bottom and right without the edge pixel, else with the edge repeated."""
    for axis in (2, 3):
        side = image.shape[axis]
        missing = -side % multiple
        mode = "reflect" if missing < side else "replicate"
        image = F.pad(image, (0, 0, 0, missing) if axis == 2 else (0, missing, 0, 0), mode)
    return image
