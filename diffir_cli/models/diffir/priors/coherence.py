"""Holes that are filled by coherence transport: lines run on into them.

F. Bornemann, T. März, "Fast image inpainting based on coherence transport", Journal of Mathematical
Imaging and Vision, 2007. Holes close from their borders inwards. Each pixel p becomes a weighted
mean of the pixels q that are known, or filled already, in a disc around it:

    w(p, q) = exp(−½ (m(p) n(p)·(q − p) / ε)²) / |q − p|

n is the direction in which the picture changes most around p, found by the structure tensor of what
is known, so that a large m takes colours from along a line only. Here m = 1 + μ exp(−c / C²) for
the coherence C of the tensor, the difference of its eigenvalues over their sum.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffir_cli.models.progress import Meter, Progress
from diffir_cli.util.diffusion_fill import smooth_fill

_RADIUS = 5
"""ε, the radius of the disc in pixels."""
_ALONG, _CALM = 25.0, 0.25
"""μ and c."""
_FINE = 0.7
"""Deviation in pixels of the blur before the gradient."""
_BOX, _BOXES = 9, 3
"""The structure tensor is averaged over so many pixels a side, so many times: nearly a Gaussian
with a deviation of 4.5 pixels."""
_DEEPEST = 32
"""Pixels from the border of a hole up to which lines are continued; what is deeper is filled
smoothly."""
_FAR = 2**24
"""More than any depth."""
_CELL = 128
"""Side of the squares that are worked on at a time."""
_MARGIN = _BOXES * (_BOX // 2) + 4
"""Pixels around a square that have a say in it."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
PIXEL_BYTES = 140
"""What is taken for each pixel of a picture."""

_SQUARE = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1].reshape(2, -1)
_LENGTHS = np.hypot(*_SQUARE)
_ROWS, _COLUMNS = _SQUARE[:, (_LENGTHS > 0) & (_LENGTHS <= _RADIUS)]
_STEPS = np.stack([_ROWS, _COLUMNS]).astype(np.float32)
_DISTANCES = np.hypot(*_STEPS)


@torch.no_grad()
def with_lines_continued(lq: Tensor, progress: Progress | None = None) -> Tensor:
    """A picture whose holes are filled by coherence transport.

    Args:
        lq: (1, 4, H, W) in [0, 1] on the CPU, the mask last, 1 in the holes; what the picture holds
            in them does not matter.
        progress: Called after each step inwards with the share that is done; optional.

    Returns:
        The same, with other colours in the holes; they stay black if nothing is known.
    """
    holes = lq[0, 3].numpy() > 0
    colours, depths = transported(lq[0, :3].permute(1, 2, 0).numpy(), holes, progress)
    filled = torch.from_numpy(colours).permute(2, 0, 1)[None]
    deep = torch.from_numpy(depths > _DEEPEST)[None, None]
    if deep.any():
        filled = smooth_fill(filled, deep.to(filled))
    return torch.cat([filled, lq[:, 3:]], dim=1)


def transported(
    image: NDArray[np.float32], holes: NDArray[np.bool_], progress: Progress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A picture whose holes are filled from their borders up to a depth of 32 pixels.

    Args:
        image: (H, W, 3).
        holes: (H, W).
        progress: Called after each step inwards with the share that is done; optional.

    Returns:
        The picture, (H, W, 3), equal to the image outside the holes and zero in what stays open,
        and how deep each pixel lies in a hole, (H, W): 0 outside, 1 at a border. A picture that is
        one hole has no border and stays open.
    """
    depths = _depths(holes)
    around = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
    # Nothing is ever known outside of the picture.
    colours = np.ascontiguousarray(np.pad(image, (*around, (0, 0))))
    canvas = _Canvas(colours, np.pad(depths, around, constant_values=_FAR))
    inside = colours[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    inside[holes] = 0
    if holes.all():
        return inside, depths
    cells = [
        _Cell(canvas, top, left)
        for top in range(0, holes.shape[0], _CELL)
        for left in range(0, holes.shape[1], _CELL)
        if holes[top : top + _CELL, left : left + _CELL].any()
    ]
    # All cells together, as each needs what its neighbours have filled before.
    meter = Meter(progress or (lambda _share: None), sum(int(cell.ends[-1]) for cell in cells))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for depth in range(1, min(int(depths.max()), _DEEPEST) + 1):
            reached = [cell for cell in cells if cell.ends[depth] > cell.ends[depth - 1]]
            for filled in pool.map(_Cell.fill, reached, repeat(depth)):
                meter.add(filled)
    return inside, depths


def _depths(holes: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many steps to a neighbour, also across a corner, lead out of the hole; 0 outside."""
    distances = cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_C, 3)
    # Without a border they are infinite.
    return np.minimum(distances, _FAR).astype(np.int32)


