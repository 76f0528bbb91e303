"""Folders to samples: truth, degraded version and mask of each image, found by name."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from diffir_cli.errors import InputError, UsageError
from diffir_cli.evaluation.evaluate import Sample
from diffir_cli.evaluation.kinds import ProtocolName
from diffir_cli.evaluation.pairs import files_of, match_folders
from diffir_cli.options import Task
from diffir_cli.util.files import is_file


@dataclass(frozen=True)
class Samples:
    """What is to be measured, and what was found beside it."""

    found: list[Sample]
    unmatched: list[Path]
    """Files without a partner."""
    alike: list[tuple[Path, Path]]
    """Files that were taken for partners though their names only begin alike."""


def samples_to_restore(
    task: Task, gt: Path, lq: Path | None, mask: Path | None, protocol: ProtocolName
) -> Samples:
    """Samples of images that are still to be restored.

    Args:
        task: What is wrong with them; `sr` makes its own degraded images when there are none, and
            `inpaint` needs none.
        gt: A folder of sharp images, or one.
        lq: Their degraded versions, or None.
        mask: A folder of their masks or one mask for all, or None.
        protocol: How they will be measured; that of inpainting needs masks, too.

    Raises:
        UsageError: when degraded images or masks are not named.
        InputError: when something is missing or does not match.
    """
    if lq is None and task not in (Task.SR, Task.INPAINT):
        kind = {Task.DEBLUR: "shake", Task.FACE: "realworld -s 1"}.get(task, "realworld")
        raise UsageError(
            f"--task {task.value} needs --lq",
            f"add --lq DIR, or make them: diffir degrade {_folder_of(gt)} --kind {kind} -o lq",
        )
    if mask is None and (task is Task.INPAINT or protocol is ProtocolName.INPAINT):
        raise _no_mask(gt)
    if lq is None:
        return _with_masks(Samples([Sample(path) for path in files_of(gt)], [], []), mask)
    matched = match_folders(lq, gt)
    samples = [Sample(gt=partner, lq=path) for path, partner in matched.pairs]
    return _with_masks(Samples(samples, matched.unmatched, matched.alike), mask)


def samples_of_results(
    results: Path, gt: Path, mask: Path | None, protocol: ProtocolName
) -> Samples:
    """Samples of finished results.

    Raises:
        UsageError: when degraded images or masks are not named.
        InputError: when something is missing or does not match.
    """
    if protocol is ProtocolName.INPAINT and mask is None:
        raise _no_mask(gt)
    matched = match_folders(results, gt)
    samples = [Sample(gt=partner, result=path) for path, partner in matched.pairs]
    return _with_masks(Samples(samples, matched.unmatched, matched.alike), mask)


def _with_masks(samples: Samples, mask: Path | None) -> Samples:
    if mask is None:
        return samples
    if is_file(mask):
        masked = [replace(sample, mask=mask) for sample in samples.found]
        return replace(samples, found=masked)
    first = samples.found[0].gt
    folder = first.parent if len(samples.found) > 1 else first
    matched = match_folders(mask, folder)
    masks = {partner: path for path, partner in matched.pairs}
    masked = [replace(s, mask=masks[s.gt]) for s in samples.found if s.gt in masks]
    if not masked:
        raise InputError(f"no mask of {mask} belongs to an image that is measured", "check names")
    known = {*samples.unmatched}
    further = [path for path in matched.unmatched if path not in known]
    return Samples(masked, [*samples.unmatched, *further], [*samples.alike, *matched.alike])


def _no_mask(gt: Path) -> UsageError:
    return UsageError(
        "to measure inpainting, --mask is needed",
        f"add --mask DIR, or make them: diffir degrade {_folder_of(gt)} --kind mask-wide -o masks",
    )


def _folder_of(gt: Path) -> str:
    """The folder of sharp images, as a shell reads it."""
    return shlex.quote(str(gt.parent if is_file(gt) else gt))
