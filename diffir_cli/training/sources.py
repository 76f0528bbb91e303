"""Where crops come from: photos degraded anew, or pairs that are stored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.apply import degraded
from diffir_cli.degradations.averaged_frames import sharp_frame
from diffir_cli.degradations.kinds import Degradation, MaskKind
from diffir_cli.degradations.realworld import sharpen
from diffir_cli.errors import InputError
from diffir_cli.evaluation.metrics import psnr
from diffir_cli.training.kinds import Augment

_log = logging.getLogger(__name__)

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""LQ (h, w, 3), or (h, w, 4) with a mask or (h, w, 6) with a deconvolution prior, and GT
(scale·h, scale·w, 3) in 0–255."""


class Crop(NamedTuple):
    """A part of a pair, and what goes with it."""

    lq: NDArray[np.uint8]
    gt: NDArray[np.uint8]
    natural: NDArray[np.uint8] | None = None
    """Where `gt` is sharpened, the truth as it was."""
    soft: NDArray[np.uint8] | None = None
    """What another network made of `lq`, of the size of `gt`."""


class Source(Protocol):
    """Where crops come from."""

    def crop(self, rng: np.random.Generator, patch: int, index: int = 0, size: int = 1) -> Crop:
        """A random crop of `patch` LQ pixels, turned and flipped, with its degraded version.

        Args:
            rng: Where its randomness comes from.
            patch: Its side in LQ pixels.
            index: Its number in the batch, from 0.
            size: Crops in the batch, over all processes.
        """


class PairSource(Source, Protocol):
    """Where crops come from with what lies around them."""

    per_picture: int
    """How many windows a picture gives."""

    def windows(self, rng: np.random.Generator, side: int) -> tuple[list[Pair], NDArray[np.uint8]]:
        """Crops, not sharpened, and the LQ picture that they are parts of."""


class _Photos:
    """Photos of which crops are drawn with a chance in proportion to their area.

    Raises:
        InputError: when no photo is as large as a crop.
    """

    def __init__(self, photos: Sequence[NDArray[np.uint8]], side: int) -> None:
        self.chosen = [i for i, photo in enumerate(photos) if min(photo.shape[:2]) >= side]
        if not self.chosen:
            raise InputError(
                f"none of {len(photos)} photos has sides of {side} pixels or more",
                "give larger photos or a smaller data.patch, or data.window where there is one",
            )
        if len(self.chosen) < len(photos):
            left = len(photos) - len(self.chosen)
            _log.warning("%d of %d photos have a side below %d pixels", left, len(photos), side)
        areas = [photos[i].shape[0] * photos[i].shape[1] for i in self.chosen]
        self.chances = np.array(areas, dtype=np.float64) / sum(areas)

    def choose(self, rng: np.random.Generator) -> int:
        """The number of a photo."""
        return self.chosen[rng.choice(len(self.chosen), p=self.chances)]


