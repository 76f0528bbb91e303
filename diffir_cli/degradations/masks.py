"""Holes for inpainting: irregular strokes and boxes, with the numbers of LaMa that DiffIR uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from diffir_cli.degradations.kinds import MaskKind


@dataclass(frozen=True)
class Strokes:
    """Broken lines of a round brush."""

    count: tuple[int, int]
    """Fewest and most lines."""
    angle: int
    """Largest turn between two pieces, in radians."""
    length: int
    """Longest piece over 10 pixels."""
    width: int
    """Thickest brush over 5 pixels."""
    pieces: int = 5
    """Most pieces of a line."""


@dataclass(frozen=True)
class Boxes:
    """Upright rectangles."""

    count: tuple[int, int] = (1, 4)
    margin: int = 10
    """Pixels to the edge of the picture."""
    side: tuple[int, int] = (30, 150)
    """Shortest and longest side in pixels."""


_THICK = Strokes((1, 5), 4, 200, 100)
_THIN = Strokes((4, 50), 4, 40, 10)
_BOXES = Boxes()


def random_mask(
    rng: np.random.Generator, height: int, width: int, kind: MaskKind = MaskKind.TRAIN
) -> NDArray[np.uint8]:
    """A mask, (height, width): 1 in the holes, 0 elsewhere. It has both.

    The numbers of the holes are meant for 256 pixels: at their full size they would leave little of
    a small picture, so with a shorter side below 256 pixels the holes shrink with it.

    Raises:
        ValueError: when the picture is too small for holes and known pixels.
    """
    enlarged = max(1.0, _MEANT_FOR / min(height, width))
    size = round(enlarged * height), round(enlarged * width)
    for _ in range(_MOST_TRIES):
        mask = _drawn(rng, *size, kind)
        if enlarged > 1:
            resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
            mask = np.asarray(resized, dtype=np.uint8)
        if mask.any() and not mask.all():
            return mask
    raise ValueError(f"no mask fits {height}×{width} pixels")


_MEANT_FOR = 256
_MOST_TRIES = 1000


def _drawn(rng: np.random.Generator, height: int, width: int, kind: MaskKind) -> NDArray[np.uint8]:
    if kind is MaskKind.NARROW:
        return stroke_mask(rng, height, width, _THIN)
    if rng.random() < 0.5:
        return stroke_mask(rng, height, width, _THICK)
    return box_mask(rng, height, width, _BOXES)


def stroke_mask(
    rng: np.random.Generator, height: int, width: int, strokes: Strokes
) -> NDArray[np.uint8]:
    """Broken lines that turn to alternating sides: (height, width), 1 in them."""
    mask = np.zeros((height, width), np.uint8)
    for line in range(rng.integers(strokes.count[0], strokes.count[1] + 1)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        for _ in range(1 + rng.integers(strokes.pieces)):
            angle = 0.01 + rng.integers(strokes.angle)
            if line % 2 == 0:
                angle = 2 * math.pi - angle
            length = 10 + rng.integers(strokes.length)
            brush = int(5 + rng.integers(strokes.width))
            end_x = int(np.clip(x + length * math.sin(angle), 0, width))
            end_y = int(np.clip(y + length * math.cos(angle), 0, height))
            cv2.line(mask, (x, y), (end_x, end_y), 1, brush)
            x, y = end_x, end_y
    return mask


def box_mask(rng: np.random.Generator, height: int, width: int, boxes: Boxes) -> NDArray[np.uint8]:
    """Upright rectangles, away from the edge where there is room: (height, width), 1 in them."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(boxes.count[0], boxes.count[1] + 1)):
        tall, wide = (_side(rng, boxes, side) for side in (height, width))
        top = _start(rng, boxes, height, tall)
        left = _start(rng, boxes, width, wide)
        mask[top : top + tall, left : left + wide] = 1
    return mask


def _side(rng: np.random.Generator, boxes: Boxes, room: int) -> int:
    longest = max(1, min(boxes.side[1], room - 2 * boxes.margin))
    return int(rng.integers(min(boxes.side[0], longest), longest + 1))


def _start(rng: np.random.Generator, boxes: Boxes, room: int, side: int) -> int:
    margin = min(boxes.margin, (room - side) // 2)
    return int(rng.integers(margin, room - side - margin + 1))
