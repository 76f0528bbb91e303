"""Batches of crops: a pure function of the seed and the iteration.

No state is kept between batches, so that a run continued after an interruption sees exactly the
batches it would have seen, and so that several processes can each take their share of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.engine.guess import guess_of_window
from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures, read_picture
from diffir_cli.training.degradation.apply import degraded
from diffir_cli.training.degradation.bicubic import bicubic_pair
from diffir_cli.training.degradation.kinds import Degradation, MaskKind
from diffir_cli.training.degradation.realworld import sharpen
from diffir_cli.training.recipe import Augment, Recipe

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""LQ (h, w, 3), or (h, w, 4) with a mask or (h, w, 6) with a deconvolved guess, and GT
(scale·h, scale·w, 3) in 0–255."""
Crop = tuple[NDArray[np.uint8], ...]
"""A pair, and behind a sharpened GT the GT as it was."""


@dataclass(frozen=True)
class Batch:
    """Crops in [0, 1]."""

    lq: Tensor
    """(B, in_channels, patch, patch)."""
    gt: Tensor
    """(B, 3, scale·patch, scale·patch)."""
    natural: Tensor | None = None
    """Where `gt` is sharpened, the truth as it was."""

    @property
    def real(self) -> Tensor:
        """What a discriminator must take for real: a sharpened truth would teach it halos."""
        return self.gt if self.natural is None else self.natural


class Source(Protocol):
    """Where crops come from."""

    def crop(self, draw: np.random.Generator, patch: int) -> Crop:
        """A random crop of `patch` LQ pixels, turned and flipped, with its degraded twin."""


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
        areas = [photos[i].shape[0] * photos[i].shape[1] for i in self.chosen]
        self.chances = np.array(areas, dtype=np.float64) / sum(areas)

    def draw(self, draw: np.random.Generator) -> int:
        """The number of a photo."""
        return self.chosen[draw.choice(len(self.chosen), p=self.chances)]


class StoredPairs:
    """Crops of photos held in memory with their degraded twins.

    Args:
        pairs: LQ and GT of each photo.
        scale: Side of GT over side of LQ.
        largest: Side of the largest crop in LQ pixels.
        augment: In which orientations crops are seen.
        sharpened: Whether GT is sharpened.

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
    ) -> None:
        self.pairs, self.scale = pairs, scale
        self.augment, self.sharpened = augment, sharpened
        self.photos = _Photos([gt for _, gt in pairs], largest * scale)

    def crop(self, draw: np.random.Generator, patch: int) -> Crop:
        """The same place of both halves of a pair."""
        lq, gt = self.pairs[self.photos.draw(draw)]
        top = int(draw.integers(lq.shape[0] - patch + 1))
        left = int(draw.integers(lq.shape[1] - patch + 1))
        turned = _orientation(draw, self.augment)
        scale = self.scale
        inside = _cut(lq, top, left, patch, turned)
        truth = _cut(gt, top * scale, left * scale, patch * scale, turned)
        return (inside, sharpen(truth), truth) if self.sharpened else (inside, truth)


class FreshPairs:
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
        self.margin = _SURROUNDINGS if kind is Degradation.SHAKE else 0
        self.photos = _Photos(photos, largest * scale + 2 * self.margin)

    def crop(self, draw: np.random.Generator, patch: int) -> Crop:
        """A crop and what the degradation makes of it and its surroundings."""
        photo = self.all[self.photos.draw(draw)]
        margin = self.margin
        side = patch * self.scale + 2 * margin
        top = int(draw.integers(photo.shape[0] - side + 1))
        left = int(draw.integers(photo.shape[1] - side + 1))
        gt = _cut(photo, top, left, side, _orientation(draw, self.augment))
        lq = degraded(gt, self.kind, self.scale, draw, self.masks)
        if margin:
            inside = slice(margin, side - margin)
            lq, gt = lq[inside, inside], gt[inside, inside]
        return (lq, sharpen(gt), gt) if self.sharpened else (lq, gt)


class Windows:
    """Crops of windows that have been degraded and deconvolved, each made when first asked for.

    To find the kernel of a window takes a second, so that each is seen many times.

    Args:
        source: Where windows come from.
        count: How many there are.
        side: Their side in LQ pixels.
        augment: In which orientations crops are seen.
        seed: Where a window's randomness comes from, beside its number.
    """

    def __init__(self, source: Source, count: int, side: int, augment: Augment, seed: int) -> None:
        self.source, self.count, self.side = source, count, side
        self.augment, self.seed = augment, seed
        self.made: dict[int, Pair] = {}

    def crop(self, draw: np.random.Generator, patch: int) -> Crop:
        """A part of one of the windows."""
        number = int(draw.integers(self.count))
        if number not in self.made:
            self.made[number] = self.window(number)
        lq, gt = self.made[number]
        top, left = (int(draw.integers(self.side - patch + 1)) for _ in range(2))
        turned = _orientation(draw, self.augment)
        return _cut(lq, top, left, patch, turned), _cut(gt, top, left, patch, turned)

    def window(self, number: int) -> Pair:
        """A window with its guess behind it, and its truth."""
        draw = np.random.default_rng([self.seed, number, *_WINDOW_STREAM])
        lq, gt, *_ = self.source.crop(draw, self.side)
        guess = guess_of_window(torch.from_numpy(lq).permute(2, 0, 1) / 255)
        levels = (guess * 255).round().byte().permute(1, 2, 0).numpy()
        return np.concatenate([lq, levels], axis=2), np.ascontiguousarray(gt)


_WINDOW_STREAM = 87, 105
"""Keeps the random numbers of windows apart from those of crops."""


_SURROUNDINGS = 24
"""Pixels around a crop that blur may carry into it."""


class Crops:
    """Batches of crops, each a pure function of the seed and the iteration.

    Args:
        sources: Where crops come from, each with its share of them.
        seed: Where all randomness comes from.
    """

    def __init__(self, sources: Sequence[tuple[Source, float]], seed: int) -> None:
        self.sources = [source for source, share in sources if share > 0]
        self.shares = [share for _, share in sources if share > 0]
        self.seed = seed

    @classmethod
    def of(cls, recipe: Recipe) -> Crops:
        """The crops of a recipe.

        Raises:
            InputError: when a photo cannot be read, pairs do not match, or all are too small.
        """
        # Threads of OpenCV would fight with those of torch.
        cv2.setNumThreads(1)
        data, scale = recipe.data, recipe.model.scale
        largest = max(patch for _, patch, _ in data.sizes())
        if recipe.model.in_channels == 6:
            largest = data.window
        sources: list[tuple[Source, float]] = []
        if data.pairs_share < 1:
            sources.append((_photo_source(recipe, largest), 1 - data.pairs_share))
        if data.pairs_share:
            real = load_pairs(data.pairs_lq, data.pairs_gt, scale)
            stored = StoredPairs(real, scale, largest, data.augment, data.sharpen_gt)
            sources.append((stored, data.pairs_share))
        if recipe.model.in_channels == 6:
            how = data.window, data.augment, recipe.seed
            sources = [
                (Windows(source, max(1, round(share * data.windows)), *how), share)
                for source, share in sources
            ]
        return cls(sources, recipe.seed)

    def batch(self, iteration: int, patch: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of a process in the batch of an iteration: every `world`-th crop of `size`."""
        crops = [self._crop(iteration, index, patch) for index in range(rank, size, world)]
        return Batch(*(_to_tensor(images) for images in zip(*crops, strict=True)))

    def _crop(self, iteration: int, index: int, patch: int) -> Crop:
        draw = np.random.default_rng([self.seed, iteration, index])
        if len(self.sources) == 1:
            return self.sources[0].crop(draw, patch)
        return self.sources[draw.choice(len(self.sources), p=self.shares)].crop(draw, patch)