@dataclass(frozen=True)
class _Canvas:
    """A picture with a margin; both arrays are contiguous."""

    colours: NDArray[np.float32]
    depths: NDArray[np.int32]


class _Cell:
    """A square of a picture.

    Args:
        canvas: The picture.
        top: Row of the square's upper left corner, without the margin.
        left: Its column.
    """

    def __init__(self, canvas: _Canvas, top: int, left: int) -> None:
        self.canvas = canvas
        side = _CELL + 2 * _MARGIN
        self.window = np.s_[top : top + side, left : left + side]
        height, width = canvas.depths.shape
        bottom, right = (
            min(top + _CELL, height - 2 * _MARGIN),
            min(left + _CELL, width - 2 * _MARGIN),
        )
        own = np.s_[top + _MARGIN : bottom + _MARGIN, left + _MARGIN : right + _MARGIN]
        rows, columns = np.nonzero(canvas.depths[own])
        found = canvas.depths[own][rows, columns]
        order = np.argsort(found, kind="stable")
        # The pixels in holes by depth, and where each depth ends, from 0 on.
        self.rows, self.columns = rows[order] + _MARGIN, columns[order] + _MARGIN
        self.ends = np.searchsorted(found[order], np.arange(_DEEPEST + 1), side="right")
        # One index instead of two takes a fifth of the time.
        self.places = (self.rows + top) * width + self.columns + left
        self.steps = _ROWS * width + _COLUMNS

    def fill(self, depth: int) -> int:
        """Fill the pixels of one depth from those that are less deep; returns how many they are."""
        chosen = slice(self.ends[depth - 1], self.ends[depth])
        places = self.places[chosen, None]
        colours, depths = self.canvas.colours, self.canvas.depths
        tensor = _structure(colours[self.window] @ _LUMA, depths[self.window] < depth)
        xx, xy, yy = tensor[self.rows[chosen], self.columns[chosen]].T
        coherence = np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-7)
        narrow = 1 + _ALONG * np.exp(-_CALM / np.maximum(coherence**2, 1e-4))
        angle = 0.5 * np.arctan2(2 * xy, xx - yy)
        across = (np.column_stack([np.sin(angle), np.cos(angle)]) @ _STEPS).astype(np.float32)
        across *= narrow[:, None] / _RADIUS
        # Of pixels that all lie across the line, each counts a little.
        weights = np.exp(-0.5 * across**2) / _DISTANCES + np.float32(1e-9)
        around = places + self.steps
        weights *= depths.ravel().take(around) < depth
        flat = colours.reshape(-1, 3)
        means = weights[:, None] @ flat.take(around, axis=0)
        flat[places[:, 0]] = means[:, 0] / weights.sum(axis=1, keepdims=True)
        return len(places)


def _structure(grey: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The structure tensor of known pixels, up to a factor: xx, xy and yy, (h, w, 3)."""
    there = known.astype(np.float32)
    both = cv2.GaussianBlur(np.dstack([grey * there, there]), (0, 0), _FINE)
    smooth = both[:, :, 0] / np.maximum(both[:, :, 1], 1e-6)
    inside = cv2.erode(there, np.ones((3, 3), np.uint8))
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) * inside
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1) * inside
    tensor = np.dstack([x * x, x * y, y * y])
    for _ in range(_BOXES):
        tensor = cv2.blur(tensor, (_BOX, _BOX))
    return tensor
