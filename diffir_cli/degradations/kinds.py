"""Names of degradations; alone, so that the command line need not load numpy for them."""

from __future__ import annotations

from enum import StrEnum


class Degradation(StrEnum):
    """What training does to sharp photos."""

    BICUBIC = "bicubic"
    """The benchmarks' reduction (sr)."""
    REALWORLD = "realworld"
    """Blur, noise, resizes and JPEG, twice (realsr)."""
    SHAKE = "shake"
    """The blur of a shaken camera (deblur)."""
    FRAMES = "frames"
    """The blur of averaged frames, in which each part of a picture moves its own way (deblur)."""
    HOLES = "holes"
    """Strokes and boxes to be filled (inpaint)."""


class MaskKind(StrEnum):
    """Which holes."""

    TRAIN = "train"
    """Wide strokes or boxes, with equal chance."""
    NARROW = "narrow"
    """Many thin strokes (Table 1)."""
    WIDE = "wide"
    """Few thick strokes or boxes (Table 1)."""


class PreviewKind(StrEnum):
    """What a contact sheet shows."""

    BICUBIC = "bicubic"
    REALWORLD = "realworld"
    SHARPEN = "sharpen"
    SHAKE = "shake"
    SHAKE_KERNELS = "shake-kernels"
    FRAMES = "frames"
    MASK_TRAIN = "mask-train"
    MASK_NARROW = "mask-narrow"
    MASK_WIDE = "mask-wide"
