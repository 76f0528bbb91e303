"""A picture with all that belongs to it through a network: colours, transparency, metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffir_cli.config import AlphaMode
from diffir_cli.engine.restorer import ModelRestorer
from diffir_cli.errors import InputError
from diffir_cli.imaging import Picture
from diffir_cli.imaging.source import Source, Treatment
from diffir_cli.networks.fill import smooth_fill
from diffir_cli.version import __version__
from diffir_cli.weightfile import WeightFile


def restore_picture(
    restorer: ModelRestorer,
    picture: Picture,
    seed: int = 0,
    holes: NDArray[np.bool_] | None = None,
    alpha: AlphaMode = AlphaMode.LANCZOS,
    software: str = "",
) -> Picture:
    """Restore a picture.

    Args:
        restorer: The network.
        picture: What to restore.
        seed: Where x_T comes from.
        holes: (H, W), True where an inpainting network fills.
        alpha: What becomes of transparency.
        software: What made the result, for the file.

    Raises:
        DeviceError: when the picture does not fit into memory.
        WeightsError: when the network's result is not finite.
    """
    rgb = picture.rgb
    if picture.alpha is not None and holes is None:
        rgb = bleed(rgb, picture.alpha)
    result = picture.restored(restorer.restore(rgb, seed, mask=holes), software)
    if picture.alpha is None or alpha is AlphaMode.LANCZOS:
        return result
    if alpha is AlphaMode.DROP:
        return replace(result, alpha=None)
    return replace(result, alpha=_through_network(restorer, picture.alpha, seed, result))


def check_holes(restorer: ModelRestorer, given: bool, name: str) -> None:
    """Refuse a mask for a network that takes none, and none for one that needs it.

    Raises:
        InputError: when they do not fit.
    """
    if restorer.takes_mask and not given:
        raise InputError(
            f"the inpainting weights {name} need a mask", "add --mask FILE, or --mask-from-alpha"
        )
    if given and not restorer.takes_mask:
        raise InputError(f"the weights {name} take no mask", "leave --mask out")


def treat(
    restorer: ModelRestorer, source: Source, treatment: Treatment, weights: WeightFile
) -> Picture:
    """Restore a picture and finish it.

    Raises:
        DeviceError: when it does not fit into memory.
        WeightsError: when the network's result is not finite.
    """
    origin = provenance(weights, treatment.seed)
    picture = source.picture
    result = restore_picture(
        restorer, picture, treatment.seed, source.holes, treatment.alpha, origin
    )
    result = result.resized(source.size_of_result(treatment, restorer.config.scale))
    if treatment.background is not None:
        result = result.over(treatment.background)
    return result.stripped() if treatment.strip_metadata else result


def provenance(weights: WeightFile, seed: int) -> str:
    """What a result says of how it was made."""
    return f"diffir {__version__} ({weights.name}, sha256 {weights.sha256}, seed {seed})"


def _through_network(
    restorer: ModelRestorer, alpha: NDArray[Any], seed: int, result: Picture
) -> NDArray[Any] | None:
    """Alpha as a grey picture of its own; what a network would only trouble is resized instead."""
    if restorer.takes_mask or alpha.min() == alpha.max():
        return result.alpha
    planes = restorer.restore(np.repeat(alpha[:, :, None], 3, axis=2), seed)
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
