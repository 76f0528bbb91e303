"""Camera shake: the path of a hand during the exposure, drawn as a kernel and applied to light.

The camera is a mass that is pushed at random: its velocity decays (inertia), now and then it gets a
jerk, and a pull brings it back. The exposure is a stretch of that path: a calm hand leaves a line,
a nervous one a knot. Blur happens in linear light, where highlights are brighter than a file can
say, so they smear and stay white; video frames averaged into one picture, as some benchmarks do,
are blurred in the file's own levels instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Kernel = NDArray[np.float32]
"""(size, size) with an odd size, sums to 1."""


@dataclass(frozen=True)
class ShakeRanges:
    """How a hand shakes and what the sensor adds."""

    length: tuple[float, float] = (3.0, 32.0)
    """Length of the path in pixels; its logarithm is uniform, since slight shakes are common."""
    inertia: tuple[float, float] = (0.7, 0.995)
    """Share of the velocity kept from one moment to the next."""
    push: tuple[float, float] = (0.01, 0.3)
    """Deviation of the random push at each moment; the velocity begins with a deviation of 1."""
    jitter: tuple[float, float] = (0.0, 0.04)
    """Chance of a jerk, a push 13 times as strong, at each moment."""
    exposure: tuple[float, float] = (0.4, 1.0)
    """Share of the path during which the shutter is open."""
    highlights: tuple[float, float] = (1.0, 2.0)
    """By how much the brightest parts exceed what the file holds."""
    averaged: float = 0.5
    """Share of pictures that are blurred in the file's own levels, as averaged video frames are."""
    noise: tuple[float, float] = (0.0, 2.0)
    """Deviation of the sensor's noise in levels of 255."""


_MOMENTS = 160
_JERK = 13
_GAMMA = 2.2
_BRIGHT = 0.9
"""From where on, in linear light, a pixel may have been clipped."""


def shake(
    gt: NDArray[np.uint8], rng: np.random.Generator, ranges: ShakeRanges | None = None
) -> NDArray[np.uint8]:
    """A sharp picture as a shaken camera takes it, (H, W, 3) in 0–255 of the same size."""
    ranges = ranges or ShakeRanges()
    kernel = random_shake_kernel(rng, ranges)
    gamma = 1.0 if rng.random() < ranges.averaged else _GAMMA
    light = (gt.astype(np.float32) / 255) ** gamma
    gain = rng.uniform(*ranges.highlights)
    excess = np.clip((light - _BRIGHT) / (1 - _BRIGHT), 0, 1)
    light = light * (1 + (gain - 1) * excess)
    blurred = cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    seen = np.clip(np.asarray(blurred), 0, 1) ** (1 / gamma) * 255
    seen += rng.normal(0, rng.uniform(*ranges.noise), gt.shape)
    return np.rint(np.clip(seen, 0, 255)).astype(np.uint8)


def random_shake_kernel(rng: np.random.Generator, ranges: ShakeRanges) -> Kernel:
    """The trace of a random path, around its centre of mass."""
    path = random_path(rng, ranges)
    length = math.exp(rng.uniform(*np.log(ranges.length)))
    spread = max(np.ptp(path[:, 0]), np.ptp(path[:, 1]), 1e-6)
    path = path * (length / spread)
    path -= path.mean(axis=0)
    radius = math.ceil(np.abs(path).max()) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    for y, x, weight in _spread(path + radius):
        np.add.at(kernel, (y, x), weight)
    return (kernel / kernel.sum()).astype(np.float32)


def random_path(rng: np.random.Generator, ranges: ShakeRanges) -> NDArray[np.float64]:
    """Positions (moments, 2) while the shutter is open, in no particular unit."""
    inertia, push, jitter = (
        rng.uniform(*span) for span in (ranges.inertia, ranges.push, ranges.jitter)
    )
    velocity, position = rng.normal(size=2), np.zeros(2)
    places = np.empty((_MOMENTS, 2))
    for moment in range(_MOMENTS):
        strength = push * (_JERK if rng.random() < jitter else 1)
        velocity = inertia * velocity + strength * rng.normal(size=2) - 0.002 * position
        position = position + velocity
        places[moment] = position
    open_for = max(2, round(_MOMENTS * rng.uniform(*ranges.exposure)))
    first = rng.integers(_MOMENTS - open_for + 1)
    return _refined(places[first : first + open_for])


def _refined(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same path with eight times the moments, so that its trace has no gaps."""
    moments = np.arange(len(places))
    fine = np.linspace(0, len(places) - 1, 8 * len(places))
    return np.stack([np.interp(fine, moments, places[:, axis]) for axis in (0, 1)], axis=1)


def _spread(path: NDArray[np.float64]) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Rows, columns and shares of the four pixels around each position."""
    corner = np.floor(path).astype(int)
    rest = path - corner
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - rest[:, 0]) * np.abs(1 - dx - rest[:, 1])
            yield corner[:, 0] + dy, corner[:, 1] + dx, weight
