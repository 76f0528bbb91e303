"""The deconvolved guess of a whole picture, window by window.

A camera that turns, or something that moves, blurs one part of a picture in another way than the
next, so each window gets a kernel of its own; where two overlap their guesses are blended. Large
pictures are made smaller to look for the kernels: shakes grow with the picture, and so the time
that this takes stops growing.

Everything is computed on the CPU, one window a thread, so that a picture has the same guess beside
every device and with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from diffir_cli.engine.tiling import blended
from diffir_cli.networks.deconvolution import deconvolved

_WINDOW, _OVERLAP = 512, 96
"""Side of a window and what two share, in pixels of the picture that kernels are looked for in."""
_LARGEST = 2048
"""Longest side of that picture."""


def with_guess(lq: Tensor) -> Tensor:
    """A picture with its deconvolved guess behind it.

    Args:
        lq: (1, 3, H, W) in [0, 1], on the CPU.

    Returns:
        (1, 6, H, W).
    """
    reduced = max(1.0, max(lq.shape[-2:]) / _LARGEST)
    window, overlap = round(_WINDOW * reduced), round(_OVERLAP * reduced)
    guess_of = partial(_of_window, reduced=reduced)
    with _single_threads() as pool:
        guess = blended(lq, 1, window, overlap, 1, guess_of, mapped=pool.map)
    return torch.cat([lq, guess], dim=1)


def _of_window(window: Tensor, reduced: float) -> Tensor:
    return deconvolved(window[0], reduced)[None]


@contextmanager
def _single_threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch uses, in each of which torch uses one."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # What a thread sets holds for some libraries in all threads.
        torch.set_num_threads(threads)
