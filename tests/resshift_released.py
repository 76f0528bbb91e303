"""The configurations of the official ResShift models, by name."""

from __future__ import annotations

from diffir_cli.models.resshift.config import (
    BICUBIC_X4,
    DEBLUR,
    FACE,
    INPAINT,
    LEGACY_BICUBIC_MATLAB,
    LEGACY_BICUBIC_OPENCV,
    REALSR_V1,
    REALSR_V3,
    REALSR_X2,
    SINSR,
)

RELEASED = {
    "realsr-v1": REALSR_V1,
    "realsr-v2": REALSR_V1,
    "realsr-v3": REALSR_V3,
    "bicubic-x4": BICUBIC_X4,
    "inpaint-imagenet": INPAINT,
    "inpaint-face": INPAINT,
    "face-512": FACE,
    "deblur-gopro": DEBLUR,
    "realsr-x2": REALSR_X2,
    "bicubic-x4-opencv-s15": LEGACY_BICUBIC_OPENCV,
    "bicubic-x4-matlab-s15": LEGACY_BICUBIC_MATLAB,
    "sinsr": SINSR,
}
