"""Holes that are filled by coherence transport: lines run on into them.

F. Bornemann, T. März, "Fast image inpainting based on coherence transport", Journal of Mathematical
Imaging and Vision, 2007. Holes close from their borders inwards. Each pixel p becomes a weighted
mean of the pixels q that are known, or filled already, in a disc around it:

    w(p, q) = exp(−½ (m(p) n(p)·(q − p) / ε)²) / |q − p|

n(p) is the direction in which the picture changes most around p. It comes from the structure tensor
of the known pixels. With a large m(p), only pixels along a line through p count. Here
m = 1 + μ exp(−c / C²), where C is the coherence: the difference of the tensor's eigenvalues over
their sum.
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

from diffir_cli.models.progress import Progress
from diffir_cli.util.diffusion_fill import smooth_fill

_RADIUS = 5
"""ε, the radius of the disc in pixels."""
_MU, _C = 25.0, 0.25
"""μ and c."""
_BLUR = 0.7
"""Deviation in pixels of the Gaussian blur before the gradient."""
_BOX, _BOXES = 9, 3
"""The structure tensor is averaged over so many pixels a side, so many times: nearly a Gaussian
with a deviation of 4.5 pixels."""
_LARGEST_DEPTH = 32
"""Pixels from the border of a hole up to which lines are continued; what is deeper is filled
smoothly."""
_OUTSIDE = 2**24
"""A depth that is never filled, for what lies outside of the picture."""
_CELL = 128
"""Side in pixels of the squares that threads work on."""
_MARGIN = _BOXES * (_BOX // 2) + 4
"""Pixels around a square that influence it."""
_PIECE = 4096
"""Pixels of a square that are filled at a time."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_PIXEL_BYTES, _THREAD_BYTES = 240, 2**24
"""Bytes that filling takes for each pixel of a picture and for each thread, as measured."""

_SQUARE = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1].reshape(2, -1)
_LENGTHS = np.hypot(*_SQUARE)
_ROWS, _COLUMNS = _SQUARE[:, (_LENGTHS > 0) & (_LENGTHS <= _RADIUS)]
_STEPS = np.stack([_ROWS, _COLUMNS]).astype(np.float32)
_DISTANCES = np.hypot(*_STEPS)


@torch.no_grad()
def with_lines_continued(lq: Tensor, progress: Progress | None = None) -> Tensor:
    """A picture whose holes are filled by coherence transport.

    Args:
        lq: (1, 4, H, W) in [0, 1] on the CPU. The last channel is the mask, 1 in the holes and 0
            elsewhere; what the picture holds in the holes does not matter.
        progress: Called with the share that is done, 0 to 1; optional.

    Returns:
        (1, 4, H, W), float32: the same with other colours in the holes; black if nothing is known.
    """
    lq = lq.float()
    holes = lq[0, 3].numpy() > 0
    colours, depths = transported(lq[0, :3].permute(1, 2, 0).numpy(), holes, progress)
    filled = torch.from_numpy(colours).permute(2, 0, 1)[None]
    deep = torch.from_numpy(depths > _LARGEST_DEPTH)[None, None]
    if deep.any():
        filled = smooth_fill(filled, deep.to(filled))
    return torch.cat([filled, lq[:, 3:]], dim=1)


def filling_bytes(height: int, width: int, threads: int) -> int:
    """What `with_lines_continued` takes beside the picture."""
    return _PIXEL_BYTES * height * width + _THREAD_BYTES * threads


