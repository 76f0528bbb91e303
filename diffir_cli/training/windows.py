"""Crops for networks that read a deconvolution prior: parts of windows that are made once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffir_cli.runtime.image_tensor import to_levels, to_tensor
from diffir_cli.training.kinds import Augment
from diffir_cli.training.sources import Crop, Pair, PairSource, cut, orientation
from diffir_cli.training.trainable import Prior


class Windows:
    """Crops of windows that have been degraded and deconvolved, each made when first asked for.

    Finding the kernel of a window takes seconds, so each window is used for many crops, and those
    of one picture are made together. If there are at least as many pictures as crops in a batch,
    each crop of a batch has pictures of its own, nearly as many as the others. So several
    processes, which divide the crops of a batch among them, also divide the making of the windows.

    Args:
        source: Where windows come from.
        count: How many there are, rounded up to whole pictures.
        side: Their side in LQ pixels.
        augment: In which orientations crops are seen.
        seed: Where a window's randomness comes from, beside the number of its picture. Two sources
            with the same seed would choose the same photos.
        prior: What the network reads behind RGB.
    """

    def __init__(
        self,
        source: PairSource,
        count: int,
        side: int,
        augment: Augment,
        seed: Sequence[int],
        prior: Prior,
    ) -> None:
        self.source, self.count, self.side = source, count, side
        self.augment, self.seed, self.prior = augment, seed, prior
        self.made: dict[int, list[Pair]] = {}

    def crop(self, rng: np.random.Generator, patch: int, index: int = 0, size: int = 1) -> Crop:
        """A part of one of the windows, for crop `index` of a batch of `size`."""
        pictures = -(-self.count // self.source.per_picture)
        own = range(index, pictures, size) or range(pictures)
        picture = own[int(rng.integers(len(own)))]
        if picture not in self.made:
            self.made[picture] = self.windows(picture)
        lq, gt = self.made[picture][int(rng.integers(self.source.per_picture))]
        top, left = (int(rng.integers(self.side - patch + 1)) for _ in range(2))
        turned = orientation(rng, self.augment)
        return Crop(cut(lq, top, left, patch, turned), cut(gt, top, left, patch, turned))

    def windows(self, picture: int) -> list[Pair]:
        """The windows of a picture with their priors behind them, and their truths."""
        rng = np.random.default_rng([*self.seed, picture, *_WINDOW_STREAM])
        pairs, whole = self.source.windows(rng, self.side)
        planes = [to_tensor(lq)[0] for lq, _ in pairs]
        priors = self.prior.of_windows(planes, to_tensor(whole)[0])
        return [
            (np.concatenate([lq, to_levels(prior)], axis=2), np.ascontiguousarray(gt))
            for (lq, gt), prior in zip(pairs, priors, strict=True)
        ]


_WINDOW_STREAM = 87, 105
"""Keeps the random numbers of windows apart from those of crops."""
