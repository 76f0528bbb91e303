"""One image through one network: plan, context, windows, finish.

All that a network draws at random comes from a seed and belongs to the whole image, so that a seed
means the same image on every device and whatever the tiles.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.errors import DeviceError, WeightsError
from diffir_cli.imaging.picture import resize_lanczos
from diffir_cli.models.base import Context, ModelInfo, RestorationModel, Window
from diffir_cli.options import ColorFix, Engine, MemoryLimits, Precision
from diffir_cli.runtime.color import fix_colors
from diffir_cli.runtime.device import choose_device, choose_precision, dtype_of, tf32
from diffir_cli.runtime.image_tensor import KINDS, to_tensor, white_level
from diffir_cli.runtime.memory import CANVAS_SHARE, Plan, plan_run
from diffir_cli.util.device_copy import to_host
from diffir_cli.util.device_memory import available_bytes
from diffir_cli.util.out_of_memory import is_out_of_memory, unless_out_of_memory
from diffir_cli.util.tiling import blended

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """A restored image and how it came about."""

    pixels: NDArray[Any]
    """(scale·H, scale·W, 3) of the kind of the input."""
    precision: Precision
    """The number format of the network."""
    tile: int = 0
    """Side of the tiles in LQ pixels; 0 where it was done whole."""
    redone: int = 0
    """How often half precision overflowed, and fp32 took its place."""


class ModelRunner:
    """A network on a device, ready for images.

    Not thread-safe: use one for each thread.

    Args:
        model: The network; it is moved to the device.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu` or `mps`.
        precision: Number format of the network. `auto` is bf16 where the device multiplies in it,
            on a CPU for pictures of 8 bits only.
        engine: How it is executed.
        limits: Of memory and tiles; None for none but what is free.
        color_fix: Where the colours of results come from.

    Raises:
        DeviceError: when the machine cannot provide device or precision.
        WeightsError: when colours are to be fixed by a network that fills holes.
    """

    def __init__(
        self,
        model: RestorationModel,
        device: str | torch.device = "auto",
        precision: Precision = Precision.AUTO,
        engine: Engine = Engine.STREAMING,
        limits: MemoryLimits | None = None,
        color_fix: ColorFix = ColorFix.AUTO,
    ) -> None:
        self.device = device if isinstance(device, torch.device) else choose_device(device)
        self.precision, self.engine = precision, engine
        # Refused here already, and not with the first image.
        choose_precision(precision, self.device)
        self.limits = limits or MemoryLimits()
        self.model = model.to(self.device, torch.float32, engine)
        if color_fix is ColorFix.AUTO:
            # A hole has no colours that could be kept.
            shifted = model.info.latent and not model.info.takes_mask
            color_fix = ColorFix.WAVELET if shifted else ColorFix.NONE
        elif model.info.takes_mask and color_fix is not ColorFix.NONE:
            raise WeightsError(
                "a hole has no colours of the input", "leave --color-fix out, or say none"
            )
        self.color_fix = color_fix
        self._models = {torch.float32: self.model}
        # Plans are made by the threads that read, beside the one that restores.
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """What may be asked of the network."""
        return self.model.info

    def precision_for(self, deep: bool = False) -> Precision:
        """The number format for pictures of 8 bits a channel, or of more."""
        return choose_precision(self.precision, self.device, deep)

    def restore(
        self,
        lq: NDArray[Any],
        seed: int = 0,
        gt: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """The pixels of `run`."""
        return self.run(lq, seed, gt, mask).pixels

    @torch.inference_mode()
    def run(
        self,
        lq: NDArray[Any],
        seed: int = 0,
        gt: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
        strength: float = 1.0,
    ) -> Restored:
        """Restore an image of 8 or 16 bits a channel, or of fractions.

        Args:
            lq: (H, W, 3) in 0–255 of uint8, 0–65535 of uint16 or [0, 1] of float32, of any size.
            seed: Where all noise comes from; the same seed gives the same image.
            gt: (scale·H, scale·W, 3), the ground truth, for a network that sees it.
            mask: (H, W), True in the holes that an inpainting network fills. Outside them the
                result is `lq` to the bit.
            strength: Share of the network in the result, 0 to 1; the rest is `lq`, resized by
                Lanczos.

        Returns:
            The image, rounded or truncated as `info.rounds` says. Fractions are neither.

        Raises:
            ValueError: when a mask is given to a network that takes none, or the other way round,
                or the numbers are of another kind.
            DeviceError: when the image does not fit into memory.
            WeightsError: when the network produced NaN or infinite values.
        """
        if self.info.takes_mask != (mask is not None):
            raise ValueError("an inpainting network, and no other, takes a mask")
        if mask is not None and mask.shape != lq.shape[:2]:
            raise ValueError(f"a mask of {mask.shape} does not fit an image of {lq.shape[:2]}")
        height, width = lq.shape[:2]
        side = self.info.aligned
        if side and (height != width or height < side // 2):
            _log.warning(
                "the network was made for aligned crops of %d×%d pixels, not for %d×%d",
                *(side, side, width, height),
            )
        precision = self.precision_for(lq.dtype != np.uint8)
        try:
            tensor = to_tensor(lq)
            if mask is not None:
                holes = torch.tensor(mask)[None, None].float()
                tensor = torch.cat([tensor * (1 - holes), holes], dim=1)
            truth = None if gt is None else to_tensor(gt)
            hq, tile, redone = self._run(tensor, seed, truth, precision)
            pixels = _finished(hq, lq, mask, strength, self.info.rounds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return Restored(pixels, precision, tile, redone)
        raise DeviceError(
            f"{self.device} ran out of memory at {width}×{height} pixels",
            "use a smaller --tile, or a machine with more memory",
        )

    def plan(self, width: int, height: int, deep: bool = False) -> Plan:
        """How an image of so many LQ pixels will be executed; needs no image.

        Raises:
            DeviceError: when it does not fit into memory.
        """
        model = self._model(self.precision_for(deep))
        return plan_run(model, width, height, self.device, self.limits)

    @torch.inference_mode()
    def run_tensor(self, lq: Tensor, seed: int = 0, truth: Tensor | None = None) -> Tensor:
        """Restore an image in float.

        Args:
            lq: (1, 3, H, W) in [0, 1] on the CPU, of any size; with a mask (1, 4, H, W).
            seed: Where all noise comes from.
            truth: (1, 3, scale·H, scale·W) in [0, 1] for a network that sees it.

        Returns:
            (1, 3, scale·H, scale·W), float32 on the device, not clamped.
        """
        return self._run(lq, seed, truth, self.precision_for())[0]

    def _model(self, precision: Precision) -> RestorationModel:
        dtype = dtype_of(precision)
        with self._lock:
            if dtype not in self._models:
                self._models[dtype] = self.model.to(self.device, dtype, self.engine)
            return self._models[dtype]

    def _run(
        self, lq: Tensor, seed: int, truth: Tensor | None, precision: Precision
    ) -> tuple[Tensor, int, int]:
        """(1, 3, scale·H, scale·W) in float32, the side of the tiles, and how many were redone."""
        height, width = lq.shape[-2:]
        model = self._model(precision)
        plan = plan_run(model, width, height, self.device, self.limits)
        _log.info(
            "%d×%d pixels need about %d MiB on %s in %s",
            *(width, height, plan.needed >> 20, self.device, precision.value),
        )
        with tf32(False):
            context = model.context(lq, seed, truth, plan.budget)
        work = _Windows(self, context, precision)
        with tf32(precision is Precision.TF32):
            hq = work.restored(plan.tile)
        scale = self.info.scale
        hq = hq[..., : scale * height, : scale * width].float()
        return fix_colors(hq, lq[:, :3], self.color_fix), work.tile, work.redone


class _Windows:
    """The windows of one image."""

    def __init__(self, runner: ModelRunner, context: Context, precision: Precision) -> None:
        self.runner, self.context, self.precision = runner, context, precision
        self.tile = self.redone = 0

    def restored(self, tile: int) -> Tensor:
        """The whole image, by tiles where their side is not 0."""
        lq = self.context.lq
        if tile:
            return self._tiled(lq, tile, 0, 0, self._finite)
        return self._finite(lq, 0, 0)

    def _finite(self, lq: Tensor, left: int, top: int) -> Tensor:
        """A window's result, in fp32 where half precision overflowed.

        The whole window again, since what its parts share cannot hold in half precision what
        overflowed there.
        """
        hq = self._restored(lq, left, top, self.precision)
        if dtype_of(self.precision).itemsize < 4 and not torch.isfinite(hq).all():
            size = f"{lq.shape[3]}×{lq.shape[2]} pixels"
            _log.warning("%s overflowed: %s are restored again in fp32", self.precision.value, size)
            self.redone += 1
            hq = self._restored(lq, left, top, Precision.FP32)
        return hq

    def _restored(self, lq: Tensor, left: int, top: int, precision: Precision) -> Tensor:
        """A window's result; where memory runs out, by smaller tiles.

        Raises:
            DeviceError: when even these do not fit.
        """
        runner, multiple = self.runner, self.runner.info.multiple
        height, width = lq.shape[2:]
        model = runner._model(precision)
        window = Window(left, top, width, height)
        hq = unless_out_of_memory(partial(model.restore, lq, window, self.context))
        if hq is not None:
            return hq
        if runner.device.type == "cuda":
            torch.cuda.empty_cache()
        tile = max(height, width) // 2 // multiple * multiple
        if tile < max(2 * runner.limits.overlap, multiple):
            raise DeviceError(
                f"{runner.device} ran out of memory at {width}×{height} pixels",
                "use a smaller --tile",
            )
        return self._tiled(lq, tile, left, top, partial(self._restored, precision=precision))

    def _tiled(self, lq: Tensor, tile: int, left: int, top: int, restore: Any) -> Tensor:
        """By overlapping tiles, the result in a file where it is a large part of what is free."""
        _log.info("tiles of %d pixels", tile)
        self.tile = tile
        limits, info = self.runner.limits, self.runner.info
        available = limits.max_memory or available_bytes(torch.device("cpu"))
        bound = math.inf if available is None else CANVAS_SHARE * available
        overlap = min(limits.overlap, tile // 2)

        def placed(part: Tensor, x: int, y: int) -> Tensor:
            hq: Tensor = restore(part, left + x, top + y)
            return hq

        return blended(lq, info.scale, tile, overlap, info.multiple, placed, bound)


def _finished(
    hq: Tensor, lq: NDArray[Any], mask: NDArray[np.bool_] | None, strength: float, rounds: bool
) -> NDArray[Any]:
    """The pixels of a result, of the kind of `lq`.

    Raises:
        WeightsError: when it is not finite.
    """
    if not torch.isfinite(hq).all():
        raise WeightsError(
            "the network produced NaN or infinite values", "are the weights damaged? try others"
        )
    if strength < 1:
        shape = hq.shape[2], hq.shape[3]
        plain = resize_lanczos(lq.astype(np.float32) / np.float32(white_level(lq)), shape)
        hq = hq * strength + (1 - strength) * torch.from_numpy(plain).permute(2, 0, 1).to(hq)
    levels = hq[0].clamp_(0, 1).mul_(white_level(lq))
    kind = KINDS[lq.dtype.name]
    if rounds and not kind.is_floating_point:
        levels.round_()
    pixels = to_host(levels.permute(1, 2, 0).to(kind).contiguous()).numpy()
    pixels = pixels.astype(lq.dtype, copy=False)
    return pixels if mask is None else np.where(mask[:, :, None], pixels, lq)
