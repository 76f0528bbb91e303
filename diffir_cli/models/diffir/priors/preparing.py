"""What is done to a whole picture before a network reads it, always on the CPU."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from diffir_cli.errors import DeviceError
from diffir_cli.models.diffir.config import ModelConfig
from diffir_cli.models.diffir.priors.coherence import filling_bytes, with_lines_continued
from diffir_cli.models.diffir.priors.windows import prior_bytes, threads_within, with_prior
from diffir_cli.models.progress import Progress
from diffir_cli.util.byte_sizes import format_bytes
from diffir_cli.util.device_memory import available_bytes
from diffir_cli.util.out_of_memory import is_out_of_memory


def needs_preparing(config: ModelConfig) -> bool:
    """Whether a network reads more than the picture as it is."""
    return config.has_prior or config.coherence_fill


def prepared(
    config: ModelConfig,
    lq: Tensor,
    budget: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """A picture as a network reads it.

    Args:
        config: Of the network.
        lq: (1, 3, H, W) in [0, 1] on the CPU; (1, 4, H, W) with a mask; (1, 6, H, W) with a
            deconvolution prior.
        budget: Bytes that this may take; None for no limit.
        progress: Called with the share that is done, 0 to 1; optional.

    Returns:
        (1, in_channels, H, W): the same, with a deconvolution prior behind it, or with its holes
        filled by coherence transport.

    Raises:
        DeviceError: when memory does not suffice.
    """
    if not needs_preparing(config) or lq.shape[1] == 6:
        return lq
    height, width = lq.shape[-2:]
    if budget is None:
        budget = available_bytes(torch.device("cpu"))
    what = "filling the holes" if config.coherence_fill else "estimating the camera shake"
    of_what = f"{what} of {width}×{height} pixels"
    threads = torch.get_num_threads()
    if config.coherence_fill:
        needed = filling_bytes(height, width, threads)
    else:
        needed = prior_bytes(config, height, width)
    if budget is not None and needed > budget:
        raise DeviceError(
            f"{of_what} needs about {format_bytes(needed)}, but only {format_bytes(budget)} may "
            "be used",
            "raise --max-memory, or use a machine with more memory",
        )
    try:
        if config.coherence_fill:
            return with_lines_continued(lq, progress)
        return with_prior(lq, threads_within(height, width, budget), progress)
    except (RuntimeError, MemoryError, cv2.error) as error:
        if not (is_out_of_memory(error) or "start new thread" in str(error)):
            raise
    raise DeviceError(
        f"not enough memory for {of_what}",
        "use --threads 1, a smaller picture, or a machine with more memory",
    )
