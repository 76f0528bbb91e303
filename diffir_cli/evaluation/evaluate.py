"""A benchmark of super-resolution: reduce, restore, compare with the truth and with bicubic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffir_cli.engine import Restorer
from diffir_cli.errors import InputError
from diffir_cli.evaluation.metrics import luma, psnr, shave, ssim
from diffir_cli.imaging import read_picture
from diffir_cli.imaging.bicubic import enlarge_bicubic, reduce_bicubic
from diffir_cli.networks import DiffIRS1


@dataclass(frozen=True)
class Score:
    """How close a result is to the truth, and how close bicubic enlargement is."""

    name: str
    """The image, or what the scores are the mean of."""
    psnr: float
    """In dB, on the luma."""
    ssim: float
    """On the luma."""
    bicubic_psnr: float
    bicubic_ssim: float


def evaluate_sr(
    restorer: Restorer,
    paths: Sequence[Path],
    seed: int = 0,
    border: int = 4,
    report: Callable[[Path], None] = lambda _path: None,
) -> Iterator[Score]:
    """Measure each image as the super-resolution benchmarks do.

    Args:
        restorer: A network with a scale above 1; one of stage 1 is shown the truth.
        paths: Sharp images; sides are cut to multiples of the scale.
        seed: Where the noise of each image comes from.
        border: HQ pixels at the edges that do not count.
        report: Called with each path before it is restored.

    Raises:
        InputError: when an image cannot be read or is too small, or the network does not enlarge.
    """
    scale = restorer.config.scale
    if scale == 1:
        raise InputError(
            "these weights do not enlarge, and only super-resolution can be measured yet",
            "use weights for ×2 or ×4",
        )
    for path in paths:
        report(path)
        picture = read_picture(path).rgb
        height, width = (side // scale * scale for side in picture.shape[:2])
        gt = np.ascontiguousarray(picture[:height, :width])
        if min(gt.shape[:2]) < 11 + 2 * border:
            raise InputError(
                f"{path} is too small to be measured: {gt.shape[1]}×{gt.shape[0]} pixels",
                f"leave out images with a side under {11 + 2 * border} pixels",
            )
        lq = reduce_bicubic(gt, scale)
        hq = restorer.restore(lq, seed, gt if isinstance(restorer.model, DiffIRS1) else None)
        yield Score(
            path.name, *_measure(hq, gt, border), *_measure(enlarge_bicubic(lq, scale), gt, border)
        )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean over images."""
    columns = ("psnr", "ssim", "bicubic_psnr", "bicubic_ssim")
    means = (sum(getattr(score, column) for score in scores) / len(scores) for column in columns)
    return Score(f"mean of {len(scores)}", *means)


def _measure(result: NDArray[np.uint8], gt: NDArray[np.uint8], border: int) -> tuple[float, float]:
    first, second = luma(shave(result, border)), luma(shave(gt, border))
    return psnr(first, second), ssim(first, second)