class StoredPairs:
    """Crops of photos held in memory with their degraded versions.

    Args:
        pairs: LQ and GT of each photo.
        scale: Side of GT over side of LQ.
        largest: Side of the largest crop in LQ pixels.
        augment: In which orientations crops are seen.
        sharpened: Whether GT is sharpened.
        below: PSNR in dB from which on a window is left out; 0 for none.
        soft: For each photo what another network made of its LQ, of the size of GT.

    Raises:
        InputError: when no photo is as large as a crop.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        scale: int,
        largest: int,
        augment: Augment,
        sharpened: bool = False,
        below: float = 0.0,
        soft: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        self.pairs, self.scale, self.below, self.soft = pairs, scale, below, soft
        self.augment, self.sharpened = augment, sharpened
        self.per_picture = _PER_PICTURE
        self.photos = _Photos([gt for _, gt in pairs], largest * scale)

    def crop(self, rng: np.random.Generator, patch: int, *_in_batch: int) -> Crop:
        """The same place of both halves of a pair."""
        number = self.photos.choose(rng)
        turned = orientation(rng, self.augment)
        lq, gt = self.pairs[number]
        top, left = self._corner(lq, rng, patch)
        inside = cut(lq, top, left, patch, turned)
        place = (top * self.scale, left * self.scale, patch * self.scale, turned)
        truth = cut(gt, *place)
        soft = cut(self.soft[number], *place) if self.soft else None
        if self.sharpened:
            return Crop(inside, sharpen(truth), truth, soft)
        return Crop(inside, truth, soft=soft)

    def windows(self, rng: np.random.Generator, side: int) -> tuple[list[Pair], NDArray[np.uint8]]:
        """Places of both halves of a pair, and all of its LQ.

        Raises:
            InputError: when hardly a place is degraded as it should be.
        """
        for _ in range(_TRIES):
            pair = self.pairs[self.photos.choose(rng)]
            turned = orientation(rng, self.augment)
            found = [self._place(pair, rng, side, turned) for _ in range(self.per_picture)]
            if not self.below or all(psnr(lq, gt) < self.below for lq, gt in found):
                return found, _turned(pair[0], turned)
        raise InputError(
            f"windows of {_TRIES} pairs have {self.below:g} dB or more",
            "give pairs that are degraded more, or a larger data.pairs_below",
        )

    def _place(
        self, pair: Pair, rng: np.random.Generator, side: int, turned: tuple[int, bool]
    ) -> Pair:
        """The same place of both halves of a pair."""
        (lq, gt), scale = pair, self.scale
        top, left = self._corner(lq, rng, side)
        inside = cut(lq, top, left, side, turned)
        return inside, cut(gt, top * scale, left * scale, side * scale, turned)

    @staticmethod
    def _corner(lq: NDArray[np.uint8], rng: np.random.Generator, side: int) -> tuple[int, int]:
        """Row and column of the upper left corner of a crop, in LQ pixels."""
        top = int(rng.integers(lq.shape[0] - side + 1))
        return top, int(rng.integers(lq.shape[1] - side + 1))


class GeneratedPairs:
    """Crops of sharp photos, each degraded anew.

    Args:
        photos: (H, W, 3) in 0–255 each.
        kind: How they are degraded.
        scale: Side of GT over side of LQ.
        largest: Side of the largest crop in LQ pixels.
        augment: In which orientations crops are seen.
        sharpened: Whether GT is sharpened behind the degradation.
        masks: For holes, the kinds of which one is drawn for each crop.

    Raises:
        InputError: when no photo is as large as a crop.
    """

    def __init__(
        self,
        photos: Sequence[NDArray[np.uint8]],
        kind: Degradation,
        scale: int,
        largest: int,
        augment: Augment,
        sharpened: bool = False,
        masks: Sequence[MaskKind] = (MaskKind.TRAIN,),
    ) -> None:
        self.all, self.kind, self.scale = photos, kind, scale
        self.augment, self.sharpened, self.masks = augment, sharpened, masks
        self.margin = _MARGIN if kind in (Degradation.SHAKE, Degradation.FRAMES) else 0
        self.per_picture = _PER_PICTURE if kind is Degradation.FRAMES else 1
        self.photos = _Photos(photos, largest * scale + 2 * self.margin)

    def crop(self, rng: np.random.Generator, patch: int, *_in_batch: int) -> Crop:
        """A crop and what the degradation makes of it and what is around it."""
        lq, gt = self._pair(rng, patch)
        return Crop(lq, sharpen(gt), gt) if self.sharpened else Crop(lq, gt)

    def windows(self, rng: np.random.Generator, side: int) -> tuple[list[Pair], NDArray[np.uint8]]:
        """Crops with what the degradation makes of them.

        Where each part is blurred in its own way they are cut from a picture with more to it, as
        windows are when a picture is restored; else there is one, a whole picture by itself.
        """
        if self.kind is not Degradation.FRAMES:
            lq, gt = self._pair(rng, side)
            return [(lq, gt)], lq
        photo = self.all[self.photos.choose(rng)]
        height, width = (min(length, _PICTURE) for length in photo.shape[:2])
        whole = self._truth(photo, rng, height, width)
        lq = degraded(whole, self.kind, self.scale, rng)
        found = []
        for _ in range(self.per_picture):
            top, left = (int(rng.integers(length - side + 1)) for length in whole.shape[:2])
            inside = np.s_[top : top + side, left : left + side]
            found.append((lq[inside], whole[inside]))
        return found, lq

    def _pair(self, rng: np.random.Generator, side: int) -> Pair:
        """A crop and what the degradation makes of it."""
        photo = self.all[self.photos.choose(rng)]
        margin = self.margin
        length = side * self.scale + 2 * margin
        gt = self._truth(photo, rng, length, length)
        lq = degraded(gt, self.kind, self.scale, rng, self.masks)
        if margin:
            inside = slice(margin, length - margin)
            lq, gt = lq[inside, inside], gt[inside, inside]
        return lq, gt

    def _truth(
        self, photo: NDArray[np.uint8], rng: np.random.Generator, height: int, width: int
    ) -> NDArray[np.uint8]:
        """A part of a photo, or what a frame would show of it."""
        part = _turned(_part(photo, rng, height, width), orientation(rng, self.augment))
        return sharp_frame(part, rng) if self.kind is Degradation.FRAMES else part


_MARGIN = 24
"""Pixels around a crop that blur may carry into it."""
_PICTURE = 1280
"""Longest side of a picture that a window is a part of."""
_PER_PICTURE = 2
"""Windows of one picture, whose kernel is looked for once."""
_TRIES = 100
"""Pairs that are looked at for windows that are degraded enough."""


def orientation(rng: np.random.Generator, augment: Augment) -> tuple[int, bool]:
    """Quarter turns, and whether to flip."""
    if augment is Augment.NONE:
        return 0, False
    turns = int(rng.integers(4)) if augment is Augment.ALL else 0
    return turns, bool(rng.integers(2))


def _part(
    photo: NDArray[np.uint8], rng: np.random.Generator, height: int, width: int
) -> NDArray[np.uint8]:
    """A part of a photo, anywhere in it."""
    top = int(rng.integers(photo.shape[0] - height + 1))
    left = int(rng.integers(photo.shape[1] - width + 1))
    return photo[top : top + height, left : left + width]


def cut(
    image: NDArray[np.uint8], top: int, left: int, side: int, turned: tuple[int, bool]
) -> NDArray[np.uint8]:
    """A square of an image in an orientation."""
    return _turned(image[top : top + side, left : left + side], turned)


def _turned(image: NDArray[np.uint8], turned: tuple[int, bool]) -> NDArray[np.uint8]:
    quarters, flipped = turned
    image = np.rot90(image, quarters)
    return np.ascontiguousarray(image[:, ::-1] if flipped else image)
