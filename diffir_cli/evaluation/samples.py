"""Folders to samples: truth, degraded twin and mask of each image, found by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffir_cli.config import Task
from diffir_cli.errors import InputError
from diffir_cli.evaluation.evaluate import Sample
from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.evaluation.pairs import match_folders
from diffir_cli.imaging import list_pictures


def samples_to_restore(
    task: Task, gt: Path, lq: Path | None, mask: Path | None
) -> tuple[list[Sample], list[Path]]:
    """Samples of images that are still to be restored, and the files without a twin.

    Args:
        task: What is wrong with them; `sr` makes its own degraded images when there are none, and
            `inpaint` needs none.
        gt: A folder of sharp images, or one.
        lq: Their degraded twins, or None.
        mask: A folder of their masks or one mask for all, or None.

    Raises:
        InputError: when something is missing or does not match.
    """
    if lq is None and task in (Task.REALSR, Task.DEBLUR):
        kind = "realworld" if task is Task.REALSR else "shake"
        raise InputError(
            f"to measure {task.value}, degraded twins of the sharp images are needed",
            f"add --lq DIR, or make them: diffir degrade '{gt}' --kind {kind} -o lq",
        )
    if task is Task.INPAINT and mask is None:
        raise _no_mask(gt)
    if lq is None:
        return _with_masks([Sample(path) for path in _files(gt)], mask, [])
    matched = match_folders(lq, gt)
    samples = [Sample(gt=twin, lq=path) for path, twin in matched.pairs]
    return _with_masks(samples, mask, matched.unmatched)


def samples_of_results(
    results: Path, gt: Path, mask: Path | None, protocol: ProtocolName
) -> tuple[list[Sample], list[Path]]:
    """Samples of finished results, and the files without a twin.

    Raises:
        InputError: when something is missing or does not match.
    """
    if protocol is ProtocolName.INPAINT and mask is None:
        raise _no_mask(gt)
    matched = match_folders(results, gt)
    samples = [Sample(gt=twin, result=path) for path, twin in matched.pairs]
    return _with_masks(samples, mask, matched.unmatched)


def _with_masks(
    samples: list[Sample], mask: Path | None, unmatched: list[Path]
) -> tuple[list[Sample], list[Path]]:
    if mask is None:
        return samples, unmatched
    if mask.is_file():
        return [replace(sample, mask=mask) for sample in samples], unmatched
    folder = samples[0].gt.parent if len(samples) > 1 else samples[0].gt
    matched = match_folders(mask, folder)
    masks = {twin: path for path, twin in matched.pairs}
    masked = [replace(s, mask=masks[s.gt]) for s in samples if s.gt in masks]
    if not masked:
        raise InputError(f"no mask of {mask} belongs to an image that is measured", "check names")
    known = {*unmatched}
    return masked, [*unmatched, *(path for path in matched.unmatched if path not in known)]


def _no_mask(gt: Path) -> InputError:
    return InputError(
        "to measure inpainting, the masks are needed",
        f"add --mask DIR, or make them: diffir degrade '{gt}' --kind mask-wide -o masks",
    )


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list_pictures(place)
