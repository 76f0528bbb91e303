"""A page about a run: before and after, failures, times."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffir_cli.batch.request import Request
from diffir_cli.batch.stores import fetch, is_remote
from diffir_cli.batch.work import Outcome
from diffir_cli.errors import DiffIRError
from diffir_cli.evaluation.html import Gallery
from diffir_cli.imaging import read_levels
from diffir_cli.util.files import write_text

_MOST = 200
"""Pictures on a page; more would make it too heavy to open."""


def write_report(
    path: Path, request: Request, outcomes: Sequence[Outcome], summary: Mapping[str, Any]
) -> None:
    """Write a page that needs nothing beside it.

    Args:
        path: Where to; a file there is replaced.
        request: What was wanted.
        outcomes: What became of each picture.
        summary: Counts and seconds.

    Raises:
        InputError: when it cannot be written.
    """
    done = [outcome for outcome in outcomes if not outcome.error]
    shown, asked = done[:_MOST], request.work.picture_options
    caption = (
        f"{summary['done']} pictures restored with {request.work.weights.name} in "
        f"{summary['seconds']:.1f} s, {summary['failed']} failed, "
        f"{summary['finished_before']} finished before."
    )
    if len(shown) < len(done):
        caption += f" The first {_MOST} are shown."
    gallery = Gallery(f"diffir batch, {request.work.task.value}", caption)
    gallery.failures = [(str(one.job.source), one.error) for one in outcomes if one.error]
    for outcome in shown:
        try:
            pictures = {
                "before": _rgb(outcome.job.source, asked.max_pixels, asked.allow_truncated),
                # However large a result is, this run has made it.
                "after": _rgb(outcome.job.target, sys.maxsize, False),
            }
        except (DiffIRError, MemoryError) as error:
            # Moved or changed since, or too large for the memory that is left.
            why = f"restored, but not shown here: {error or 'too large'}"
            gallery.failures.append((str(outcome.job.target), why))
            continue
        gallery.add(outcome.job.output, pictures, {"seconds": outcome.seconds})
    write_text(path, gallery.page(), overwrite=True)


def _rgb(path: Path, max_pixels: int, allow_truncated: bool) -> NDArray[np.uint8]:
    """The colours of a picture, (H, W, 3) in 0–255."""
    data = fetch(path) if is_remote(path) else None
    return read_levels(path, max_pixels, allow_truncated, data)
