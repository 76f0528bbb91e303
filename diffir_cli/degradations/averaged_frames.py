"""Frames of a moving camera, averaged into one: how the pairs of GoPro and its kin are made.

A shake is the same everywhere in a picture. Here the camera also rolls and comes nearer, what is
near moves more than what is far, and things move by themselves. A handful of frames, each open for
a part of its time, is averaged in the file's own levels, and the truth is frame n // 2 (Nah et al.,
CVPR 2017): the middle one of an odd number, half a frame behind the middle of an even one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.motion_blur import ShakeRanges, random_path

Plane = NDArray[np.float32]
"""(H, W)."""


@dataclass(frozen=True)
class FrameRanges:
    """How a camera and what it sees move while a number of frames is taken."""

    frames: tuple[int, int] = (7, 13)
    """How many are averaged."""
    open_for: tuple[float, float] = (0.3, 1.0)
    """Share of its time for which the shutter of a frame is open."""
    length: tuple[float, float] = (4.0, 48.0)
    """Length of the camera's path in pixels; its logarithm is uniform."""
    roll: float = 0.2
    """Largest angle that the camera rolls by, in degrees."""
    approach: float = 0.004
    """Largest share by which the picture grows or shrinks."""
    depth: float = 0.2
    """By how much more or less than the middle a part of the picture may move, as a share."""
    things: tuple[int, int] = (0, 1)
    """How many parts of the picture move by themselves."""
    softness: tuple[float, float] = (0.0, 1.0)
    """Deviation in pixels of the blur that each frame has of its own, by lens and codec: what
    `sharp_frame` does to a photo before its frames are averaged, and nothing else."""
    noise: tuple[float, float] = (0.0, 1.5)
    """Deviation of noise in levels of 255."""


_CALM = ShakeRanges(
    inertia=(0.99, 1.0), push=(0.005, 0.05), jitter=(0.0, 0.005), exposure=(0.05, 0.25)
)
"""A short stretch of a smooth path: a camera in motion hardly turns back within some frames."""
_MOMENTS = 3
"""Moments that stand for the open shutter of one frame."""
_SHARP = 0.2
"""Deviation in pixels of a blur that changes nothing."""
_DEPTH_CELLS = 4
"""The random field behind depth has so many cells a side."""
_THING = 0.12, 0.4
"""Radius of a moving thing, as a share of the picture's shorter side."""
_BORDER = cv2.BORDER_REFLECT_101


def sharp_frame(
    photo: NDArray[np.uint8], rng: np.random.Generator, ranges: FrameRanges | None = None
) -> NDArray[np.uint8]:
    """What a single frame of a film shows of a photo, (H, W, 3) in 0–255: it is never as sharp."""
    softness = rng.uniform(*(ranges or FrameRanges()).softness)
    if softness < _SHARP:
        return photo
    return np.asarray(cv2.GaussianBlur(photo, (0, 0), softness), dtype=np.uint8)


def averaged_frames(
    gt: NDArray[np.uint8], rng: np.random.Generator, ranges: FrameRanges | None = None
) -> NDArray[np.uint8]:
    """What the average of some frames shows of which `gt` is number n // 2.

    A thing that moves by itself is drawn over the picture, where it stands still too: what it
    uncovers nobody knows.

    Args:
        gt: (H, W, 3) in 0–255.
        rng: Where all randomness comes from.
        ranges: How things move.

    Returns:
        (H, W, 3) in 0–255.
    """
    ranges = ranges or FrameRanges()
    moments = _moments(rng, ranges)
    camera = _Motion(rng, moments, ranges, *gt.shape[:2])
    things = [
        _Thing(_travelled(rng, moments, ranges), rng, *gt.shape[:2])
        for _ in range(rng.integers(ranges.things[0], ranges.things[1] + 1))
    ]
    levels = gt.astype(np.float32)
    total = np.zeros_like(levels)
    for moment in range(len(moments) - 1):
        total += _seen(levels, camera, things, moment)
    total /= len(moments) - 1
    total += rng.normal(0, rng.uniform(*ranges.noise), gt.shape)
    return np.rint(np.clip(total, 0, 255)).astype(np.uint8)


