"""Pairs of images through methods to scores: restored, or read, and measured in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffir_cli.errors import DeviceError, DiffIRError, InputError, WeightsError
from diffir_cli.evaluation.kinds import Metric
from diffir_cli.evaluation.protocol import Image, Protocol
from diffir_cli.imaging import read_levels, read_mask
from diffir_cli.imaging.bicubic import reduce_bicubic

if TYPE_CHECKING:
    from diffir_cli.evaluation.perceptual import Perceptual


@dataclass(frozen=True)
class Sample:
    """The files of one image."""

    gt: Path
    """The truth."""
    lq: Path | None = None
    """The degraded image; None to reduce the truth as the benchmarks do, or to take it as it is
    where there is a mask or nothing to enlarge."""
    mask: Path | None = None
    """Where it is to be filled."""
    result: Path | None = None
    """A finished result, where nothing is to be restored."""


@dataclass(frozen=True)
class Loaded:
    """The pixels of one image."""

    name: str
    lq: Image
    """(H, W, 3) in 0–255."""
    gt: Image
    """(scale·H, scale·W, 3) in 0–255."""
    holes: NDArray[np.bool_] | None
    """(H, W), True where to fill."""

    def shown_lq(self) -> Image:
        """The degraded image of inpainting as a reader should see it: with black holes."""
        if self.holes is None:
            return self.lq
        return np.where(self.holes[:, :, None], 0, self.lq).astype(np.uint8)


Method = Callable[[Loaded], Image]
"""A result, (scale·H, scale·W, 3) in 0–255."""

Viewer = Callable[[Loaded, Image, Mapping[str, float]], None]
"""Sees each image with the result and the scores of the first method."""


@dataclass
class Scores:
    """What one method reached."""

    method: str
    names: list[str] = field(default_factory=list)
    """Images in the order of their names."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """For each metric one value an image; infinite PSNR for equal images."""
    overall: dict[str, float] = field(default_factory=dict)
    """Metrics that only the whole set has."""

    def mean(self, metric: str) -> float:
        """Mean over the images."""
        return float(np.mean(self.values[metric]))

    def std(self, metric: str) -> float:
        """Standard deviation over the images; not a number when a value is infinite."""
        if any(math.isinf(value) for value in self.values[metric]):
            return math.nan
        return float(np.std(self.values[metric]))

    def worst(self, count: int = 3) -> list[tuple[str, float]]:
        """The images with the lowest PSNR."""
        order = sorted(zip(self.names, self.values["psnr"], strict=True), key=lambda row: row[1])
        return order[:count]


@dataclass(frozen=True)
class Failure:
    """An image that could not be measured."""

    name: str
    error: DiffIRError


@dataclass(frozen=True)
class Measured:
    """What came out: the scores of each method, and what has none."""

    scores: list[Scores]
    failures: list[Failure]


def evaluate(
    samples: Sequence[Sample],
    methods: Mapping[str, Method],
    scale: int,
    protocol: Protocol,
    metrics: Callable[[], Iterable[Perceptual]] = lambda: (),
    report: Callable[[str], None] = lambda _name: None,
    view: Viewer = lambda _loaded, _hq, _scores: None,
) -> Measured:
    """Measure each method on each sample; a sample that cannot be measured does not stop the rest.

    Args:
        samples: The images.
        methods: What is measured, by name.
        scale: Side of the truth over side of the degraded image.
        protocol: How PSNR and SSIM are computed.
        metrics: Makes the learned metrics of one method.
        report: Called with each image's name before it is worked on.
        view: Called with each image behind it.

    Raises:
        InputError: when no image at all can be measured, or, where it is their fault in all:
        WeightsError: of the weights.
        DeviceError: of the device, or of memory.
    """
    found = [Scores(name) for name in methods]
    learned = [list(metrics()) for _ in methods]
    failures = []
    for sample in samples:
        report(sample.gt.name)
        try:
            loaded = load(sample, scale, protocol)
            images = [method(loaded) for method in methods.values()]
            rows = [
                _values(hq, loaded, protocol, extra)
                for hq, extra in zip(images, learned, strict=True)
            ]
        except DiffIRError as error:
            failures.append(Failure(sample.gt.name, error))
            continue
        for scores, values in zip(found, rows, strict=True):
            scores.names.append(loaded.name)
            for name, value in values.items():
                scores.values.setdefault(name, []).append(value)
        view(loaded, images[0], rows[0])
    if len(failures) == len(samples):
        others = [failure.name for failure in failures[1:]]
        more = f"; nor can {', '.join(others)} be measured" if others else ""
        first = failures[0].error
        for kind in (WeightsError, DeviceError):
            if all(isinstance(failure.error, kind) for failure in failures):
                raise kind(f"{first.message}{more}", first.hint)
        raise InputError(f"{first.message}{more}", first.hint)
    for scores, extra in zip(found, learned, strict=True):
        for metric in extra:
            of_set = metric.overall()
            if of_set is not None:
                scores.overall[metric.metric.value] = of_set
    return Measured(found, failures)


def _values(
    hq: NDArray[np.uint8], loaded: Loaded, protocol: Protocol, learned: Iterable[Perceptual]
) -> dict[str, float]:
    """Everything that is measured on an image; what is gathered over all images comes last."""
    values = protocol.measure(hq, loaded.gt, loaded.holes)
    for metric in sorted(learned, key=lambda one: one.metric is Metric.FID):
        value = metric.score(hq, loaded.gt)
        if value is not None:
            values[metric.metric.value] = value
    return values


def load(sample: Sample, scale: int, protocol: Protocol) -> Loaded:
    """The pixels of a sample; the truth is cut to a multiple of the scale.

    Raises:
        InputError: when a file cannot be read, is too small, or does not fit the truth.
    """
    gt = read_levels(sample.gt)
    whole = gt.shape[:2]
    height, width = (side // scale * scale for side in gt.shape[:2])
    if sample.result is not None:
        lq = read_levels(sample.result)
        gt = _cut_to(gt, (lq.shape[0], lq.shape[1]), 4, sample.gt, sample.result)
    elif sample.lq is not None:
        lq = read_levels(sample.lq)
        size = (lq.shape[0] * scale, lq.shape[1] * scale)
        gt = _cut_to(gt, size, scale, sample.gt, sample.lq)
    else:
        gt = np.ascontiguousarray(gt[:height, :width])
        lq = reduce_bicubic(gt, scale) if scale > 1 else gt
    if min(gt.shape[:2]) < protocol.smallest:
        raise InputError(
            f"{sample.gt} is too small to be measured: {gt.shape[1]}×{gt.shape[0]} pixels",
            f"leave out images with a side under {protocol.smallest} pixels"
            + (", or give a smaller --align" if protocol.align else ""),
        )
    holes = _holes(sample.mask, whole, gt.shape[:2]) if sample.mask else None
    return Loaded(sample.gt.name, lq, gt, holes)


def _holes(path: Path, whole: tuple[int, ...], cut: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask of what is left of a truth; it may be one of the whole truth, cut alike."""
    try:
        holes = read_mask(path, (cut[1], cut[0]))
    except InputError:
        if whole == cut:
            raise
        holes = read_mask(path, (whole[1], whole[0]))[: cut[0], : cut[1]]
        if not holes.any():
            raise InputError(f"the mask {path} marks nothing inside the measured area") from None
    return holes


def _cut_to(gt: Image, size: tuple[int, int], less: int, path: Path, other: Path) -> Image:
    """The truth without the fewer than `less` rows and columns that its partner could not hold."""
    spare = (gt.shape[0] - size[0], gt.shape[1] - size[1])
    if not all(0 <= rest < less for rest in spare):
        raise InputError(
            f"{other} does not fit {path}: it needs a ground truth of {size[1]}×{size[0]} pixels, "
            f"and that has {gt.shape[1]}×{gt.shape[0]}",
            "check that they show the same image, and that the scale is right",
        )
    return np.ascontiguousarray(gt[: size[0], : size[1]])
