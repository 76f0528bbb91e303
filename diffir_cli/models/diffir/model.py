"""A DiffIR network as the rest of the package runs it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from diffir_cli.errors import DeviceError
from diffir_cli.models.base import ModelInfo, Tiling, Window
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.memory import condition_bytes, condition_elements, needed_bytes
from diffir_cli.models.diffir.networks import DiffIRS1, DiffIRS2
from diffir_cli.models.diffir.networks.cpen import stage1_input, stage2_input
from diffir_cli.models.diffir.openvino_dirformer import OpenVinoDIRformer
from diffir_cli.models.diffir.priors.preparing import needs_preparing, prepared
from diffir_cli.models.diffir.streaming.condition import condition
from diffir_cli.models.diffir.streaming.dirformer import StreamingDIRformer, strip_elements
from diffir_cli.models.progress import Progress
from diffir_cli.options import Engine, Task
from diffir_cli.util.device_copy import to_device
from diffir_cli.util.out_of_memory import unless_out_of_memory
from diffir_cli.util.padding import pad

NAME = "diffir"
"""Of the family."""

_log = logging.getLogger(__name__)

_STRIPS = (1, 4, 16)
"""By how much strips are made smaller when memory runs out."""


@dataclass(frozen=True)
class DiffIRContext:
    """What DiffIR knows of a whole image."""

    lq: Tensor
    """(1, in_channels, H, W), padded: with the mask and perhaps filled holes, or with the
    deconvolution prior behind."""
    ipr: Tensor
    """Z or Ẑ, (1, 4C′)."""


class DiffIRModel:
    """A DiffIR network of either stage.

    Args:
        network: The plain modules, in eval mode.
        engine: How they are executed.
        dtype: Number format of the DIRformer; CPEN and the denoiser always compute in fp32.
        program: The DIRformer where OpenVINO executes it; torch then computes on the CPU.
    """

    def __init__(
        self,
        network: DiffIRS1 | DiffIRS2,
        engine: Engine = Engine.STREAMING,
        dtype: torch.dtype = torch.float32,
        program: OpenVinoDIRformer | None = None,
    ) -> None:
        self.network, self.engine, self.dtype = network, engine, dtype
        self.program = program
        self.config: ModelConfig = network.config
        self.info = info_of(network.config, isinstance(network, DiffIRS1))

    def to(self, device: torch.device, dtype: torch.dtype, engine: Engine) -> DiffIRModel:
        """The same weights on a device, in a number format, executed in one way."""
        if engine is Engine.OPENVINO:
            # The program is converted once for all number formats.
            if self.program:
                return DiffIRModel(self.network, engine, dtype, self.program)
            # A copy, since another engine may move the network itself to a device of torch.
            network = copy.deepcopy(self.network).cpu().eval()
            program = OpenVinoDIRformer(network.dirformer, device)
            return DiffIRModel(network, engine, dtype, program)
        return DiffIRModel(self.network.to(device).eval(), engine, dtype)

    def context(
        self,
        lq: Tensor,
        seed: int,
        truth: Tensor | None = None,
        budget: int | None = None,
        progress: Progress | None = None,
    ) -> DiffIRContext:
        """The IPR of a whole image, and the image as the DIRformer reads it.

        Args:
            lq: (1, 3, H, W) in [0, 1] on the CPU, (1, 4, H, W) with a mask, or (1, 6, H, W) with a
                deconvolution prior, which is made here where it is missing. Holes are filled by
                coherence transport where the network reads that.
            seed: Where x_T comes from.
            truth: (1, 3, scale·H, scale·W) in [0, 1] for a stage-1 network.
            budget: Bytes that this may take; None for no limit.
            progress: Called with the share that is done, 0 to 1; optional.

        Raises:
            DeviceError: when memory does not suffice for the prior.
        """
        config, device = self.config, next(self.network.parameters()).device
        if needs_preparing(config):
            lq = prepared(config, lq, budget if device.type == "cpu" else None, progress)
            # Next to that CPEN takes no time.
            progress = None
        padded = to_device(_padded(lq, config), device)
        elements = condition_elements(budget)
        if isinstance(self.network, DiffIRS1):
            if truth is None:
                raise ValueError("a stage-1 network reads its IPR from the ground truth")
            hq = _padded(truth, config, config.scale).to(device)
            pixels = stage1_input(padded, hq, config)
            ipr = condition(self.network.cpen, pixels, elements, progress)
        else:
            pixels = stage2_input(padded, config)
            found = condition(self.network.cpen, pixels, elements, progress)
            ipr = self.network.sample(found, initial_noise(config, seed).to(device))
        return DiffIRContext(padded, ipr)

    def restore(
        self, lq: Tensor, window: Window, context: DiffIRContext, progress: Progress | None = None
    ) -> Tensor:
        """The DIRformer's result for a window; where memory runs out, by smaller strips.

        Raises:
            DeviceError: when the plain modules run out of memory.
            RuntimeError: when strips do.
        """
        dirformer, ipr = self.network.dirformer, context.ipr
        if self.program:
            return self.program(lq, ipr, self.dtype)
        if self.engine is Engine.REFERENCE:
            hq = unless_out_of_memory(partial(self._whole, lq, ipr))
            if hq is None:
                raise DeviceError(
                    f"{lq.device} ran out of memory at {window.width}×{window.height} pixels",
                    "use --engine streaming",
                )
            return hq

        def in_strips(smaller: int) -> StreamingDIRformer:
            elements = strip_elements() // smaller
            return StreamingDIRformer(dirformer, self.dtype, elements, progress)

        for smaller in _STRIPS[:-1]:
            network = in_strips(smaller)
            hq = unless_out_of_memory(partial(network, lq, ipr))
            if hq is not None:
                return hq
            _log.warning(
                "%d×%d pixels do not fit with strips of 1/%d", window.width, window.height, smaller
            )
            if lq.device.type == "cuda":
                torch.cuda.empty_cache()
        return in_strips(_STRIPS[-1])(lq, ipr)

    def _whole(self, lq: Tensor, ipr: Tensor) -> Tensor:
        """The plain modules' result."""
        half = self.dtype.itemsize < 4
        with torch.autocast(lq.device.type, self.dtype) if half else nullcontext():
            hq: Tensor = self.network.dirformer(
                lq.contiguous(memory_format=torch.channels_last), ipr
            )
        return hq

    def memory(self, width: int, height: int) -> int:
        """Bytes that a window of so many LQ pixels takes, beside weights and pictures."""
        itemsize = self.dtype.itemsize
        return needed_bytes(self.config, width, height, self.engine, itemsize, strip_elements())

    def context_memory(self, width: int, height: int, budget: int | None) -> int:
        """Bytes that CPEN takes for an image."""
        return condition_bytes(self.config, width, height, condition_elements(budget))

    def parts(self) -> Mapping[str, nn.Module]:
        """CPEN, DIRformer, and the denoiser of stage 2."""
        return dict(self.network.named_children())