def _moments(rng: np.random.Generator, ranges: FrameRanges) -> NDArray[np.float64]:
    """When light is gathered, as shares of the whole time; the last one is that of the truth."""
    count = int(rng.integers(ranges.frames[0], ranges.frames[1] + 1))
    inside = (np.arange(_MOMENTS) - (_MOMENTS - 1) / 2) / _MOMENTS * rng.uniform(*ranges.open_for)
    middles = np.arange(count)
    times = (middles[:, None] + inside).ravel()
    return (np.append(times, count // 2) + 0.5) / count


class _Motion:
    """How the camera's motion moves what stands still.

    Args:
        rng: Where all randomness comes from.
        moments: When, as shares of the whole time; at the last one nothing has moved.
        ranges: How far.
        height: Of the picture.
        width: Of the picture.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        moments: NDArray[np.float64],
        ranges: FrameRanges,
        height: int,
        width: int,
    ) -> None:
        self.path = _travelled(rng, moments, ranges)
        turning = _path(rng, moments, 1.0)
        self.roll = math.radians(rng.uniform(0, ranges.roll)) * turning[:, 0]
        self.approach = rng.uniform(0, ranges.approach) * turning[:, 1]
        self.rows, self.columns = np.meshgrid(
            np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij"
        )
        field = rng.uniform(-1, 1, (_DEPTH_CELLS, _DEPTH_CELLS)).astype(np.float32)
        large = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
        self.nearness: Plane = (1 + rng.uniform(0, ranges.depth) * large).astype(np.float32)

    def places(self, moment: int) -> tuple[Plane, Plane]:
        """Columns and rows of the truth that are seen at each pixel."""
        down, right = (np.float32(step) for step in self.path[moment])
        roll, approach = np.float32(self.roll[moment]), np.float32(self.approach[moment])
        below = self.rows - np.float32(self.rows.shape[0] / 2)
        beside = self.columns - np.float32(self.rows.shape[1] / 2)
        return (
            self.columns + right * self.nearness + approach * beside - roll * below,
            self.rows + down * self.nearness + approach * below + roll * beside,
        )


class _Thing:
    """A round part of the picture that moves by itself, before the rest.

    Args:
        path: How far it has moved at each moment, (moments, 2).
        rng: Where the randomness of its place and size comes from.
        height: Of the picture.
        width: Of the picture.
    """

    def __init__(
        self, path: NDArray[np.float64], rng: np.random.Generator, height: int, width: int
    ) -> None:
        self.path = path
        radii = rng.uniform(*_THING, 2) * min(height, width)
        middle = rng.uniform(0, 1, 2) * (height, width)
        rows, columns = np.ogrid[:height, :width]
        distance = np.hypot((rows - middle[0]) / radii[0], (columns - middle[1]) / radii[1])
        self.mask = np.clip((1 - distance) * radii.min(), 0, 1).astype(np.float32)

    def over(self, behind: NDArray[np.float32], levels: NDArray[np.float32], moment: int) -> None:
        """Draw it where it is at a moment."""
        down, right = self.path[moment]
        move = np.array([[1, 0, right], [0, 1, down]])
        size = self.mask.shape[::-1]
        mask = np.asarray(cv2.warpAffine(self.mask, move, size))[..., None]
        thing = np.asarray(
            cv2.warpAffine(levels, move, size, flags=cv2.INTER_CUBIC, borderMode=_BORDER)
        )
        behind += mask * (thing - behind)


def _seen(
    levels: NDArray[np.float32], camera: _Motion, things: Sequence[_Thing], moment: int
) -> NDArray[np.float32]:
    """The scene at a moment."""
    columns, rows = camera.places(moment)
    seen = cv2.remap(levels, columns, rows, cv2.INTER_CUBIC, borderMode=_BORDER)
    picture = np.asarray(seen, dtype=np.float32)
    for thing in things:
        thing.over(picture, levels, moment)
    return picture


def _travelled(
    rng: np.random.Generator, moments: NDArray[np.float64], ranges: FrameRanges
) -> NDArray[np.float64]:
    """How far something has moved at each moment, (moments, 2), in pixels."""
    return _path(rng, moments, math.exp(rng.uniform(*np.log(ranges.length))))


def _path(
    rng: np.random.Generator, moments: NDArray[np.float64], length: float
) -> NDArray[np.float64]:
    """Positions (moments, 2) of some length, relative to that at the last moment."""
    path = random_path(rng, _CALM)
    path = path * (length / max(np.ptp(path[:, 0]), np.ptp(path[:, 1]), 1e-6))
    whole = np.linspace(0, 1, len(path))
    places = np.stack([np.interp(moments, whole, path[:, axis]) for axis in (0, 1)], axis=1)
    return places - places[-1]
