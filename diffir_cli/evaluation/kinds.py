"""Names of what can be measured; alone, so that the command line need not load numpy for them."""

from __future__ import annotations

from enum import StrEnum


class ProtocolName(StrEnum):
    """By whose conventions PSNR and SSIM are computed."""

    SR = "sr"
    REALSR = "realsr"
    DEBLUR = "deblur"
    INPAINT = "inpaint"


class Baseline(StrEnum):
    """What a user would type otherwise."""

    BICUBIC = "bicubic"
    """The cubic of the super-resolution benchmarks."""
    LANCZOS = "lanczos"
    """Pillow's Lanczos."""
    TELEA = "telea"
    """Fast marching (Telea 2004), OpenCV's, with a radius of 3 pixels."""
    NS = "ns"
    """Navier–Stokes (Bertalmío et al. 2001), OpenCV's, with a radius of 3 pixels."""
    IDENTITY = "identity"
    """The degraded image as it is."""
    NONE = "none"
    """No baseline."""


class Metric(StrEnum):
    """What is measured beside PSNR and SSIM, by torchmetrics."""

    LPIPS_ALEX = "lpips-alex"
    LPIPS_VGG = "lpips-vgg"
    DISTS = "dists"
    FID = "fid"