def info_of(config: ModelConfig, needs_truth: bool = False) -> ModelInfo:
    """What may be asked of a network of a configuration."""
    return ModelInfo(
        family=NAME,
        tasks=frozenset(_possible_tasks(config)),
        scale=config.scale,
        multiple=config.multiple,
        # All tiles are downsampled at the same places of the image.
        tiling=Tiling(step=config.multiple),
        takes_mask=config.in_channels == 4,
        needs_truth=needs_truth,
        channels=config.in_channels,
        # As the released inpainting code does.
        rounds=config.in_channels != 4,
        uncounted=_uncounted(config),
        engines=frozenset(Engine),
        context_share=_context_share(config),
    )


def _uncounted(config: ModelConfig) -> str:
    """What is done to a picture before the networks."""
    if config.coherence_fill:
        return "the coherence transport"
    return "the deconvolution" if config.in_channels == 6 else ""


def _context_share(config: ModelConfig) -> float:
    """About how much of the time goes by before the DIRformer begins."""
    if config.coherence_fill:
        return 0.35
    return 0.6 if config.in_channels == 6 else 0.1


def _possible_tasks(config: ModelConfig) -> list[Task]:
    """The tasks that a network can be for, by its input and output."""
    if config.in_channels == 4:
        return [Task.INPAINT]
    if config.in_channels == 6:
        return [Task.DEBLUR]
    return [Task.SR, Task.REALSR] if config.scale > 1 else [Task.REALSR, Task.DEBLUR]


def initial_noise(config: ModelConfig, seed: int) -> Tensor:
    """x_T of a seed, (1, 4C′), drawn on the CPU so that it is the same on every device."""
    return torch.randn(1, config.ipr_dim, generator=torch.Generator().manual_seed(seed))


def _padded(image: Tensor, config: ModelConfig, scale: int = 1) -> Tensor:
    """An image mirrored to sides that the network can halve.

    The released test code repeats the edge pixel where there is a mask, and only there.
    """
    return pad(image, config.multiple * scale, repeat_edge=config.in_channels == 4)
