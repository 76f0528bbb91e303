"""One image through one network: plan, context, windows, finish.

All that a network draws at random comes from a seed and belongs to the whole image, so that a seed
means the same image on every device and whatever the tiles.
"""

from __future__ import annotations

import itertools
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
from diffir_cli.models.base import Context, ModelInfo, RestorationModel, Window
from diffir_cli.models.progress import Progress, part_of
from diffir_cli.options import ColorFix, Engine, Precision, RunOptions
from diffir_cli.runtime.color import fix_colors
from diffir_cli.runtime.device import choose_device, choose_precision, dtype_of, tf32
from diffir_cli.runtime.finishing import finished, is_finite
from diffir_cli.runtime.image_tensor import to_tensor
from diffir_cli.runtime.memory import CANVAS_SHARE, Finish, Plan, plan_run, smallest_tile
from diffir_cli.util.device_memory import available_bytes
from diffir_cli.util.openvino_programs import openvino_device
from diffir_cli.util.out_of_memory import is_out_of_memory, unless_out_of_memory
from diffir_cli.util.tiling import blended, tile_places

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
        options: How it is run; None for the defaults. `threads` has no effect here, since it
            applies to the whole process.

    Raises:
        DeviceError: when the machine cannot provide device or precision, or the network cannot be
            executed so.
        MissingLibraryError: when the engine is not installed.
        WeightsError: when colours are to be fixed by a network that fills holes.
    """

    def __init__(self, model: RestorationModel, options: RunOptions | None = None) -> None:
        self.options = options = options or RunOptions()
        if options.engine not in model.info.engines:
            raise DeviceError(
                f"{model.info.family} networks do not run with --engine {options.engine.value}",
                "leave --engine out",
            )
        on_openvino = options.engine is Engine.OPENVINO
        self.device = (openvino_device if on_openvino else choose_device)(options.device)
        # Refused here already, and not with the first image.
        choose_precision(options.precision, self.device)
        self.model = model.to(self.device, torch.float32, options.engine)
        self.color_fix = options.color_fix
        if self.color_fix is ColorFix.AUTO:
            # A hole has no colours that could be kept.
            shifted = model.info.latent and not model.info.takes_mask
            self.color_fix = ColorFix.WAVELET if shifted else ColorFix.NONE
        elif model.info.takes_mask and self.color_fix is not ColorFix.NONE:
            raise WeightsError(
                "a hole has no colours of the input", "leave --color-fix out, or say none"
            )
        self._models = {torch.float32: self.model}
        # Plans are made by the threads that read, beside the one that restores.
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """What may be asked of the network."""
        return self.model.info

    def precision_for(self, deep: bool = False) -> Precision:
        """The number format for pictures of 8 bits a channel, or of more."""
        return choose_precision(self.options.precision, self.device, deep)

    def restore(
        self,
        lq: NDArray[Any],
        seed: int = 0,
        gt: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """The pixels of `run`, (scale·H, scale·W, 3), which has the arguments and errors."""
        return self.run(lq, seed, gt, mask).pixels

    @torch.inference_mode()
    def run(
        self,
        lq: NDArray[Any],
        seed: int = 0,
        gt: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
        strength: float = 1.0,
        progress: Progress | None = None,
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
            progress: Called with the share that is done, 0 to 1; optional.

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
            finish = Finish(strength, self.color_fix)
            hq, tile, redone = self._run(tensor, seed, truth, precision, finish, progress)
            pixels = finished(hq, lq, mask, strength, self.info.rounds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return Restored(pixels, precision, tile, redone)
        raise DeviceError(
            f"{self.device} ran out of memory at {width}×{height} pixels",
            "use a smaller --tile, or a machine with more memory",
        )

    def plan(
        self,
        width: int,
        height: int,
        deep: bool = False,
        strength: float = 1.0,
        size: tuple[int, int] | None = None,
        copies: int = 1,
    ) -> Plan:
        """How an image of so many LQ pixels will be executed; needs no image.

        Args:
            width: LQ pixels.
            height: LQ pixels.
            deep: Whether it has more than 8 bits a channel.
            strength: Share of the network in the result.
            size: (width, height) that the result is resized to; None for its own.
            copies: Pictures of that size that are alive at the end.

        Raises:
            DeviceError: when it does not fit into memory.
        """
        model = self._model(self.precision_for(deep))
        finish = Finish(strength, self.color_fix, size, copies)
        return plan_run(model, width, height, self.device, self.options.limits, finish)

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
        finish = Finish(color_fix=self.color_fix)
        return self._run(lq, seed, truth, self.precision_for(), finish)[0]

    def _model(self, precision: Precision) -> RestorationModel:
        dtype = dtype_of(precision)
        with self._lock:
            if dtype not in self._models:
                self._models[dtype] = self.model.to(self.device, dtype, self.options.engine)
            return self._models[dtype]

    def _run(
        self,
        lq: Tensor,
        seed: int,
        truth: Tensor | None,
        precision: Precision,
        finish: Finish,
        progress: Progress | None = None,
    ) -> tuple[Tensor, int, int]:
        """(1, 3, scale·H, scale·W) in float32, the side of the tiles, and how many were redone."""
        height, width = lq.shape[-2:]
        model = self._model(precision)
        plan = plan_run(model, width, height, self.device, self.options.limits, finish)
        _log.info(
            "%d×%d pixels need about %d MiB on %s in %s",
            *(width, height, plan.needed >> 20, self.device, precision.value),
        )
        before = self.info.context_share
        with tf32(False):
            context = model.context(lq, seed, truth, plan.budget, part_of(progress, 0.0, before))
        if progress:
            progress(before)
        work = _Windows(self, context, precision)
        with tf32(precision is Precision.TF32):
            hq = work.restored(plan.tile, part_of(progress, before, 1.0))
        if progress:
            progress(1.0)
        scale = self.info.scale
        hq = hq[..., : scale * height, : scale * width].float()
        return fix_colors(hq, lq[:, :3], self.color_fix), work.tile, work.redone


class _Windows:
    """The windows of one image."""

    def __init__(self, runner: ModelRunner, context: Context, precision: Precision) -> None:
        self.runner, self.context, self.precision = runner, context, precision
        self.tile = self.redone = 0

    def restored(self, tile: int, progress: Progress | None) -> Tensor:
        """The whole image, by tiles where their side is not 0."""
        lq = self.context.lq
        if tile:
            return self._tiled(lq, tile, 0, 0, self._finite, progress)
        return self._finite(lq, 0, 0, progress)

    def _finite(self, lq: Tensor, left: int, top: int, progress: Progress | None) -> Tensor:
        """A window's result, in fp32 where half precision overflowed.

        The whole window again, since what its parts share cannot hold in half precision what
        overflowed there.
        """
        hq = self._restored(lq, left, top, progress, self.precision)
        if dtype_of(self.precision).itemsize < 4 and not is_finite(hq):
            size = f"{lq.shape[3]}×{lq.shape[2]} pixels"
            _log.warning("%s overflowed: %s are restored again in fp32", self.precision.value, size)
            self.redone += 1
            del hq
            hq = self._restored(lq, left, top, progress, Precision.FP32)
        return hq

    def _restored(
        self, lq: Tensor, left: int, top: int, progress: Progress | None, precision: Precision
    ) -> Tensor:
        """A window's result; where memory runs out, by smaller tiles.

        Raises:
            DeviceError: when even these do not fit.
        """
        runner, multiple = self.runner, self.runner.info.multiple
        height, width = lq.shape[2:]
        model = runner._model(precision)
        window = Window(left, top, width, height)
        hq = unless_out_of_memory(partial(model.restore, lq, window, self.context, progress))
        if hq is not None:
            return hq
        if runner.device.type == "cuda":
            torch.cuda.empty_cache()
        tile = max(height, width) // 2 // multiple * multiple
        overlap = runner.options.limits.overlap
        if tile < max(2 * overlap, smallest_tile(runner.info, overlap)):
            raise DeviceError(
                f"{runner.device} ran out of memory at {width}×{height} pixels",
                "use a smaller --tile",
            )
        restore = partial(self._restored, precision=precision)
        return self._tiled(lq, tile, left, top, restore, progress)

    def _tiled(
        self, lq: Tensor, tile: int, left: int, top: int, restore: Any, progress: Progress | None
    ) -> Tensor:
        """By overlapping tiles, the result in a file where it is a large part of what is free."""
        _log.info("tiles of %d pixels", tile)
        self.tile = tile
        limits, info = self.runner.options.limits, self.runner.info
        available = limits.max_memory or available_bytes(torch.device("cpu"))
        bound = math.inf if available is None else CANVAS_SHARE * available
        overlap = min(limits.overlap, tile // 2)

        height, width = lq.shape[2:]
        step = info.tiling.step
        count = len(tile_places(height, width, tile, overlap, step))
        numbers = itertools.count()

        def placed(part: Tensor, x: int, y: int) -> Tensor:
            number = next(numbers)
            own = part_of(progress, number / count, (number + 1) / count)
            hq: Tensor = restore(part, left + x, top + y, own)
            return hq

        return blended(lq, info.scale, tile, overlap, step, placed, bound)