def transported(
    image: NDArray[np.float32], holes: NDArray[np.bool_], progress: Progress | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A picture whose holes are filled from their borders up to a depth of 32 pixels.

    Args:
        image: (H, W, 3).
        holes: (H, W).
        progress: Called after each depth with the share that is done, 0 to 1; optional.

    Returns:
        The picture, (H, W, 3), equal to the image outside the holes and zero where it is not
        filled, and the depth of each pixel, (H, W): 0 outside the holes, 1 at a border. A picture
        that is one hole has no border and is not filled.
    """
    depths = _depths(holes)
    margins = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
    colours = np.ascontiguousarray(np.pad(image, (*margins, (0, 0))))
    canvas = _Canvas(colours, np.pad(depths, margins, constant_values=_OUTSIDE))
    picture = colours[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    picture[holes] = 0
    if holes.all():
        return picture, depths
    cells = [
        _Cell(canvas, top, left)
        for top in range(0, holes.shape[0], _CELL)
        for left in range(0, holes.shape[1], _CELL)
        if holes[top : top + _CELL, left : left + _CELL].any()
    ]
    filled, total = 0, sum(int(cell.ends[-1]) for cell in cells)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        # All cells of one depth before the next, as each reads what its neighbours have filled.
        for depth in range(1, min(int(depths.max()), _LARGEST_DEPTH) + 1):
            reached = [cell for cell in cells if cell.ends[depth] > cell.ends[depth - 1]]
            filled += sum(pool.map(_Cell.fill, reached, repeat(depth)))
            if progress:
                progress(filled / total)
    return picture, depths


def _depths(holes: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many steps to a neighbour, also across a corner, lead out of the hole; 0 outside."""
    distances = cv2.distanceTransform(holes.astype(np.uint8), cv2.DIST_C, 3)
    # Without a border they are infinite.
    return np.minimum(distances, _OUTSIDE).astype(np.int32)


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
        bottom = min(top + _CELL + _MARGIN, height - _MARGIN)
        right = min(left + _CELL + _MARGIN, width - _MARGIN)
        own = canvas.depths[top + _MARGIN : bottom, left + _MARGIN : right]
        rows, columns = np.nonzero(own)
        found = own[rows, columns]
        order = np.argsort(found, kind="stable")
        # The pixels in holes by depth, and where each depth ends, from 0 on.
        self.rows, self.columns = rows[order] + _MARGIN, columns[order] + _MARGIN
        self.ends = np.searchsorted(found[order], np.arange(_LARGEST_DEPTH + 1), side="right")
        # One index instead of two takes a fifth of the time.
        self.indices = (self.rows + top) * width + self.columns + left
        self.steps = _ROWS * width + _COLUMNS

    def fill(self, depth: int) -> int:
        """Fill the pixels of one depth from those that are less deep; returns how many they are."""
        begin, end = self.ends[depth - 1 : depth + 1].tolist()
        colours, depths = self.canvas.colours, self.canvas.depths
        tensor = _structure(colours[self.window] @ _LUMA, depths[self.window] < depth)
        for first in range(begin, end, _PIECE):
            piece = slice(first, min(first + _PIECE, end))
            found = tensor[self.rows[piece], self.columns[piece]]
            around = self.indices[piece, None] + self.steps
            weights = _weights(found) * (depths.ravel().take(around) < depth)
            flat = colours.reshape(-1, 3)
            sums = (weights[:, None] @ flat.take(around, axis=0))[:, 0]
            flat[self.indices[piece]] = sums / weights.sum(axis=1, keepdims=True)
        return end - begin


def _weights(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """W of the pixels in the disc around each of N pixels, (N, 80), from their tensors, (N, 3)."""
    xx, xy, yy = tensor.T
    coherence = np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-7)
    m = 1 + _MU * np.exp(-_C / np.maximum(coherence**2, 1e-4))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    across = (np.column_stack([np.sin(angle), np.cos(angle)]) @ _STEPS).astype(np.float32)
    across *= m[:, None] / _RADIUS
    weights: NDArray[np.float32] = np.exp(-0.5 * across**2) / _DISTANCES
    # If all known pixels lie far across the line, they count alike.
    return weights + np.float32(1e-9)


def _structure(grey: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The structure tensor of known pixels, up to a factor: xx, xy and yy, (h, w, 3)."""
    mask = known.astype(np.float32)
    both = cv2.GaussianBlur(np.dstack([grey * mask, mask]), (0, 0), _BLUR)
    smooth = both[:, :, 0] / np.maximum(both[:, :, 1], 1e-6)
    # Gradients are those of pixels whose neighbours are all known.
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
    x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) * inner
    y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1) * inner
    tensor = np.dstack([x * x, x * y, y * y])
    for _ in range(_BOXES):
        tensor = cv2.blur(tensor, (_BOX, _BOX))
    return tensor
