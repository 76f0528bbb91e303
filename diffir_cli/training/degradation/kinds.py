"""What a contact sheet can show; alone, so that the command line need not load numpy for it."""

from __future__ import annotations

from enum import StrEnum


class SheetKind(StrEnum):
    """What is shown."""

    BICUBIC = "bicubic"
    REALWORLD = "realworld"
    SHARPEN = "sharpen"
    SHAKE = "shake"
    SHAKE_KERNELS = "shake-kernels"
    MASK_TRAIN = "mask-train"
    MASK_NARROW = "mask-narrow"
    MASK_WIDE = "mask-wide"
