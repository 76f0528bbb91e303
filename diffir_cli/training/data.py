"""Batches of crops: a pure function of the seed and the iteration.

No state is kept between batches, so that a run continued after an interruption sees exactly the
batches it would have seen, and so that several processes can each take their share of one batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.degradations.bicubic import bicubic_pair
from diffir_cli.degradations.kinds import Degradation
from diffir_cli.errors import InputError
from diffir_cli.imaging import list_pictures, read_levels
from diffir_cli.training.recipe import Recipe
from diffir_cli.training.sources import Crop, GeneratedPairs, Pair, PairSource, Source, StoredPairs
from diffir_cli.training.trainable import Batch, Prepare, Prior
from diffir_cli.training.windows import Windows
from diffir_cli.util.names import by_stem, stem_of

_log = logging.getLogger(__name__)


class Crops:
    """Batches of crops, each a pure function of the seed and the iteration.

    Args:
        sources: Where crops come from, each with its share of them.
        seed: Where all randomness comes from.
        prepare: What is done to the LQ of each crop; optional.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        seed: int,
        prepare: Prepare | None = None,
    ) -> None:
        self.sources = [source for source, share in sources if share > 0]
        self.shares = [share for _, share in sources if share > 0]
        self.seed, self.prepare = seed, prepare

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        prior: Prior | None = None,
        prepare: Prepare | None = None,
    ) -> Crops:
        """The crops of a recipe.

        Args:
            recipe: Which photos, and how they are cut.
            prior: What the network reads behind RGB, where it does.
            prepare: What is done to the LQ of each crop; optional.

        Raises:
            InputError: when a photo cannot be read, pairs do not match, or all are too small.
        """
        # Threads of OpenCV would fight with those of torch.
        cv2.setNumThreads(1)
        data, scale = recipe.data, recipe.model.scale
        if not data.pairs_share and any(map(os.path.isdir, data.pairs_lq)):
            _log.warning("data.pairs_share is 0: the pairs of data.pairs_lq are not used")
        largest = max(patch for _, patch, _ in data.sizes())
        if prior is not None:
            largest = data.window
        sources: list[tuple[PairSource, float]] = []
        photos_share = round(1 - data.pairs_share - data.frames_share, 9)
        photos = load_photos(data.train) if data.pairs_share < 1 else []
        if photos_share:
            sources.append((_photo_source(recipe, photos, largest), photos_share))
        if data.frames_share:
            frames = GeneratedPairs(photos, Degradation.FRAMES, scale, largest, data.augment)
            sources.append((frames, data.frames_share))
        if data.pairs_share:
            real = load_pairs(data.pairs_lq, data.pairs_gt, scale)
            stored = StoredPairs(
                real,
                scale,
                largest,
                data.augment,
                sharpened=data.sharpen_gt,
                below=data.pairs_below,
            )
            sources.append((stored, data.pairs_share))
        if prior is not None:
            windows = []
            for number, (source, share) in enumerate(sources):
                count = max(1, round(share * data.windows))
                seed = recipe.seed, number
                drawn = Windows(source, count, data.window, data.augment, seed, prior)
                windows.append((drawn, share))
            return cls(windows, recipe.seed, prepare)
        return cls(sources, recipe.seed, prepare)

    def batch(self, iteration: int, patch: int, size: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of a process in the batch of an iteration: every `world`-th crop of `size`."""
        crops = [self._crop(iteration, patch, index, size) for index in range(rank, size, world)]
        if self.prepare:
            crops = [crop._replace(lq=self.prepare(crop.lq)) for crop in crops]
        return Batch(*(_to_tensor(images) for images in zip(*crops, strict=True)))  # type: ignore[arg-type]

    def _crop(self, iteration: int, patch: int, index: int, size: int) -> Crop:
        rng = np.random.default_rng([self.seed, iteration, index])
        number = rng.choice(len(self.sources), p=self.shares) if len(self.sources) > 1 else 0
        return self.sources[number].crop(rng, patch, index, size)


def _photo_source(recipe: Recipe, photos: Sequence[NDArray[np.uint8]], largest: int) -> PairSource:
    """Sharp photos with the recipe's degradation; what always gives the same is done here."""
    data, scale = recipe.data, recipe.model.scale
    if data.degradation is Degradation.BICUBIC:
        pairs = [bicubic_pair(photo, scale) for photo in photos]
        soft = load_soft_targets(data.soft_targets, data.train, [gt for _, gt in pairs])
        return StoredPairs(pairs, scale, largest, data.augment, soft=soft)
    return GeneratedPairs(
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
    photos, faults = [], []
    for path in _paths(folders)[:count]:
        try:
            photos.append(read_levels(path))
        except InputError as error:
            faults.append(error)
    if len(faults) > 1:
        named = "; ".join(fault.message for fault in faults[:_MOST_NAMED])
        more = "; …" * (len(faults) > _MOST_NAMED)
        raise InputError(f"{len(faults)} photos cannot be read: {named}{more}", "remove them")
    if faults:
        raise faults[0]
    return photos


_MOST_NAMED = 10


def load_soft_targets(
    soft_folders: Sequence[str], gt_folders: Sequence[str], truths: Sequence[NDArray[np.uint8]]
) -> list[NDArray[np.uint8]]:
    """What another network made of the reduced photos, found by the names of the photos.

    Args:
        soft_folders: Where these pictures are; none where there are none.
        gt_folders: Folders of the sharp photos.
        truths: These photos as they are trained on: cut to multiples of the scale, (H, W, 3).

    Raises:
        InputError: when a photo has no such picture, or one of another size.
    """
    if not any(soft_folders):
        return []
    pairs = _matched(gt_folders, soft_folders)
    found = []
    for (photo, path), gt in zip(pairs, truths, strict=True):
        soft = read_levels(path)
        if soft.shape != gt.shape:
            raise InputError(
                f"{path} has {soft.shape[1]}×{soft.shape[0]} pixels; for {photo} "
                f"it must have {gt.shape[1]}×{gt.shape[0]}",
                "make the soft targets of the photos as they are now",
            )
        found.append(soft)
    return found


def load_pairs(
    lq_folders: Sequence[str], gt_folders: Sequence[str], scale: int, count: int | None = None
) -> list[Pair]:
    """Real pairs from two lists of folders, matched by name.

    Lists of equal length belong together folder by folder, so that frames may be called alike in
    several; otherwise the partners of all lie in any of `gt_folders`, where each name is once.

    Raises:
        InputError: when an image has no partner, several, or one of another size.
    """
    return [_read_pair(lq, gt, scale) for lq, gt in _matched(lq_folders, gt_folders, count)]


def _matched(
    lq_folders: Sequence[str], gt_folders: Sequence[str], count: int | None = None
) -> list[tuple[Path, Path]]:
    lq_folders, gt_folders = list(filter(None, lq_folders)), list(filter(None, gt_folders))
    if len(lq_folders) == len(gt_folders):
        parts = [([lq], [gt]) for lq, gt in zip(lq_folders, gt_folders, strict=True)]
    else:
        parts = [(lq_folders, gt_folders)]
    found: list[tuple[Path, Path]] = []
    for part in parts:
        found += _pairs_by_name(*part, None if count is None else count - len(found))
    return found


def _pairs_by_name(
    lq_folders: Sequence[str], gt_folders: Sequence[str], count: int | None
) -> list[tuple[Path, Path]]:
    found = by_stem(
        _paths(gt_folders),
        "move one away, or give one ground-truth folder for each folder of degraded images",
    )
    paths = _paths(lq_folders)[:count]
    for path in paths:
        if stem_of(path) not in found:
            raise InputError(
                f"{path} has no matching file named {path.stem!r} in {', '.join(gt_folders)}",
                "give both the same name; equal numbers of folders are paired in order",
            )
    spare = len(found.keys() - {stem_of(path) for path in paths})
    if spare and count is None:
        where = ", ".join(gt_folders)
        _log.warning("%d of %d images of %s have no matching file", spare, len(found), where)
    return [(path, found[stem_of(path)]) for path in paths]


def _read_pair(lq_path: Path, gt_path: Path, scale: int) -> Pair:
    lq, gt = read_levels(lq_path), read_levels(gt_path)
    if gt.shape[:2] != (lq.shape[0] * scale, lq.shape[1] * scale):
        raise InputError(
            f"{lq_path} and {gt_path} are no pair of scale {scale}: "
            f"{lq.shape[1]}×{lq.shape[0]} and {gt.shape[1]}×{gt.shape[0]} pixels",
            "leave them out",
        )
    return lq, gt


def _paths(folders: Sequence[str]) -> list[Path]:
    return [path for folder in filter(None, folders) for path in list_pictures(Path(folder))]


def _to_tensor(images: Sequence[NDArray[np.uint8] | None]) -> Tensor | None:
    """(B, C, H, W) in [0, 1]; None where the crops have no such image."""
    there = [image for image in images if image is not None]
    if not there:
        return None
    pixels = torch.from_numpy(np.stack(there)).permute(0, 3, 1, 2)
    return pixels.float() / 255
