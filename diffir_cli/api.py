"""The Python API: images of NumPy or Pillow in, images of the same kind out."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffir_cli.imaging import Picture, picture_from
from diffir_cli.imaging.masks import light_pixels
from diffir_cli.options import AlphaMode, Engine, MemoryLimits, Precision, RunOptions, Task
from diffir_cli.runtime.loading import load_runner
from diffir_cli.runtime.pictures import provenance, restore_picture
from diffir_cli.weights.locate import WeightFile, locate_weights

AnyImage = TypeVar("AnyImage", NDArray[Any], Image.Image)
"""An image of NumPy or of Pillow."""

_Choice = TypeVar("_Choice", bound=StrEnum)


class Restorer:
    """A network that is ready for images.

    Not thread-safe: use one for each thread.

    The command line makes idle threads of torch sleep soon, and starts no more of them than the
    CPU quota of a container allows. A program of yours does the same by setting
    `GOMP_SPINCOUNT=1000` in its environment, and `OMP_NUM_THREADS` to the quota, before torch is
    loaded.

    Args:
        task: What is wrong with the images: `realsr` (any photo), `sr` (clean, reduced by bicubic),
            `deblur` or `inpaint`.
        weights: A name of the registry or a file; None for the task's embedded weights.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `xpu`, `xpu:N` or `mps`.
        precision: `auto`, `fp32`, `tf32`, `bf16` or `fp16`.
        engine: `streaming`, `reference` for the plain modules, or `openvino`.
        max_memory: Bytes that an image may take; 0 for most of what is free.
        tile: Side of tiles in pixels of the input; 0 for none ever, None for tiles where the whole
            image does not fit, or the network was made for tiles.
        tile_overlap: Pixels of the input that two tiles share.
        threads: CPU threads of torch in the whole process; None leaves them as they are.

    Raises:
        ValueError: when there is no such task, precision or engine, or tiles or limits are none.
        WeightsError: when the weights are unknown, damaged or for another task.
        DeviceError: when the machine cannot provide device or precision.
    """

    def __init__(
        self,
        task: Task | str = Task.REALSR,
        weights: str | None = None,
        *,
        device: str = "auto",
        precision: Precision | str = Precision.AUTO,
        engine: Engine | str = Engine.STREAMING,
        max_memory: int = 0,
        tile: int | None = None,
        tile_overlap: int = 32,
        threads: int | None = None,
    ) -> None:
        task = _chosen(Task, "task", task)
        options = RunOptions(
            device,
            _chosen(Precision, "precision", precision),
            _chosen(Engine, "engine", engine),
            MemoryLimits(max_memory, tile, tile_overlap),
            threads=threads,
        )
        chosen = locate_weights(weights, task)
        self.network = load_runner(chosen, task, options)
        self.weights: WeightFile = chosen
        """What it restores with."""

    @property
    def config(self) -> Any:
        """The configuration of the network, in the class of its family."""
        return self.network.model.config

    def restore(
        self,
        image: AnyImage,
        *,
        mask: NDArray[np.bool_] | Image.Image | None = None,
        seed: int = 0,
        alpha: AlphaMode | str = AlphaMode.LANCZOS,
        strength: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> AnyImage:
        """Restore an image.

        Args:
            image: Of Pillow, of any mode but 32 bits, or an array (H, W), (H, W, 3) or (H, W, 4) of
                uint8 in 0–255 or uint16 in 0–65535: grey, RGB or RGBA; or (H, W, 3) of float32 in
                [0, 1].
            mask: For inpainting, where to fill: (H, W) of bool, or an image of Pillow that is
                lighter than middle grey there.
            seed: Where the diffusion starts; the same seed gives the same image.
            alpha: What becomes of transparency: `lanczos`, `network` or `drop`.
            strength: Share of the network in the result, 0 to 1; the rest is the image, resized.
            progress: Called now and then with the share of the work that is done, 0 to 1, from the
                thread that called this. It begins again where something has to be done again in
                fp32 or in less memory. What it raises ends the work. None for no calls.

        Returns:
            The same kind of image, `config.scale` times as large; float32 is clipped to [0, 1] but
            not rounded. Images of Pillow come upright, in mode L, LA, I;16, RGB or RGBA, with EXIF
            and profile.

        Raises:
            ValueError: when the image has another shape or kind, a mask is missing or too much, or
                another argument has no such value.
            InputError: when an image of Pillow has 32 bits a channel.
            DeviceError: when the image does not fit into memory.
            WeightsError: when the network produced NaN or infinite values.
        """
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be 0 to 1, not {strength}")
        alpha = _chosen(AlphaMode, "alpha", alpha)
        holes = None if mask is None else _holes(mask)
        if isinstance(image, Image.Image):
            picture = picture_from(image)
            return _to_pillow(self._restored(picture, seed, holes, alpha, strength, progress))
        if not image.size:
            raise ValueError(f"an image has pixels, not {image.shape}")
        if image.dtype == np.float32:
            _check_fractions(image)
        if image.dtype == np.float32 and image.ndim == 3 and image.shape[2] == 3:
            return self.network.run(
                image, seed, mask=holes, strength=strength, progress=progress
            ).pixels
        found = self._restored(_picture(image), seed, holes, alpha, strength, progress)
        channels = found.channels()
        return channels[:, :, 0] if image.ndim == 2 else channels

    def _restored(
        self,
        picture: Picture,
        seed: int,
        holes: NDArray[np.bool_] | None,
        alpha: AlphaMode,
        strength: float,
        progress: Callable[[float], None] | None,
    ) -> Picture:
        origin = provenance(self.weights, seed)
        return restore_picture(
            self.network, picture, seed, holes, alpha, origin, strength, progress
        ).picture


def _chosen(kind: type[_Choice], argument: str, value: str) -> _Choice:
    """The member of an enumeration that an argument names."""
    if value not in list(kind):
        raise ValueError(f"{argument} must be one of {', '.join(kind)}, not {value!r}")
    return kind(value)


_ROUNDING = 1e-3
"""How far interpolation may carry fractions beyond [0, 1]."""


def _check_fractions(image: NDArray[Any]) -> None:
    lowest, highest = image.min(), image.max()
    if not np.isfinite([lowest, highest]).all():
        raise ValueError("an image has finite numbers")
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        raise ValueError(
            f"an image of float32 has fractions in [0, 1], not {lowest:g} to {highest:g}: scale it "
            "to that range, or clip it"
        )


def _holes(mask: NDArray[np.bool_] | Image.Image) -> NDArray[np.bool_]:
    holes = light_pixels(picture_from(mask)) if isinstance(mask, Image.Image) else mask
    if holes.dtype != np.bool_ or holes.ndim != 2:
        raise ValueError(f"a mask is (H, W) of bool, not {holes.shape} of {holes.dtype}")
    return holes


def _picture(image: NDArray[Any]) -> Picture:
    if image.dtype == np.float32:
        raise ValueError(f"an image of float32 is (H, W, 3), not {image.shape}")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an image is of uint8, uint16 or float32, not {image.dtype}")
    if image.ndim == 2:
        return Picture(np.repeat(image[:, :, None], 3, axis=2), grey=True)
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"an image is (H, W), (H, W, 3) or (H, W, 4), not {image.shape}")
    return Picture(image[:, :, :3], image[:, :, 3] if image.shape[2] == 4 else None)


def _to_pillow(picture: Picture) -> Image.Image:
    channels = picture.channels()
    image = Image.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)
    metadata = picture.metadata
    for key, value in (
        ("icc_profile", metadata.icc),
        ("exif", metadata.exif),
        ("xmp", metadata.xmp),
    ):
        if value:
            image.info[key] = value
    return image
