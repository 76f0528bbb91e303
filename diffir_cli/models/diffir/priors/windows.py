"""The deconvolution prior of a whole image, window by window: what small deblurring networks read.

A camera that turns, or something that moves, blurs one part of an image in another way than the
next, so each window gets a kernel of its own, estimated from that of the whole image. Where two
windows overlap, their deconvolved versions are blended. Kernels of large images are estimated in a
smaller version: shakes are longer there, and the estimation stays affordable.

A wrong kernel gives ringing. The network reads the image and its deconvolved version and decides
for each pixel which of them to use. The released networks read the image alone.

Everything is computed on the CPU, one window in each thread, so that on one machine an image has
the same prior for every device and number of threads. The alternation enlarges differences in
rounding, so another kind of CPU may find a slightly different kernel.
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
from diffir_cli.models.diffir.priors.deconvolution import deconvolve_tv
from diffir_cli.models.diffir.priors.kernel_estimation import (
    enlarged_kernel,
    extended_pixels,
    grey_of,
    initial_kernel,
    kernel_size_of,
    shake_kernel,
)
from diffir_cli.models.progress import Meter, Progress, part_of
from diffir_cli.util.tiling import blended, tile_places

_WINDOW, _OVERLAP = 512, 96
"""Side of a window and overlap of two, in pixels of the version in which kernels are estimated."""
_LARGEST = 2048
"""Longest side of that version, unless its shorter side would then be below that of a window."""
_INITIAL = 0.1
"""Share of the time that the kernel of the whole image takes, before the windows."""
_PIXEL_BYTES, _EXTENDED_BYTES = 48, 150
"""Memory, as measured: for each pixel of the image, and for each pixel (with margins) of what is
worked on at a time: a window in each thread, before that the whole image at half its size."""


def with_prior(lq: Tensor, threads: int | None = None, progress: Progress | None = None) -> Tensor:
    """An image, followed by its deconvolution prior.

    Args:
        lq: (1, 3, H, W) in [0, 1], on the CPU.
        threads: How many windows are worked on at a time; as many as torch has threads if None.
        progress: Called after each window with the share of the work that is done; optional.

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
    """The priors of some windows of an image, the same with any number of threads.

    Args:
        windows: (3, H, W) in [0, 1] each, on the CPU.
        whole: The image that they are parts of, or a single window itself. If it is so large that
            kernels would be estimated in a smaller version, each window is taken as an image of its
            own, since it would be too small in that version.

    Returns:
        (3, H, W) in [0, 1] for each.
    """
    with _single_threads(1) as pool:
        if _reduced(*whole.shape[-2:]) > 1:
            priors = pool.map(lambda window: _window_prior(window, 1.0)(window[None])[0], windows)
            return list(priors)
        prior_of = pool.submit(_window_prior, whole, 1.0).result()
        return [pool.submit(prior_of, window[None]).result()[0] for window in windows]


def prior_bytes(config: ModelConfig, height: int, width: int, threads: int = 1) -> int:
    """Memory for the prior of an image, in bytes; 0 for a network that reads none."""
    if config.in_channels != 6:
        return 0
    windows = _PIXEL_BYTES * height * width + threads * _window_bytes(height, width)
    return max(windows, _whole_bytes(height, width))


def threads_within(height: int, width: int, budget: int | None) -> int:
    """How many windows can be worked on at a time within a number of bytes; at least one."""
    threads = torch.get_num_threads()
    if budget is None:
        return threads
    free = budget - _PIXEL_BYTES * height * width
    return max(1, min(threads, free // _window_bytes(height, width)))


def _window_bytes(height: int, width: int) -> int:
    """Memory of one thread."""
    reduced = _reduced(height, width)
    side, kernel_size = round(_WINDOW * reduced), math.ceil(_kernel_size(height, width) * reduced)
    return _EXTENDED_BYTES * extended_pixels(min(side, height), min(side, width), kernel_size)


def _whole_bytes(height: int, width: int) -> int:
    """Memory for the kernel of the whole image."""
    half = 2 * _reduced(height, width)
    margin = math.ceil(_kernel_size(height, width) / 2)
    return _EXTENDED_BYTES * extended_pixels(
        math.ceil(height / half), math.ceil(width / half), margin
    )


def _kernel_size(height: int, width: int) -> int:
    """Side of the largest kernel, in pixels of the version in which it is estimated."""
    reduced = _reduced(height, width)
    return kernel_size_of(round(height / reduced), round(width / reduced))


def _reduced(height: int, width: int) -> float:
    """How many times smaller the version is in which kernels are estimated, at least 1.

    Its shorter side is at least that of a window, unless that of the image is smaller.
    """
    return max(1.0, min(max(height, width) / _LARGEST, min(height, width) / _WINDOW))


def _window_prior(whole: Tensor, reduced: float) -> Callable[..., Tensor]:
    """A function for the priors of the (1, 3, H, W) windows of a (3, H, W) image."""
    kernel_size = kernel_size_of(*(round(side / reduced) for side in whole.shape[-2:]))
    initial = initial_kernel(grey_of(whole, reduced), kernel_size)
    return lambda window, *_place: deconvolved(window[0], reduced, kernel_size, initial)[None]


@torch.no_grad()
def deconvolved(
    image: Tensor,
    reduced: float = 1.0,
    kernel_size: int | None = None,
    initial: Tensor | None = None,
) -> Tensor:
    """The prior of one window, assuming that its blur is the same everywhere.

    Args:
        image: (3, H, W) in [0, 1].
        reduced: How many times smaller the version is in which the kernel is estimated, at least 1.
        kernel_size: Side of the largest kernel, in pixels of the smaller version; that of
            `kernel_size_of` if None.
        initial: From `initial_kernel` of the image that this is a window of; optional.

    Returns:
        (3, H, W) in [0, 1]; the image itself if it is too small or too flat.
    """
    grey = grey_of(image, reduced)
    kernel = shake_kernel(grey, kernel_size or kernel_size_of(*grey.shape), initial)
    if kernel is None:
        return image
    if reduced > 1:
        kernel = enlarged_kernel(kernel, reduced)
    return deconvolve_tv(image.nan_to_num(0).clamp(0, 1), kernel).clamp_(0, 1)


class _ThreadCount:
    """The number of threads that torch has while no prior is computed."""

    def __init__(self) -> None:
        self.lock, self.priors, self.threads = threading.Lock(), 0, 1

    def leave(self) -> None:
        """Call before a prior is computed."""
        with self.lock:
            if not self.priors:
                self.threads = torch.get_num_threads()
            self.priors += 1

    def restore(self) -> None:
        """Call after a prior has been computed; the last one restores the number of threads."""
        with self.lock:
            self.priors -= 1
            if not self.priors:
                torch.set_num_threads(self.threads)


_THREAD_COUNT = _ThreadCount()


@contextmanager
def _single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, in each of which torch computes with a single thread.

    For Fourier transforms, torch has one number of threads for the whole process, so this number
    stays at 1 until the end. A thread that first uses torch in the meantime keeps it.
    """
    _THREAD_COUNT.leave()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        _THREAD_COUNT.restore()