def _photo_source(recipe: Recipe, largest: int) -> Source:
    """Sharp photos with the recipe's degradation; what always gives the same is done here."""
    data, scale = recipe.data, recipe.model.scale
    photos = load_photos(data.train)
    if data.degradation is Degradation.BICUBIC:
        pairs = [bicubic_pair(photo, scale) for photo in photos]
        return StoredPairs(pairs, scale, largest, data.augment)
    return FreshPairs(
        photos, data.degradation, scale, largest, data.augment, data.sharpen_gt, data.masks
    )


class Prefetched:
    """Batches made one ahead, by a thread, while the network is at work.

    Args:
        make: The batch of an iteration, from its number, patch and size.
    """

    def __init__(self, make: Callable[[int, int, int], Batch]) -> None:
        self.make = make
        self.pool = ThreadPoolExecutor(1)
        self.ahead: dict[tuple[int, int, int], Future[Batch]] = {}

    def batch(self, iteration: int, patch: int, size: int) -> Batch:
        """The batch of an iteration; the next one of the same size is begun."""
        current = self.ahead.pop((iteration, patch, size), None)
        current = current or self.pool.submit(self.make, iteration, patch, size)
        following = (iteration + 1, patch, size)
        self.ahead = {following: self.pool.submit(self.make, *following)}
        return current.result()

    def close(self) -> None:
        """Let the thread go."""
        self.pool.shutdown(cancel_futures=True)


def load_photos(folders: Sequence[str], count: int | None = None) -> list[NDArray[np.uint8]]:
    """The photos of some folders, or the first `count` of them, (H, W, 3) in 0–255 each.

    Raises:
        InputError: when a folder has no images or one cannot be read.
    """
    return [read_picture(path).rgb for path in _paths(folders)[:count]]


def load_pairs(
    lq_folders: Sequence[str], gt_folders: Sequence[str], scale: int, count: int | None = None
) -> list[Pair]:
    """Real pairs from two lists of folders, matched by name.

    Raises:
        InputError: when an image has no twin, or one of another size.
    """
    found = {path.stem: path for path in _paths(gt_folders)}
    pairs = []
    for path in _paths(lq_folders)[:count]:
        if path.stem not in found:
            raise InputError(
                f"{path} has no twin named {path.stem!r}", "give both folders the same names"
            )
        lq, gt = read_picture(path).rgb, read_picture(found[path.stem]).rgb
        if gt.shape[:2] != (lq.shape[0] * scale, lq.shape[1] * scale):
            raise InputError(
                f"{path} and {found[path.stem]} are no pair of scale {scale}: "
                f"{lq.shape[1]}×{lq.shape[0]} and {gt.shape[1]}×{gt.shape[0]} pixels",
                "leave them out",
            )
        pairs.append((lq, gt))
    return pairs


def _paths(folders: Sequence[str]) -> list[Path]:
    return [path for folder in filter(None, folders) for path in list_pictures(Path(folder))]


def _orientation(draw: np.random.Generator, augment: Augment) -> tuple[int, bool]:
    """Quarter turns, and whether to flip."""
    if augment is Augment.NONE:
        return 0, False
    turns = int(draw.integers(4)) if augment is Augment.ALL else 0
    return turns, bool(draw.integers(2))


def _cut(
    image: NDArray[np.uint8], top: int, left: int, side: int, turned: tuple[int, bool]
) -> NDArray[np.uint8]:
    crop = np.rot90(image[top : top + side, left : left + side], turned[0])
    return np.ascontiguousarray(crop[:, ::-1] if turned[1] else crop)


def _to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return pixels.float() / 255
