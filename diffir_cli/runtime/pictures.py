"""A picture with all that belongs to it through a network: colours, transparency, metadata."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture
from diffir_cli.imaging.source import PictureOptions, Source
from diffir_cli.models.progress import Progress, part_of
from diffir_cli.options import AlphaMode, Precision
from diffir_cli.runtime.runner import ModelRunner
from diffir_cli.util.diffusion_fill import smooth_fill
from diffir_cli.util.out_of_memory import oom_errors
from diffir_cli.util.text import shown
from diffir_cli.version import __version__
from diffir_cli.weights.locate import WeightFile


@dataclass(frozen=True)
class RestoredPicture:
    """A restored picture and how it came about."""

    picture: Picture
    precision: Precision
    """The number format of the network."""
    tile: int
    """Side of the tiles in LQ pixels; 0 where it was done whole."""
    redone: int
    """How often half precision overflowed, and fp32 took its place."""


def restore_picture(
    runner: ModelRunner,
    picture: Picture,
    seed: int = 0,
    holes: NDArray[np.bool_] | None = None,
    alpha: AlphaMode = AlphaMode.LANCZOS,
    software: str = "",
    strength: float = 1.0,
    progress: Progress | None = None,
) -> RestoredPicture:
    """Restore a picture.

    Args:
        runner: The network.
        picture: What to restore.
        seed: Where all noise comes from.
        holes: (H, W), True where an inpainting network fills.
        alpha: What becomes of transparency.
        software: What made the result, for the file.
        strength: Share of the network in the result; the rest is the picture, resized.
        progress: Called with the share that is done, 0 to 1; optional.

    Raises:
        DeviceError: when the picture does not fit into memory.
        WeightsError: when the network produced NaN or infinite values.
    """
    rgb = picture.rgb
    if picture.alpha is not None and holes is None:
        with oom_errors("transparency needs more memory than there is", _LESS_MEMORY):
            rgb = bleed(rgb, picture.alpha)
    twice = picture.alpha is not None and alpha is AlphaMode.NETWORK
    own = part_of(progress, 0.0, 0.5 if twice else 1.0)
    found = runner.run(rgb, seed, mask=holes, strength=strength, progress=own)
    pixels = found.pixels
    if picture.grey or _is_grey(picture):
        # Grey stays grey, whatever the mode of the file.
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = np.repeat(np.rint(grey), 3, axis=2).astype(pixels.dtype)
    if holes is not None and picture.alpha is not None:
        # What was filled is there to be seen.
        seen = picture.alpha.dtype.type(np.iinfo(picture.alpha.dtype).max)
        picture = replace(picture, alpha=np.where(holes, seen, picture.alpha))
    result = picture.restored(pixels, software)
    if picture.alpha is not None and alpha is AlphaMode.DROP:
        result = replace(result, alpha=None)
    if picture.alpha is not None and alpha is AlphaMode.NETWORK:
        own = part_of(progress, 0.5, 1.0)
        found_alpha = _through_network(runner, picture.alpha, seed, result, strength, own)
        result = replace(result, alpha=found_alpha)
    return RestoredPicture(result, found.precision, found.tile, found.redone)


_LESS_MEMORY = "use a machine with more memory, or a smaller picture"


def check_holes(runner: ModelRunner, given: bool, name: str) -> None:
    """Refuse a mask for a network that takes none, and none for one that needs it.

    Raises:
        InputError: when they do not fit.
    """
    if runner.info.takes_mask and not given:
        raise InputError(
            f"the inpainting weights {name} need a mask", "add --mask FILE, or --mask-from-alpha"
        )
    if given and not runner.info.takes_mask:
        raise InputError(f"the weights {name} do not use a mask", "leave --mask out")


def restore_source(
    runner: ModelRunner,
    source: Source,
    options: PictureOptions,
    weights: WeightFile,
    progress: Progress | None = None,
) -> RestoredPicture:
    """Restore a picture that was read and finish it: its size, background and metadata.

    Raises:
        DeviceError: when it does not fit into memory.
        WeightsError: when the network produced NaN or infinite values.
    """
    size = source.size_of_result(options, runner.info.scale)
    runner.plan(*source.picture.size, source.picture.deep, options.strength, size)
    origin = provenance(weights, options.seed)
    found = restore_picture(
        runner,
        source.picture,
        options.seed,
        source.holes,
        options.alpha,
        origin,
        options.strength,
        progress,
    )
    with oom_errors("the resized result needs more memory than there is", _LESS_MEMORY):
        result = found.picture.resized(size)
    if options.background is not None:
        result = result.over(options.background)
    return replace(found, picture=result.stripped() if options.strip_metadata else result)


def _is_grey(picture: Picture) -> bool:
    """Whether the channels of a picture agree wherever anything is to be seen.

    A level of 8 bits apart is what lossy formats make of grey.
    """
    first, second, third = (picture.rgb[:, :, channel] for channel in range(3))
    most = 257 if picture.deep else 1
    seen = True if picture.alpha is None else picture.alpha > 0
    return all(
        bool((np.where(seen, np.maximum(one, other) - np.minimum(one, other), 0) <= most).all())
        for one, other in ((first, second), (second, third), (first, third))
    )


def provenance(weights: WeightFile, seed: int) -> str:
    """What a result says of how it was made."""
    name = shown(weights.name)
    return f"diffir {__version__} ({name}, sha256 {weights.sha256}, seed {seed})"


def is_provenance(software: str, weights: WeightFile, seed: int) -> bool:
    """Whether a picture says that these weights and this seed made it, in any version."""
    return software.startswith("diffir ") and software.endswith(
        f", sha256 {weights.sha256}, seed {seed})"
    )


def _through_network(
    runner: ModelRunner,
    alpha: NDArray[Any],
    seed: int,
    result: Picture,
    strength: float,
    progress: Progress | None,
) -> NDArray[Any] | None:
    """Alpha as a grey picture of its own; what a network would only trouble is resized instead."""
    if runner.info.takes_mask or alpha.min() == alpha.max():
        return result.alpha
    grey = np.repeat(alpha[:, :, None], 3, axis=2)
    planes = runner.run(grey, seed, strength=strength, progress=progress).pixels
    return np.rint(planes.mean(axis=2)).astype(alpha.dtype)


def bleed(rgb: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Colours spread smoothly under what is fully transparent, where a file holds anything at all.

    Else the edge to whatever lies hidden there would be restored, and show.

    Args:
        rgb: (H, W, 3) of uint8 or uint16.
        alpha: (H, W) of the same kind.

    Returns:
        (H, W, 3), equal to `rgb` wherever anything is to be seen.
    """
    clear = alpha == 0
    if not clear.any() or clear.all():
        return rgb
    image = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None]
    filled = smooth_fill(image, torch.from_numpy(clear)[None, None].float())
    colours = filled[0].permute(1, 2, 0).round().numpy().astype(rgb.dtype)
    return np.where(clear[:, :, None], colours, rgb)
