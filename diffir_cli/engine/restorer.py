"""One image through one network: pad, run, crop, round (facts of the released test code).

The IPR is a property of the whole image, so the noise it starts from is too: x_T is drawn once per
image from the seed, on the CPU, so that a seed means the same image on every device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.config import Engine, ModelConfig, Precision
from diffir_cli.engine.condition import condition
from diffir_cli.engine.device import (
    choose_device,
    choose_precision,
    dtype_of,
    tf32,
    to_device,
    to_host,
)
from diffir_cli.engine.guess import guess_bytes, read_by
from diffir_cli.engine.memory import (
    CANVAS_SHARE,
    Plan,
    Wish,
    available_bytes,
    is_out_of_memory,
    plan_run,
    said,
)
from diffir_cli.engine.padding import pad
from diffir_cli.engine.streaming import StreamingDIRformer, strip_numbers
from diffir_cli.engine.tiling import blended
from diffir_cli.errors import DeviceError, WeightsError
from diffir_cli.networks import DiffIRS1, DiffIRS2, DIRformer
from diffir_cli.networks.cpen import stage1_input, stage2_input

_log = logging.getLogger(__name__)


class ModelRestorer:
    """A network on a device, ready for images.

    Not thread-safe: use one for each thread.

    Args:
        model: A network of either stage; it is moved to the device and put in eval mode.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu` or `mps`.
        precision: Number format of the DIRformer; CPEN and the denoiser always compute in fp32.
            `auto` is bf16 where the device multiplies in it, on a CPU for pictures of 8 bits only.
        engine: How it is executed.
        wish: Limits of memory and tiles; None for none but what is free.

    Raises:
        DeviceError: when the machine cannot provide device or precision.
    """

    def __init__(
        self,
        model: DiffIRS1 | DiffIRS2,
        device: str | torch.device = "auto",
        precision: Precision = Precision.AUTO,
        engine: Engine = Engine.STREAMING,
        wish: Wish | None = None,
    ) -> None:
        self.device = device if isinstance(device, torch.device) else choose_device(device)
        self.asked = precision
        self.precision = choose_precision(precision, self.device)
        """Of the last image; before the first, of pictures of 8 bits."""
        self.engine, self.wish = engine, wish or Wish()
        self.tiles = 0
        """Side of the tiles of the last image in LQ pixels; 0 where it was done whole."""
        self.redone = 0
        """How often half precision overflowed in the last image, and fp32 took its place."""
        self.model = model.to(self.device).eval()
        self.config: ModelConfig = model.config

    @torch.inference_mode()
    def restore(
        self,
        lq: NDArray[Any],
        seed: int = 0,
        gt: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """Restore an image of 8 or 16 bits a channel, or of fractions.

        Args:
            lq: (H, W, 3) in 0–255 of uint8, 0–65535 of uint16 or [0, 1] of float32, of any size; or
                (H, W, 6) with the deconvolved guess that the network reads, else it is made here.
            seed: Where x_T comes from; the same seed gives the same image.
            gt: (scale·H, scale·W, 3), the ground truth that a stage-1 network reads.
            mask: (H, W), True in the holes that an inpainting network fills. Outside them the
                result is `lq` to the bit.

        Returns:
            (scale·H, scale·W, 3) of the kind of `lq`, rounded half to even; in holes truncated, as
            the released inpainting code does. Fractions are neither.

        Raises:
            ValueError: when a mask is given to a network that takes none, or the other way round,
                or the numbers are of another kind.
            DeviceError: when the image does not fit into memory.
            WeightsError: when the network's result is not finite.
        """
        if self.takes_mask != (mask is not None):
            raise ValueError("an inpainting network, and no other, takes a mask")
        if mask is not None and mask.shape != lq.shape[:2]:
            raise ValueError(f"a mask of {mask.shape} does not fit an image of {lq.shape[:2]}")
        try:
            return self._restore(lq, seed, gt, mask)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise DeviceError(
            f"{self.device} ran out of memory at {lq.shape[1]}×{lq.shape[0]} pixels",
            "use a smaller --tile, or a machine with more memory",
        )

    def _restore(
        self,
        lq: NDArray[Any],
        seed: int,
        gt: NDArray[Any] | None,
        mask: NDArray[np.bool_] | None,
    ) -> NDArray[Any]:
        self.precision = choose_precision(self.asked, self.device, lq.dtype != np.uint8)
        tensor = _to_tensor(lq)
        if mask is not None:
            holes = torch.tensor(mask)[None, None].float()
            tensor = torch.cat([tensor * (1 - holes), holes], dim=1)
        if self.config.in_channels == 6:
            tensor = self._with_guess(tensor)
        restored = self.run(tensor, seed, None if gt is None else _to_tensor(gt))
        if not torch.isfinite(restored).all():
            raise WeightsError(
                "the network's result is not finite", "are the weights damaged? try others"
            )
        levels = restored[0].clamp_(0, 1).mul_(_white(lq))
        kind = _KINDS[lq.dtype.name]
        if mask is None and not kind.is_floating_point:
            levels.round_()
        pixels = levels.permute(1, 2, 0).to(kind).contiguous()
        hq = to_host(pixels).numpy().astype(lq.dtype, copy=False)
        return hq if mask is None else np.where(mask[:, :, None], hq, lq)

    def _with_guess(self, lq: Tensor) -> Tensor:
        """What a network with a guess reads, once the plan says that the picture fits."""
        height, width = lq.shape[-2:]
        self._plan(width, height)
        # The guess is made on the CPU, wherever the network is.
        budget = self.wish.max_memory or available_bytes(torch.device("cpu"))
        needed = guess_bytes(self.config, height, width)
        if budget is not None and needed > budget:
            raise DeviceError(
                f"to look for the shake of {width}×{height} pixels takes about {said(needed)}, and "
                f"{said(budget)} may be used",
                "use a machine with more memory, or raise --max-memory",
            )
        try:
            return read_by(self.config, lq, budget)
        except (RuntimeError, MemoryError) as error:
            if not (is_out_of_memory(error) or "start new thread" in str(error)):
                raise
        raise DeviceError(
            f"no memory is left to look for the shake of {width}×{height} pixels",
            "use --threads 1, a smaller picture, or a machine with more memory",
        )

    @property
    def takes_mask(self) -> bool:
        """Whether this is an inpainting network."""
        return self.config.in_channels == 4

    @property
    def dtype(self) -> torch.dtype:
        """The format of the feature maps."""
        return dtype_of(self.precision)

    @torch.inference_mode()
    def run(self, lq: Tensor, seed: int = 0, gt: Tensor | None = None) -> Tensor:
        """Restore an image in float.

        Args:
            lq: (1, in_channels, H, W) in [0, 1], of any size.
            seed: Where x_T comes from.
            gt: (1, 3, scale·H, scale·W) in [0, 1] for a stage-1 network, else None.

        Returns:
            (1, 3, scale·H, scale·W), float32 on the device, not clamped.
        """
        scale = self.config.scale
        height, width = lq.shape[-2:]
        padded = to_device(pad(lq, self.config), self.device)
        plan = self._plan(width, height)
        self.tiles, self.redone = plan.tile, 0
        _log.info(
            "%d×%d pixels need about %d MiB on %s in %s",
            *(width, height, plan.needed >> 20, self.device, self.precision.value),
        )
        with tf32(False):
            ipr = self._ipr(padded, seed, gt, plan.condition)
        restored = partial(self._finite, ipr=ipr)
        with tf32(self.precision is Precision.TF32):
            hq = self._tiled(padded, plan.tile, restored) if plan.tile else restored(padded)
        return hq[..., : scale * height, : scale * width].float()

    def _plan(self, width: int, height: int) -> Plan:
        how = self.engine, self.dtype.itemsize, strip_numbers()
        return plan_run(self.config, width, height, self.device, self.wish, *how)

    def _ipr(self, padded: Tensor, seed: int, gt: Tensor | None, numbers: int) -> Tensor:
        """Z or Ẑ of the whole image, (1, 4C')."""
        config = self.config
        if isinstance(self.model, DiffIRS1):
            if gt is None:
                raise ValueError("a stage-1 network reads its IPR from the ground truth")
            truth = pad(gt, config, config.scale).to(self.device)
            return condition(self.model.cpen, stage1_input(padded, truth, config), numbers)
        found = condition(self.model.cpen, stage2_input(padded, config), numbers)
        return self.model.sample(found, initial_noise(config, seed).to(self.device))

    def _finite(self, lq: Tensor, ipr: Tensor) -> Tensor:
        """The DIRformer's result, in fp32 where half precision overflowed.

        A whole image or tile again, since the feature that the strips share cannot hold in half
        precision what overflowed there.
        """
        hq = self._restored(lq, ipr, self.dtype)
        if self.dtype.itemsize < 4 and not torch.isfinite(hq).all():
            size = f"{lq.shape[3]}×{lq.shape[2]} pixels"
            _log.warning("%s overflowed: %s are restored again in fp32", self.precision.value, size)
            self.redone += 1
            hq = self._restored(lq, ipr, torch.float32)
        return hq

    def _restored(self, lq: Tensor, ipr: Tensor, dtype: torch.dtype) -> Tensor:
        """The DIRformer's result; where memory runs out, by smaller strips and then by tiles."""
        size = f"{lq.shape[3]}×{lq.shape[2]}"
        dirformer = self.model.dirformer
        if self.engine is Engine.REFERENCE:
            hq = _unless_out_of_memory(partial(_whole, dirformer, dtype), lq, ipr)
            if hq is None:
                raise DeviceError(
                    f"{self.device} ran out of memory at {size} pixels", "use --engine streaming"
                )
            return hq
        for smaller in _STRIPS:
            network = StreamingDIRformer(dirformer, dtype, strip_numbers() // smaller)
            hq = _unless_out_of_memory(network, lq, ipr)
            if hq is not None:
                return hq
            _log.warning("%s pixels do not fit with strips of 1/%d", size, smaller)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        tile = max(lq.shape[2:]) // 2 // self.config.multiple * self.config.multiple
        if tile < max(2 * self.wish.overlap, self.config.multiple):
            raise DeviceError(
                f"{self.device} ran out of memory at {size} pixels", "use a smaller --tile"
            )
        self.tiles = tile
        return self._tiled(lq, tile, partial(self._restored, ipr=ipr, dtype=dtype))

    def _tiled(self, lq: Tensor, tile: int, restored: Callable[[Tensor], Tensor]) -> Tensor:
        """By overlapping tiles, the result in a file where it is a large part of what is free."""
        _log.info("tiles of %d pixels", tile)
        available = self.wish.max_memory or available_bytes(torch.device("cpu"))
        bound = math.inf if available is None else CANVAS_SHARE * available
        multiple = self.config.multiple
        overlap = min(self.wish.overlap, tile // 2)
        return blended(lq, self.config.scale, tile, overlap, multiple, restored, bound)


_STRIPS = (1, 4, 16)
"""By how much strips are made smaller when memory runs out."""


def _whole(dirformer: DIRformer, dtype: torch.dtype, lq: Tensor, ipr: Tensor) -> Tensor:
    """The plain modules' result."""
    half = dtype.itemsize < 4
    with torch.autocast(lq.device.type, dtype) if half else nullcontext():
        hq: Tensor = dirformer(lq.contiguous(memory_format=torch.channels_last), ipr)
    return hq


def _unless_out_of_memory(
    network: Callable[[Tensor, Tensor], Tensor], lq: Tensor, ipr: Tensor
) -> Tensor | None:
    """The network's result, or None where an allocator had nothing left."""
    try:
        return network(lq, ipr)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the block, so that nothing of the failed attempt is alive any more.
    return None


def initial_noise(config: ModelConfig, seed: int) -> Tensor:
    """x_T of a seed, (1, 4C'), drawn on the CPU so that it is the same on every device."""
    return torch.randn(1, config.ipr_dim, generator=torch.Generator().manual_seed(seed))


_KINDS = {"uint8": torch.uint8, "uint16": torch.int32, "float32": torch.float32}
"""What torch counts the levels of an image in."""


def _white(image: NDArray[Any]) -> int:
    """The number that stands for white."""
    if image.dtype.name not in _KINDS:
        raise ValueError(f"an image has numbers of {', '.join(_KINDS)}, not {image.dtype}")
    return 1 if image.dtype == np.float32 else int(np.iinfo(image.dtype).max)


def _to_tensor(image: NDArray[Any]) -> Tensor:
    """(H, W, C) of uint8 or uint16 to (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / _white(image)
