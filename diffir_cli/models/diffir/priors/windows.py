"""The deconvolution prior of a whole picture, window by window.

A camera that turns, or something that moves, blurs one part of a picture in another way than the
next, so each window gets a kernel of its own, found from that of the whole picture; where two
overlap their priors are blended. Large pictures are made smaller to look for the kernels: shakes
grow with the picture, and so the time that this takes stops growing.

Everything is computed on the CPU, one window a thread, so that on one machine a picture has the
same prior beside every device and with any number of threads. The alternation enlarges differences
in rounding, so another kind of CPU may find a slightly different kernel.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.priors.deconvolution import (
    deconvolved,
    initial_kernel,
    kernel_size_of,
    scene_pixels,
)
from diffir_cli.models.progress import Meter, Progress, part_of
from diffir_cli.util.tiling import blended, tile_places

_WINDOW, _OVERLAP = 512, 96
"""Side of a window and what two share, in pixels of the picture that kernels are looked for in."""
_LARGEST = 2048
"""Longest side of that picture."""
_INITIAL = 0.1
"""About how much of the time the first kernel takes, before the windows."""
_PIXEL_BYTES, _SCENE_BYTES = 48, 150
"""What a prior takes for each pixel of the picture, and of what is worked on at a time with its
margins: in each thread a window, before them the whole picture at half its size. As measured."""


def with_prior(lq: Tensor, threads: int | None = None, progress: Progress | None = None) -> Tensor:
    """A picture with its deconvolution prior behind it.

    Args:
        lq: (1, 3, H, W) in [0, 1], on the CPU.
        threads: Windows at a time; as many as torch has threads if None.
        progress: Called after each window with the share that is done; optional.

    Returns:
        (1, 6, H, W).
    """
    reduced = _reduced(lq.shape[-2], lq.shape[-1])
    window, overlap = round(_WINDOW * reduced), round(_OVERLAP * reduced)
    with _single_threads(threads or torch.get_num_threads()) as pool:
        prior_of = pool.submit(_window_prior, lq[0], reduced).result()
        if progress:
            progress(_INITIAL)
        places = tile_places(lq.shape[-2], lq.shape[-1], window, overlap)
        meter = Meter(part_of(progress, _INITIAL, 1.0) or (lambda _share: None), len(places))

        def mapped(*arguments: Any) -> Iterator[Tensor]:
            for result in pool.map(*arguments):
                meter.add(1)
                yield result

        prior = blended(lq, 1, window, overlap, 1, prior_of, mapped=mapped)
    return torch.cat([lq, prior], dim=1)


def priors_of_windows(windows: Sequence[Tensor], whole: Tensor) -> list[Tensor]:
    """What windows of a picture have for their priors, the same with any number of threads.

    Args:
        windows: (3, H, W) in [0, 1] each, on the CPU.
        whole: The picture that they are parts of, or a single window itself. One that is so large
            that kernels would be looked for in a smaller one, of which a window of pixels tells too
            little, is left aside.

    Returns:
        (3, H, W) in [0, 1] for each.
    """
    if _reduced(*whole.shape[-2:]) > 1:
        return [priors_of_windows([window], window)[0] for window in windows]
    with _single_threads(1) as pool:
        prior_of = pool.submit(_window_prior, whole, 1.0).result()
        return [pool.submit(prior_of, window[None]).result()[0] for window in windows]


def prior_bytes(config: ModelConfig, height: int, width: int, threads: int = 1) -> int:
    """What the prior of a picture takes beside it; 0 for a network that reads none."""
    if config.in_channels != 6:
        return 0
    windows = _PIXEL_BYTES * height * width + threads * _window_bytes(height, width)
    return max(windows, _initial_kernel_bytes(height, width))


def threads_within(height: int, width: int, budget: int | None) -> int:
    """How many windows a budget allows at a time, at least one."""
    threads = torch.get_num_threads()
    if budget is None:
        return threads
    free = budget - _PIXEL_BYTES * height * width
    return max(1, min(threads, free // _window_bytes(height, width)))


def _window_bytes(height: int, width: int) -> int:
    """What one thread takes."""
    reduced = _reduced(height, width)
    side, kernel_size = round(_WINDOW * reduced), math.ceil(_kernel_size(height, width) * reduced)
    return _SCENE_BYTES * scene_pixels(min(side, height), min(side, width), kernel_size)


def _initial_kernel_bytes(height: int, width: int) -> int:
    """What is taken before the windows."""
    half = 2 * _reduced(height, width)
    margin = math.ceil(_kernel_size(height, width) / 2)
    return _SCENE_BYTES * scene_pixels(math.ceil(height / half), math.ceil(width / half), margin)


def _kernel_size(height: int, width: int) -> int:
    """Side of the largest kernel of a picture, in pixels of the one that it is looked for in."""
    reduced = _reduced(height, width)
    return kernel_size_of(round(height / reduced), round(width / reduced))


def _reduced(height: int, width: int) -> float:
    """By how much a picture is made smaller to look for kernels; a strip stays as high as it is."""
    return max(1.0, min(max(height, width) / _LARGEST, min(height, width) / _WINDOW))


def _window_prior(whole: Tensor, reduced: float) -> Callable[..., Tensor]:
    """What makes the prior of a (1, 3, H, W) window of a (3, H, W) picture."""
    kernel_size = kernel_size_of(*(round(side / reduced) for side in whole.shape[-2:]))
    initial = initial_kernel(whole, reduced, kernel_size)
    return lambda window, *_place: deconvolved(window[0], reduced, kernel_size, initial)[None]


class _Usual:
    """How many threads torch uses while nobody makes a prior."""

    def __init__(self) -> None:
        self.lock, self.priors, self.threads = threading.Lock(), 0, 1

    def leave(self) -> None:
        """Begin a prior."""
        with self.lock:
            if not self.priors:
                self.threads = torch.get_num_threads()
            self.priors += 1

    def restore(self) -> None:
        """End a prior; the last one gives the threads back."""
        with self.lock:
            self.priors -= 1
            if not self.priors:
                torch.set_num_threads(self.threads)


_USUAL = _Usual()


@contextmanager
def _single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A number of threads in each of which torch uses one.

    A part of what a thread sets, that for Fourier transforms, holds for all threads at once, so the
    number stays until the end; a thread that first uses torch meanwhile keeps it.
    """
    _USUAL.leave()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        _USUAL.restore()
