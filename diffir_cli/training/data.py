"""Batches of crops: a pure function of the seed and the iteration.

No state is kept between batches, so that a run continued after an interruption sees exactly the
batches it would have seen, and so that several processes can each take their share of one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures, read_picture
from diffir_cli.training.degradation.bicubic import bicubic_pair

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""LQ (h, w, 3) and GT (scale·h, scale·w, 3) in 0–255."""


@dataclass(frozen=True)
class Batch:
    """Crops in [0, 1]."""

    lq: Tensor
    """(B, 3, patch, patch)."""
    gt: Tensor
    """(B, 3, scale·patch, scale·patch)."""


class PairCrops:
    """Random crops of photos held in memory with their degraded twins.

    A photo is drawn with a chance in proportion to its area, then a place, then one of the eight
    flips and quarter turns.

    Args:
        pairs: LQ and GT of each photo.
        scale: Side of GT over side of LQ.
        patch: Side of a crop in LQ pixels.
        augment: Whether crops are flipped and turned.
        seed: Where all of it comes from.

    Raises:
        InputError: when no photo is as large as a crop.
    """

    def __init__(
        self, pairs: Sequence[Pair], scale: int, patch: int, augment: bool, seed: int
    ) -> None:
        self.pairs = [pair for pair in pairs if min(pair[0].shape[:2]) >= patch]
        if not self.pairs:
            raise InputError(
                f"none of {len(pairs)} photos has sides of {patch * scale} pixels or more",
                "give larger photos or a smaller data.patch",
            )
        areas = np.array([lq.shape[0] * lq.shape[1] for lq, _ in self.pairs], dtype=np.float64)
        self.chances = areas / areas.sum()
        self.scale, self.patch, self.augment, self.seed = scale, patch, augment, seed

    def batch(self, iteration: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of a process in the batch of an iteration: every `world`-th crop of `size`."""
        crops = [self._crop(iteration, index) for index in range(rank, size, world)]
        return Batch(*(_to_tensor(images) for images in zip(*crops, strict=True)))

    def _crop(self, iteration: int, index: int) -> Pair:
        draw = np.random.default_rng([self.seed, iteration, index])
        lq, gt = self.pairs[draw.choice(len(self.pairs), p=self.chances)]
        top = draw.integers(lq.shape[0] - self.patch + 1)
        left = draw.integers(lq.shape[1] - self.patch + 1)
        turns, flip = (draw.integers(4), draw.integers(2)) if self.augment else (0, 0)
        crops = []
        for image, factor in ((lq, 1), (gt, self.scale)):
            side = self.patch * factor
            y, x = top * factor, left * factor
            crop = np.rot90(image[y : y + side, x : x + side], int(turns))
            crops.append(crop[:, ::-1] if flip else crop)
        return crops[0], crops[1]


def load_pairs(folders: Sequence[str], scale: int, count: int | None = None) -> list[Pair]:
    """The photos of some folders, or the first `count` of them, with their bicubic LQ.

    Raises:
        InputError: when a folder has no images or one cannot be read.
    """
    paths = [path for folder in folders for path in list_pictures(Path(folder))]
    return [bicubic_pair(read_picture(path).rgb, scale) for path in paths[:count]]


def _to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return pixels.float() / 255
